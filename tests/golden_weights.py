"""The weights and images of `tests/golden`, generated from their names as described in its README."""

from __future__ import annotations

import re
import zlib

import numpy as np
import torch

from efficientformer_edu import EfficientFormer, EfficientFormerConfig


def stream(name: str, n: int, seed: int = 0) -> np.ndarray:
    """n numbers in [0, 1): splitmix64, started from the name."""
    state = np.uint64(zlib.crc32(name.encode()) | (seed << 32))
    with np.errstate(over="ignore"):
        z = state + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def golden_value(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The tensor of one name of the official checkpoint, float64."""
    n = int(np.prod(shape))
    u = stream(name, n)
    if name.endswith("running_var"):
        values = 0.5 + u
    elif name.endswith("running_mean"):
        values = 0.4 * (u - 0.5)
    elif "layer_scale" in name:
        values = 0.1 + 0.5 * u
    elif name.endswith("attention_biases"):
        values = 4 * (u - 0.5)
    elif name.endswith(".bias"):
        values = 0.2 * (u - 0.5)
    elif len(shape) == 1:
        values = 0.5 + u
    else:
        values = (u - 0.5) * np.sqrt(12 / (n // shape[0]))
    return torch.from_numpy(values.reshape(shape))


def official_name(name: str, config: EfficientFormerConfig) -> str:
    """The official name of one of our tensors, written a second time, independently of the package."""
    stem = {"conv1": 0, "norm1": 1, "conv2": 3, "norm2": 4}
    if match := re.match(r"stem\.(conv1|norm1|conv2|norm2)\.(.+)", name):
        return f"patch_embed.{stem[match[1]]}.{match[2]}"
    if match := re.match(r"stages\.(\d)\.downsample\.(\w+)\.(.+)", name):
        return f"network.{2 * int(match[1]) - 1}.{ {'conv': 'proj', 'norm': 'norm'}[match[2]] }.{match[3]}"
    if match := re.match(r"stages\.(\d)\.(mb4d|mb3d)\.(\d+)\.(.+)", name):
        stage, block = int(match[1]), int(match[3])
        if match[2] == "mb3d":
            block += config.depths[stage] - config.vits[stage] + 1  # in the released code, Flat has its own index
        return f"network.{2 * stage}.{block}.{match[4].replace('.gamma', '')}"
    return name.replace("head_dist", "dist_head")


def golden_state(config: EfficientFormerConfig) -> dict[str, torch.Tensor]:
    """The golden weights in our names, float64."""
    shapes = EfficientFormer(config).state_dict()
    return {
        name: value if "num_batches" in name else golden_value(official_name(name, config), tuple(value.shape))
        for name, value in shapes.items()
    }


def golden_images(batch: int, height: int = 224, width: int = 224) -> torch.Tensor:
    """The golden input, float64 (batch, 3, height, width)."""
    shape = (batch, 3, height, width)
    values = stream(f"input:{batch}x3x{height}x{width}", int(np.prod(shape)))
    return torch.from_numpy((values.reshape(shape) - 0.5) * np.sqrt(12.0))
