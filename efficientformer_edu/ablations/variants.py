"""The variants of the ablation study: each is one change of the configuration, of one kind of module, or of the recipe.

Paper: section 3 and Appendix B; most changes have no published result. A network is built first and then changed in
place, so modules that a change does not affect start with the same weights as in the base. There is one exception: if
other blocks are MB3D, the weights are sampled in a different order from the first such block on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu import paper
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.latency.workloads import ChannelNorm, group_norm, identity
from efficientformer_edu.model import MB3D, MB4D, EfficientFormer
from efficientformer_edu.model.mixers import Attention, Grid
from efficientformer_edu.training.recipe import Recipe
from efficientformer_edu.utils.statistics import Trend
from efficientformer_edu.utils.tables import Table

Block = TypeVar("Block", MB3D, MB4D)


class PatchEmbedding(nn.Module):
    """Replacement for the stem: 4×4 patches and a batch norm, (B, in_channels, H, W) to (B, dim, H/4, W/4).

    Sizes that are not a multiple of 4 are padded at the end, so that the feature map is as large as the stem's.
    """

    def __init__(self, in_channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, kernel_size=4, stride=4)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Float[Tensor, "B in_channels H W"]) -> Float[Tensor, "B dim H4 W4"]:
        right, bottom = -x.shape[3] % 4, -x.shape[2] % 4
        x = nn.functional.pad(x, (0, right, 0, bottom))
        return self.norm(self.proj(x))  # (B, dim, ⌈H/4⌉, ⌈W/4⌉)


class NoMixer(nn.Module):
    """No token mixing: the branch adds 0 at each position."""

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return torch.zeros_like(x)


class DepthwiseMixer(nn.Sequential):
    """A depthwise 3×3 convolution and a batch norm: a learned weighted sum per channel instead of the mean."""

    def __init__(self, dim: int) -> None:
        super().__init__(nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim), nn.BatchNorm2d(dim))


class UnbiasedAttention(Attention):
    """Attention without position information, with the weights of another attention module: Eq. 6 without b."""

    def __init__(self, attention: Attention) -> None:
        key_dim, _, value_dim = attention.head_parts
        dim, grid, drop = attention.qkv.in_features, attention.bias_grid, attention.drop.p
        super().__init__(dim, attention.num_heads, key_dim, value_dim, grid, drop)
        self.qkv, self.proj = attention.qkv, attention.proj
        del self.attention_biases

    def scores(
        self, q: Float[Tensor, "B heads N key"], k: Float[Tensor, "B heads N key"], grid: Grid
    ) -> Float[Tensor, "B heads N N"]:
        return q @ k.transpose(-2, -1) * self.scale

    def bias(self, grid: Grid) -> Float[Tensor, "heads 1 1"]:
        """The bias of the folded form: 0 for every pair of tokens."""
        return self.proj.weight.new_zeros(self.num_heads, 1, 1)


def patch_embedding(network: EfficientFormer) -> None:
    """Replace the stem's two 3×3 convolutions by 4×4 patches."""
    network.add_module("stem", PatchEmbedding(network.config.in_channels, network.config.embed_dims[0]))


def no_mixer(network: EfficientFormer) -> None:
    """Remove the pooling."""
    for block in _blocks(network, MB4D):
        block.add_module("token_mixer", NoMixer())


def depthwise_mixer(network: EfficientFormer) -> None:
    """Replace pooling by a depthwise convolution."""
    for block in _blocks(network, MB4D):
        block.add_module("token_mixer", DepthwiseMixer(block.mlp.fc2.out_channels))


def no_bias(network: EfficientFormer) -> None:
    """Remove the table of offset biases from the attention."""
    for block in _blocks(network, MB3D):
        block.token_mixer = UnbiasedAttention(block.token_mixer)


def _blocks(network: EfficientFormer, kind: type[Block]) -> list[Block]:
    return [module for module in network.modules() if isinstance(module, kind)]


