"""The stored matrix matches the code: every cheap entry is recomputed."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import nn

from efficientformer_edu.config import PRESETS
from efficientformer_edu.dense import DenseNetwork
from efficientformer_edu.dense.network import HEADS, MATRIX, NECKS, NUM_CLASSES
from tools import dense_matrix, dense_page, pages
from tools.dense_matrix import COMPARED, FORMS, SIZES, attempt, finite, load_matrix, pair, same, tried

pytestmark = pytest.mark.slow

RECORD = load_matrix()
CELLS = {
    (cell.network, cell.neck, cell.head): cell for network in RECORD["networks"].values() for cell in network["cells"]
}
GOOD = [names for names, why in MATRIX.items() if not why]
ODD = (225, 225)
STALE = "the stored matrix is not that of the code: run `python -m tools.dense_matrix`"


def text(*size: int) -> str:
    return "×".join(map(str, size))


def test_every_pair_is_there_once_per_network() -> None:
    assert set(MATRIX) == {(neck, head) for neck in ("no neck", *NECKS) for head in HEADS}
    assert list(CELLS) == [(network, *names) for network in PRESETS for names in MATRIX], STALE
    for name, network in RECORD["networks"].items():
        assert [(cell.network, cell.neck, cell.head) for cell in network["cells"]] == [
            (name, *names) for names in MATRIX
        ]


def test_everything_was_tried_and_went_well() -> None:
    runs, graphs = ({text(*size): "" for size in sizes} for sizes in (SIZES, COMPARED))
    assert ODD in SIZES and ODD in COMPARED
    for (_, *names), cell in CELLS.items():
        assert cell.faults == []
        if tuple(names) in GOOD:
            assert cell.tried == {"run": runs} | dict.fromkeys(FORMS, graphs)


def test_the_record_says_when_and_with_what() -> None:
    for network in RECORD["networks"].values():
        assert set(network["versions"]) == {"python", "torch"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", network["date"])
        assert network["machine"]


@pytest.mark.parametrize("names", [names for names, why in MATRIX.items() if why], ids=" ".join)
def test_what_is_refused_is_refused_for_this_reason(names: tuple[str, str]) -> None:
    for network in PRESETS:
        stored_cell = CELLS[network, *names]
        assert tried(network, *names) == stored_cell, STALE
        assert MATRIX[names] in stored_cell.refused
        assert all(f"{name}" in stored_cell.refused for name in names)


@pytest.mark.parametrize("network", PRESETS)
@pytest.mark.parametrize("names", GOOD, ids=" ".join)
def test_parameters_and_shapes_are_those_of_the_code(network: str, names: tuple[str, str]) -> None:
    cell = CELLS[network, *names]
    with torch.device("meta"), torch.no_grad():
        built = DenseNetwork(pair(PRESETS[network], *names)).eval()
        assert cell.parameters == sum(parameter.numel() for parameter in built.parameters()), STALE
        for size in SIZES if network == "l1" else [ODD]:
            outputs = dense_matrix.flat(built(torch.empty(1, 3, *size)))
            assert cell.outputs[text(*size)] == [text(*output.shape) for output in outputs], STALE


@pytest.mark.parametrize("names", GOOD, ids=" ".join)
def test_shapes_follow_from_the_size_of_the_image(names: tuple[str, str]) -> None:
    neck, head = names
    classes = NUM_CLASSES[HEADS[head].task]
    strides = [8, 16, 32] if neck == "yolopafpn" else [4, 8, 16, 32]
    for height, width in SIZES:
        maps = [(-(-height // stride), -(-width // stride)) for stride in strides]
        anchors = 3 * sum(h * w for h, w in maps)
        expected = {
            "fc": [(1, classes)],
            "all_mlp_decoder": [(1, classes, *maps[0])],
            "semantic_fpn": [(1, classes, *maps[0])],
            "anchor_decoupled_head": [(1, anchors, classes), (1, anchors, 4), (anchors, 4)],
            "anchor_free_decoupled_head": [(1, 5 + classes, *grid) for grid in maps],
        }[head]
        for network in PRESETS:
            assert CELLS[network, *names].outputs[text(height, width)] == [text(*shape) for shape in expected]


@pytest.mark.slow
@pytest.mark.parametrize("names", GOOD, ids=" ".join)
def test_l1_at_an_odd_size_by_itself_and_traced(names: tuple[str, str]) -> None:
    tried_cell, kept = tried("l1", *names, sizes=[ODD], forms=["torch.fx"]), CELLS["l1", *names]
    at = text(*ODD)
    assert (tried_cell.refused, tried_cell.parameters, tried_cell.outputs[at]) == (
        "",
        kept.parameters,
        kept.outputs[at],
    )
    assert tried_cell.tried == {"run": {at: ""}, "torch.fx": {at: ""}}
    assert all(kept.tried[step][at] == fault for step, sizes in tried_cell.tried.items() for fault in sizes.values())


# What the tool would report for a network that does not work.


class Broken(nn.Module):
    """Adds one to small images, refuses large images, and cannot be traced because it branches on the size."""

    def forward(self, images):
        if images.shape[2] > 100:
            return images / 0
        return images + 1


@torch.no_grad()
def test_a_fault_is_a_sentence() -> None:
    images = torch.ones(1, 3, 64, 64)
    outputs, fault = attempt(lambda: finite(Broken(), images))
    assert torch.equal(outputs[0], images + 1) and not fault
    assert attempt(lambda: finite(Broken(), torch.ones(1, 3, 128, 64)))[1] == (
        "ValueError: an output is infinite or NaN"
    )
    assert attempt(lambda: torch.fx.symbolic_trace(Broken()))[1].startswith("TraceError: symbolically traced variables")
    assert attempt(lambda: same(Broken(), images, [images]))[1].startswith("AssertionError: Tensor-likes are not close")
    assert attempt(lambda: same(Broken(), images, []))[1] == "AssertionError: 1 outputs, not 0"
    assert attempt(lambda: same(Broken(), images, [images + 1])) == (None, "")


def test_the_page_says_what_went_wrong() -> None:
    record = copy.deepcopy(RECORD)
    (cell,) = [cell for cell in record["networks"]["l3"]["cells"] if (cell.neck, cell.head) == ("fpn", "semantic_fpn")]
    cell.tried["torch.fx"]["225×225"] = "TraceError: no"
    record["networks"]["l3"]["date"] = "2026-12-24"
    shown = dense_page.of_record(record)
    assert "| `semantic_fpn` | refused | not on L3 | refused |" in shown
    assert "* l3, fpn, semantic_fpn: torch.fx at 225×225: TraceError: no" in shown
    assert "| `fpn` | `semantic_fpn` | 12 of 12 | 5 of 6 | 6 of 6 |" in shown
    assert "; on 2026-12-24, " in shown


def test_the_page_has_every_pair_and_every_reason() -> None:
    shown = pages.filled("<!-- matrix -->", {}, "")
    rows = [[cell.strip("` ") for cell in line.strip("|").split("|")] for line in shown.splitlines() if line[:1] == "|"]
    of_heads = {row[0]: row[1:] for row in rows if len(row) == 4 and row[0] in HEADS}
    assert of_heads == {
        head: ["refused" if MATRIX[neck, head] else "✓" for neck in ("no neck", *NECKS)] for head in HEADS
    }
    reasons = {(row[0], row[1]): row[2] for row in rows if len(row) == 3 and row[1] in HEADS}
    assert reasons == {names: why for names, why in MATRIX.items() if why}
    together = {(row[0], row[1]): row[2:] for row in rows if len(row) == 8 and row[1] in HEADS}
    tries = [f"{count * len(PRESETS)} of {count * len(PRESETS)}" for count in (len(SIZES), *[len(COMPARED)] * 2)]
    assert together == {
        names: tries + [f"{CELLS[network, *names].parameters:,}" for network in PRESETS] for names in GOOD
    }
    assert "1000 classes in classification, 150 classes in segmentation and 80 classes in detection" in shown
    assert "What went wrong" not in shown
    for network in RECORD["networks"].values():
        assert all(detail in shown for detail in (network["date"], network["machine"], *network["versions"].values()))


def test_the_page_draws_a_detector() -> None:
    shown = pages.filled("<!-- detector -->", {}, "")
    assert shown.startswith("```mermaid\nflowchart TB\naccTitle: EfficientFormer for detection\n")
    assert shown.endswith("\n```")
