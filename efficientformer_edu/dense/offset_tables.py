"""The table of offsets on another grid: resized in two ways, or trained there, and what each costs.

Paper: Eq. 6. Released code: `Attention` in `segmentation/backbone.py` and `detection/backbone.py`, which resizes the
matrix of all pairs of tokens as if it were an image (`resized_matrix`). Ours resizes the table (`model.offset_bias`).

The measurement needs a network in which the table matters. `PatchNetwork` is one: its tokens are patches, its only
block is an MB3D, and it takes the mean over the tokens in the end, so nothing but the table knows where a patch is.
Comes: images of Fashion-MNIST. Goes: a `Comparison`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from efficientformer_edu.audit.tables import Table
from efficientformer_edu.config import SMALLEST_INPUT
from efficientformer_edu.machine import threads
from efficientformer_edu.model import MB3D, Attention, offset_bias
from efficientformer_edu.model.mixers import Grid
from efficientformer_edu.training.batches import mixed
from efficientformer_edu.training.data import Images
from efficientformer_edu.training.loading import TestBatches, TrainBatches, loader
from efficientformer_edu.training.optimization import learning_rate
from efficientformer_edu.training.recipe import LAPTOP, Recipe
from efficientformer_edu.training.small import SMALL

COARSE: Grid = (4, 4)
FINE: Grid = (8, 8)
PATCH = 8  # pixels along each side of a token, on every grid
CONFIG = SMALL.replace(embed_dims=(32, 32, 32, 32), layer_scale_init=None, distillation=False)

LOOKED_AT = 100  # images on which attention probabilities are compared

WHOLE = LAPTOP.replace(epochs=20, batch=50, learning_rate=0.06, weight_decay=0.05, crop=4)
"""To train the network, its table with it. Images move by up to 4 pixels, so that no patch has its place by heart."""

ALONE = WHOLE.replace(epochs=6, learning_rate=0.6, weight_decay=0.0)
"""To train nothing but a table, from zeros."""


def resized_matrix(table: Float[Tensor, "heads offsets"], bias_grid: Grid, grid: Grid) -> Float[Tensor, "heads N N"]:
    """The bias between each two tokens as the released dense code makes it: its matrix resized as an image, bicubic.

    Rows and columns of that image are tokens, numbered along one row of the grid after the other. What lies beside each
    other in it need not do so in the photograph: the last token of a row is followed by the first of the next.
    The released table is one for 16×16 tokens (segmentation) or 25×25 (detection), and learns through this resize.

    Args:
        table: one number for each head and offset, as `offset_bias` takes it.
        bias_grid: height and width of the grid that the table is for.
        grid: height and width of the grid that the tokens lie on.
    """
    matrix = offset_bias(table, bias_grid, bias_grid)  # (heads, N₀, N₀)
    count = math.prod(grid)
    return F.interpolate(matrix[None], size=(count, count), mode="bicubic")[0]  # (heads, N, N)


def taken_for(bias_grid: Grid, grid: Grid) -> list[list[tuple[int, int]]]:
    """For which token of `bias_grid` the released way takes each token of `grid`, the nearest: its row and column."""
    before, count = math.prod(bias_grid), math.prod(grid)
    nearest = [int((token + 0.5) * before / count) for token in range(count)]
    places = [divmod(token, bias_grid[1]) for token in nearest]
    return [places[row * grid[1] : (row + 1) * grid[1]] for row in range(grid[0])]


def affine_table(down: float, across: float, bias_grid: Grid, grid: Grid) -> Float[Tensor, "1 offsets"]:
    """The table down·|Δy| + across·|Δx| on `grid`, offsets counted so that the largest are those of `bias_grid`.

    A table that a resize has to get right: it rises evenly, so there is one answer for what lies in between.
    """
    y, x = (torch.linspace(0, before - 1, now) for before, now in zip(bias_grid, grid, strict=True))
    return (down * y[:, None] + across * x).flatten()[None]  # (1, h·w)


class GivenBias(Attention):
    """Attention whose bias is handed over as the matrix that it is, so that it can be any."""

    matrix: Float[Tensor, "heads N N"]

    def bias(self, grid: Grid) -> Float[Tensor, "heads N N"]:
        """What was handed over last."""
        return self.matrix


class PatchNetwork(nn.Module):
    """Patches of 8×8 pixels as tokens, one MB3D block, the mean over the tokens, a head.

    A finer grid has more patches that overlap; each still shows as many pixels. So nothing changes with the grid but
    how many tokens there are, and which bias each two of them need.
    """

    def __init__(self) -> None:
        super().__init__()
        dim = CONFIG.embed_dims[-1]
        self.embed = nn.Linear(PATCH**2, dim)
        self.block = MB3D(CONFIG, 3, 0.0)
        self.attention = self.block.token_mixer = GivenBias(
            dim, CONFIG.num_heads, CONFIG.key_dim, CONFIG.value_dim, COARSE, 0.0
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, CONFIG.num_classes)

    def forward(self, images: Float[Tensor, "B 1 side side"], bias: Float[Tensor, "heads N N"]) -> Tensor:
        """The logits, (B, num_classes), with this bias between each two of the N tokens of a square grid."""
        grid = math.isqrt(bias.shape[-1])
        step = images.shape[-1] // grid
        padded = F.pad(images, [(PATCH - step) // 2] * 4, mode="replicate")
        patches = F.unfold(padded, PATCH, stride=step).transpose(1, 2)  # (B, N, 64)
        self.attention.matrix = bias
        tokens = self.block(self.embed(patches), (grid, grid))  # (B, N, 32)
        return self.head(self.norm(tokens).mean(1))


@dataclass(frozen=True)
class Way:
    """One way to a bias, and what became of it.

    Attributes:
        name: of the way.
        bias: between each two tokens.
        top1: part of the test images whose class the network tells with it.
        error: how far the bias is from the trained one, over the size of that: root mean squares, each row of a head
            without its mean, which softmax does not see.
        attention: how far the attention probabilities are from those with the trained bias: half the sum of the
            differences in a row, a mean over rows, heads and images. 0 is alike, 1 means no key in common.
    """

    name: str
    bias: Float[Tensor, "heads N N"]
    top1: float
    error: float
    attention: float


@dataclass(frozen=True)
class Comparison:
    """What the ways to a bias are worth.

    Attributes:
        coarse: on the grid that the network was trained on: no bias; a table trained from zeros in the finished
            network, which says how near to another table training comes at all; the network's own.
        fine: on the finer grid: no bias, the matrix resized, the table resized, and a table trained there.
    """

    coarse: tuple[Way, ...]
    fine: tuple[Way, ...]

    def table(self) -> Table:
        """A row for each way; errors are measured against the trained table of the same grid."""
        rows = [
            (f"{side}×{side}", way.name, f"{way.top1:.1%}", f"{way.error:.2f}", f"{way.attention:.3f}")
            for ways in (self.coarse, self.fine)
            for way in ways
            for side in [math.isqrt(math.isqrt(way.bias[0].numel()))]
        ]
        return Table(("tokens", "bias", "top-1", "error", "of attention"), tuple(rows))


def compare_tables(
    train_images: Images, test_images: Images, *, whole: Recipe = WHOLE, alone: Recipe = ALONE, seed: int = 0
) -> Comparison:
    """Train a network on 4×4 tokens, carry its table of offsets to 8×8 tokens in each way, and measure.

    Everything but the table stays what it was. The result is a function of the arguments: one thread computes it, in
    about half a minute for the part of Fashion-MNIST that comes with the package.

    Args:
        train_images: images of Fashion-MNIST to train on.
        test_images: others to judge by.
        whole: how the network is trained.
        alone: how a table is trained alone.
        seed: of the network's weights and all that is random in training.

    Raises:
        ValueError: if the images do not fill a batch.
    """
    with threads(1):
        network = fresh_network(seed)
        learned = network.attention.attention_biases
        train(network, learned, COARSE, network.parameters(), train_images, whole, seed)
        network.requires_grad_(False)
        again, there = (trained_table(network, grid, train_images, alone, seed) for grid in (COARSE, FINE))
        coarse = {
            "none": offset_bias(torch.zeros_like(learned), COARSE, COARSE),
            "trained again": offset_bias(again, COARSE, COARSE),
            "trained": offset_bias(learned, COARSE, COARSE),
        }
        fine = {
            "none": offset_bias(torch.zeros_like(there), FINE, FINE),
            "matrix resized": resized_matrix(learned, COARSE, FINE),
            "table resized": offset_bias(learned, COARSE, FINE),
            "trained": offset_bias(there, FINE, FINE),
        }
        return Comparison(judge(network, coarse, test_images), judge(network, fine, test_images))


def fresh_network(seed: int) -> PatchNetwork:
    """A network as training begins with it: its weights depend on the seed alone, its table is 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mixed(seed))
        return PatchNetwork()


