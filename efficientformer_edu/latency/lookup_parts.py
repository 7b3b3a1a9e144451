"""The parts of a lookup table, as they are timed.

A block timed alone is not the block within a network: its weights stay in the processor's cache, and each call costs
some Python. So a stage of several blocks with weights of their own is timed, and each takes its share. The parts are
cut out of whole networks in the form that is run, folded or not, and take maps in the layout that they find there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import torch
from torch import Tensor, nn

from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.latency.lookup_table import Grid, Part
from efficientformer_edu.model import EfficientFormer, fold

# From below L1 to L7, each stage in steps that are finer where L1 and L3 lie.
WIDTHS = ((32, 48, 64, 96), (64, 96, 128, 192), (128, 224, 320, 384), (256, 384, 512, 768))
LAYOUTS = {"eager": torch.contiguous_format, "folded": torch.channels_last}  # of the maps between parts
ROW = 4  # blocks that are timed in a row
MB3D_STAGES = (2, 3)  # where the search space of Eq. 7 has MB3D
REFERENCE = "reference"  # the name of the network that is timed beside the parts

Subject = Callable[[], Tensor]


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


def in_a_row(part: Part) -> int:
    """How many of a part run in one call."""
    return ROW if part.kind in ("MB4D", "MB3D") else 1


def run_form(config: EfficientFormerConfig, size: Grid, engine: str) -> EfficientFormer:
    """A network as it is run: in evaluation mode, and folded for that engine."""
    network = EfficientFormer(config).eval()
    return fold(network, size) if engine == "folded" else network


def whole_network(config: EfficientFormerConfig, size: Grid, engine: str) -> Subject:
    """A call that runs a whole network on one image."""
    network, images = run_form(config, size, engine), torch.randn(1, config.in_channels, *size)
    return lambda: network(images)


def cut_out(part: Part, base: EfficientFormerConfig, size: Grid, engine: str) -> Subject:
    """A call that runs a part, or several blocks in a row, cut out of a network that is thin elsewhere."""
    grids = base.grids(size)
    stage = grids.index(part.grid)
    dims, depths, vits = [STEP] * 4, [1] * 4, [0] * 4
    dims[max(stage - 1, 0)], dims[stage] = part.widths[0], part.widths[-1]
    depths[stage] = in_a_row(part)
    vits[stage] = ROW if part.kind == "MB3D" else 0
    thin = base.replace(embed_dims=tuple(dims), depths=tuple(depths), num_vit=tuple(vits))
    network = run_form(thin, size, engine)
    if part.kind == "stem":
        images = torch.randn(1, base.in_channels, *size)
        return lambda: network.stem(images)
    before = torch.randn(1, part.widths[0], *grids[max(stage - 1, 0)]).to(memory_format=LAYOUTS[engine])
    maps = torch.randn(1, part.widths[-1], *part.grid).to(memory_format=LAYOUTS[engine])
    if part.kind == "embedding":
        embedding = network.stages[stage].get_submodule("downsample")
        return lambda: embedding(before)
    if part.kind == "head":
        return lambda: heads(network, maps)
    network.stages[stage].downsample = nn.Identity()
    return lambda: network.stages[stage](maps)


def heads(network: EfficientFormer, maps: Tensor) -> Tensor:
    """What the network does with its last map: norm, mean and one head or two. Returns (B, num_classes)."""
    pooled = network.norm(maps.flatten(2).transpose(1, 2)).mean(1)  # (B, C₄)
    logits = network.head(pooled)
    return logits if network.head_dist is None else (logits + network.head_dist(pooled)) / 2
