"""One MetaPath: hand-computed mixtures, both kinds of noise, the limit, and the gradient of α."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slimming_runs import TINY, pictures, supernet
from torch import nn

from efficientformer_edu.slimming.subnet import UNIT, MetaPath, Noise, gumbel, mixture, uniform

LOG3 = math.log(3)


class Times(nn.Module):
    """Replaces a block: multiplies the map by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor, *grid: object) -> torch.Tensor:
        return self.factor * x


def path(stage: int = 0, alpha: tuple[float, ...] = (), factors: tuple[float, ...] = (3.0, 5.0)) -> MetaPath:
    """A MetaPath with scalar blocks: MB4D is 3x, MB3D 5x."""
    made = MetaPath(TINY, stage, 0.0)
    for name, factor in zip(made.blocks, factors, strict=False):
        made.blocks[name] = Times(factor)
    if alpha:
        with torch.no_grad():
            made.alpha_in_units.copy_(torch.tensor(alpha) / UNIT)
    return made


X = torch.tensor([1.0, -2.0, 0.5, 4.0]).view(1, 1, 2, 2)


@pytest.mark.parametrize(
    ("alpha", "noise", "tau", "expected"),
    [
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0, (1 / 3, 1 / 3, 1 / 3)),
        ((0.0, math.log(2), math.log(5)), (0.0, 0.0, 0.0), 1.0, (1 / 8, 2 / 8, 5 / 8)),
        ((0.0, math.log(2), math.log(5)), (0.0, 0.0, 0.0), 0.5, (1 / 30, 4 / 30, 25 / 30)),  # squares
        ((0.0, math.log(4), math.log(9)), (0.0, 0.0, 0.0), 2.0, (1 / 6, 2 / 6, 3 / 6)),  # roots
        ((0.0, 0.0), (LOG3, 0.0), 1.0, (3 / 4, 1 / 4)),
        ((LOG3, 0.0), (0.0, LOG3), 0.1, (1 / 2, 1 / 2)),
        ((math.log(2), 0.0), (0.0, math.log(4)), 0.5, (4 / 20, 16 / 20)),
    ],
)
def test_the_mixture_by_hand(
    alpha: tuple[float, ...], noise: tuple[float, ...], tau: float, expected: tuple[float, ...]
) -> None:
    assert mixture(torch.tensor(alpha), torch.tensor(noise), tau).tolist() == pytest.approx(expected, abs=1e-6)


@given(
    alpha=st.lists(st.integers(-20, 20), min_size=2, max_size=3, unique=True),
    noise=st.lists(st.floats(0, 0.4), min_size=3, max_size=3),
)
def test_with_a_small_temperature_the_largest_gets_all(alpha: list[int], noise: list[float]) -> None:
    summed = torch.tensor(alpha, dtype=torch.float64) + torch.tensor(noise[: len(alpha)], dtype=torch.float64)
    mixed = mixture(summed, 0.0, 0.01)
    assert mixed.argmax() == summed.argmax()
    assert mixed.max() > 1 - 1e-9
    assert mixed.sum() == pytest.approx(1)


@pytest.mark.parametrize("tau", [0.0, -1.0])
def test_a_temperature_is_above_0(tau: float) -> None:
    with pytest.raises(ValueError, match=r"tau=.* is not possible; wanted: a temperature above 0"):
        mixture(torch.zeros(2), 0.0, tau)


DRAWS = 100_000


def drawn(noise: object, *alpha: float) -> torch.Tensor:
    """α + ε, sampled repeatedly."""
    torch.manual_seed(0)
    like = torch.empty(DRAWS, len(alpha), dtype=torch.float64)
    return torch.tensor(alpha, dtype=torch.float64) + noise(like)  # type: ignore[operator]


def test_the_papers_noise_lies_between_0_and_1() -> None:
    noise = drawn(uniform, 0.0)
    assert 0 <= noise.min() < 0.001 and 0.999 < noise.max() <= 1
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(noise.var()) == pytest.approx(1 / 12, rel=0.02)


def test_gumbels_noise_has_gumbels_moments() -> None:
    noise = drawn(gumbel, 0.0)
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.02)  # the Euler–Mascheroni constant
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, rel=0.02)
    below = float((noise < 1).double().mean())
    assert below == pytest.approx(math.exp(-math.exp(-1)), abs=0.005)


def frequencies(noise: object, *alpha: float) -> list[float]:
    """How often each candidate is the largest."""
    return (drawn(noise, *alpha).argmax(1).bincount(minlength=len(alpha)) / DRAWS).tolist()


@pytest.mark.parametrize("alpha", [(0.0, 1.0, 2.0), (0.0, -3.0), (0.5, 0.5, 0.0)])
def test_with_gumbels_noise_the_largest_has_the_frequency_of_the_softmax(alpha: tuple[float, ...]) -> None:
    powers = [math.exp(value) for value in alpha]
    expected = [power / sum(powers) for power in powers]
    assert frequencies(gumbel, *alpha) == pytest.approx(expected, abs=0.006)


def test_with_uniform_noise_it_does_not() -> None:
    """For two α that differ by d the smaller wins if u₁ − u₂ > d: the area (1 − d)²/2 of the unit square."""
    for d in (0.0, 0.3, 0.5, 0.9):
        assert frequencies(uniform, 0.0, d)[0] == pytest.approx((1 - d) ** 2 / 2, abs=0.006)
    assert frequencies(uniform, 0.0, 1.01)[0] == 0
    assert frequencies(gumbel, 0.0, 1.01)[0] == pytest.approx(1 / (1 + math.exp(1.01)), abs=0.006)


