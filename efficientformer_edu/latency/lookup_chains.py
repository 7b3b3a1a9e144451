"""What is timed to find the latency of a part: chains of parts, cut out of whole networks in the form that is run.

A block timed alone is not the block within a network: its weights stay in the processor's cache, and each call costs
some Python. So several blocks with weights of their own run in a row, and each takes its share.

Nor is a part alone what it is between others. In torch it finds its input and its code in the cache, which within a
network something else has used since. A graph engine brings a map into a layout of its own where the map comes in and
back where it goes out, which a network does at its two ends only, and it merges operations across parts. So a part is
timed between MB4D blocks, and what they take is taken off again: ½ of two MB4D for each neighbour.

    MB4D, MB3D   (MB4D → MB4D → four blocks  −  MB4D → MB4D) / 4
    stem         stem → MB4D  −  ½ (MB4D → MB4D)
    embedding    MB4D → embedding → MB4D  −  ½ (MB4D → MB4D) before it  −  ½ (MB4D → MB4D) behind it
    head         MB4D → head  −  ½ (MB4D → MB4D)

Let a map of some stage take i to come in, and o to go out. In the part before the stage ½ (o − i) is left over, in the
part behind it ½ (i − o), and in the sum nothing: it has one call, with images in and logits out, like the network.
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

# From below L1 to L7, each stage in steps that are finer where L1 and L3 lie.
WIDTHS = ((32, 48, 64, 96), (64, 96, 128, 192), (128, 224, 320, 384), (256, 384, 512, 768))
ROW = 4  # blocks that are timed in a row
BLOCKS = ("MB4D", "MB3D")
MB3D_STAGES = (2, 3)  # where the search space of Eq. 7 has MB3D

Chain = tuple[Part, ...]  # parts in the order in which they run
Subject = Callable[[], Tensor]


class Form(NamedTuple):
    """How an engine of `engines.ENGINES` is given the parts of a network.

    Attributes:
        runner: the engine that runs a module which has the form already.
        fold: what makes the form of a network as trained; None if it is run as it is.
        layout: of the maps between parts.
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
    """The parts to measure; those of a group are timed side by side."""
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
    """What is timed for a part, each chain with the factor that it has in the part's seconds."""
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
    return {chain: 1.0} | {(one, one): -0.5 for one in chain if one != part}


def name(chain: Chain) -> str:
    """The chain in words, equal blocks together."""
    return ", ".join(f"{number} × {part}" for part, number in Counter(chain).items())


def cut_out(chain: Chain, base: EfficientFormerConfig, size: Grid, engine: str, num_threads: int | None) -> Subject:
    """A call that runs a chain, checked against torch; ImportError if the engine is missing."""
    form, grids, first = FORMS[engine], base.grids(size), chain[0]
    modules = layers(chain, base, size, engine)
    if first.kind == "stem":
        return prepare(form.runner, modules, torch.randn(1, base.in_channels, *size), num_threads)
    grid = grids[grids.index(first.grid) - (first.kind == "embedding")]
    maps = torch.randn(1, first.widths[0], *grid).to(memory_format=form.layout)
    return prepare(form.runner, modules, maps, num_threads)


def whole_network(config: EfficientFormerConfig, size: Grid, engine: str, num_threads: int | None) -> Subject:
    """A call that runs a whole network on one image, checked against torch; ImportError if the engine is missing."""
    return prepare(engine, EfficientFormer(config), torch.randn(1, config.in_channels, *size), num_threads)


def layers(chain: Chain, base: EfficientFormerConfig, size: Grid, engine: str) -> nn.Sequential:
    """The modules of a chain, taken from a network that is thin elsewhere."""
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
            module.mb4d = nn.ModuleList()  # the one block that every stage has
        if starts or depths[stage]:
            modules.append(module)
    return nn.Sequential(*modules, *[Head(network)] * (chain[-1].kind == "head"))


def run_form(config: EfficientFormerConfig, size: Grid, engine: str) -> EfficientFormer:
    """A network as it is run: in evaluation mode, and folded for that engine."""
    network, form = EfficientFormer(config).eval(), FORMS[engine]
    return network if form.fold is None else form.fold(network, size)


class Head(nn.Module):
    """What a network does with its last map: norm, mean and one head or two."""

    def __init__(self, network: EfficientFormer) -> None:
        super().__init__()
        self.norm, self.head, self.head_dist = network.norm, network.head, network.head_dist

    def forward(self, maps: Float[Tensor, "B C4 H W"]) -> Float[Tensor, "B num_classes"]:
        pooled = self.norm(maps.permute(0, 2, 3, 1).flatten(1, 2)).mean(1)  # (B, C₄)
        logits = self.head(pooled)  # (B, num_classes)
        return logits if self.head_dist is None else (logits + self.head_dist(pooled)) / 2
