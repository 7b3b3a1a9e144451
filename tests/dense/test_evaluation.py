"""A network is evaluated in the pixels of each image, and is not changed."""

from __future__ import annotations

import math

import pytest
import torch
from dense_networks import dense_network
from dense_runs import Listed
from torch import Tensor, nn

from efficientformer_edu.data.examples import Example
from efficientformer_edu.data.letterbox import View
from efficientformer_edu.data.shapes import Shapes
from efficientformer_edu.dense.detection.boxes import encode
from efficientformer_edu.dense.detection.heads import AnchorPredictions
from efficientformer_edu.dense.evaluation import Squares, answers, classes_of, evaluate_dense
from efficientformer_edu.dense.network import DenseNetwork
from efficientformer_edu.training.loading import ALONE, Share

pytestmark = pytest.mark.slow

NAMES = ("disc", "square", "ring")
DETECTOR, SEGMENTATION = ("fpn", "anchor_decoupled_head"), ("no neck", "all_mlp_decoder")


class Sees(nn.Module):
    """Stands in for a head: it predicts the same for every image."""

    strides = (4, 8, 16, 32)

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, maps: object) -> object:
        return self.answer


def detector(box: list[float]) -> DenseNetwork:
    """It predicts one object of class 1 on its square."""
    network = dense_network(DETECTOR)
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    boxes = encode(torch.tensor([box]), anchors)[None]
    network.head = Sees(AnchorPredictions(torch.tensor([[[-20.0, 3.0, -20.0]]]), boxes, anchors))
    return network


def halves() -> DenseNetwork:
    """It predicts class 0 in the left half of its square and class 2 in the right half."""
    network = dense_network(SEGMENTATION)
    logits = torch.zeros(1, 3, 16, 16)
    logits[:, 0, :, :8], logits[:, 2, :, 8:] = 1, 1
    network.head = Sees(logits)
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


def test_boxes_are_evaluated_in_the_pixels_of_images_of_any_size() -> None:
    """The same box on the square of 64 is a different box in every image, and correct in all of them."""
    network = detector([8, 16, 24, 32])
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


def test_pixels_are_evaluated_in_the_pixels_of_images_of_any_size() -> None:
    images = [example(height, width, [0, 0, 1, 1]) for height, width in ((64, 64), (50, 100), (40, 200), (8, 8))]
    scores = evaluate_dense(halves(), data(*images), 64, 1)
    assert scores.result == {"miou": 1, "pixel_accuracy": 1, "images": 4}
    # A tall image covers only the left half of the square, and all of it is predicted as class 0.
    tall = evaluate_dense(halves(), data(example(100, 50, [0, 0, 1, 1])), 64, 1)
    assert (tall.by_class, tall.result["pixel_accuracy"]) == ((0.5, None, 0), 0.5)


def test_answers_are_as_large_as_the_images() -> None:
    view = View(64).placement(30, 50)
    (semantic,) = answers(halves(), torch.zeros(1, 3, 64, 64), [view])
    assert isinstance(semantic, Tensor)
    assert (semantic.shape, semantic.dtype) == ((30, 50), torch.uint8)
    (prediction,) = answers(detector([0, 0, 64, 64]), torch.zeros(1, 3, 64, 64), [view])
    assert not isinstance(prediction, Tensor)
    torch.testing.assert_close(
        prediction.boxes, torch.tensor([[0.0, 0, 50, 30]])
    )  # what lies below the image is cut off


@pytest.mark.parametrize("pair", [DETECTOR, ("yolopafpn", "anchor_free_decoupled_head"), SEGMENTATION])
def test_how_many_images_come_at_once_and_who_makes_them_changes_nothing(pair: tuple[str, str]) -> None:
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


def test_processes_take_every_image_once() -> None:
    scenes = Shapes(7, 64, "test")
    squares = [Squares(scenes, View(64), 2, Share(process, 3)) for process in range(3)]
    taken = [[list(some) for some in shard.shares] for shard in squares]
    assert taken == [[[0, 3], [6]], [[1, 4]], [[2, 5]]]
    images, placements, examples = Squares(scenes, View(64), 4, ALONE)[1]
    assert (images.shape, len(placements)) == ((3, 3, 64, 64), 3)
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
    with pytest.raises(ValueError, match="answers are no numbers"):
        evaluate_dense(network, images, 64)
    assert network.training == training


@pytest.mark.parametrize("pair", [DETECTOR, ("yolopafpn", "anchor_free_decoupled_head"), SEGMENTATION])
def test_weights_that_are_no_numbers(pair: tuple[str, str]) -> None:
    network = dense_network(pair)
    with torch.no_grad():
        network.get_parameter("backbone.stem.conv1.weight").fill_(math.nan)
    with pytest.raises(ValueError, match="the network's answers are no numbers; its weights may be broken"):
        evaluate_dense(network, data(example(64, 64, [0, 0, 9, 9])), 64)


def test_data_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="the network tells 3 classes apart, and the data have 5"):
        evaluate_dense(dense_network(DETECTOR), Shapes(1), 64)
    with pytest.raises(ValueError, match="the network tells 3 classes apart, and the data have 6"):
        evaluate_dense(dense_network(SEGMENTATION), Shapes(1), 64)
    with pytest.raises(ValueError, match="there is no image to evaluate on"):
        evaluate_dense(dense_network(SEGMENTATION), data(), 64)
    masks = Listed([example(64, 64, [0, 0, 9, 9])], (), NAMES)
    message = "these data have no objects to detect: 1 images; train for segmentation instead"
    with pytest.raises(ValueError, match=message):
        evaluate_dense(dense_network(DETECTOR), masks, 64)
    assert classes_of(masks, "segmentation") == NAMES
    with pytest.raises(ValueError, match="these data have one class of pixels, from which there is none to tell"):
        classes_of(Listed([], (), ("wall",)), "segmentation")
