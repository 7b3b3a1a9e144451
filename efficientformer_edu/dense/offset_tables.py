"""The offset table on a different grid: resized in two ways, or trained there, and the cost of each.

Paper: Eq. 6. Released code: `Attention` in `segmentation/backbone.py` and `detection/backbone.py`, which resizes the
matrix of all token pairs as if it were an image (`resized_matrix`). This package resizes the table
(`model.offset_bias`).

The measurement needs a network whose output depends on the table. `PatchNetwork` is one: its tokens are patches, its
only block is an MB3D, and its output is the mean over tokens, so only the table encodes the positions of the patches.
Input: images of Fashion-MNIST. Output: a `Comparison`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from efficientformer_edu.config import SMALLEST_INPUT
from efficientformer_edu.data.datasets import Images
from efficientformer_edu.model import MB3D, Attention, offset_bias
from efficientformer_edu.model.mixers import Grid
from efficientformer_edu.training.loading import EvalBatches, TrainBatches, loader
from efficientformer_edu.training.optimization import learning_rate
from efficientformer_edu.training.recipe import LAPTOP, Recipe
from efficientformer_edu.training.small import SMALL
from efficientformer_edu.utils.hardware import threads
from efficientformer_edu.utils.rng import derive_seed
from efficientformer_edu.utils.tables import Table

COARSE: Grid = (4, 4)
FINE: Grid = (8, 8)
PATCH = 8  # pixels along each side of a token, on every grid
CONFIG = SMALL.replace(embed_dims=(32, 32, 32, 32), layer_scale_init=None, distillation=False)

NUM_ATTENTION_IMAGES = 100  # number of images on which attention probabilities are compared

NETWORK_RECIPE = LAPTOP.replace(epochs=20, batch=50, learning_rate=0.06, weight_decay=0.05, crop=4)
"""Recipe for training the network including its table. Random crops shift images by up to 4 pixels, so that the network
cannot memorize patch positions.
"""

TABLE_RECIPE = NETWORK_RECIPE.replace(epochs=6, learning_rate=0.6, weight_decay=0.0)
"""Recipe for training only a table, from zeros."""


def resized_matrix(table: Float[Tensor, "heads offsets"], bias_grid: Grid, grid: Grid) -> Float[Tensor, "heads N N"]:
    """The bias of each token pair as in the released dense code: the matrix resized as an image, bicubic.

    Rows and columns of that image are tokens, numbered row by row. Neighbours in the matrix need not be neighbours in
    the input image: the last token of a row is followed by the first of the next.
    The released table is for 16×16 tokens (segmentation) or 25×25 (detection), and is trained through this resize.

    Args:
        table: one value per head and offset, as for `offset_bias`.
        bias_grid: height and width of the table's grid.
        grid: height and width of the token grid.
    """
    matrix = offset_bias(table, bias_grid, bias_grid)  # (heads, N₀, N₀)
    count = math.prod(grid)
    return F.interpolate(matrix[None], size=(count, count), mode="bicubic")[0]  # (heads, N, N)


def source_tokens(bias_grid: Grid, grid: Grid) -> list[list[tuple[int, int]]]:
    """The row and column of the token of `bias_grid` that the released code uses for each token of `grid` (nearest)."""
    source_count, count = math.prod(bias_grid), math.prod(grid)
    nearest = [int((token + 0.5) * source_count / count) for token in range(count)]
    positions = [divmod(token, bias_grid[1]) for token in nearest]
    return [positions[row * grid[1] : (row + 1) * grid[1]] for row in range(grid[0])]


def affine_table(down: float, across: float, bias_grid: Grid, grid: Grid) -> Float[Tensor, "1 offsets"]:
    """The table down·|Δy| + across·|Δx| on `grid`, with offsets scaled so that the largest are those of `bias_grid`.

    Any correct resize reproduces this table: it is linear, so the interpolated values are unambiguous.
    """
    y, x = (torch.linspace(0, source_size - 1, size) for source_size, size in zip(bias_grid, grid, strict=True))
    return (down * y[:, None] + across * x).flatten()[None]  # (1, h·w)


class ExternalBiasAttention(Attention):
    """Attention with an arbitrary bias matrix, set from outside."""

    matrix: Float[Tensor, "heads N N"]

    def bias(self, grid: Grid) -> Float[Tensor, "heads N N"]:
        """The bias matrix that was set last."""
        return self.matrix


class PatchNetwork(nn.Module):
    """Patches of 8×8 pixels as tokens, one MB3D block, the mean over the tokens, a head.

    A finer grid has more, overlapping patches of the same size. So only the number of tokens and the required biases
    change with the grid.
    """

    def __init__(self) -> None:
        super().__init__()
        dim = CONFIG.embed_dims[-1]
        self.embed = nn.Linear(PATCH**2, dim)
        self.block = MB3D(CONFIG, 3, 0.0)
        self.attention = self.block.token_mixer = ExternalBiasAttention(
            dim, CONFIG.num_heads, CONFIG.key_dim, CONFIG.value_dim, COARSE, 0.0
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, CONFIG.num_classes)

    def forward(self, images: Float[Tensor, "B 1 side side"], bias: Float[Tensor, "heads N N"]) -> Tensor:
        """The logits, (B, num_classes), with this bias between the N tokens of a square grid."""
        grid = math.isqrt(bias.shape[-1])
        step = images.shape[-1] // grid
        padded = F.pad(images, [(PATCH - step) // 2] * 4, mode="replicate")
        patches = F.unfold(padded, PATCH, stride=step).transpose(1, 2)  # (B, N, 64)
        self.attention.matrix = bias
        tokens = self.block(self.embed(patches), (grid, grid))  # (B, N, 32)
        return self.head(self.norm(tokens).mean(1))


@dataclass(frozen=True)
class BiasResult:
    """One way to obtain a bias, and its results.

    Attributes:
        name: name of the method.
        bias: bias of each token pair.
        top1: top-1 accuracy on the test images with this bias.
        error: relative error of the bias against the trained one: ratio of root mean squares, after subtracting the
            mean of each row, which softmax ignores.
        attention: difference of the attention probabilities from those with the trained bias: half the sum of absolute
            differences in a row, averaged over rows, heads and images. 0 means equal, 1 means no key in common.
    """

    name: str
    bias: Float[Tensor, "heads N N"]
    top1: float
    error: float
    attention: float


@dataclass(frozen=True)
class Comparison:
    """Results of all methods.

    Attributes:
        coarse: on the training grid of the network: no bias; a table trained from zeros in the trained network, which
            shows how closely training reproduces a table; the network's own table.
        fine: on the finer grid: no bias, the matrix resized, the table resized, and a table trained there.
    """

    coarse: tuple[BiasResult, ...]
    fine: tuple[BiasResult, ...]

    def table(self) -> Table:
        """A row for each method; errors are relative to the trained table of the same grid."""
        rows = [
            (f"{side}×{side}", result.name, result.top1, result.error, result.attention)
            for results in (self.coarse, self.fine)
            for result in results
            for side in [math.isqrt(math.isqrt(result.bias[0].numel()))]
        ]
        formats = {"top-1": ".1%", "error": ".2f", "of attention": ".3f"}
        return Table(("tokens", "bias", "top-1", "error", "of attention"), tuple(rows), formats=formats)


def compare_tables(
    train_images: Images,
    test_images: Images,
    *,
    network_recipe: Recipe = NETWORK_RECIPE,
    table_recipe: Recipe = TABLE_RECIPE,
    seed: int = 0,
) -> Comparison:
    """Train a network on 4×4 tokens, transfer its offset table to 8×8 tokens with each method, and compare.

    Only the table changes. The result depends only on the arguments: it is computed with one thread, in about half a
    minute for the part of Fashion-MNIST that is included in the package.

    Args:
        train_images: images of Fashion-MNIST for training.
        test_images: other images for evaluation.
        network_recipe: recipe for the network.
        table_recipe: recipe for training only a table.
        seed: seed of the network's weights and all randomness in training.

    Raises:
        ValueError: if the images do not fill a batch.
    """
    with threads(1):
        network = fresh_network(seed)
        learned = network.attention.attention_biases
        train(network, learned, COARSE, network.parameters(), train_images, network_recipe, seed)
        network.requires_grad_(False)
        retrained, fine_table = (
            trained_table(network, grid, train_images, table_recipe, seed) for grid in (COARSE, FINE)
        )
        coarse = {
            "none": offset_bias(torch.zeros_like(learned), COARSE, COARSE),
            "trained again": offset_bias(retrained, COARSE, COARSE),
            "trained": offset_bias(learned, COARSE, COARSE),
        }
        fine = {
            "none": offset_bias(torch.zeros_like(fine_table), FINE, FINE),
            "matrix resized": resized_matrix(learned, COARSE, FINE),
            "table resized": offset_bias(learned, COARSE, FINE),
            "trained": offset_bias(fine_table, FINE, FINE),
        }
        return Comparison(compare_biases(network, coarse, test_images), compare_biases(network, fine, test_images))


def fresh_network(seed: int) -> PatchNetwork:
    """A network before training: its weights depend only on the seed, its table is 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed))
        return PatchNetwork()


