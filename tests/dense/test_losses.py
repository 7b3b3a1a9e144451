"""Losses and criteria: values and gradients by hand, empty targets, and outputs that are trained with them."""

from __future__ import annotations

import math

import pytest
import torch
from dense_networks import dense_config, dense_network, images
from torch import Tensor
from torch.nn import functional as F

from efficientformer_edu.data.examples import IGNORED, Target
from efficientformer_edu.dense.detection.heads import AnchorPredictions
from efficientformer_edu.dense.detection.postprocess import detect
from efficientformer_edu.dense.detection.priors import anchors_at
from efficientformer_edu.dense.losses import bce_loss, cross_entropy, dice_loss, focal_loss, iou_loss

LN2, LN3 = math.log(2), math.log(3)  # sigmoid(ln 3) is 3/4


def double(numbers: object) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def gradient(loss, x: Tensor, *others: Tensor) -> list:
    x = x.clone().requires_grad_()
    loss(x, *others).backward()
    return x.grad.tolist()


@pytest.mark.parametrize(
    ("logit", "target", "expected"),
    [
        (0.0, 1.0, 1 / 4 * 1 / 4 * LN2),
        (0.0, 0.0, 3 / 4 * 1 / 4 * LN2),
        (LN3, 1.0, 1 / 4 * 1 / 16 * math.log(4 / 3)),
        (LN3, 0.0, 3 / 4 * 9 / 16 * math.log(4)),
    ],
)
def test_focal_by_hand(logit, target, expected):
    assert focal_loss(double([[logit]]), double([[target]])).item() == pytest.approx(expected, rel=1e-12)
    twice = focal_loss(double([[logit, logit]] * 3), double([[target, target]] * 3)).item()
    assert twice == pytest.approx(6 * expected, rel=1e-12), "a sum, not a mean"


def test_the_gradient_of_focal():
    """By hand, d/dx of −(1 − p)² · log p at p = ½ is (1 − p)² · (2 · p · log p − (1 − p)) = −¼ · (ln 2 + ½)."""
    slope = (LN2 + 0.5) / 4
    expected = [pytest.approx([-slope / 4, 3 * slope / 4])]
    assert gradient(focal_loss, double([[0.0, 0.0]]), double([[1.0, 0.0]])) == expected
    logits, targets = double([[-2.0, 0.3, 4.0], [1.5, -0.1, -6.0]]), double([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, targets), logits.requires_grad_())


def test_binary_by_hand():
    assert bce_loss(double([0.0, LN3]), double([1.0, 0.0])).item() == pytest.approx(LN2 + math.log(4))
    assert bce_loss(double([LN3]), double([0.5])).item() == pytest.approx(
        -0.5 * math.log(3 / 4) - 0.5 * math.log(1 / 4)
    )
    assert gradient(bce_loss, double([LN3, 0.0]), double([0.5, 1.0])) == pytest.approx([0.75 - 0.5, 0.5 - 1.0])


def test_iou_loss_by_hand():
    """IoUs of 1/7, 1 and 0: 1 − 1/49, nothing, and 1."""
    predicted = double([[0, 0, 2, 2], [3, 3, 5, 6], [0, 0, 1, 1]])
    target = double([[1, 1, 3, 3], [3, 3, 5, 6], [1, 0, 2, 1]])
    assert iou_loss(predicted, target).item() == pytest.approx(1 - 1 / 49 + 0 + 1)


def test_the_gradient_of_the_iou_loss():
    """By hand: with its right side at x = 2, a box of height 1 covers x / 4 of a box that is 4 wide: 1 − x²/16."""
    grad = gradient(iou_loss, double([[0, 0, 2, 1]]), double([[0, 0, 4, 1]]))
    assert grad[0][2] == pytest.approx(-2 / 8)
    predicted, target = double([[0, 0, 4, 5], [1, 2, 6, 7]]), double([[1, 1, 6, 4], [0, 0, 5, 6.5]])
    assert torch.autograd.gradcheck(lambda x: iou_loss(x, target), predicted.requires_grad_())
    apart = gradient(iou_loss, double([[0, 0, 1, 1], [2, 2, 2, 2]]), double([[5, 5, 6, 6], [2, 2, 2, 2]]))
    assert apart == [[0] * 4] * 2


