"""Augmentation: random crops, RandAugment, mixup and cutmix, against images whose result is known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from efficientformer_edu.data.transforms import OPERATIONS, color_jitter, mix, rand_augment, random_resized_crop, smooth

FILL = (124, 116, 104)
GREY = (7,)


def ramp(width: int = 100, height: int = 60) -> np.ndarray:
    """Red grows to the right, green downwards, blue is even."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 200)], axis=-1).astype(np.uint8)


def applied(name: str, array: np.ndarray, strength: float, sign: float) -> np.ndarray:
    return np.asarray(OPERATIONS[name](Image.fromarray(array), strength, sign, FILL)).astype(int)


def test_the_fifteen_operations_of_the_released_recipe() -> None:
    assert len(OPERATIONS) == 15


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("strength", [0.0, 0.9, 1.0])
def test_an_operation_keeps_size_and_mode(name: str, mode: str, strength: float) -> None:
    image = Image.fromarray(ramp()).convert(mode)
    for sign in (-1.0, 1.0):
        result = OPERATIONS[name](image, strength, sign, FILL if mode == "RGB" else GREY)
        assert (result.size, result.mode) == (image.size, mode)


@pytest.mark.parametrize("name", ["rotate", "color", "contrast", "brightness", "sharpness"])
def test_without_strength_nothing_changes(name: str) -> None:
    if name == "rotate":
        assert np.array_equal(applied(name, ramp(), 0.0, 1.0), ramp())
    else:
        assert np.abs(applied(name, ramp(), 0.0, 1.0) - ramp()).max() <= 1


def test_positions_move() -> None:
    shifted = applied("translate x", ramp(), 0.4 / 0.45, 1.0)  # by 40 of 100 pixels to the left
    assert np.array_equal(shifted[:, :60], ramp()[:, 40:])
    assert (shifted[:, 60:] == FILL).all()
    shifted = applied("translate y", ramp(), 0.5 / 0.45, -1.0)  # by 30 of 60 pixels downwards
    assert np.array_equal(shifted[30:], ramp()[:30])
    assert (shifted[:30] == FILL).all()
    sheared = applied("shear x", ramp(), 1.0, 1.0)
    assert sheared[50, 20, 0] == pytest.approx(20 + 0.3 * 50, abs=1)
    sheared = applied("shear y", ramp(), 1.0, -1.0)
    assert sheared[50, 20, 1] == pytest.approx(50 - 0.3 * 20, abs=1)
    turned = applied("rotate", ramp(100, 100), 1.0, 1.0)  # by 30°, counterclockwise
    assert turned[50, 50, 0] == pytest.approx(50, abs=1)
    assert turned[50, 80, 1] == pytest.approx(50 + 30 * np.sin(np.radians(30)), abs=1.5)


def test_values_change() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert applied("invert", values, 0.3, 1.0).tolist() == (255 - values.astype(int)).tolist()
    assert set(applied("posterize", values, 0.9, 1.0).flatten()) == {0, 128}  # one bit
    assert set(applied("posterize", values, 0.5, 1.0).flatten()) == {0, 64, 128, 192}  # two bits
    assert np.array_equal(applied("solarize", values, 0.5, 1.0), np.where(values < 128, values, 255 - values))
    added = applied("solarize add", values, 0.9, 1.0)
    assert np.array_equal(added, np.where(values < 128, values.astype(int) + 99, values))
    assert np.allclose(applied("brightness", values, 0.5, -1.0), values * 0.55, atol=1)
    assert applied("auto contrast", values // 2, 0.0, 1.0).max() == 255
    assert applied("brightness", values, 1.0, -1.0).max() == 25  # never black


def test_rand_augment_leaves_a_quarter_alone() -> None:
    """Two operations, each with probability ½; equalize and auto contrast may also leave an image unchanged."""
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(20, 200, (32, 32, 3), np.uint8))
    same = np.mean([rand_augment(noise, 9, FILL, random).tobytes() == noise.tobytes() for _ in range(1500)])
    assert same == pytest.approx(0.25, abs=0.04)


def test_jitter_stays_within_its_strength() -> None:
    random = np.random.default_rng(0)
    grey = Image.new("RGB", (4, 4), (100, 100, 100))
    values = [color_jitter(grey, 0.4, random).getpixel((0, 0))[0] for _ in range(500)]
    assert 58 <= min(values) < 65 and 135 < max(values) <= 140