def trained_table(
    network: PatchNetwork, grid: Grid, images: Images, recipe: Recipe, seed: int
) -> Float[Tensor, "heads offsets"]:
    """A table for this grid, trained from zeros; the network stays as it is."""
    table = torch.zeros(CONFIG.num_heads, math.prod(grid), requires_grad=True)
    train(network, table, grid, [table], images, recipe, seed)
    return table.detach()


def train(
    network: PatchNetwork,
    table: Float[Tensor, "heads offsets"],
    grid: Grid,
    parameters: Iterable[Tensor],
    images: Images,
    recipe: Recipe,
    seed: int,
) -> None:
    """Train `parameters` in place, on this grid with this table. Of the recipe clipping and average are not used."""
    optimizer = torch.optim.AdamW(parameters, lr=recipe.peak, weight_decay=recipe.weight_decay)
    for epoch in range(recipe.total_epochs):
        batches = TrainBatches(images, recipe, SMALLEST_INPUT, 1, seed=seed, epoch=epoch)
        for number, batch in enumerate(loader(batches)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, epoch * len(batches) + number, len(batches))
            logits = network(batch.images, offset_bias(table, grid, grid))  # (B, num_classes)
            optimizer.zero_grad()
            F.cross_entropy(logits, batch.targets).backward()
            optimizer.step()


