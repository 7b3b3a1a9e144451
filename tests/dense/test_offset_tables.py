"""The released code's resizing, against loops and with its bugs; the measurement, on few images."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch.nn import functional as F

from efficientformer_edu.data.datasets import Images, load_data, stratified_split
from efficientformer_edu.dense import offset_tables
from efficientformer_edu.dense.offset_tables import (
    COARSE,
    CONFIG,
    FINE,
    NETWORK_RECIPE,
    TABLE_RECIPE,
    Comparison,
    affine_table,
    bias_error,
    compare_biases,
    compare_tables,
    fresh_network,
    probabilities,
    resized_matrix,
    source_tokens,
    train,
    trained_table,
)
from efficientformer_edu.model import offset_bias

pytestmark = pytest.mark.slow

sides = st.integers(2, 6)
slopes = st.floats(-2, 2)


def images(split: str, per_class: int) -> Images:
    return stratified_split(load_data("fashion-mnist-small", split), per_class)[0]  # type: ignore[arg-type]


@given(st.tuples(sides, sides), st.tuples(sides, sides), slopes, slopes)
def test_an_affine_table_is_resized_exactly_as_a_table(
    before: tuple[int, int], now: tuple[int, int], down: float, across: float
) -> None:
    resized = offset_bias(affine_table(down, across, before, before), before, now)
    torch.testing.assert_close(resized, offset_bias(affine_table(down, across, before, now), now, now))


def test_an_affine_table_by_hand() -> None:
    table = affine_table(10, 1, (2, 3), (3, 5))
    assert table.tolist() == [[0, 0.5, 1, 1.5, 2, 5, 5.5, 6, 6.5, 7, 10, 10.5, 11, 11.5, 12]]


def test_an_affine_table_is_not_resized_right_as_a_matrix() -> None:
    table, expected = affine_table(1, 1, COARSE, COARSE), affine_table(1, 1, COARSE, FINE)
    wrong = resized_matrix(table, COARSE, FINE) - offset_bias(expected, FINE, FINE)
    assert wrong.abs().max() > 2  # of values from 0 to 6


def test_on_the_trained_grid_the_matrix_stays_what_it_is() -> None:
    table = torch.randn(3, 12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(resized_matrix(table, (3, 4), (3, 4)), offset_bias(table, (3, 4), (3, 4)))


def test_the_matrix_is_resized_as_an_image_with_the_cubic_of_torch() -> None:
    """Two tokens become four: weights of Keys's cubic kernel with a = −0.75 at half-pixel distances, by hand."""
    table = torch.tensor([[0.0, 1.0]])  # the matrix [[0, 1], [1, 0]]
    a, offsets = -0.75, [-0.25, 0.25, 0.75, 1.25]

    def weight(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    def second_weight(position: float) -> float:
        """The weight of the second token at a position; beyond the border the last token is repeated."""
        first = math.floor(position)
        return sum(weight(position - near) for near in range(first - 1, first + 3) if near >= 1)

    part = [second_weight(position) for position in offsets]
    expected = [[row * (1 - column) + (1 - row) * column for column in part] for row in part]
    torch.testing.assert_close(resized_matrix(table, (1, 2), (1, 4)), torch.tensor([expected]))


def test_tokens_of_the_resized_matrix_are_taken_for_those_of_other_rows() -> None:
    assert source_tokens((2, 2), (2, 2)) == [[(0, 0), (0, 1)], [(1, 0), (1, 1)]]
    assert source_tokens((1, 2), (1, 4)) == [[(0, 0), (0, 0), (0, 1), (0, 1)]]
    # Two rows of four tokens share the values of the first row of two.
    assert source_tokens((2, 2), (4, 4))[:2] == [[(0, 0)] * 4, [(0, 1)] * 4]


@given(st.tuples(sides, sides), st.tuples(sides, sides))
def test_taken_for_is_the_nearest_in_the_resized_matrix(before: tuple[int, int], now: tuple[int, int]) -> None:
    numbers = torch.arange(math.prod(before), dtype=torch.float64)[None, None]
    count = math.prod(now)
    nearest = F.interpolate(numbers, size=count, mode="nearest-exact").long().view(now)
    assert source_tokens(before, now) == [[divmod(index, before[1]) for index in row] for row in nearest.tolist()]


def test_the_error_of_a_bias() -> None:
    expected = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(2))
    assert bias_error(expected, expected) == 0
    assert bias_error(torch.zeros_like(expected), expected) == pytest.approx(1)
    assert bias_error(2 * expected, expected) == pytest.approx(1)
    shifted = expected + torch.arange(10.0).view(2, 5, 1)  # a constant per row, to which softmax is invariant
    assert bias_error(shifted, expected) == pytest.approx(0, abs=1e-5)
    assert bias_error(expected.transpose(1, 2), expected) > 0.5


def test_patches_show_as_many_pixels_on_either_grid() -> None:
    """The middle tokens of the fine grid cover pixels that the coarse tokens cover; their shapes are the grid's."""
    network = fresh_network(0)
    seen: list[torch.Tensor] = []
    network.embed.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    picture = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(3))
    for grid in (COARSE, FINE):
        count = math.prod(grid)
        assert network(picture, torch.zeros(4, count, count)).shape == (2, 10)
    coarse, fine = seen
    assert (coarse.shape, fine.shape) == ((2, 16, 64), (2, 64, 64))
    torch.testing.assert_close(coarse[:, 5].view(2, 8, 8), picture[:, 0, 8:16, 8:16])
    torch.testing.assert_close(fine[:, 2 * 8 + 3].view(2, 8, 8), picture[:, 0, 6:14, 10:18])