def class_map(*rows: list[int]) -> Tensor:
    return torch.tensor([rows], dtype=torch.uint8)


# Two classes in a row of four pixels: the first has probabilities 3/4, 3/4, 1/2 and, on the ignored pixel, 3/4.
ROW = double([[[[LN3, LN3, 0.0, LN3]], [[0.0, 0.0, 0.0, 0.0]]]])
CLASSES = class_map([0, 1, 1, IGNORED])


def test_cross_entropy_by_hand():
    expected = (math.log(4 / 3) + math.log(4) + LN2) / 3
    assert cross_entropy(ROW, CLASSES).item() == pytest.approx(expected)
    assert cross_entropy(ROW.repeat(2, 1, 1, 1), CLASSES.repeat(2, 1, 1)).item() == pytest.approx(expected)
    first, second = gradient(cross_entropy, ROW, CLASSES)[0]
    assert first[0] == pytest.approx([-0.25 / 3, 0.75 / 3, 0.5 / 3, 0]) and second[0] == pytest.approx(
        [-x for x in first[0]]
    )


def test_dice_by_hand():
    """First class: predicted area 2, true area 1, overlap 3/4. Second: 1, 2 and 1/4 + 1/2."""
    assert dice_loss(ROW, CLASSES).item() == pytest.approx(((1 - 2 * 0.75 / (2 + 1)) + (1 - 2 * 0.75 / (1 + 2))) / 2)
    only_first = class_map([0, 0, IGNORED, IGNORED])
    assert dice_loss(ROW, only_first).item() == pytest.approx(1 - 2 * 1.5 / (1.5 + 2)), (
        "the second class does not occur"
    )
    third = torch.cat([ROW, torch.full_like(ROW[:, :1], -1e4)], dim=1)
    assert dice_loss(third, CLASSES).item() == pytest.approx(dice_loss(ROW, CLASSES).item()), (
        "no pixel is predicted as the third class"
    )
    assert torch.tensor(gradient(dice_loss, third, CLASSES)).isfinite().all()


def test_dice_treats_a_batch_as_a_single_image():
    wide, two = torch.cat([ROW, ROW.flip(3)], dim=3), torch.cat([ROW, ROW.flip(3)])
    semantic = class_map([0, 0, 0, 0]), class_map([0, 1, 0, 0])
    expected = dice_loss(wide, torch.cat(semantic, dim=2)).item()
    assert dice_loss(two, torch.cat(semantic)).item() == pytest.approx(expected)


def test_the_gradient_of_dice():
    logits = torch.randn(2, 3, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    semantic = torch.cat([class_map([0, 2, 2], [IGNORED, 0, 2]), class_map([2, 2, 0], [0, IGNORED, IGNORED])])
    assert torch.autograd.gradcheck(lambda x: dice_loss(x, semantic), logits)
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, semantic), logits)


@pytest.mark.parametrize("loss", [cross_entropy, dice_loss])
def test_what_is_ignored_changes_nothing(loss):
    semantic, other = class_map([0, 1, IGNORED, IGNORED]), ROW.clone()
    other[..., 2:] = double([7.0, -7.0])
    assert loss(other, semantic).item() == loss(ROW, semantic).item()
    assert not any(row[0][i] for row in gradient(loss, ROW, semantic)[0] for i in (2, 3))


@pytest.mark.parametrize("loss", [cross_entropy, dice_loss])
def test_what_is_right_costs_nothing(loss):
    semantic = class_map([0, 1, 1, IGNORED])
    sure = torch.stack([semantic == 0, semantic == 1], dim=1).double() * 100
    assert loss(sure, semantic).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("loss", [cross_entropy, dice_loss])
def test_all_pixels_ignored(loss):
    nothing = torch.full((2, 3, 4), IGNORED, dtype=torch.uint8)
    logits = torch.randn(2, 5, 3, 4, requires_grad=True)
    value = loss(logits, nothing)
    value.backward()
    assert value.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize(("loss", "width"), [(focal_loss, 3), (bce_loss, 3), (iou_loss, 4)])
def test_losses_without_predictions(loss, width):
    predicted = torch.zeros(0, width, requires_grad=True)
    value = loss(predicted, torch.zeros(0, width))
    value.backward()
    assert value.item() == 0 and predicted.grad.shape == (0, width)


