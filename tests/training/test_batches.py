"""The images of a batch."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientformer_edu.training.loading import Shard, epoch_batches
from efficientformer_edu.utils.rng import derive_seed, generator


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 9), st.integers(0, 9))
def test_an_epoch_takes_no_image_twice_and_leaves_out_less_than_a_batch(
    count: int, batch: int, seed: int, epoch: int
) -> None:
    if count < batch:
        with pytest.raises(ValueError, match=f"{count} images do not fill a batch of {batch}"):
            epoch_batches(count, batch, seed=seed, epoch=epoch)
        return
    batches = epoch_batches(count, batch, seed=seed, epoch=epoch)
    taken = [number for indices in batches for number in indices]
    assert {len(indices) for indices in batches} == {batch}
    assert len(set(taken)) == len(taken) > count - batch
    assert set(taken) <= set(range(count))
    assert batches == epoch_batches(count, batch, seed=seed, epoch=epoch)


def test_another_seed_or_epoch_is_another_order() -> None:
    orders = [epoch_batches(1000, 1000, seed=seed, epoch=epoch)[0] for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9


def test_repeated_augmentation_samples_fewer_images_equally_often() -> None:
    batches = epoch_batches(90, 30, seed=0, epoch=0, repeated_aug=3)
    times = Counter(number for indices in batches for number in indices)
    assert len(batches) == 3
    assert set(times.values()) == {3}
    assert len(times) == 30


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_shares_of_all_processes_are_the_batch(processes: int) -> None:
    batch = list(range(100, 112))
    shares = [Shard(process, processes).split_batch(batch) for process in range(processes)]
    assert sorted(number for indices in shares for number in indices) == batch
    assert len({len(indices) for indices in shares}) == 1


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="a batch of 10 cannot be shared by 4 processes"):
        Shard(0, 4).split_batch(list(range(10)))


def test_seeds_are_the_same_everywhere_and_differ() -> None:
    assert derive_seed(1, 2) == 7764949442709860949  # a run is the same on every machine with the same random numbers
    seeds = {derive_seed(seed, step) for seed in range(30) for step in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert generator(1, 2).initial_seed() == derive_seed(1, 2)
