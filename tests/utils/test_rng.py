"""Random numbers: all from a single generator, and rectangles of the requested size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from efficientformer_edu.utils.rng import numpy_generator, rectangle, seeded


def test_the_same_state_gives_the_same_numbers_and_advances() -> None:
    first, second = (torch.Generator().manual_seed(3) for _ in range(2))
    throws = [numpy_generator(first).random(4).tolist() for _ in range(3)]
    assert [numpy_generator(second).random(4).tolist() for _ in range(3)] == throws
    assert throws[0] != throws[1] != throws[2]


def test_global_random_numbers_are_left_alone() -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].tolist()
    numpy_generator(torch.Generator().manual_seed(0)).random()
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.random.get_state()[1].tolist() == numpy_state


def test_a_seeded_block_is_a_function_of_its_seed_and_leaves_the_global_state() -> None:
    def sample(*seed: int) -> list[float]:
        with seeded(torch.device("cpu"), *seed):
            return torch.rand(3).tolist()

    before = torch.get_rng_state()
    assert sample(1, 2) == sample(1, 2) != sample(2, 1)
    with pytest.raises(KeyError), seeded(torch.device("cpu"), 0):
        torch.rand(1)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


@given(st.integers(8, 300), st.integers(8, 300), st.integers(0, 10**6))
def test_a_rectangle_lies_in_the_image(width: int, height: int, seed: int) -> None:
    box = rectangle(width, height, (0.1, 0.5), (0.5, 2), np.random.default_rng(seed))
    if box:
        left, top, right, bottom = box
        assert 0 <= left < right <= width and 0 <= top < bottom <= height


def test_area_and_aspect_are_sampled_from_their_ranges() -> None:
    random = np.random.default_rng(0)
    boxes = np.array([rectangle(1000, 1000, (0.1, 0.4), (0.5, 2), random) for _ in range(4000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    area, aspect = width * height / 1e6, np.log2(width / height)
    assert area.min() > 0.099 and area.max() < 0.401 and area.mean() == pytest.approx(0.25, abs=0.01)
    assert aspect.min() > -1.01 and aspect.max() < 1.01 and aspect.mean() == pytest.approx(0, abs=0.05)
    middle = (boxes[:, 0] + boxes[:, 2]) / 2
    assert middle.mean() == pytest.approx(500, abs=10)


def test_what_cannot_fit_is_none() -> None:
    assert rectangle(1000, 1, (0.5, 1), (0.75, 4 / 3), np.random.default_rng(0)) is None