@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_logits_without_measure(logit):
    logits = torch.full((1, 2, 2, 2), logit, requires_grad=True)
    flat, targets = logits[0, :, 0], torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    semantic = class_map([0, 1], [1, IGNORED])
    total = (
        focal_loss(flat, targets.round())
        + bce_loss(flat, targets)
        + cross_entropy(logits, semantic)
        + dice_loss(logits, semantic)
    )
    total.backward()
    assert total.isfinite() and logits.grad.isfinite().all()


DETECTORS = [("fpn", "anchor_decoupled_head"), ("fpn", "anchor_free_decoupled_head")]
SEGMENTERS = [("no neck", "all_mlp_decoder"), ("fpn", "semantic_fpn")]
ANCHORS, POSITIONS = (dense_config(pair).criterion for pair in DETECTORS)
PIXELS = dense_config(SEGMENTERS[0]).criterion


def target(boxes: list, labels: list[int], semantic: Tensor | None = None) -> Target:
    """In double precision; by default no pixel has a class."""
    if semantic is None:
        semantic = torch.full((64, 64), IGNORED, dtype=torch.uint8)
    corners = torch.tensor(boxes, dtype=torch.float64).view(-1, 4)
    return Target(corners, torch.tensor(labels, dtype=torch.long), semantic)


NOTHING = target([], [])


def approximate(losses: dict[str, Tensor]) -> dict[str, object]:
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
    assert approximate(losses) == {"class": true_class + other + sure + other, "box": 3.0}


def test_anchors_are_counted_over_the_batch():
    """Four boxes on three anchors of two images; a third image has no box."""
    boxes = target([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 1])
    output = anchor_output(3)
    output.boxes[0, 0] = 1.0
    true_class, other = 1 / 16 * LN2, 3 / 16 * LN2
    losses = ANCHORS(output, [boxes, target([[0, 0, 10, 10]], [1]), NOTHING], ())
    of_classes = 2 * (true_class + other) + (true_class + 3 * other) + 6 * other
    assert approximate(losses) == {"class": of_classes / 3, "box": 4 / 3}


def test_the_offsets_are_those_that_lead_to_the_box():
    """From [0, 0, 10, 10] to [1, 0, 11, 8]: a tenth to the right and up, and log 0.8 higher."""
    losses = ANCHORS(anchor_output(), [target([[1, 0, 11, 8]], [0])], ())
    assert losses["box"].item() == pytest.approx(0.1 + 0.1 - math.log(0.8))


def position_output(width: float = 0.0) -> Tensor:
    """A map with a single position of 8×8 pixels that predicts a box, exp(width) as wide; three classes, logits 0."""
    output = torch.zeros(1, 4 + 1 + 3, 1, 1, dtype=torch.float64)
    output[0, :2], output[0, 2] = 0.5, width
    return output


def test_locations_by_hand():
    losses = POSITIONS([position_output()], [target([[0, 0, 8, 8]], [2])], (8,))
    assert approximate(losses) == {"box": 0.0, "objectness": LN2, "class": 3 * LN2}


def test_a_class_is_to_be_as_sure_as_its_box_is_good():
    """Half of the box: 5 · (1 − 1/4). The target of its class is 1/2, the prediction 3/4."""
    output = position_output(-LN2)
    output[0, 7] = LN3
    losses = POSITIONS([output], [target([[0, 0, 8, 8]], [2])], (8,))
    of_class = -(math.log(3 / 4) + math.log(1 / 4)) / 2
    assert approximate(losses) == {"box": 3.75, "objectness": LN2, "class": 2 * LN2 + of_class}


def test_locations_are_counted_over_the_batch():
    """Two images have the box, one has none: objectness of three locations, divided by two."""
    output, boxes = position_output(-LN2).repeat(3, 1, 1, 1), target([[0, 0, 8, 8]], [2])
    losses = POSITIONS([output], [boxes, NOTHING, boxes], (8,))
    assert approximate(losses) == {"box": 3.75, "objectness": 3 * LN2 / 2, "class": 3 * LN2}


