"""Effective receptive fields against hand-computed fields, and the reach of every token mixer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from efficientformer_edu.audit.receptive_field import half_mass_fraction, nonzero_fraction, receptive_field
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.model.mlp import ConvMlp

CONFIG = EfficientFormerConfig(
    depths=(2, 1, 1, 2), embed_dims=(4, 6, 6, 8), num_classes=3, num_heads=2, key_dim=4, in_channels=2
)
POOLING = CONFIG.replace(num_vit=0)

# Two convolutions 3 wide, each of stride 2, all of whose weights are 1: paths from a position to the pixels −3 to 3
# around its centre. Its three positions of the map in between, at −2, 0 and 2, have three pixels each.
STEM = np.array([1, 1, 2, 1, 2, 1, 1])


def network(config: EfficientFormerConfig) -> EfficientFormer:
    torch.manual_seed(0)
    return EfficientFormer(config).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(4, 2, 64, 96, generator=torch.Generator().manual_seed(1))


def summing(layer_scale: float | None) -> EfficientFormer:
    """A network whose stem sums its inputs, and whose first stage mixes positions but no channels."""
    model = network(POOLING.replace(layer_scale_init=layer_scale))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.fill_(1)
                module.bias.zero_()  # type: ignore[union-attr]
        for module in model.modules():
            if isinstance(module, ConvMlp):
                module.fc2.weight.zero_()
    return model


def of_stem() -> np.ndarray:
    """The field of the pixel (8, 12) of 16×24: two colours each go to two channels in between, these to four."""
    field = np.zeros((64, 96))
    field[4 * 8 - 3 : 4 * 8 + 4, 4 * 12 - 3 : 4 * 12 + 4] = np.outer(STEM, STEM) * 2 * 2 * 4
    return field


def pooled(field: np.ndarray, scale: float) -> np.ndarray:
    """1 − γ₁ of a field, and γ₁ of the mean over the fields of the nine neighbours, four pixels apart."""
    around = [np.roll(field, (dy, dx), (0, 1)) for dy in (-4, 0, 4) for dx in (-4, 0, 4)]
    return (1 - scale) * field + scale * np.mean(around, axis=0)


def box(field: torch.Tensor) -> tuple[int, int, int, int]:
    """First and last row, first and last column that contribute."""
    rows, columns = (torch.nonzero(field.any(dim)).flatten() for dim in (1, 0))
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


@pytest.mark.parametrize("scale", [None, 0.1])
def test_the_field_is_what_the_kernels_add_up_to(scale: float | None) -> None:
    factor = 1.0 if scale is None else scale
    stem = of_stem()
    pooled_field = pooled(stem, factor)
    two = pooled(pooled_field, factor)
    for block, expected in ((0, stem), (1, pooled_field), (2, two), (None, two)):
        field = receptive_field(summing(scale), torch.ones(2, 2, 64, 96), 1, block)
        np.testing.assert_allclose(field, expected, rtol=1e-4)  # the batch norms divide by √(1 + ε)


@pytest.mark.parametrize(
    ("stage", "block", "reach"),
    [
        (1, 0, 3),
        (1, 1, 3 + 4),
        (1, None, 3 + 2 * 4),
        (2, 0, 11 + 4),  # the embedding's 3×3 on positions four pixels apart
        (2, 1, 15 + 8),
    ],
)
def test_with_pooling_alone_the_field_is_the_sum_of_the_kernels(
    stage: int, block: int | None, reach: int, images: torch.Tensor
) -> None:
    field = receptive_field(network(POOLING), images, stage, block)
    height, width = POOLING.grids((64, 96))[stage - 1]
    stride = 64 // height
    row, column = stride * (height // 2), stride * (width // 2)
    assert box(field) == (row - reach, row + reach, column - reach, column + reach)


def test_attention_reaches_everywhere(images: torch.Tensor) -> None:
    wide = images.repeat(1, 1, 1, 4)  # 64×384, more than the kernels reach
    # GELU in the stem, because a ReLU can happen to hide a pixel in all of four images.
    with_mb3d, without = (network(config.replace(stem_act="gelu")) for config in (CONFIG, POOLING))
    assert nonzero_fraction(receptive_field(with_mb3d, wide, 4, 1)) < 1  # after the MB4D
    assert nonzero_fraction(receptive_field(with_mb3d, wide, 4, 2)) == 1  # after the MB3D
    assert nonzero_fraction(receptive_field(with_mb3d, wide, 4)) == 1
    assert nonzero_fraction(receptive_field(without, wide, 4)) < 1


def test_the_field_is_the_mean_over_the_images(images: torch.Tensor) -> None:
    model = network(CONFIG)
    halves = [receptive_field(model, pair, 4) for pair in images.split(2)]
    torch.testing.assert_close(receptive_field(model, images, 4), torch.stack(halves).mean(0), rtol=1e-4, atol=1e-9)


def test_it_is_the_slope_of_the_output_at_the_position(images: torch.Tensor) -> None:
    """Against a finite difference at the pixel with the largest contribution."""
    model, image = network(CONFIG).double(), images[:1].double()
    field = receptive_field(model, image, 3)
    row, column = divmod(int(field.argmax()), field.shape[1])
    slopes = []
    for channel in range(2):
        values = []
        for change in (-1e-6, 1e-6):
            moved = image.clone()
            moved[0, channel, row, column] += change
            values.append(float(model.features(moved)[2][0, :, 2, 3].sum().detach()))
        slopes.append(abs(values[1] - values[0]) / 2e-6)
    assert float(field[row, column]) == pytest.approx(sum(slopes), rel=1e-5)


@torch.no_grad()
def test_asking_changes_nothing(images: torch.Tensor) -> None:
    model = network(CONFIG).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    field = receptive_field(model, images, 4)
    assert model.training and not images.requires_grad and not field.requires_grad
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(field, receptive_field(model.eval(), images, 4))


def test_what_is_not_there_is_refused(images: torch.Tensor) -> None:
    model = network(CONFIG)
    for stage in (0, 5):
        with pytest.raises(ValueError, match=f"stage={stage}"):
            receptive_field(model, images, stage)
    for block in (-1, 3):
        with pytest.raises(ValueError, match=f"block={block}"):
            receptive_field(model, images, 4, block)
    with pytest.raises(ValueError, match=r"allowed: 0 to 2 in stage 4, or None"):
        receptive_field(model, images, 4, 3)
    with pytest.raises(ValueError, match="images are"):
        receptive_field(model, images[:, :1], 4)


def test_parts_of_a_field() -> None:
    field = torch.zeros(4, 5)
    field[1, 1], field[2, 2], field[3, 3], field[0, 4] = 4.0, 3.0, 2.0, 1.0
    assert nonzero_fraction(field) == 4 / 20
    assert half_mass_fraction(field) == 2 / 20  # 4 of 10 is less than half, 7 is not
    assert half_mass_fraction(torch.ones(2, 2)) == 2 / 4
    assert half_mass_fraction(torch.eye(1)) == 1
    with pytest.raises(ValueError, match="0 everywhere"):
        half_mass_fraction(torch.zeros(2, 2))
