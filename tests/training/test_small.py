"""Small networks: enough tokens for attention; and the trained network that comes with the package."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from strategies import configs

from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.data.datasets import load_data
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training import small as trained
from efficientformer_edu.training.checkpoints import LOG, RUN, WEIGHTS
from efficientformer_edu.training.evaluation import evaluate
from efficientformer_edu.training.loading import EvalBatches, loader
from efficientformer_edu.training.recipe import Recipe, rename_old_fields
from efficientformer_edu.training.small import (
    FOLDER,
    LEAST_GRID,
    SMALL,
    smallest_size,
    trained_description,
    trained_log,
    trained_network,
)
from tools import ROOT
from tools import trained as tool

MAX_BYTES = 2_000_000  # bytes, of all three files
MARGIN = 0.03  # 1,000 of the 10,000 test images: 3.5 standard deviations of the accuracy


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    return json.loads((FOLDER / RUN).read_text(encoding="utf-8"))


def test_three_files_of_at_most_two_megabytes() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {WEIGHTS, LOG, RUN}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= MAX_BYTES


def test_its_accuracy_on_the_images_of_the_kit_is_as_stored(stored: dict[str, Any]) -> None:
    images = load_data("fashion-mnist-small", "test")
    batches = EvalBatches(images, size=32, channels=1, batch=250)
    result = evaluate(trained_network(), loader(batches), images.classes)
    assert result.count == 1000
    assert result.top1 == pytest.approx(stored["result"]["top1"], abs=MARGIN)


def test_the_description_has_data_accuracy_and_hash(stored: dict[str, Any]) -> None:
    assert (stored["train"], stored["test"]) == (
        "Fashion-MNIST, 60,000 training images",
        "Fashion-MNIST, 10,000 test images",
    )
    digest = hashlib.sha256((FOLDER / WEIGHTS).read_bytes()).hexdigest()
    for part in (stored["train"], f"{100 * stored['result']['top1']:.2f}%", "10,000 test images", digest[:12]):
        assert part in trained_description()


def test_the_log_has_a_row_per_epoch_and_ends_with_the_accuracy(stored: dict[str, Any]) -> None:
    rows = trained_log()
    assert [row["epoch"] for row in rows] == list(range(1, stored["recipe"]["epochs"] + 1))
    assert (rows[-1]["top1"], rows[-1]["top5"]) == (stored["result"]["top1"], stored["result"]["top5"])
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert rows[-1]["learning_rate"] < rows[0]["learning_rate"]


def test_make_trained_trains_this_network_again(stored: dict[str, Any]) -> None:
    assert Recipe(**rename_old_fields(stored["recipe"])) == tool.RECIPE
    assert trained_network().config == SMALL
    assert (stored["size"], stored["seed"], stored["teacher"]) == (32, 0, "")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "\ntrained:" in makefile
    assert "-m tools.trained" in makefile


def test_attention_and_offset_table_are_trained() -> None:
    network = trained_network()
    images, _ = EvalBatches(load_data("fashion-mnist-small", "test"), size=32, channels=1, batch=8)[0]
    (attention,) = network.attention_maps(images)  # (8, 4, 16, 16)
    assert attention.shape == (8, 4, 16, 16)
    torch.testing.assert_close(attention.sum(-1), torch.ones(8, 4, 16))
    assert attention.max() > 3 / 16  # a fresh network spreads it evenly
    assert network.stages[3].mb3d[0].token_mixer.attention_biases.std() > 0.1  # a fresh table is 0


def test_it_is_ready_to_use_and_a_new_network_every_time() -> None:
    first = trained_network()
    assert not first.training
    torch.nn.init.zeros_(first.head.weight)
    assert trained_network().head.weight.any()


@pytest.mark.parametrize("name", [WEIGHTS, RUN])
def test_a_missing_file_is_in_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    shutil.copytree(FOLDER, tmp_path / "trained")
    (tmp_path / "trained" / name).unlink()
    monkeypatch.setattr(trained, "FOLDER", tmp_path / "trained")
    with pytest.raises(FileNotFoundError, match=name):
        trained_network()


def test_weights_that_were_cut_short_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(FOLDER, tmp_path / "trained")
    weights = tmp_path / "trained" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1000])
    monkeypatch.setattr(trained, "FOLDER", tmp_path / "trained")
    with pytest.raises(ValueError, match=WEIGHTS):
        trained_network()


@pytest.mark.parametrize(
    ("embeddings", "size"),
    # By hand: the stem leaves a quarter, each embedding a half of that, and all round up. 32 pixels become 8 pixels
    # per side, 4 after one embedding, 2 after two. Then 64 / 16 = 4, 128 / 32 = 4, and 224 / 64 = 3.5, which is 4.
    [(0, 32), (1, 32), (2, 64), (3, 128), (4, 224)],
)
def test_the_smallest_size_by_hand(embeddings: int, size: int) -> None:
    downsamples = (True,) * embeddings + (False,) * (4 - embeddings)
    config = EfficientFormerConfig(embed_dims=(8, 8, 8, 8), downsamples=downsamples)
    assert smallest_size(config) == size


@pytest.mark.parametrize("name", PRESETS)
def test_the_published_networks_need_128_pixels(name: str) -> None:
    assert smallest_size(PRESETS[name]) == 128


@given(configs())
def test_four_tokens_a_side_and_not_with_32_pixels_less(config: EfficientFormerConfig) -> None:
    size, shrinks = smallest_size(config), 4 * 2 ** sum(config.downsamples)
    assert size % 32 == 0
    assert size > 3 * shrinks  # three tokens reach no further than this many pixels, and a fourth starts after them
    assert size == 32 or size - 32 <= 3 * shrinks


def test_what_is_trained_on_32_pixels_keeps_a_grid_in_its_last_stage() -> None:
    assert smallest_size(SMALL) == 32
    assert SMALL.grids(32)[-1] == SMALL.bias_grid == (LEAST_GRID, LEAST_GRID)
    torch.manual_seed(0)
    (attention,) = EfficientFormer(SMALL).eval().attention_maps(torch.randn(2, 1, 32, 32))
    assert attention.shape == (2, 4, 16, 16)
    assert attention.max() < 1  # a single token would have all the attention, regardless of the weights