def replace_norms(network: EfficientFormer, make: Callable[[int], nn.Module]) -> None:
    """Replace each batch norm by `make(channels)`. The layer norms on tokens are kept."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                module.add_module(name, make(child.num_features))


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


def _fields(base: object, **fields: Any) -> Mapping[str, Any]:
    return fields


@dataclass(frozen=True)
class Variant:
    """One change. It can be pickled, because it is sent to other processes.

    Attributes:
        group: topic of the change, such as "token mixer".
        description: description of the change.
        fields: returns the changed fields of the configuration, from the base's configuration.
        change: changes the network in place before it is trained.
        recipe: returns the changed fields of the recipe, from the base's recipe.
    """

    group: str
    description: str
    fields: Callable[[EfficientFormerConfig], Mapping[str, Any]] = _fields
    change: Callable[[EfficientFormer], None] = _unchanged
    recipe: Callable[[Recipe], Mapping[str, Any]] = _fields

    @property
    def keeps_network(self) -> bool:
        """Whether only the recipe changes, so that the network has the same costs as the base."""
        return self.recipe is not _fields

    def network(self, config: EfficientFormerConfig) -> EfficientFormer:
        """A network of this configuration with the change applied; its weights use the current random state."""
        network = EfficientFormer(config)
        self.change(network)
        return network


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
        "patches": Variant("stem", "4×4 patch embedding for the stem", change=patch_embedding),
        "no-mixer": Variant("token mixer", "nothing for pooling", change=no_mixer),
        "depthwise": Variant("token mixer", "depthwise 3×3 convolution for pooling", change=depthwise_mixer),
        "late-attention": Variant("token mixer", "MHSA in all blocks of the last two stages", _late_attention),
        "mb3d-none": Variant("MB3D", "no MB3D in the last stage", partial(_mb3d, 0)),
        "mb3d-half": Variant("MB3D", "half of the last stage MB3D", partial(_mb3d, 0.5)),
        "mb3d-all": Variant("MB3D", "all of the last stage MB3D", partial(_mb3d, 1)),
        "group-norm": Variant("norm", "GN with one group for BN", change=partial(replace_norms, make=group_norm)),
        "layer-norm": Variant("norm", "channel-wise LN for BN", change=partial(replace_norms, make=ChannelNorm)),
        "no-norm": Variant("norm", "no norm for BN", change=partial(replace_norms, make=identity)),
        "relu": Variant("activation", "ReLU for GELU", partial(_fields, act="relu")),
        "hard-swish": Variant("activation", "HardSwish for GELU", partial(_fields, act="hard_swish")),
        "no-scale": Variant("layer scale", "no layer scale", partial(_fields, layer_scale_init=None)),
        "scale-1e-5": Variant(
            "layer scale", "layer scale from 1e-5, as released", partial(_fields, layer_scale_init=1e-5)
        ),
        "scale-1": Variant("layer scale", "layer scale from 1", partial(_fields, layer_scale_init=1.0)),
        "no-bias": Variant("attention bias", "no attention bias", change=no_bias),
        "soft": Variant("distillation", "soft distillation", recipe=partial(_fields, distillation="soft", tau=3.0)),
        "hard": Variant("distillation", "hard distillation, the paper's", recipe=partial(_fields, distillation="hard")),
        "longer": Variant("training", "twice as many epochs", recipe=_longer),
    }
)
"""All variants by name; the first is the base. The base is trained on labels only, so most rows need no teacher."""


def get_variants(names: Iterable[str] | None = None) -> dict[str, Variant]:
    """The base and the named variants, or all, in the order of `VARIANTS`. Raises ValueError for unknown names."""
    selected = set(VARIANTS if names is None else names)
    if unknown := sorted(selected - set(VARIANTS)):
        raise ValueError(f"unknown row {unknown[0]!r}; available: {', '.join(VARIANTS)}")
    return {name: variant for name, variant in VARIANTS.items() if name in selected | {BASE}}


def variant_table() -> Table:
    """All variants with their changes and reported results."""
    rows = []
    for name, variant in VARIANTS.items():
        claim = REPORTED.get(name)
        trend, quote = (claim.trend, claim.quote()) if claim else (None, None)
        rows.append((name, variant.group, variant.description, trend, quote))
    return Table(("row", "group", "change", "reported", "quote and source"), tuple(rows))
