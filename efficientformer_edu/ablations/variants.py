"""The variants: each is one named change of the configuration, of one kind of module, or of the recipe.

Paper: Appendix B and section 3. Reported results of a change are listed next to it; most changes have no published
number.

Modules that a change does not affect start with the same weights as in the base. There is one exception: if other
blocks are MB3D, the weights are sampled in a different order from the first such block on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from efficientformer_edu import paper
from efficientformer_edu.ablations import parts
from efficientformer_edu.audit.tables import Table
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training.recipe import Recipe
from efficientformer_edu.utils.statistics import Trend

BASE = "base"


@dataclass(frozen=True)
class ReportedTrend:
    """A reported result of a change.

    Attributes:
        trend: accuracy of the changed network compared with the base.
        row: row of the reproduction report with this claim; several changes can belong to one row.
        quote: returns the claim as `paper` prints it, with its source.
    """

    trend: Trend
    row: str
    quote: Callable[[], str]


def _unchanged(_: object) -> None:
    """Leave the network unchanged."""


def _nothing(_: object) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Variant:
    """One change. It can be pickled, because it is sent to other processes.

    Attributes:
        group: topic of the change, such as "token mixer".
        words: description of the change.
        fields: returns the changed fields of the configuration, from the base's configuration.
        change: changes the network in place before it is trained.
        recipe: returns the changed fields of the recipe, from the base's recipe.
    """

    group: str
    words: str
    fields: Callable[[EfficientFormerConfig], Mapping[str, Any]] = _nothing
    change: Callable[[EfficientFormer], None] = _unchanged
    recipe: Callable[[Recipe], Mapping[str, Any]] = _nothing

    @property
    def keeps_network(self) -> bool:
        """Whether only the recipe changes, so that the network has the same costs as the base."""
        return self.recipe is not _nothing

    def network(self, config: EfficientFormerConfig) -> EfficientFormer:
        """A network of this configuration with the change applied; its weights use the current random state."""
        network = EfficientFormer(config)
        self.change(network)
        return network


def to(**fields: Any) -> Callable[[object], Mapping[str, Any]]:
    """A change that sets these fields, independent of the base."""
    return partial(_given, fields)


def _given(fields: Mapping[str, Any], _: object) -> Mapping[str, Any]:
    return fields


def _mb3d(share: float, base: EfficientFormerConfig) -> Mapping[str, Any]:
    """Make this share of the last stage MB3D."""
    return {"num_vit": int(share * base.depths[-1])}


def _late_attention(base: EfficientFormerConfig) -> Mapping[str, Any]:
    return {"num_vit": (0, 0, *base.depths[2:])}


def _longer(base: Recipe) -> Mapping[str, Any]:
    return {"epochs": 2 * base.epochs}


def _activation(name: str) -> str:
    table = paper.appendix_b()
    return f"L3 with {name}: {table[name, 'top1']}; with GeLU: {table['GeLU', 'top1']}"


def _remark(number: int) -> str:
    return str(paper.remarks("appendix_b")[number - 1])


REPORTED: Mapping[str, ReportedTrend] = {
    "group-norm": ReportedTrend("better", "Appendix B: remark 1", partial(_remark, 1)),
    "layer-norm": ReportedTrend("equivalent", "Appendix B: remark 1", partial(_remark, 1)),
    "relu": ReportedTrend("worse", "Appendix B: L3 with ReLU, top-1 accuracy", partial(_activation, "ReLU")),
    "hard-swish": ReportedTrend(
        "worse", "Appendix B: L3 with HardSwish, top-1 accuracy", partial(_activation, "HardSwish")
    ),
    "hard": ReportedTrend("better", "Appendix B: remark 3", partial(_remark, 3)),
    "longer": ReportedTrend("better", "Appendix B: remark 4", partial(_remark, 4)),
}
"""Reported trends with a source, by the name of the variant."""

VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        BASE: Variant("base", "EfficientFormer as it is, without a teacher"),
        "patches": Variant("stem", "4×4 patch embedding for the stem", change=parts.patch_embedding),
        "no-mixer": Variant("token mixer", "nothing for pooling", change=parts.no_mixer),
        "depthwise": Variant("token mixer", "depthwise 3×3 convolution for pooling", change=parts.depthwise_mixer),
        "late-attention": Variant("token mixer", "MHSA in all blocks of the last two stages", _late_attention),
        "mb3d-none": Variant("MB3D", "no MB3D in the last stage", partial(_mb3d, 0)),
        "mb3d-half": Variant("MB3D", "half of the last stage MB3D", partial(_mb3d, 0.5)),
        "mb3d-all": Variant("MB3D", "all of the last stage MB3D", partial(_mb3d, 1)),
        "group-norm": Variant("norm", "GN with one group for BN", change=parts.group_norms),
        "layer-norm": Variant("norm", "channel-wise LN for BN", change=parts.channel_norms),
        "no-norm": Variant("norm", "no norm for BN", change=parts.no_norms),
        "relu": Variant("activation", "ReLU for GELU", to(act="relu")),
        "hard-swish": Variant("activation", "HardSwish for GELU", to(act="hard_swish")),
        "no-scale": Variant("layer scale", "no layer scale", to(layer_scale_init=None)),
        "scale-1e-5": Variant("layer scale", "layer scale from 1e-5, as released", to(layer_scale_init=1e-5)),
        "scale-1": Variant("layer scale", "layer scale from 1", to(layer_scale_init=1.0)),
        "no-bias": Variant("attention bias", "no attention bias", change=parts.no_bias),
        "soft": Variant("distillation", "soft distillation", recipe=to(distillation="soft", tau=3.0)),
        "hard": Variant("distillation", "hard distillation, the paper's", recipe=to(distillation="hard")),
        "longer": Variant("training", "twice as many epochs", recipe=_longer),
    }
)
"""All variants by name; the first is the base. The base is trained on labels only, so most rows need no teacher."""


def get_variants(names: Iterable[str] | None = None) -> dict[str, Variant]:
    """The base and the named variants, or all, in the order of `VARIANTS`. Raises ValueError for unknown names."""
    selected = set(VARIANTS if names is None else names)
    if unknown := sorted(selected - set(VARIANTS)):
        raise ValueError(f"row {unknown[0]!r} is unknown; there are {', '.join(VARIANTS)}")
    return {name: variant for name, variant in VARIANTS.items() if name in selected | {BASE}}


def variant_table() -> Table:
    """All variants with their changes and reported results."""
    rows = []
    for name, variant in VARIANTS.items():
        claim = REPORTED.get(name)
        trend, quote = (claim.trend, claim.quote()) if claim else (None, None)
        rows.append((name, variant.group, variant.words, trend, quote))
    return Table(("row", "group", "change", "reported", "in words, with its source"), tuple(rows))
