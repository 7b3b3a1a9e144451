"""A small EfficientFormer for small images: its configuration, and the trained network that comes with the package.

The published networks end in a feature map of 1/32 of the image size. At 32 pixels this is a single token: its softmax
is always 1, so attention, its bias and any comparison of token mixers are meaningless. Small networks therefore keep a
grid of at least 4×4 tokens in the last stage: this one downsamples once between its stages instead of three times.

`make trained` trains the network again, on Fashion-MNIST. Its log and its settings are stored in the same folder.
"""

from __future__ import annotations

import csv
import hashlib
from itertools import count
from pathlib import Path
from typing import Any

from efficientformer_edu.config import SMALLEST_INPUT, EfficientFormerConfig
from efficientformer_edu.data.fashion_mnist import CLASSES
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training.checkpoints import LOG, RUN, WEIGHTS
from efficientformer_edu.utils.records import load_json
from efficientformer_edu.weights import load

LEAST_GRID = 4  # tokens along each side of the last stage

SMALL = EfficientFormerConfig(
    depths=(1, 1, 1, 1),
    embed_dims=(16, 64, 64, 64),
    downsamples=(False, True, False, False),
    num_vit=1,
    num_classes=10,
    in_channels=1,
    num_heads=4,
    key_dim=16,
    attn_ratio=2.0,
    bias_grid=(4, 4),
    layer_scale_init=0.1,
)
"""For images of 32×32 pixels, such as padded Fashion-MNIST: 8×8 positions in the first stage, then 4×4."""


def smallest_size(config: EfficientFormerConfig) -> int:
    """The smallest image size, a multiple of 32, with a grid of at least 4×4 tokens in the last stage."""
    return next(size for size in count(SMALLEST_INPUT, SMALLEST_INPUT) if config.grids(size)[-1][0] >= LEAST_GRID)


FOLDER = Path(__file__).parent / "trained"


def trained_network() -> EfficientFormer:
    """The pretrained network, in evaluation mode.

    The input is grey images of 32×32 pixels, (B, 1, 32, 32), preprocessed by `loading.EvalTransform(32, 1)`; the output
    is the logits of the ten classes in `fashion_mnist.CLASSES`. The last stage has 4×4 tokens.
    """
    config = EfficientFormerConfig.from_dict(_described()["config"])
    network = EfficientFormer(config)
    network.load_state_dict(load(FOLDER / WEIGHTS, config=config))
    network.class_names = CLASSES
    return network.eval()


def trained_log() -> tuple[dict[str, float], ...]:
    """The log of the training run, one row per epoch as from `Trainer.epochs`."""
    with (FOLDER / LOG).open(encoding="utf-8") as file:
        return tuple({name: float(value) for name, value in row.items()} for row in csv.DictReader(file))


def trained_description() -> str:
    """A description of the network: training data, accuracy, and hash of its weights."""
    run = _described()
    top1, images = run["result"]["top1"], run["result"]["images"]
    digest = hashlib.sha256((FOLDER / WEIGHTS).read_bytes()).hexdigest()
    return f"trained on {run['train']}; top-1 {top1:.2%} of {images:,} test images; SHA-256 {digest[:12]}…"


def _described() -> dict[str, Any]:
    return load_json(FOLDER / RUN, "run", dict)
