"""The variants: each is one named change of a configuration, of one kind of module, or of the recipe.

Paper: Appendix B and section 3. What the paper or its users report of a change stands beside it, with its source; most
changes have no sourced number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from efficientformer_edu import paper
from efficientformer_edu.ablations import parts
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training.small import SMALL

Trend = Literal["worse", "alike", "better"]

BASE = "base"
ABLATED = SMALL.replace(depths=(1, 1, 1, 4))
"""The network whose variants are trained: the small one with four blocks in its last stage, of which one is MB3D."""


@dataclass(frozen=True)
class Said:
    """What is reported of a change.

    Attributes:
        trend: of the accuracy of the changed network against that of EfficientFormer.
        words: as `paper` prints it, with its source.
    """

    trend: Trend
    words: Callable[[], str]


@dataclass(frozen=True)
class Variant:
    """One change.

    Attributes:
        group: what is asked, such as "token mixer".
        words: what is changed.
        fields: of the configuration that differ, from the base's.
        change: of the network, in place, before it is trained.
        recipe: fields of the recipe that differ.
        said: what is reported; None where nothing is sourced.
    """

    group: str
    words: str
    fields: Callable[[EfficientFormerConfig], Mapping[str, Any]] = lambda base: {}
    change: Callable[[EfficientFormer], None] = lambda network: None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    said: Said | None = None

    def config(self, base: EfficientFormerConfig) -> EfficientFormerConfig:
        """The base's configuration with the change."""
        return base.replace(**self.fields(base))

    def build(self, base: EfficientFormerConfig) -> EfficientFormer:
        """The changed network, with the random weights that are next."""
        network = EfficientFormer(self.config(base))
        self.change(network)
        return network


def _vits(part: Callable[[int], int]) -> Callable[[EfficientFormerConfig], Mapping[str, Any]]:
    return lambda base: {"num_vit": part(base.depths[-1])}


def _late_attention(base: EfficientFormerConfig) -> Mapping[str, Any]:
    return {"num_vit": (0, 0, *base.depths[2:])}


def _fields(**fields: Any) -> Callable[[EfficientFormerConfig], Mapping[str, Any]]:
    return lambda base: fields


def _activation(name: str) -> Said:
    """Appendix B's accuracy of L3 with an activation against that with GeLU."""

    def words() -> str:
        table = paper.appendix_b()
        return f"L3: {table[name, 'top1']}, with GeLU {table['GeLU', 'top1']}"

    return Said("worse", words)


def _remark(number: int, trend: Trend) -> Said:
    return Said(trend, lambda: str(paper.remarks("appendix_b")[number]))


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        BASE: Variant("base", "EfficientFormer as it is"),
        "patches": Variant("stem", "4×4 patch embedding for the stem", change=parts.patch_embedding),
        "no-mixer": Variant("token mixer", "nothing for pooling", change=parts.no_mixer),
        "depthwise": Variant("token mixer", "depthwise 3×3 convolution for pooling", change=parts.depthwise_mixer),
        "late-attention": Variant("token mixer", "MHSA in all blocks of the last two stages", _late_attention),
        "mb3d-none": Variant("MB3D", "no MB3D in the last stage", _vits(lambda depth: 0)),
        "mb3d-half": Variant("MB3D", "half of the last stage MB3D", _vits(lambda depth: depth // 2)),
        "mb3d-all": Variant("MB3D", "all of the last stage MB3D", _vits(lambda depth: depth)),
        "group-norm": Variant("norm", "GN with one group for BN", change=parts.group_norms, said=_remark(0, "better")),
        "layer-norm": Variant("norm", "channel-wise LN for BN", change=parts.channel_norms, said=_remark(0, "alike")),
        "no-norm": Variant("norm", "no norm for BN", change=parts.no_norms),
        "relu": Variant("activation", "ReLU for GELU", _fields(act="relu"), said=_activation("ReLU")),
        "hard-swish": Variant(
            "activation", "HardSwish for GELU", _fields(act="hard_swish"), said=_activation("HardSwish")
        ),
        "no-scale": Variant("layer scale", "no layer scale", _fields(layer_scale_init=None)),
        "scale-1e-5": Variant(
            "layer scale", "layer scale from 1e-5, the released value", _fields(layer_scale_init=1e-5)
        ),
        "scale-1": Variant("layer scale", "layer scale from 1", _fields(layer_scale_init=1.0)),
        "no-bias": Variant("attention bias", "no attention bias", change=parts.no_bias),
        "soft": Variant("distillation", "soft distillation", recipe={"distillation": "soft", "tau": 3.0}),
        "hard": Variant("distillation", "hard distillation, the paper's", recipe={"distillation": "hard"}),
    }
)
"""All variants by name; the first is the base. The base learns from labels alone, so that a row needs no teacher."""
