"""The images of a batch, and the network's input against hand-computed pixels and `preprocess`."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from efficientformer_edu import preprocess
from efficientformer_edu.data.datasets import load_data
from efficientformer_edu.data.fashion_mnist import statistics
from efficientformer_edu.data.images import RULES
from efficientformer_edu.training.loading import EvalTransform, Shard, TrainTransform, epoch_batches
from efficientformer_edu.training.recipe import CODE, LAPTOP
from efficientformer_edu.utils import rng

SMALL = load_data("fashion-mnist-small", "test")
SAMPLES = [SMALL[index] for index in range(24)]
UNAUGMENTED = LAPTOP.replace(crop=0, flip=False)
MOVING = LAPTOP.replace(crop=2)


def photograph(seed: int = 0, size: tuple[int, int] = (90, 70)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


PHOTOGRAPHS = [(photograph(0), 3), (photograph(1, (60, 100)), 1)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(images: torch.Tensor) -> torch.Tensor:
    """Back to values from 0 to 255."""
    mean, std = statistics()
    return ((images * std + mean) * 255).round().to(torch.uint8)


def test_tiny_images_get_a_border() -> None:
    images, labels = EvalTransform(32, 1)(SAMPLES)
    assert images.shape == (24, 1, 32, 32) and images.dtype == torch.float32
    assert labels.tolist() == SMALL.labels[:24] and labels.dtype == torch.int64
    shown = pixels(images)
    assert torch.equal(shown[:, :, 2:-2, 2:-2], torch.stack([picture for picture, _ in SAMPLES]))
    assert shown.sum() == sum(int(picture.sum()) for picture, _ in SAMPLES)  # black around


def test_the_training_images_have_mean_0_and_deviation_1() -> None:
    train = load_data("fashion-mnist-small", "train")
    images = EvalTransform(32, 1)([train[index] for index in range(len(train))])[0][:, :, 2:-2, 2:-2]
    assert float(images.mean()) == pytest.approx(0, abs=0.01)
    assert float(images.std()) == pytest.approx(1, abs=0.01)


def test_tiny_images_are_enlarged() -> None:
    large = pixels(EvalTransform(64, 1)(SAMPLES)[0]).float()
    small = pixels(EvalTransform(32, 1)(SAMPLES)[0]).float()
    assert large.shape == (24, 1, 64, 64)
    assert float((torch.nn.functional.avg_pool2d(large, 2) - small).abs().mean()) < 8


def test_grey_images_for_three_channels_are_normalised_as_imagenet_is() -> None:
    images, _ = EvalTransform(32, 3)(SAMPLES[:1])
    padded = np.pad(SAMPLES[0][0][0].numpy(), 2)
    expected = preprocess(np.kron(padded, np.ones((8, 8), np.uint8)), 32, "hf")  # of one size, and shrunk again
    assert images.shape == (1, 3, 32, 32)
    torch.testing.assert_close(images[:, :, 0, 0], expected[:, :, 0, 0])  # black


@pytest.mark.parametrize("rule", RULES)
def test_photographs_are_cut_as_preprocess_cuts_them(rule: str) -> None:
    images, labels = EvalTransform(48, 3, rule)(PHOTOGRAPHS)
    assert torch.equal(images, torch.cat([preprocess(picture, 48, rule) for picture, _ in PHOTOGRAPHS]))
    assert labels.tolist() == [3, 1]


def test_images_with_a_single_channel_are_grey() -> None:
    images, _ = EvalTransform(48, 1, "hf")(PHOTOGRAPHS)
    expected = PHOTOGRAPHS[0][0].resize((48, 48), Image.Resampling.BICUBIC).convert("L")
    assert images.shape == (2, 1, 48, 48)
    assert np.array_equal(pixels(images)[0, 0].numpy(), np.asarray(expected))


def test_training_without_any_randomness_is_evaluation() -> None:
    assert torch.equal(TrainTransform(32, 1, UNAUGMENTED)(SAMPLES, generator())[0], EvalTransform(32, 1)(SAMPLES)[0])
    square = [(photograph(2, (80, 80)), 0)]
    assert torch.equal(
        TrainTransform(48, 3, UNAUGMENTED)(square, generator())[0], EvalTransform(48, 3, "hf")(square)[0]
    )


def test_tiny_images_move_and_flip() -> None:
    """Every output is one of the possible shifts, and every shift occurs."""
    moved = pixels(TrainTransform(32, 1, MOVING)([SAMPLES[0]] * 2000, generator())[0])[:, 0]
    shown = np.pad(SAMPLES[0][0][0].numpy(), 4)  # 2 of the border, 2 to move
    views = {}
    for flipped in (False, True):
        for top in range(5):
            for left in range(5):
                view = shown[top : top + 32, left : left + 32]
                views[(view[:, ::-1] if flipped else view).tobytes()] = (flipped, top, left)
    seen = [views[image.numpy().tobytes()] for image in moved]
    assert len(set(seen)) == 50
    assert np.mean([flipped for flipped, _, _ in seen]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([top for _, top, _ in seen]) == pytest.approx(2, abs=0.15)


def test_a_recipe_without_flip_does_not_flip() -> None:
    shown = [(torch.arange(784).view(1, 28, 28).remainder(28).to(torch.uint8), 0)] * 50  # brighter to the right
    moved = pixels(TrainTransform(32, 1, MOVING.replace(flip=False))(shown, generator())[0]).int()
    assert (moved[:, 0, 16, 20] > moved[:, 0, 16, 10]).all()


@pytest.mark.parametrize(("samples", "channels"), [(SAMPLES[:4], 1), (SAMPLES[:4], 3), (PHOTOGRAPHS, 3)])
@pytest.mark.parametrize("recipe", [CODE, CODE.replace(color_jitter=0.4, rand_augment=None), MOVING])
def test_all_randomness_comes_from_the_generator(samples: list, channels: int, recipe: object) -> None:
    augment = TrainTransform(40, channels, recipe)
    first, labels = augment(samples, generator(4))
    torch.manual_seed(1)
    np.random.seed(1)
    state = torch.get_rng_state()
    assert torch.equal(augment(samples, generator(4))[0], first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(augment(samples, generator(5))[0], first)
    assert first.shape == (len(samples), channels, 40, 40) and first.dtype == torch.float32
    assert labels.tolist() == [label for _, label in samples]


def test_erasing_leaves_noise_in_a_part_of_the_images() -> None:
    black = [(torch.zeros(1, 28, 28, dtype=torch.uint8), 0)] * 1000
    images, _ = TrainTransform(32, 1, UNAUGMENTED.replace(erasing=0.25))(black, generator())
    erased = images != EvalTransform(32, 1)(black[:1])[0]
    touched = erased.flatten(1).any(1)
    assert float(touched.float().mean()) == pytest.approx(0.25, abs=0.04)
    areas = erased[touched].float().mean((1, 2, 3))
    assert float(areas.min()) > 0.015 and float(areas.max()) < 0.36
    noise = images[erased]
    assert float(noise.mean()) == pytest.approx(0, abs=0.02) and float(noise.std()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((31, 1), "size=31 .*at least 32"), ((32, 2), "channels=2 .*1 or 3")],
)
def test_invalid_sizes_and_channels(arguments: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvalTransform(*arguments)
    with pytest.raises(ValueError, match=message):
        TrainTransform(*arguments, MOVING)


def test_invalid_recipes_and_rules() -> None:
    with pytest.raises(ValueError, match="rule='best' .*official"):
        EvalTransform(32, 3, "best")
    for fields in ({"rand_augment": 9}, {"color_jitter": 0.4}):
        with pytest.raises(ValueError, match="crop=2"):
            TrainTransform(32, 1, MOVING.replace(**fields))


@given(st.integers(1, 200), st.integers(1, 40), st.integers(0, 9), st.integers(0, 9))
def test_an_epoch_takes_no_image_twice_and_leaves_out_less_than_a_batch(
    count: int, batch: int, seed: int, epoch: int
) -> None:
    if count < batch:
        with pytest.raises(ValueError, match=f"{count} images do not fill a batch of {batch}"):
            epoch_batches(count, batch, seed=seed, epoch=epoch)
        return
    batches = epoch_batches(count, batch, seed=seed, epoch=epoch)
    sampled = [index for indices in batches for index in indices]
    assert {len(indices) for indices in batches} == {batch}
    assert len(set(sampled)) == len(sampled) > count - batch
    assert set(sampled) <= set(range(count))
    assert batches == epoch_batches(count, batch, seed=seed, epoch=epoch)


def test_another_seed_or_epoch_is_another_order() -> None:
    orders = [epoch_batches(1000, 1000, seed=seed, epoch=epoch)[0] for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9


def test_repeated_augmentation_samples_fewer_images_equally_often() -> None:
    batches = epoch_batches(90, 30, seed=0, epoch=0, repeated_aug=3)
    times = Counter(index for indices in batches for index in indices)
    assert len(batches) == 3
    assert set(times.values()) == {3}
    assert len(times) == 30


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_the_shards_of_all_processes_are_the_batch(world_size: int) -> None:
    batch = list(range(100, 112))
    shards = [Shard(rank, world_size).split_batch(batch) for rank in range(world_size)]
    assert sorted(index for indices in shards for index in indices) == batch
    assert len({len(indices) for indices in shards}) == 1


def test_a_batch_that_cannot_be_divided_equally() -> None:
    with pytest.raises(ValueError, match="a batch of 10 cannot be shared by 4 processes"):
        Shard(0, 4).split_batch(list(range(10)))


def test_seeds_are_the_same_on_every_machine_and_differ() -> None:
    assert (
        rng.derive_seed(1, 2) == 7764949442709860949
    )  # a run is the same on every machine with the same random numbers
    seeds = {rng.derive_seed(seed, step) for seed in range(30) for step in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert rng.generator(1, 2).initial_seed() == rng.derive_seed(1, 2)