@torch.no_grad()
def judge(network: PatchNetwork, biases: dict[str, Float[Tensor, "heads N N"]], images: Images) -> tuple[Way, ...]:
    """Measure each bias by the one that is called "trained", and all by the images."""
    batches = list(loader(TestBatches(images, SMALLEST_INPUT, 1, LOOKED_AT)))
    looked_at, best = batches[0][0], biases["trained"]
    aim = probabilities(network, looked_at, best)
    ways = []
    for name, bias in biases.items():
        right = sum(int((network(few, bias).argmax(1) == labels).sum()) for few, labels in batches)
        moved = (probabilities(network, looked_at, bias) - aim).abs().sum(-1).mean() / 2
        ways.append(Way(name, bias, right / len(images), bias_error(bias, best), float(moved)))
    return tuple(ways)


def probabilities(
    network: PatchNetwork, images: Float[Tensor, "B 1 side side"], bias: Float[Tensor, "heads N N"]
) -> Float[Tensor, "B heads N N"]:
    """Where each token looks with this bias."""
    maps: list[Tensor] = []
    hook = network.attention.softmax.register_forward_hook(lambda *call: maps.append(call[-1]))
    try:
        network(images, bias)
    finally:
        hook.remove()
    return maps[0]


def bias_error(bias: Float[Tensor, "heads N N"], wanted: Float[Tensor, "heads N N"]) -> float:
    """How far a bias is from another, as `Way.error` has it: 0 is alike, 1 is what no bias at all has."""
    difference, size = (one - one.mean(-1, keepdim=True) for one in (bias - wanted, wanted))
    return float(difference.norm() / size.norm())
