"""Step 1: the temperature falls by the step, a resumed run ends with the same weights, and α learns."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from slimming_runs import SIZE, TINY
from torch import Tensor, nn
from training_runs import images

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.slimming.protocol import SupernetTrainer, temperature
from efficientformer_edu.slimming.subnet import Noise
from efficientformer_edu.slimming.supernet import Supernet
from efficientformer_edu.training.classification import Run
from efficientformer_edu.training.recipe import LAPTOP

pytestmark = pytest.mark.slow

RECIPE = LAPTOP.replace(epochs=2, batch=20)


def run(noise: Noise = "gumbel", **more: object) -> Run:
    fields = {
        "config": TINY,
        "train": images("train", 40),
        "test": images("test", 20),
        "recipe": RECIPE,
        "size": SIZE,
        "build": partial(Supernet, noise=noise),
    }
    return Run(**{**fields, **more})  # type: ignore[arg-type]


def test_the_temperature_falls_from_1_to_a_tenth() -> None:
    assert temperature(0.0) == 1.0
    assert temperature(0.5) == pytest.approx(0.1**0.5)
    assert temperature(1.0) == pytest.approx(0.1)


@given(early=st.floats(0, 1), late=st.floats(0, 1))
def test_it_falls_in_equal_quotients(early: float, late: float) -> None:
    early, late = sorted((early, late))
    assert temperature(late) <= temperature(early)
    assert temperature(late) / temperature(early) == pytest.approx(temperature(late - early))


def test_every_step_has_its_temperature() -> None:
    """Two epochs of two steps; the last step does not reach the end."""
    loop, taus = SupernetTrainer(run()), list[set[float]]()
    list(loop.epochs(lambda: taus.append({path.tau for path in loop.network.all_paths()})))
    assert [len(values) for values in taus] == [1, 1, 1, 1]
    assert [*map(min, taus)] == pytest.approx([1, 0.1**0.25, 0.1**0.5, 0.1**0.75])


@pytest.mark.parametrize("noise", ["uniform", "gumbel"])
def test_a_resumed_run_ends_with_the_same_weights(noise: Noise, tmp_path: Path) -> None:
    unbroken = SupernetTrainer(run(noise))
    list(unbroken.epochs())
    next(SupernetTrainer(run(noise), tmp_path).epochs())  # stopped after the first epoch
    torch.manual_seed(99)
    resumed = SupernetTrainer(run(noise), tmp_path, resume=True)
    assert len(list(resumed.epochs())) == 1
    expected, actual = unbroken.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(actual[name], value) for name, value in expected.items())
    moved = [name for name, value in actual.items() if name.endswith("alpha_in_units") and value.abs().min() > 0]
    assert len(moved) == sum(TINY.depths)


def test_a_supernet_is_trained_into_a_folder(tmp_path: Path) -> None:
    loop = SupernetTrainer(run(recipe=RECIPE.replace(epochs=1)), tmp_path)
    list(loop.epochs())
    trained = loop.finalize().network
    assert isinstance(trained, Supernet) and not trained.training
    assert all(torch.equal(value, loop.network.state_dict()[name]) for name, value in trained.state_dict().items())


class Static(nn.Module):
    """Replaces a block: its input with heavy noise."""

    def forward(self, x: Tensor, *grid: object) -> Tensor:
        return x + 5 * torch.randn_like(x)


def noisy(config: EfficientFormerConfig) -> Supernet:
    """A supernet with optional heavy noise at the first MetaPath of its second stage."""
    network = Supernet(config)
    network.paths(1)[0].blocks["MB4D"] = Static()
    return network


def test_a_block_that_does_harm_loses_importance() -> None:
    recipe = RECIPE.replace(epochs=4, batch=40, learning_rate=0.1, warmup_epochs=0)
    loop = SupernetTrainer(run(recipe=recipe, train=images("train", 240), build=noisy))
    list(loop.epochs())
    worth = loop.network.importances()
    assert worth[1][0] < 0.3
    assert worth[1][0] == min(importance for stage in worth for importance in stage)