def test_a_part_shows_what_is_there() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        part = np.asarray(random_resized_crop(Image.fromarray(ramp(200, 100)), 64, random)).astype(int)
        assert part.shape == (64, 64, 3)
        across, down = part[32, -1, 0] - part[32, 0, 0], part[-1, 32, 1] - part[0, 32, 1]
        assert 0 < across <= 200 and 0 < down <= 100
        assert 0.6 < across / down < 1.6  # the shape of the crop, by the colours at its edges
        assert 0.05 < across * down / (200 * 100) <= 1


@pytest.mark.parametrize("size", [(1, 50), (500, 2), (1, 1)])
def test_pictures_of_any_shape_have_parts(size: tuple[int, int]) -> None:
    assert random_resized_crop(Image.new("RGB", size), 32, np.random.default_rng(0)).size == (32, 32)


LABELS = torch.tensor([0, 1, 2, 3])
IMAGES = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 20, 30)  # image i is i everywhere


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_smoothed_targets_by_hand() -> None:
    expected = torch.tensor([[0.92, 0.02, 0.02, 0.02, 0.02], [0.02, 0.02, 0.02, 0.92, 0.02]])
    torch.testing.assert_close(smooth(torch.tensor([0, 3]), 5, 0.1), expected)


def test_without_mixing_the_images_are_the_same() -> None:
    images, targets = mix(IMAGES, LABELS, 5, 0.0, 0.0, 0.0, generator(0))
    assert images is IMAGES
    assert torch.equal(targets, torch.eye(5)[:4])


@pytest.mark.parametrize("seed", range(8))
def test_mixup_mixes_images_as_it_mixes_targets(seed: int) -> None:
    images, targets = mix(IMAGES, LABELS, 4, 0.8, 0.0, 0.0, generator(seed))
    kept = float(targets[0, 0])
    assert 0 < kept < 1
    torch.testing.assert_close(images[0], torch.full((3, 20, 30), 3 * (1 - kept)))
    torch.testing.assert_close(images[2], torch.full((3, 20, 30), 2 * kept + (1 - kept)))
    torch.testing.assert_close(targets[1], torch.tensor([0, kept, 1 - kept, 0]))


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_pastes_a_rectangle_and_counts_its_pixels(seed: int) -> None:
    images, targets = mix(IMAGES, LABELS, 4, 0.0, 1.0, 0.0, generator(seed))
    pasted = images[0, 0] == 3
    assert torch.equal(images[0], torch.where(pasted, 3.0, 0.0).expand(3, -1, -1))
    rows, columns = pasted.any(1), pasted.any(0)
    assert torch.equal(pasted, rows[:, None] & columns)  # a full rectangle
    assert float(targets[0, 3]) == pytest.approx(float(pasted.float().mean()))
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
    assert IMAGES[0].max() == 0  # the input is unchanged


def test_the_middle_of_an_odd_batch_is_its_own_partner() -> None:
    images, targets = mix(IMAGES[:3], LABELS[:3], 4, 0.8, 0.0, 0.1, generator(0))
    torch.testing.assert_close(images[1], IMAGES[1])
    torch.testing.assert_close(targets[1], torch.tensor([0.025, 0.925, 0.025, 0.025]))


def test_a_coin_decides_between_the_two() -> None:
    draws = [mix(IMAGES, LABELS, 4, 0.8, 1.0, 0.0, generator(seed))[0] for seed in range(400)]
    cut = np.mean([set(images.unique().tolist()) <= {0, 1, 2, 3} for images in draws])
    assert cut == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 4.0])
def test_what_is_kept_follows_the_beta_distribution(alpha: float) -> None:
    kept = [float(mix(IMAGES, LABELS, 4, alpha, 0.0, 0.0, generator(seed))[1][0, 0]) for seed in range(1500)]
    assert np.mean(kept) == pytest.approx(0.5, abs=0.04)
    assert np.var(kept) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)  # of Beta(α, α)


def test_the_generator_decides_alone() -> None:
    first = mix(IMAGES, LABELS, 4, 0.8, 1.0, 0.1, generator(5))
    torch.manual_seed(1)
    second = mix(IMAGES, LABELS, 4, 0.8, 1.0, 0.1, generator(5))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


@pytest.mark.parametrize("labels", [[0, 4], [-1, 0]])
def test_a_label_that_is_no_class_is_refused(labels: list[int]) -> None:
    with pytest.raises(ValueError, match=f"labels from {min(labels)} to {max(labels)}; 4 classes allow 0 to 3"):
        mix(IMAGES[:2], torch.tensor(labels), 4, 0.0, 0.0, 0.1, generator(0))
