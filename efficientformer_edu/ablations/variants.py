"""The variants: each is one named change of a configuration, of one kind of module, or of the recipe.

Paper: Appendix B and section 3. What the paper or its users report of a change stands beside it; most changes have no
sourced number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from efficientformer_edu import paper
from efficientformer_edu.ablations import parts
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training.recipe import Recipe

Trend = Literal["worse", "alike", "better"]

BASE = "base"


@dataclass(frozen=True)
class Said:
    """What is reported of a change.

    Attributes:
        trend: of the accuracy of the changed network against that of the base.
        row: of the reproduction report that says so; several changes can answer one row.
        words: as `paper` prints it, with its source.
    """

    trend: Trend
    row: str
    words: Callable[[], str]


def _unchanged(_: object) -> None:
    """Changes nothing."""


def _nothing(_: object) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Variant:
    """One change. It can be pickled, for it goes to other processes.

    Attributes:
        group: what is asked, such as "token mixer".
        words: what is changed.
        fields: those of the configuration that differ, from the base's configuration.
        change: of the network, in place, before it is trained.
        recipe: fields of the recipe that differ, from the base's recipe.
        said: what is reported; None where nothing is sourced.
    """

    group: str
    words: str
    fields: Callable[[EfficientFormerConfig], Mapping[str, Any]] = _nothing
    change: Callable[[EfficientFormer], None] = _unchanged
    recipe: Callable[[Recipe], Mapping[str, Any]] = _nothing
    said: Said | None = None

    def network(self, config: EfficientFormerConfig) -> EfficientFormer:
        """A network of this configuration with its part exchanged; its random weights are those that come next."""
        network = EfficientFormer(config)
        self.change(network)
        return network


def _given(_: object, **fields: Any) -> Mapping[str, Any]:
    """The same fields, whatever the base."""
    return fields


def _mb3d(base: EfficientFormerConfig, part: float) -> Mapping[str, Any]:
    """So many of the last stage's blocks are MB3D."""
    return {"num_vit": int(part * base.depths[-1])}


def _late_attention(base: EfficientFormerConfig) -> Mapping[str, Any]:
    return {"num_vit": (0, 0, *base.depths[2:])}


def _longer(base: Recipe) -> Mapping[str, Any]:
    return {"epochs": 2 * base.epochs}


def _of_activation(name: str) -> str:
    table = paper.appendix_b()
    return f"L3 with {name}: {table[name, 'top1']}; with GeLU: {table['GeLU', 'top1']}"


def _of_remark(number: int) -> str:
    return str(paper.remarks("appendix_b")[number - 1])


def _activation(name: str) -> Said:
    row = f"Appendix B: L3 with {name}, {paper.appendix_b().columns[0].label}"
    return Said("worse", row, partial(_of_activation, name))


def _remark(number: int, trend: Trend) -> Said:
    return Said(trend, f"Appendix B: remark {number}", partial(_of_remark, number))


def _variants() -> dict[str, Variant]:
    act = partial(partial, _given)
    scale = partial(Variant, "layer scale")
    norm = partial(Variant, "norm")
    return {
        BASE: Variant("base", "EfficientFormer as it is, layer scale from 0.1, no teacher"),
        "patches": Variant("stem", "4×4 patch embedding for the stem", change=parts.patch_embedding),
        "no-mixer": Variant("token mixer", "nothing for pooling", change=parts.no_mixer),
        "depthwise": Variant("token mixer", "depthwise 3×3 convolution for pooling", change=parts.depthwise_mixer),
        "late-attention": Variant("token mixer", "MHSA in all blocks of the last two stages", _late_attention),
        "mb3d-none": Variant("MB3D", "no MB3D in the last stage", partial(_mb3d, part=0)),
        "mb3d-half": Variant("MB3D", "half of the last stage MB3D", partial(_mb3d, part=0.5)),
        "mb3d-all": Variant("MB3D", "all of the last stage MB3D", partial(_mb3d, part=1)),
        "group-norm": norm("GN with one group for BN", change=parts.group_norms, said=_remark(1, "better")),
        "layer-norm": norm("channel-wise LN for BN", change=parts.channel_norms, said=_remark(1, "alike")),
        "no-norm": norm("no norm for BN", change=parts.no_norms),
        "relu": Variant("activation", "ReLU for GELU", act(act="relu"), said=_activation("ReLU")),
        "hard-swish": Variant("activation", "HardSwish for GELU", act(act="hard_swish"), said=_activation("HardSwish")),
        "no-scale": scale("no layer scale", act(layer_scale_init=None)),
        "scale-1e-5": scale("layer scale from 1e-5", act(layer_scale_init=1e-5)),
        "scale-1": scale("layer scale from 1", act(layer_scale_init=1.0)),
        "no-bias": Variant("attention bias", "no attention bias", change=parts.no_bias),
        "soft": Variant("distillation", "soft distillation", recipe=act(distillation="soft", tau=3.0)),
        "hard": Variant(
            "distillation", "hard distillation", recipe=act(distillation="hard"), said=_remark(3, "better")
        ),
        "longer": Variant("training", "twice as many epochs", recipe=_longer, said=_remark(4, "better")),
    }
