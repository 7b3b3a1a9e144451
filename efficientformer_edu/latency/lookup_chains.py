"""The chains of parts that are timed to obtain the latency of a part, extracted from networks in the form that runs.

A block timed alone differs from the same block in a network: its weights stay in the processor's cache, and each call
has Python overhead. Several blocks with separate weights are therefore timed in sequence, and the time is divided by
their number.

A single part also differs from the same part between others. In torch its input and code are still in the cache, while
in a network other parts have used the cache in between. A graph engine converts the layout of the feature map at the
input and output, which a network does only at its two ends, and it fuses operations across parts. A part is therefore
timed between MB4D blocks, and their time is subtracted: ½ of two MB4D per neighbour.

    MB4D, MB3D   (MB4D → MB4D → four blocks  −  MB4D → MB4D) / 4
    stem         stem → MB4D  −  ½ (MB4D → MB4D)
    embedding    MB4D → embedding → MB4D  −  ½ (MB4D → MB4D) before it  −  ½ (MB4D → MB4D) after it
    head         MB4D → head  −  ½ (MB4D → MB4D)

Suppose that converting a feature map of a stage takes i at the input and o at the output. The part before the stage
then contains an error of ½ (o − i), and the part after it ½ (i − o). The errors cancel in the sum, which corresponds to
one call from images to logits, like the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.latency.engines import prepare
from efficientformer_edu.latency.lookup_parts import Grid, Part
from efficientformer_edu.model import EfficientFormer, fold
from efficientformer_edu.model.folding import folded_maps

# From below L1 to L7, with finer steps near L1 and L3.
WIDTHS = ((32, 48, 64, 96), (64, 96, 128, 192), (128, 224, 320, 384), (256, 384, 512, 768))
ROW = 4  # blocks timed in sequence
BLOCKS = ("MB4D", "MB3D")
MB3D_STAGES = (2, 3)  # stages with MB3D in the search space of Eq. 7

Chain = tuple[Part, ...]  # parts in the order in which they run
Subject = Callable[[], Tensor]


class Form(NamedTuple):
    """How the parts of a network are prepared for an engine of `engines.ENGINES`.

    Attributes:
        runner: the engine that runs a module already in this form.
        fold: converts a network from its trained form; None if no conversion is needed.
        layout: memory format of the feature maps between parts.
    """

    runner: str
    fold: Callable[[EfficientFormer, Grid], EfficientFormer] | None = None
    layout: torch.memory_format = torch.contiguous_format


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "eager": Form("eager"),
        "folded": Form("eager", fold, torch.channels_last),
        "onnxruntime": Form("onnxruntime"),
        "onnxruntime-folded": Form("onnxruntime", folded_maps),
        "openvino": Form("openvino"),
        "openvino-folded": Form("openvino", folded_maps),
    }
)


def groups(base: EfficientFormerConfig, size: Grid, widths: Sequence[Sequence[int]]) -> Iterator[list[Part]]:
    """The parts to measure; the parts of a group are timed together."""
    grids = base.grids(size)
    yield [Part("stem", grids[0], (width,)) for width in widths[0]]
    for stage in range(1, 4):
        yield [Part("embedding", grids[stage], pair) for pair in product(widths[stage - 1], widths[stage])]
    for stage in range(4):
        yield [Part("MB4D", grids[stage], (width,)) for width in widths[stage]]
    for stage in MB3D_STAGES:
        yield [Part("MB3D", grids[stage], (width,)) for width in widths[stage]]
    yield [Part("head", grids[3], (width,)) for width in widths[3]]


def chains(part: Part, grids: Sequence[Grid]) -> dict[Chain, float]:
    """The chains that are timed for a part, each with its factor in the sum that gives the part's seconds."""
    here = Part("MB4D", part.grid, part.widths[-1:])
    before = Part("MB4D", grids[grids.index(part.grid) - 1], part.widths[:1])
    match part.kind:
        case "stem":
            chain: Chain = (part, here)
        case "embedding":
            chain = (before, part, here)
        case "head":
            chain = (here, part)
        case _:
            return {(here, here, *(part,) * ROW): 1 / ROW, (here, here): -1 / ROW}
    return {chain: 1.0} | {(neighbour, neighbour): -0.5 for neighbour in chain if neighbour != part}


def name(chain: Chain) -> str:
    """A description of the chain, with equal blocks grouped."""
    return ", ".join(f"{number} × {part}" for part, number in Counter(chain).items())


def cut_out(chain: Chain, base: EfficientFormerConfig, size: Grid, engine: str, num_threads: int | None) -> Subject:
    """A function that runs a chain, compared with torch. Raises ImportError if the engine is missing."""
    form, grids, first = FORMS[engine], base.grids(size), chain[0]
    modules = layers(chain, base, size, engine)
    if first.kind == "stem":
        return prepare(form.runner, modules, torch.randn(1, base.in_channels, *size), num_threads)
    grid = grids[grids.index(first.grid) - (first.kind == "embedding")]
    maps = torch.randn(1, first.widths[0], *grid).to(memory_format=form.layout)
    return prepare(form.runner, modules, maps, num_threads)


def whole_network(config: EfficientFormerConfig, size: Grid, engine: str, num_threads: int | None) -> Subject:
    """A function that runs a network on one image, compared with torch. Raises ImportError if the engine is missing."""
    return prepare(engine, EfficientFormer(config), torch.randn(1, config.in_channels, *size), num_threads)


def layers(chain: Chain, base: EfficientFormerConfig, size: Grid, engine: str) -> nn.Sequential:
    """The modules of a chain, taken from a network that is as small as possible outside the chain."""
    grids, dims, depths, vits = base.grids(size), [STEP] * 4, [0] * 4, [0] * 4
    for part in chain:
        stage = grids.index(part.grid)
        dims[stage] = part.widths[-1]
        depths[stage] += part.kind in BLOCKS
        vits[stage] += part.kind == "MB3D"
        if part.kind == "embedding":
            dims[stage - 1] = part.widths[0]
    shape = {"embed_dims": tuple(dims), "depths": tuple(max(depth, 1) for depth in depths), "num_vit": tuple(vits)}
    network = run_form(base.replace(**shape), size, engine)
    modules: list[nn.Module] = [network.stem] if chain[0].kind == "stem" else []
    for stage, module in enumerate(network.stages):
        starts = any(part.kind == "embedding" and part.grid == grids[stage] for part in chain)
        if not starts:
            module.downsample = nn.Identity()
        if not depths[stage]:
            module.mb4d = nn.ModuleList()  # remove the single block that every stage has
        if starts or depths[stage]:
            modules.append(module)
    return nn.Sequential(*modules, *[Head(network)] * (chain[-1].kind == "head"))


def run_form(config: EfficientFormerConfig, size: Grid, engine: str) -> EfficientFormer:
    """A network in evaluation mode, folded if the engine requires it."""
    network, form = EfficientFormer(config).eval(), FORMS[engine]
    return network if form.fold is None else form.fold(network, size)


class Head(nn.Module):
    """The layers after the last feature map: norm, mean, and one or two heads."""

    def __init__(self, network: EfficientFormer) -> None:
        super().__init__()
        self.norm, self.head, self.head_dist = network.norm, network.head, network.head_dist

    def forward(self, maps: Float[Tensor, "B C4 H W"]) -> Float[Tensor, "B num_classes"]:
        pooled = self.norm(maps.permute(0, 2, 3, 1).flatten(1, 2)).mean(1)  # (B, C₄)
        logits = self.head(pooled)  # (B, num_classes)
        return logits if self.head_dist is None else (logits + self.head_dist(pooled)) / 2
