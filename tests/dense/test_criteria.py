"""The criteria: by hand, without any targets, and outputs that are trained with them until they are right."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dense_networks import dense_config, dense_network, images
from torch import Tensor
from torch.nn import functional as F

from efficientformer_edu.data.examples import IGNORED, Target
from efficientformer_edu.dense.detection.heads import AnchorPredictions
from efficientformer_edu.dense.detection.postprocess import detect
from efficientformer_edu.dense.detection.priors import anchors_at
from efficientformer_edu.dense.losses import criterion

LN2, LN3 = math.log(2), math.log(3)  # sigmoid(ln 3) is 3/4
DETECTORS = [("fpn", "anchor_decoupled_head"), ("fpn", "anchor_free_decoupled_head")]
SEGMENTERS = [("no neck", "all_mlp_decoder"), ("fpn", "semantic_fpn")]
ANCHORS, PLACES = (criterion(dense_config(pair)) for pair in DETECTORS)
PIXELS = criterion(dense_config(SEGMENTERS[0]))


def target(boxes: list, labels: list[int], semantic: Tensor | None = None) -> Target:
    """In double precision; by default no pixel has a class."""
    if semantic is None:
        semantic = torch.full((64, 64), IGNORED, dtype=torch.uint8)
    corners = torch.tensor(boxes, dtype=torch.float64).view(-1, 4)
    return Target(corners, torch.tensor(labels, dtype=torch.long), semantic)


NOTHING = target([], [])


def parts(losses: dict[str, Tensor]) -> dict[str, object]:
    return {name: pytest.approx(value.item(), rel=1e-6, abs=1e-9) for name, value in losses.items()}


def anchor_output(images: int = 1) -> AnchorPredictions:
    """Anchors with IoUs 1, 0.45 and 0 with the box [0, 0, 10, 10]; two classes, both with probability ½."""
    anchors = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 4.5], [20, 20, 30, 30]], dtype=torch.float64)
    return AnchorPredictions(*(torch.zeros(images, 3, n, dtype=torch.float64) for n in (2, 4)), anchors)


def test_anchors_by_hand():
    """One anchor is on the box, one is background, and the anchor in between is ignored, however wrong it is."""
    output = anchor_output()
    output.classes[0, 1], output.boxes[0, 1:] = 50.0, 50.0
    output.boxes[0, 0] = torch.tensor([0.5, -0.5, 0.0, 2.0])
    output.classes[0, 2] = torch.tensor([LN3, 0.0])
    true_class, other = 1 / 4 * 1 / 4 * LN2, 3 / 4 * 1 / 4 * LN2  # logit 0: of the true class, and of another class
    sure = 3 / 4 * 9 / 16 * math.log(4)  # 3/4 for absent classes
    losses = ANCHORS(output, [target([[0, 0, 10, 10]], [1])], ())
    assert parts(losses) == {"class": true_class + other + sure + other, "box": 3.0}


def test_anchors_are_counted_over_the_batch():
    """Four boxes on three anchors of two images; a third image has no box."""
    boxes = target([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 1])
    output = anchor_output(3)
    output.boxes[0, 0] = 1.0
    true_class, other = 1 / 16 * LN2, 3 / 16 * LN2
    losses = ANCHORS(output, [boxes, target([[0, 0, 10, 10]], [1]), NOTHING], ())
    of_classes = 2 * (true_class + other) + (true_class + 3 * other) + 6 * other
    assert parts(losses) == {"class": of_classes / 3, "box": 4 / 3}


def test_the_offsets_are_those_that_lead_to_the_box():
    """From [0, 0, 10, 10] to [1, 0, 11, 8]: a tenth to the right and up, and log 0.8 higher."""
    losses = ANCHORS(anchor_output(), [target([[1, 0, 11, 8]], [0])], ())
    assert losses["box"].item() == pytest.approx(0.1 + 0.1 - math.log(0.8))


def place_output(width: float = 0.0) -> Tensor:
    """A map with a single position of 8×8 pixels that predicts a box, exp(width) as wide; three classes, logits 0."""
    output = torch.zeros(1, 4 + 1 + 3, 1, 1, dtype=torch.float64)
    output[0, :2], output[0, 2] = 0.5, width
    return output


def test_locations_by_hand():
    losses = PLACES([place_output()], [target([[0, 0, 8, 8]], [2])], (8,))
    assert parts(losses) == {"box": 0.0, "objectness": LN2, "class": 3 * LN2}


def test_a_class_is_to_be_as_sure_as_its_box_is_good():
    """Half of the box: 5 · (1 − 1/4). The target of its class is 1/2, the prediction 3/4."""
    output = place_output(-LN2)
    output[0, 7] = LN3
    losses = PLACES([output], [target([[0, 0, 8, 8]], [2])], (8,))
    of_class = -(math.log(3 / 4) + math.log(1 / 4)) / 2
    assert parts(losses) == {"box": 3.75, "objectness": LN2, "class": 2 * LN2 + of_class}


def test_locations_are_counted_over_the_batch():
    """Two images have the box, one has none: objectness of three locations, divided by two."""
    output, boxes = place_output(-LN2).repeat(3, 1, 1, 1), target([[0, 0, 8, 8]], [2])
    losses = PLACES([output], [boxes, NOTHING, boxes], (8,))
    assert parts(losses) == {"box": 3.75, "objectness": 3 * LN2 / 2, "class": 3 * LN2}


def test_a_location_without_a_box_only_learns_objectness():
    output = torch.cat([place_output(), place_output()], dim=3).requires_grad_()
    sum(PLACES([output], [target([[0, 0, 7, 8]], [2])], (8,)).values()).backward()
    on_box, off_box = output.grad[0, :, 0].T
    assert on_box[2] and on_box[4:].all()
    assert off_box[4] == pytest.approx(0.5) and not off_box[:4].any() and not off_box[5:].any()


def test_pixels_by_hand():
    """Logits of two pixels are enlarged to four: interpolated at one and three quarters."""
    output = torch.tensor([[[[0.0, 4 * LN3]], [[0.0, 0.0]]]], dtype=torch.float64)  # enlarged: 0, 1, 3 and 4 times ln 3
    semantic = torch.tensor([[0, 1, IGNORED, IGNORED]], dtype=torch.uint8)
    losses = PIXELS(output, [target([], [], semantic)], ())
    of_first, of_second = 1 - 2 * 0.5 / (1.25 + 1), 1 - 2 * 0.25 / (0.75 + 1)
    assert parts(losses) == {"cross_entropy": (LN2 + math.log(4)) / 2, "dice": (of_first + of_second) / 2}


@pytest.mark.parametrize(
    ("pair", "left"),
    [(DETECTORS[0], {"class"}), (DETECTORS[1], {"objectness"}), (SEGMENTERS[0], set()), (SEGMENTERS[1], set())],
    ids=lambda value: " ".join(value),
)
@pytest.mark.parametrize(
    "boxes",
    [[], [[5, 5, 5, 5]], [[5, 5, 5, 60]], [[-900, -900, -880, -890], [600, 700, 640, 740]]],
    ids=["none", "point", "line", "outside"],
)
def test_nothing_to_learn_from(pair, left, boxes):
    """No boxes, boxes without area or far outside, no pixel with a class: only the background is learned."""
    network = dense_network(pair).train()
    output = network(images(2, 64, 64))
    nothing = target(boxes, [0] * len(boxes))
    nothing = nothing._replace(boxes=nothing.boxes.float())
    losses = criterion(network.config)(output, [nothing, nothing], getattr(network.head, "strides", ()))
    sum(losses.values()).backward()
    assert all(value.isfinite() for value in losses.values())
    assert {name for name, value in losses.items() if value != 0} == left
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("pair", DETECTORS + SEGMENTERS, ids=" ".join)
def test_half_precision_is_left_before_the_loss(pair):
    network = dense_network(pair)
    output = network(images(1, 64, 64))
    semantic = torch.zeros(64, 64, dtype=torch.uint8)
    sample = target([[10, 10, 40, 50]], [1], semantic)
    sample = sample._replace(boxes=sample.boxes.float())
    learn, strides = criterion(network.config), getattr(network.head, "strides", ())
    if isinstance(output, AnchorPredictions):
        short = output._replace(classes=output.classes.bfloat16(), boxes=output.boxes.bfloat16())
    else:
        short = output.bfloat16() if isinstance(output, Tensor) else [x.bfloat16() for x in output]
    losses, expected = learn(short, [sample], strides), learn(output, [sample], strides)
    for name, value in losses.items():
        assert value.dtype == torch.float32 and value.item() == pytest.approx(expected[name].item(), rel=0.1), name


OBJECTS = [target([[4, 6, 30, 28], [33, 30, 60, 62]], [0, 2]), target([[20, 10, 52, 50]], [1])]


def learn(outputs: list[Tensor], loss, steps: int, rate: float) -> None:
    optimizer = torch.optim.Adam(outputs, lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def is_found(detections, expected: Target) -> None:
    order = postprocess.labels.argsort()
    assert postprocess.labels[order].tolist() == expected.labels.sort().values.tolist()
    torch.testing.assert_close(postprocess.boxes[order], expected.boxes[expected.labels.argsort()], rtol=0, atol=1.0)


def test_anchors_that_learn_find_the_objects():
    """Without a network: the output tensor itself is trained. `detect` reads what the criterion trained."""
    anchors = anchors_at([(8, 8), (4, 4)], (8, 16), ((16.0,), (32.0,)), (0.5, 1.0, 2.0), OBJECTS[0].boxes)
    classes = torch.full((2, len(anchors), 3), -4.0, dtype=torch.float64, requires_grad=True)
    boxes = torch.zeros(2, len(anchors), 4, dtype=torch.float64, requires_grad=True)
    output = AnchorPredictions(classes, boxes, anchors)
    learn([classes, boxes], lambda: sum(ANCHORS(output, OBJECTS, ()).values()), steps=200, rate=0.05)
    for detections, expected in zip(detect(output, (), (64, 64), score=0.5), OBJECTS, strict=True):
        is_found(detections, expected)


def test_trained_locations_detect_the_objects():
    output = [torch.zeros(2, 4 + 1 + 3, side, side, dtype=torch.float64, requires_grad=True) for side in (8, 4)]
    learn(output, lambda: sum(PLACES(output, OBJECTS, (8, 16)).values()), steps=200, rate=0.05)
    for detections, expected in zip(detect(output, (8, 16), (64, 64), score=0.5), OBJECTS, strict=True):
        is_found(detections, expected)


def test_pixels_that_learn_show_the_classes():
    semantic = torch.zeros(16, 16, dtype=torch.uint8)
    semantic[4:12, 8:], semantic[12:, :4] = 1, IGNORED
    output = torch.zeros(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    learn([output], lambda: sum(PIXELS(output, [target([], [], semantic)], ()).values()), steps=100, rate=0.1)
    shown = F.interpolate(output, size=(16, 16), mode="bilinear", align_corners=False).argmax(1)[0]
    assert ((shown == semantic) | (semantic == IGNORED)).all()


def test_every_head_has_its_own_criterion():
    assert criterion(dense_config(("yolopafpn", "anchor_free_decoupled_head"))) is PLACES
    assert criterion(dense_config(SEGMENTERS[1])) is PIXELS
    assert ANCHORS is not PLACES
    with pytest.raises(
        ValueError, match=r"^fc has no criterion here; anchor_decoupled_head, .* have one, and training"
    ):
        criterion(dense_config(("no neck", "fc")))


@pytest.mark.parametrize(
    ("learn", "output"), [(ANCHORS, anchor_output(2)), (PLACES, [place_output().repeat(2, 1, 1, 1)])]
)
def test_a_single_target_per_image(learn, output):
    with pytest.raises(ValueError, match="zip"):
        learn(output, [NOTHING], (8,))


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from jaxtyping import install_import_hook, TypeCheckError

with install_import_hook("efficientformer_edu.dense", "beartype.beartype"):
    from efficientformer_edu.dense import losses as criteria, losses
    from efficientformer_edu.dense.detection import postprocess
    from efficientformer_edu.data import examples

import torch
import dense_networks as small

boxes, labels = torch.tensor([[10.0, 10, 40, 50], [30, 30, 60, 61]]), torch.tensor([0, 2])
some = examples.Target(boxes, labels, torch.zeros(64, 64, dtype=torch.uint8))
none = examples.Target(boxes[:0], labels[:0], torch.full((64, 64), 255, dtype=torch.uint8))
for pair in small.ALLOWED:
    if pair[1] != "fc":
        network = small.dense_network(pair)
        output, strides = network(small.images(2, 64, 64)), getattr(network.head, "strides", ())
        criteria.criterion(network.config)(output, [some, none], strides)
        if strides:
            postprocess.detect(output, strides, (64, 64), score=0.0, candidates=50)
try:
    losses.iou_loss(torch.zeros(3, 4), torch.zeros(2, 4))
except TypeCheckError:
    print("refused")
"""


def test_every_signature_holds():
    command = [sys.executable, "-B", "-W", "ignore", "-c", PROGRAM, str(Path(__file__).parents[1])]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stderr == ""
    assert run.stdout.split() == ["refused"]
