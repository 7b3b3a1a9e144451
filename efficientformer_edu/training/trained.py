"""The small network that comes with the package, trained on Fashion-MNIST: something that has learned something.

`make trained` trains it again. Its log and all that it depends on lie beside it.
"""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training.checkpoints import LOG, RUN, WEIGHTS
from efficientformer_edu.training.fashion_mnist import CLASSES
from efficientformer_edu.weights import load

FOLDER = Path(__file__).parent / "trained"


def trained_network() -> EfficientFormer:
    """The network with its weights, in evaluation mode.

    Its input is gray images of 32×32 pixels, (B, 1, 32, 32), as `augment.Evaluation(32, 1)` makes them; its output the
    logits of the ten classes in `fashion_mnist.CLASSES`. The last stage has 4×4 tokens.
    """
    config = EfficientFormerConfig.from_dict(_described()["config"])
    network = EfficientFormer(config)
    network.load_state_dict(load(FOLDER / WEIGHTS, config=config))
    network.class_names = CLASSES
    return network.eval()


def trained_log() -> tuple[dict[str, float], ...]:
    """One row an epoch, as `Loop.epochs` yields them."""
    with (FOLDER / LOG).open(encoding="utf-8") as file:
        return tuple({name: float(value) for name, value in row.items()} for row in csv.DictReader(file))


def trained_words() -> str:
    """What it was trained on, how good it is, and the hash of its weights."""
    told = _described()
    top1, images = told["result"]["top1"], told["result"]["images"]
    digest = hashlib.sha256((FOLDER / WEIGHTS).read_bytes()).hexdigest()
    return f"trained on {told['train']}; top-1 {top1:.2%} of {images:,} test images; SHA-256 {digest[:12]}…"


def _described() -> dict[str, Any]:
    described: dict[str, Any] = json.loads((FOLDER / RUN).read_text(encoding="utf-8"))
    return described