def test_alpha_is_stored_in_units() -> None:
    made = path(alpha=(UNIT, -15.0))
    assert made.alpha.tolist() == pytest.approx([30.0, -15.0])
    assert made.alpha_in_units.tolist() == pytest.approx([1.0, -0.5])


@pytest.mark.parametrize(
    ("stage", "alpha", "tau", "factor"),
    [
        (0, (LOG3, 0.0), 1.0, 3 / 4 * 3 + 1 / 4),
        (1, (LOG3, 0.0), 0.5, 9 / 10 * 3 + 1 / 10),
        (2, (math.log(2), math.log(5), 0.0), 1.0, 2 / 8 * 3 + 5 / 8 * 5 + 1 / 8),
        (3, (0.0, 0.0, 0.0), 0.1, (3 + 5 + 1) / 3),
    ],
)
def test_a_metapath_weighs_its_candidates(stage: int, alpha: tuple[float, ...], tau: float, factor: float) -> None:
    """In evaluation, without noise: blocks of 3x and 5x next to x."""
    made = path(stage, alpha).eval()
    made.tau = tau
    assert torch.allclose(made(X), factor * X, rtol=1e-5)


@pytest.mark.parametrize("name", ["uniform", "gumbel"])
def test_in_training_it_has_the_configured_noise(name: Noise) -> None:
    made = path(alpha=(0.4, 0.0)).train()
    made.noise, made.tau = name, 0.7
    torch.manual_seed(3)
    epsilon = {"uniform": uniform, "gumbel": gumbel}[name](torch.empty(2)).tolist()
    powers = [math.exp((value + noise) / 0.7) for value, noise in zip((0.4, 0.0), epsilon, strict=True)]
    torch.manual_seed(3)
    assert torch.allclose(made(X), (3 * powers[0] + powers[1]) / sum(powers) * X, rtol=1e-5)


def test_every_call_in_training_samples_new_noise_and_evaluation_samples_none() -> None:
    made = path(2).train()
    assert not torch.equal(made(X), made(X))
    made.eval()
    before = torch.get_rng_state()
    assert torch.equal(made(X), made(X))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_choice_runs_alone_and_without_noise() -> None:
    made = path(2, alpha=(0.0, 9.0, 0.0)).train()
    for name, factor in (("MB4D", 3), ("MB3D", 5), ("I", 1)):
        made.choice = name  # type: ignore[assignment]
        assert torch.equal(made(X), factor * X)


@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_the_gradient_of_alpha_by_hand(tau: float) -> None:
    """y = w·3x + (1 − w)·x has dy/dα = w(1 − w)(3x − x)/τ, and with respect to the stored value UNIT times that."""
    made = path(alpha=(0.3, 0.0)).eval()
    made.tau = tau
    made(X).sum().backward()
    weight = 1 / (1 + math.exp(-0.3 / tau))
    slope = weight * (1 - weight) * 2 * float(X.sum()) / tau
    assert made.alpha_in_units.grad is not None
    assert made.alpha_in_units.grad.tolist() == pytest.approx([UNIT * slope, -UNIT * slope], rel=1e-4)


@pytest.mark.parametrize("noise", ["uniform", "gumbel"])
def test_gradients_reach_the_alpha_of_every_metapath(noise: Noise) -> None:
    network = supernet().train()
    for metapath in network.all_paths():
        metapath.noise = noise
    network(pictures(4)).square().sum().backward()
    for metapath in network.all_paths():
        grad = metapath.alpha_in_units.grad
        assert grad is not None and grad.abs().min() > 0
        assert abs(float(grad.sum())) < 1e-3 * float(grad.norm())  # adding a constant to all changes nothing


def test_no_gradient_reaches_unselected_blocks() -> None:
    made = MetaPath(TINY, 2, 0.0).train()
    made.choice = "MB3D"
    made(torch.randn(2, 32, 4, 4)).sum().backward()
    assert made.alpha_in_units.grad is None
    assert all(parameter.grad is None for parameter in made.blocks["MB4D"].parameters())
    assert all(parameter.grad is not None for parameter in made.blocks["MB3D"].parameters())


def test_i_is_the_map_itself() -> None:
    assert path().candidate("I", X) is X


def test_mb3d_on_a_map_is_mb3d_on_its_tokens() -> None:
    """Token y·w + x is the pixel (y, x), row by row, on a grid that is not square."""
    block_path = supernet().paths(2)[0]
    x = torch.randn(2, 32, 3, 5, generator=torch.Generator().manual_seed(0))
    tokens = torch.stack([x[:, :, y, at] for y in range(3) for at in range(5)], dim=1)  # (B, 15, C)
    with torch.no_grad():
        expected, actual = block_path.blocks["MB3D"](tokens, (3, 5)), block_path.candidate("MB3D", x)
    assert actual.shape == x.shape
    for y in range(3):
        for at in range(5):
            assert torch.equal(actual[:, :, y, at], expected[:, y * 5 + at])


def test_it_says_what_it_is() -> None:
    made = MetaPath(TINY, 2, 0.0)
    assert made.extra_repr() == "MB4D, MB3D, I, tau=1, uniform noise"
    made.choice, made.tau, made.noise = "MB3D", 0.25, "gumbel"
    assert made.extra_repr() == "MB3D, tau=0.25, gumbel noise"
    assert MetaPath(TINY, 1, 0.0).candidates == ("MB4D", "I")
