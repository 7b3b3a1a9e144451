"""A supernet small enough for tests, a table whose seconds are MACs, random subnets, evaluators without images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import nn

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.latency.lookup_table import Entry, Lookup, Part, macs, parts
from efficientformer_edu.latency.records import Conditions
from efficientformer_edu.slimming.subnet import Candidate, Subnet
from efficientformer_edu.slimming.supernet import Supernet

TINY = EfficientFormerConfig(
    depths=(1, 2, 2, 2),
    embed_dims=(32, 32, 32, 48),
    downsamples=(False, True, True, True),
    num_vit=0,
    num_classes=10,
    distillation=False,
    in_channels=1,
    num_heads=2,
    key_dim=8,
    attn_ratio=2.0,
    bias_grid=(2, 2),
    layer_scale_init=0.5,
)
SIZE = 64  # pixels: feature maps of 16×16, 8×8, 4×4 and 2×2
TIMED = (64, 96)  # pixels of the table: a different size than the evaluator's
MAC = 1e-9  # seconds per MAC in the table


def table(
    widths: tuple[tuple[int, ...], ...],
    base: EfficientFormerConfig = TINY,
    resolution: tuple[int, int] = TIMED,
) -> Lookup:
    """A table in which every part takes its MACs, so that interpolation between its widths is exact."""
    timed_parts = [Part("stem", base.grids(resolution)[0], (width,)) for width in widths[0]]
    for stage, grid in enumerate(base.grids(resolution)):
        if stage:
            timed_parts += [
                Part("embedding", grid, (width_in, width_out))
                for width_in in widths[stage - 1]
                for width_out in widths[stage]
            ]
        timed_parts += [Part("MB4D", grid, (width,)) for width in widths[stage]]
        if stage > 1:
            timed_parts += [Part("MB3D", grid, (width,)) for width in widths[stage]]
    timed_parts += [Part("head", base.grids(resolution)[-1], (width,)) for width in widths[-1]]
    total_macs = sum(number * macs(part, base, resolution) for part, number in parts(base, resolution).items())
    entries = tuple(Entry(part, MAC * macs(part, base, resolution), MAC * total_macs) for part in timed_parts)
    return Lookup("eager", resolution, base, Conditions(resolution=resolution), entries)


SEARCHED = TINY.replace(embed_dims=(16, 32, 48, 64))
WIDTHS = ((16,), (16, 32), (16, 48), (16, 64))
LOOKUP = table(WIDTHS)


def supernet(config: EfficientFormerConfig = TINY, seed: int = 0) -> Supernet:
    """A supernet with all values random, including the norms, so that no value is 0 or 1 by accident."""
    torch.manual_seed(seed)
    network = Supernet(config)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1 and not name.endswith("alpha_in_units"):
            nn.init.uniform_(parameter, 0.3, 1.2)
        elif name.endswith(("fc1.weight", "fc2.weight", "proj.weight", "qkv.weight", "attention_biases")):
            nn.init.normal_(parameter, std=0.2)
    return network.eval()


def pictures(count: int = 2, size: int = SIZE, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(seed))


IMAGES = 10_000  # held out in tests; accuracies are multiples of 1 / IMAGES


def answers(accuracy: float) -> list[bool]:
    """This many of the images classified correctly, the first in order."""
    return [image < round(accuracy * IMAGES) for image in range(IMAGES)]


class Knowing:
    """An evaluator with a fixed accuracy per subnet. `subnets` lists the subnets it received, in order."""

    def __init__(self, worth: Callable[[Subnet], float]) -> None:
        self.worth, self.subnets, self.finetuned = worth, list[Subnet](), list[int]()

    def correct(self, supernet: Supernet) -> list[bool]:
        assert not supernet.training
        self.subnets.append(supernet.subnet)
        return answers(self.worth(supernet.subnet))

    def accuracy(self, supernet: Supernet) -> float:
        return sum(self.correct(supernet)) / IMAGES

    def finetune(self, supernet: Supernet, step: int) -> None:
        self.finetuned.append(step)


@st.composite
def subnets(draw: st.DrawFn, config: EfficientFormerConfig = TINY) -> Subnet:
    """Any subnet of a supernet's widths: MB4D up to some position, MB3D after it, I anywhere but not everywhere."""
    border = draw(st.integers(0, sum(config.depths[2:])))  # MetaPaths of the last two stages that come before tokens
    choices, position = [], -sum(config.depths[:2])
    for depth in config.depths:
        kinds: list[Candidate] = ["MB4D" if position + i < border else "MB3D" for i in range(depth)]
        position += depth
        stays = draw(st.integers(0, depth - 1))
        choices.append(tuple(kind if i == stays or draw(st.booleans()) else "I" for i, kind in enumerate(kinds)))
    return Subnet(config.embed_dims, tuple(choices))
