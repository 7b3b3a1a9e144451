"""Mixup, cutmix and smoothed targets against what the images show."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from efficientformer_edu.data.transforms import mix, smooth

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
