"""Accuracies of hand-computed predictions."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor, nn

from efficientformer_edu.training.evaluation import check_classes, evaluate
from efficientformer_edu.weights import class_names

CLASSES = ("ant", "bee", "cat", "dog", "elk", "fox")


class Says(nn.Module):
    """Returns its input as logits."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def logits(*order: int) -> Tensor:
    """Logits that rank the classes in this order, best first."""
    row = torch.zeros(6)
    for position, label in enumerate(order):
        row[label] = 6 - position
    return row


# Label 0: right. 0: second, taken for a bee. 0: last of six, taken for a bee. 1: right. 2: fifth, taken for a fox.
BATCHES = [
    (torch.stack((logits(0, 1, 2, 3, 4, 5), logits(1, 0, 2, 3, 4, 5))), torch.tensor([0, 0])),
    (
        torch.stack((logits(1, 2, 3, 4, 5, 0), logits(1, 0, 2, 3, 4, 5), logits(5, 4, 3, 1, 2, 0))),
        torch.tensor([0, 1, 2]),
    ),
]


def test_counts() -> None:
    counts = evaluate(Says(), BATCHES, CLASSES)
    assert (counts.count, counts.top1, counts.top5) == (5, 2 / 5, 4 / 5)
    expected = torch.zeros(6, 6, dtype=torch.int64)
    expected[0, 0], expected[0, 1], expected[1, 1], expected[2, 5] = 1, 2, 1, 1
    assert torch.equal(counts.confusion, expected)
    total = sum(math.exp(position) for position in range(1, 7))
    losses = [math.log(total) - (6 - position) for position in (0, 1, 5, 0, 4)]  # position of the true class
    assert counts.loss == pytest.approx(sum(losses) / 5, rel=1e-6)
    assert str(counts) == "top-1 40.00%, top-5 80.00% of 5 images"


def test_table_by_class() -> None:
    table = evaluate(Says(), BATCHES, CLASSES).table()
    assert table.rows[0] == ("ant", 3, 1 / 3, "bee", 2)
    assert table.rows[1] == ("bee", 1, 1.0, None, None)
    assert table.rows[3] == ("dog", 0, None, None, None)
    assert table.rows[-1][:3] == ("all", 5, 2 / 5)
    assert [row["top-1"] for row in json.loads(table.to_json())[:4]] == [1 / 3, 1.0, 0.0, None]
    total = table.to_text().splitlines()[-1]
    assert "40.00 %" in total and "top-5 80.00 %" in total


def test_the_mode_of_the_network_is_left_as_it_was() -> None:
    network = nn.Sequential(Says(), nn.Dropout(0.9)).train()
    assert evaluate(network, BATCHES, CLASSES).top1 == 2 / 5  # nothing is dropped meanwhile
    assert network.training
    evaluate(network.eval(), BATCHES, CLASSES)
    assert not network.training


@pytest.mark.parametrize(
    ("batches", "classes", "message"),
    [
        ([], CLASSES, "no images"),
        (BATCHES, CLASSES[:5], "6 classes.* 5"),
        ([(torch.full((1, 6), math.nan), torch.tensor([0]))], CLASSES, "NaN"),
    ],
)
def test_refusals(batches: list[tuple[Tensor, Tensor]], classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(Says(), batches, classes)


def test_class_names_of_weights_and_data_are_compared() -> None:
    assert check_classes(CLASSES, CLASSES, "w.pth") == ""
    assert "w.pth does not name its classes" in check_classes(None, CLASSES, "w.pth")
    with pytest.raises(ValueError, match=r"class 4 is 'elk' in w\.pth and 'fox' in the data"):
        check_classes(CLASSES, (*CLASSES[:4], "fox", "elk"), "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth has 6 classes, ant, .*; the data have 2, ant, bee"):
        check_classes(CLASSES, CLASSES[:2], "w.pth")


def test_imagenets_names_fit_imagenets_folders() -> None:
    folders = tuple(f"n{number:08}" for number in range(1000))
    assert check_classes(class_names(), folders, "l1") == ""
    with pytest.raises(ValueError, match="class 0 is 'tench'"):
        check_classes(class_names(), tuple(f"kind {number}" for number in range(1000)), "l1")