def trained_table(
    network: PatchNetwork, grid: Grid, images: Images, recipe: Recipe, seed: int
) -> Float[Tensor, "heads offsets"]:
    """A table for this grid, trained from zeros; the network is not changed."""
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
    """Train `parameters` in place, on this grid with this table. Clipping and EMA of the recipe are not used.

    `Trainer` trains networks that depend on the image only; this one also needs the bias of the grid.
    """
    optimizer = torch.optim.AdamW(parameters, weight_decay=recipe.weight_decay)
    for epoch in range(recipe.total_epochs):
        batches = TrainBatches(images, recipe, SMALLEST_INPUT, 1, seed=seed, epoch=epoch)
        for step, batch in enumerate(loader(batches), epoch * len(batches)):
            optimizer.param_groups[0]["lr"] = learning_rate(recipe, step, len(batches))
            logits = network(batch.images, offset_bias(table, grid, grid))  # (B, num_classes)
            optimizer.zero_grad()
            F.cross_entropy(logits, batch.targets).backward()
            optimizer.step()


@torch.no_grad()
def compare_biases(
    network: PatchNetwork, biases: dict[str, Float[Tensor, "heads N N"]], images: Images
) -> tuple[BiasResult, ...]:
    """Evaluate each bias on the images, and compare it with the one named "trained"."""
    batches = list(loader(EvalBatches(images, SMALLEST_INPUT, 1, NUM_ATTENTION_IMAGES)))
    compared_images, trained_bias = batches[0][0], biases["trained"]
    reference = probabilities(network, compared_images, trained_bias)
    results = []
    for name, bias in biases.items():
        correct = sum(int((network(batch_images, bias).argmax(1) == labels).sum()) for batch_images, labels in batches)
        difference = (probabilities(network, compared_images, bias) - reference).abs().sum(-1).mean() / 2
        results.append(BiasResult(name, bias, correct / len(images), bias_error(bias, trained_bias), float(difference)))
    return tuple(results)


def probabilities(
    network: PatchNetwork, images: Float[Tensor, "B 1 side side"], bias: Float[Tensor, "heads N N"]
) -> Float[Tensor, "B heads N N"]:
    """The attention probabilities with this bias."""
    maps: list[Tensor] = []
    hook = network.attention.softmax.register_forward_hook(lambda *call: maps.append(call[-1]))
    try:
        network(images, bias)
    finally:
        hook.remove()
    return maps[0]


def bias_error(bias: Float[Tensor, "heads N N"], expected: Float[Tensor, "heads N N"]) -> float:
    """Relative error of a bias, as in `BiasResult.error`: 0 if equal, 1 for no bias at all."""
    difference, size = (values - values.mean(-1, keepdim=True) for values in (bias - expected, expected))
    return float(difference.norm() / size.norm())
