"""Predictions for an image are in the pixels of the original image."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_networks import dense_network
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from efficientformer_edu.dense.detection.boxes import encode
from efficientformer_edu.dense.detection.heads import AnchorPredictions
from efficientformer_edu.dense.predict import predict_image, predict_photo

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from jaxtyping import install_import_hook, TypeCheckError

with install_import_hook("efficientformer_edu.dense.predict", "beartype.beartype"):
    from efficientformer_edu.dense.predict import predict_image

import torch
from dense_networks import dense_network

for pair in (("fpn", "anchor_decoupled_head"), ("no neck", "all_mlp_decoder")):
    predict_image(dense_network(pair), "abc", torch.zeros(3, 40, 30, dtype=torch.uint8), 32)
try:
    predict_image(dense_network(pair), "abc", torch.zeros(40, 30, 3), 32)
except TypeCheckError:
    print("refused")
"""

DETECTOR = ("fpn", "anchor_decoupled_head")
SEGMENTATION = ("no neck", "all_mlp_decoder")
NAMES = ("disc", "square", "ring")


class Sees(nn.Module):
    """Stands in for a head: it predicts the same for every image."""

    strides = (4, 8, 16, 32)

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, maps: object) -> object:
        return self.answer


def detector(*boxes: list[float]) -> nn.Module:
    """A network that predicts these boxes on its square: of class 2, with decreasing scores."""
    network = dense_network(DETECTOR)
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0]] * len(boxes))
    logits = torch.full((1, len(boxes), 3), -20.0)
    logits[0, :, 2] = torch.arange(len(boxes), 0, -1)
    network.head = Sees(AnchorPredictions(logits, encode(torch.tensor(boxes), anchors)[None], anchors))
    return network


def photo(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_boxes_are_in_the_pixels_of_the_image() -> None:
    # An image of 200×100 pixels fills the left half of a square of 64.
    prediction = predict_image(detector([0, 0, 32, 64], [8, 16, 16, 32], [20, 8, 60, 24]), NAMES, photo(200, 100), 64)
    assert prediction.detections is not None and prediction.semantic is None and prediction.classes == NAMES
    expected = [[0, 0, 100, 200], [25, 50, 50, 100], [62.5, 25, 100, 75]]
    torch.testing.assert_close(prediction.detections.boxes, torch.tensor(expected), rtol=0, atol=1e-3)
    assert prediction.detections.labels.tolist() == [2, 2, 2]
    torch.testing.assert_close(prediction.detections.scores, torch.tensor([3.0, 2.0, 1.0]).sigmoid())


def test_detections_outside_the_photo_are_left_out() -> None:
    prediction = predict_image(detector([40, 4, 60, 24], [8, 16, 16, 32]), NAMES, photo(200, 100), 64)
    assert prediction.detections is not None and len(prediction.detections.boxes) == 1
    torch.testing.assert_close(prediction.detections.boxes, torch.tensor([[25.0, 50, 50, 100]]), rtol=0, atol=1e-3)


def test_classes_are_in_the_pixels_of_the_image() -> None:
    network = dense_network(SEGMENTATION)
    logits = torch.zeros(1, 3, 16, 16)
    logits[0, 1, :, :4], logits[0, 2, :, 4:] = 5, 5  # the left half of the image; the remaining pixels, and the padding
    network.head = Sees(logits)
    prediction = predict_image(network, NAMES, photo(200, 100), 64)
    assert prediction.detections is None and prediction.semantic is not None
    assert prediction.semantic.shape == (200, 100)
    assert (prediction.semantic[:, :50] == 1).all() and (prediction.semantic[:, 50:] == 2).all()


@settings(max_examples=8)
@given(height=st.integers(1, 90), width=st.integers(1, 90), pair=st.sampled_from([DETECTOR, SEGMENTATION]))
def test_photographs_of_any_size(height: int, width: int, pair: tuple[str, str]) -> None:
    image = photo(height, width)
    prediction = predict_image(dense_network(pair), NAMES, image, 32)
    assert torch.equal(prediction.image, image)
    if prediction.detections is not None:
        limits = torch.tensor([width, height, width, height])
        assert (prediction.detections.boxes >= 0).all() and (prediction.detections.boxes <= limits).all()
        assert (prediction.detections.scores.diff() <= 0).all()
    else:
        assert prediction.semantic is not None and prediction.semantic.shape == (height, width)
        assert int(prediction.semantic.max()) < 3


def test_a_file_an_image_and_an_array_are_the_same(tmp_path: Path) -> None:
    network, pixels = dense_network(SEGMENTATION), photo(40, 60).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    predictions = [
        predict_photo(network, NAMES, item, 64) for item in (tmp_path / "photo.png", Image.fromarray(pixels), pixels)
    ]
    assert all(np.array_equal(item.image.permute(1, 2, 0), pixels) for item in predictions)
    assert all(torch.equal(item.semantic, predictions[0].semantic) for item in predictions if item.semantic is not None)


def test_an_image_is_rotated_according_to_its_exif_data(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated to the right by EXIF
    Image.fromarray(photo(40, 60).permute(1, 2, 0).numpy()).save(tmp_path / "turned.jpg", exif=exif)
    prediction = predict_photo(dense_network(SEGMENTATION), NAMES, tmp_path / "turned.jpg", 64)
    assert (
        prediction.image.shape == (3, 60, 40)
        and prediction.semantic is not None
        and prediction.semantic.shape == (60, 40)
    )


def test_the_network_keeps_its_mode() -> None:
    network = dense_network(SEGMENTATION)
    prediction = predict_image(network, NAMES, photo(50, 50), 64)
    assert not network.training
    again = predict_image(network.train(), NAMES, photo(50, 50), 64)
    assert network.training and torch.equal(prediction.semantic, again.semantic)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="for classification; wanted: one for detection or segmentation"):
        predict_image(dense_network(("no neck", "fc")), NAMES, photo(50, 50), 64)
    with pytest.raises(ValueError, match="2 names of classes for a network with 3"):
        predict_image(dense_network(SEGMENTATION), NAMES[:2], photo(50, 50), 64)
    with pytest.raises(ValueError, match="size=31"):
        predict_image(dense_network(SEGMENTATION), NAMES, photo(50, 50), 31)
    with pytest.raises(FileNotFoundError):
        predict_photo(dense_network(SEGMENTATION), NAMES, "none.jpg", 64)


def test_every_signature_holds() -> None:
    command = [sys.executable, "-B", "-W", "ignore", "-c", PROGRAM, str(Path(__file__).parents[1])]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stderr == ""
    assert run.stdout.split() == ["refused"]