def test_only_the_table_knows_where_a_patch_is() -> None:
    network = fresh_network(0)
    picture = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(4))
    order = torch.randperm(16, generator=torch.Generator().manual_seed(5))
    patches = F.unfold(picture, 8, stride=8)[..., order]
    mixed = F.fold(patches, 32, 8, stride=8)
    none = torch.zeros(4, 16, 16)
    torch.testing.assert_close(network(mixed, none), network(picture, none))
    bias = offset_bias(torch.randn(4, 16, generator=torch.Generator().manual_seed(6)), COARSE, COARSE)
    assert not torch.allclose(network(mixed, bias), network(picture, bias), atol=1e-3)


def test_probabilities_are_those_of_the_bias_and_nothing_stays_hooked() -> None:
    network = fresh_network(0)
    picture = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(7))
    far = torch.zeros(4, 16, 16)
    far[:, :, 3] = 50.0
    looks = probabilities(network, picture, far)
    torch.testing.assert_close(looks[..., 3], torch.ones(2, 4, 16))
    assert not network.attention.softmax._forward_hooks


def test_a_fresh_network_depends_on_its_seed_alone() -> None:
    before = torch.get_rng_state()
    first, same, other = (fresh_network(seed).embed.weight for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_a_table_moves_nothing_else_and_helps() -> None:
    some = images("train", 10)
    network = fresh_network(0)
    train(
        network,
        network.attention.attention_biases,
        COARSE,
        network.parameters(),
        some,
        NETWORK_RECIPE.replace(epochs=2),
        0,
    )
    network.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    table = trained_table(network, FINE, some, TABLE_RECIPE.replace(epochs=1), 0)
    assert table.shape == (CONFIG.num_heads, 64) and table.abs().min() > 0 and not table.requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not before["attention.attention_biases"].equal(torch.zeros(4, 16))


def test_judging_by_hand() -> None:
    network = fresh_network(0)
    some = images("test", 3)
    none, look = torch.zeros(4, 16, 16), torch.zeros(4, 16, 16)
    look[:, :, 0] = 100.0  # all attend only to the first token
    with torch.no_grad():
        network.attention.qkv.weight.zero_()
        network.head.weight.zero_()
        network.head.bias[4] = 1.0  # and coat is the only prediction
    first, second = compare_biases(network, {"none": none, "trained": look}, some)
    assert (first.top1, second.top1) == (pytest.approx(0.1), pytest.approx(0.1))
    assert (first.error, second.error, second.attention) == (pytest.approx(1), 0, 0)
    assert first.attention == pytest.approx(15 / 16)


@pytest.fixture(scope="module")
def small_comparison() -> Comparison:
    short = {"network_recipe": NETWORK_RECIPE.replace(epochs=2), "table_recipe": TABLE_RECIPE.replace(epochs=1)}
    return compare_tables(images("train", 20), images("test", 5), **short)


def test_a_comparison_has_every_method_and_a_table_row_per_method(small_comparison: Comparison) -> None:
    assert [way.name for way in small_comparison.coarse] == ["none", "trained again", "trained"]
    assert [way.name for way in small_comparison.fine] == ["none", "matrix resized", "table resized", "trained"]
    assert [way.error for way in (small_comparison.coarse[0], small_comparison.fine[0])] == [pytest.approx(1)] * 2
    for ways, count in ((small_comparison.coarse, 16), (small_comparison.fine, 64)):
        assert ways[-1].error == ways[-1].attention == 0
        assert all(way.bias.shape == (CONFIG.num_heads, count, count) for way in ways)
        assert all(0 <= way.top1 <= 1 and 0 <= way.attention <= 1 for way in ways)
    rows = small_comparison.table().rows
    assert [row[0] for row in rows] == ["4×4"] * 3 + ["8×8"] * 4
    ways = (*small_comparison.coarse, *small_comparison.fine)
    assert [row[2:] for row in rows] == [(way.top1, way.error, way.attention) for way in ways]
    learned = small_comparison.coarse[-1].bias[:, 0]  # the first token's row is the table itself
    torch.testing.assert_close(small_comparison.fine[1].bias, resized_matrix(learned, COARSE, FINE))
    torch.testing.assert_close(small_comparison.fine[2].bias, offset_bias(learned, COARSE, FINE))


def test_a_comparison_depends_on_its_arguments_alone(small_comparison: Comparison) -> None:
    short = {"network_recipe": NETWORK_RECIPE.replace(epochs=2), "table_recipe": TABLE_RECIPE.replace(epochs=1)}
    again = compare_tables(images("train", 20), images("test", 5), **short)
    other = compare_tables(images("train", 20), images("test", 5), **short, seed=1)
    assert again.table() == small_comparison.table()
    assert not torch.equal(other.fine[-1].bias, small_comparison.fine[-1].bias)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="20 images do not fill a batch of 50"):
        compare_tables(images("train", 2), images("test", 1))


def test_grids_divide_the_images() -> None:
    for side, _ in (COARSE, FINE):
        assert 32 % side == 0 and (offset_tables.PATCH - 32 // side) % 2 == 0
