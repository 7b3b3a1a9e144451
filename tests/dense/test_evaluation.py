"""Predictions and scores are in the pixels of each original image, and the network is not changed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_networks import dense_network
from dense_runs import Listed
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from efficientformer_edu.data.examples import Example
from efficientformer_edu.data.letterbox import Letterbox
from efficientformer_edu.data.shapes import Shapes
from efficientformer_edu.dense.detection.boxes import encode
from efficientformer_edu.dense.detection.heads import AnchorPredictions
from efficientformer_edu.dense.evaluation import (
    DenseEvalBatches,
    classes_of,
    evaluate_dense,
    predict_batch,
    predict_image,
    predict_photo,
)
from efficientformer_edu.dense.network import DenseNetwork
from efficientformer_edu.training.loading import UNSHARDED, Shard

DETECTOR = ("fpn", "anchor_decoupled_head")
SEGMENTATION = ("no neck", "all_mlp_decoder")
NAMES = ("disc", "square", "ring")


class Constant(nn.Module):
    """Replaces a head: it predicts the same for every image."""

    strides = (4, 8, 16, 32)

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, maps: object) -> object:
        return self.answer


def detector(*boxes: list[float], label: int = 2) -> DenseNetwork:
    """A network that predicts these boxes on its square, with decreasing scores."""
    network = dense_network(DETECTOR)
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0]] * len(boxes))
    logits = torch.full((1, len(boxes), 3), -20.0)
    logits[0, :, label] = torch.arange(len(boxes), 0, -1)
    network.head = Constant(AnchorPredictions(logits, encode(torch.tensor(boxes), anchors)[None], anchors))
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
    network.head = Constant(logits)
    prediction = predict_image(network, NAMES, photo(200, 100), 64)
    assert prediction.detections is None and prediction.semantic is not None
    assert prediction.semantic.shape == (200, 100)
    assert (prediction.semantic[:, :50] == 1).all() and (prediction.semantic[:, 50:] == 2).all()


@settings(max_examples=8)
@given(height=st.integers(1, 90), width=st.integers(1, 90), pair=st.sampled_from([DETECTOR, SEGMENTATION]))
def test_images_of_any_size(height: int, width: int, pair: tuple[str, str]) -> None:
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
    with pytest.raises(ValueError, match="for classification; allowed: detection or segmentation"):
        predict_image(dense_network(("no neck", "fc")), NAMES, photo(50, 50), 64)
    with pytest.raises(ValueError, match="2 class names for a network with 3"):
        predict_image(dense_network(SEGMENTATION), NAMES[:2], photo(50, 50), 64)
    with pytest.raises(ValueError, match="size=31"):
        predict_image(dense_network(SEGMENTATION), NAMES, photo(50, 50), 31)
    with pytest.raises(FileNotFoundError):
        predict_photo(dense_network(SEGMENTATION), NAMES, "none.jpg", 64)


def halves() -> DenseNetwork:
    """It predicts class 0 in the left half of its square and class 2 in the right half."""
    network = dense_network(SEGMENTATION)
    logits = torch.zeros(1, 3, 16, 16)
    logits[:, 0, :, :8], logits[:, 2, :, 8:] = 1, 1
    network.head = Constant(logits)
    return network


def example(height: int, width: int, box: list[float]) -> Example:
    """A grey image with an object of class 1; its left half is of class 0, its right half of class 2."""
    semantic = torch.zeros(height, width, dtype=torch.uint8)
    semantic[:, width // 2 :] = 2
    masks = torch.zeros(1, height, width, dtype=torch.bool)
    image = torch.full((3, height, width), 128, dtype=torch.uint8)
    return Example(image, torch.tensor([box]), torch.tensor([1]), torch.tensor([False]), masks, semantic)


def data(*examples: Example) -> Listed:
    return Listed(list(examples), NAMES, NAMES)


@pytest.mark.slow
def test_boxes_are_evaluated_in_the_pixels_of_images_of_any_size() -> None:
    """The same box on the square of 64 is a different box in every image, and correct in all of them."""
    network = detector([8, 16, 24, 32], label=1)
    images = [
        example(64, 64, [8, 16, 24, 32]),
        example(256, 128, [32, 64, 96, 128]),  # shrunk to a quarter
        example(16, 32, [4, 8, 12, 16]),  # twice as large
    ]
    assert evaluate_dense(network, data(*images), 64, 1).result == pytest.approx(
        {"ap": 1, "ap50": 1, "ap75": 1, "images": 3}
    )
    moved = example(256, 128, [18, 64, 82, 128])  # an IoU of 50/78: above three of ten thresholds
    assert evaluate_dense(network, data(images[0], moved), 64, 1).result == pytest.approx(
        {"ap": (3 * 1 + 7 * 51 / 101) / 10, "ap50": 1, "ap75": 51 / 101, "images": 2}
    )


@pytest.mark.slow
def test_pixels_are_evaluated_in_the_pixels_of_images_of_any_size() -> None:
    images = [example(height, width, [0, 0, 1, 1]) for height, width in ((64, 64), (50, 100), (40, 200), (8, 8))]
    scores = evaluate_dense(halves(), data(*images), 64, 1)
    assert scores.result == {"miou": 1, "pixel_accuracy": 1, "images": 4}
    # A tall image covers only the left half of the square, and all of it is predicted as class 0.
    tall = evaluate_dense(halves(), data(example(100, 50, [0, 0, 1, 1])), 64, 1)
    assert (tall.by_class, tall.result["pixel_accuracy"]) == ((0.5, None, 0), 0.5)


def test_predictions_are_as_large_as_the_images() -> None:
    params = Letterbox(64).params(30, 50)
    (semantic,) = predict_batch(halves(), torch.zeros(1, 3, 64, 64), [params])
    assert isinstance(semantic, Tensor)
    assert (semantic.shape, semantic.dtype) == ((30, 50), torch.uint8)
    (prediction,) = predict_batch(detector([0, 0, 64, 64], label=1), torch.zeros(1, 3, 64, 64), [params])
    assert not isinstance(prediction, Tensor)
    torch.testing.assert_close(
        prediction.boxes, torch.tensor([[0.0, 0, 50, 30]])
    )  # what lies below the image is cut off


@pytest.mark.slow
@pytest.mark.parametrize("pair", [DETECTOR, ("yolopafpn", "anchor_free_decoupled_head"), SEGMENTATION])
def test_batch_size_and_workers_change_nothing(pair: tuple[str, str]) -> None:
    network, scenes = dense_network(pair), Shapes(3, 64, "test")
    names = scenes.classes[:3]
    known = Listed([scenes[index] for index in range(3)], names, names)
    known.examples = [
        Example(item.image, item.boxes, item.labels % 3, item.crowd, item.masks, item.semantic % 3)
        for item in known.examples
    ]
    alone = evaluate_dense(network, known, 64, 1).result
    for more in ({"batch": 2}, {"batch": 3, "workers": 1}):
        assert evaluate_dense(network, known, 64, **more).result == pytest.approx(alone, abs=1e-4)
    assert alone["images"] == 3


@pytest.mark.slow
def test_processes_take_every_image_once() -> None:
    scenes = Shapes(7, 64, "test")
    shards = [DenseEvalBatches(scenes, Letterbox(64), 2, Shard(process, 3)) for process in range(3)]
    taken = [[list(some) for some in batches.batches] for batches in shards]
    assert taken == [[[0, 3], [6]], [[1, 4]], [[2, 5]]]
    images, all_params, examples = DenseEvalBatches(scenes, Letterbox(64), 4, UNSHARDED)[1]
    assert (images.shape, len(all_params)) == ((3, 3, 64, 64), 3)
    assert torch.equal(examples[0].image, scenes[4].image)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_restored_and_nothing_is_learned(training: bool) -> None:
    network, images = dense_network(SEGMENTATION).train(training), data(example(64, 64, [0, 0, 9, 9]))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    evaluate_dense(network, images, 64)
    assert network.training == training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    with torch.no_grad():
        network.get_parameter("backbone.stem.conv1.weight").fill_(math.nan)
    with pytest.raises(ValueError, match="not finite"):
        evaluate_dense(network, images, 64)
    assert network.training == training


@pytest.mark.parametrize("pair", [DETECTOR, ("yolopafpn", "anchor_free_decoupled_head"), SEGMENTATION])
def test_weights_that_are_no_numbers(pair: tuple[str, str]) -> None:
    network = dense_network(pair)
    with torch.no_grad():
        network.get_parameter("backbone.stem.conv1.weight").fill_(math.nan)
    with pytest.raises(ValueError, match="outputs are not finite"):
        evaluate_dense(network, data(example(64, 64, [0, 0, 9, 9])), 64)


def test_data_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="the network predicts 3 classes, but the data has 5"):
        evaluate_dense(dense_network(DETECTOR), Shapes(1), 64)
    with pytest.raises(ValueError, match="the network predicts 3 classes, but the data has 6"):
        evaluate_dense(dense_network(SEGMENTATION), Shapes(1), 64)
    with pytest.raises(ValueError, match="no images"):
        evaluate_dense(dense_network(SEGMENTATION), data(), 64)
    masks = Listed([example(64, 64, [0, 0, 9, 9])], (), NAMES)
    with pytest.raises(ValueError, match="no objects to detect: 1 images"):
        evaluate_dense(dense_network(DETECTOR), masks, 64)
    assert classes_of(masks, "segmentation") == NAMES
    with pytest.raises(ValueError, match="1 pixel classes; allowed: 2 to 255"):
        classes_of(Listed([], (), ("wall",)), "segmentation")