def test_a_location_without_a_box_only_learns_objectness():
    output = torch.cat([position_output(), position_output()], dim=3).requires_grad_()
    sum(POSITIONS([output], [target([[0, 0, 7, 8]], [2])], (8,)).values()).backward()
    on_box, off_box = output.grad[0, :, 0].T
    assert on_box[2] and on_box[4:].all()
    assert off_box[4] == pytest.approx(0.5) and not off_box[:4].any() and not off_box[5:].any()


def test_pixels_by_hand():
    """Logits of two pixels are enlarged to four: interpolated at one and three quarters."""
    output = torch.tensor([[[[0.0, 4 * LN3]], [[0.0, 0.0]]]], dtype=torch.float64)  # enlarged: 0, 1, 3 and 4 times ln 3
    semantic = torch.tensor([[0, 1, IGNORED, IGNORED]], dtype=torch.uint8)
    losses = PIXELS(output, [target([], [], semantic)], ())
    of_first, of_second = 1 - 2 * 0.5 / (1.25 + 1), 1 - 2 * 0.25 / (0.75 + 1)
    assert approximate(losses) == {"cross_entropy": (LN2 + math.log(4)) / 2, "dice": (of_first + of_second) / 2}


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
    losses = network.config.criterion(output, [nothing, nothing], getattr(network.head, "strides", ()))
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
    learn, strides = network.config.criterion, getattr(network.head, "strides", ())
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


def assert_detected(detections, expected: Target) -> None:
    order = detections.labels.argsort()
    assert detections.labels[order].tolist() == expected.labels.sort().values.tolist()
    torch.testing.assert_close(detections.boxes[order], expected.boxes[expected.labels.argsort()], rtol=0, atol=1.0)


@pytest.mark.slow
def test_anchors_that_learn_find_the_objects():
    """Without a network: the output tensor itself is trained. `detect` reads what the criterion trained."""
    anchors = anchors_at([(8, 8), (4, 4)], (8, 16), ((16.0,), (32.0,)), (0.5, 1.0, 2.0), OBJECTS[0].boxes)
    classes = torch.full((2, len(anchors), 3), -4.0, dtype=torch.float64, requires_grad=True)
    boxes = torch.zeros(2, len(anchors), 4, dtype=torch.float64, requires_grad=True)
    output = AnchorPredictions(classes, boxes, anchors)
    learn([classes, boxes], lambda: sum(ANCHORS(output, OBJECTS, ()).values()), steps=200, rate=0.05)
    for detections, expected in zip(detect(output, (), (64, 64), score_threshold=0.5), OBJECTS, strict=True):
        assert_detected(detections, expected)


def test_trained_locations_detect_the_objects():
    output = [torch.zeros(2, 4 + 1 + 3, side, side, dtype=torch.float64, requires_grad=True) for side in (8, 4)]
    learn(output, lambda: sum(POSITIONS(output, OBJECTS, (8, 16)).values()), steps=200, rate=0.05)
    for detections, expected in zip(detect(output, (8, 16), (64, 64), score_threshold=0.5), OBJECTS, strict=True):
        assert_detected(detections, expected)


def test_pixels_that_learn_show_the_classes():
    semantic = torch.zeros(16, 16, dtype=torch.uint8)
    semantic[4:12, 8:], semantic[12:, :4] = 1, IGNORED
    output = torch.zeros(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    learn([output], lambda: sum(PIXELS(output, [target([], [], semantic)], ()).values()), steps=100, rate=0.1)
    shown = F.interpolate(output, size=(16, 16), mode="bilinear", align_corners=False).argmax(1)[0]
    assert ((shown == semantic) | (semantic == IGNORED)).all()


def test_every_head_has_its_own_criterion():
    assert dense_config(("yolopafpn", "anchor_free_decoupled_head")).criterion is POSITIONS
    assert dense_config(SEGMENTERS[1]).criterion is PIXELS
    assert ANCHORS is not POSITIONS
    with pytest.raises(ValueError, match="^fc has no"):
        _ = dense_config(("no neck", "fc")).criterion


@pytest.mark.parametrize(
    ("learn", "output"), [(ANCHORS, anchor_output(2)), (POSITIONS, [position_output().repeat(2, 1, 1, 1)])]
)
def test_a_single_target_per_image(learn, output):
    with pytest.raises(ValueError, match="zip"):
        learn(output, [NOTHING], (8,))
