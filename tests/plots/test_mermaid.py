"""The flowchart shows the shapes and repeats of the ledger."""

from __future__ import annotations

import re
from itertools import groupby, pairwise

import pytest
from hypothesis import given
from strategies import configs, resolutions

from efficientformer_edu.audit import count
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.plots import INK, NECK, PAPER, PARTS, Colour
from efficientformer_edu.plots.mermaid import alt_text, architecture_mermaid, layer_runs
from efficientformer_edu.plots.style import contrast

SIZES = [224, (225, 480)]


def shapes(text: str) -> set[tuple[int, ...]]:
    labels = re.findall(r'-->\|"([^"]+)"\|', text)
    return {tuple(map(int, shape.split("×"))) for label in labels for shape in label.split(" → ")}


def blocks(text: str) -> dict[int, list[tuple[str, int]]]:
    """Stage to its (kind, repeats), from the labels of the chart."""
    runs: dict[int, list[tuple[str, int]]] = {}
    for stage, kind, times in re.findall(r'stage(\d)_MB\dD\["(MB\dD) ×(\d+)<br/>', text):
        runs.setdefault(int(stage), []).append((kind, int(times)))
    return runs


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("resolution", SIZES)
def test_every_shape_is_in_the_ledger(name: str, resolution: int | tuple[int, int]) -> None:
    costs = count(name, resolution)
    known = {row.output_shape for row in costs.rows} | {(3, *costs.resolution)}
    seen = shapes(architecture_mermaid(name, resolution))
    assert seen <= known
    maps = {(c, *grid) for c, grid in zip(costs.config.embed_dims, costs.config.grids(resolution), strict=True)}
    assert maps <= seen


@given(config=configs())
def test_folded_repeats_are_the_depths(config: EfficientFormerConfig) -> None:
    runs = blocks(architecture_mermaid(config))
    for stage, (depth, vit) in enumerate(zip(config.depths, config.vits, strict=True), start=1):
        expected = [("MB4D", depth - vit), ("MB3D", vit)]
        assert runs[stage] == [(kind, times) for kind, times in expected if times > 0]


@given(config=configs(), resolution=resolutions)
def test_is_well_formed(config: EfficientFormerConfig, resolution: tuple[int, int]) -> None:
    text = architecture_mermaid(config, resolution)
    lines = text.splitlines()
    assert lines[0] == "flowchart TB"
    assert sum(line.startswith("subgraph ") for line in lines) == lines.count("end") == 5
    declared = set(re.findall(r"^(?:subgraph )?(\w+)(?:\[|\(\[)", text, re.MULTILINE))
    ends = {name for pair in re.findall(r'^(\w+) -->\|"[^"]+"\| (\w+)$', text, re.MULTILINE) for name in pair}
    assert ends <= declared
    assert declared - ends <= {f"stage{j}_{kind}" for j in range(1, 5) for kind in ("MB4D", "MB3D")} | {"head"}
    used = set(re.findall(r":::(\w+)$", text, re.MULTILINE))
    assert used <= set(PARTS)
    assert {f"classDef {name}" for name in used} <= {line.partition(" fill")[0] for line in lines}


def test_dimension_changes_are_on_the_links() -> None:
    text = architecture_mermaid(PRESETS["l1"].replace(num_vit=(0, 1, 6, 1)))
    assert 'stage2_MB4D -->|"96×28×28 → 784×96"| stage2_MB3D' in text
    assert 'stage2 -->|"784×96 → 96×28×28"| stage3' in text
    assert 'stage3_embedding -->|"224×14×14 → 196×224"| stage3_MB3D' in text
    assert 'stage4 -->|"49×448"| head' in text


def test_an_attention_free_network_makes_tokens_for_its_head() -> None:
    text = architecture_mermaid(PRESETS["l1"].replace(num_vit=0, distillation=False))
    assert 'stage4 -->|"448×7×7 → 49×448"| head' in text
    assert "head_dist" not in text


def test_a_notebook_renders_the_chart() -> None:
    chart = architecture_mermaid("l1")
    bundle = chart._repr_mimebundle_()
    assert bundle["text/vnd.mermaid"] == chart
    assert bundle["text/markdown"] == f"```mermaid\n{chart}```"
    assert chart.endswith("\n")


def test_the_alt_text_has_every_stage() -> None:
    text = alt_text("l1", (384, 640))
    assert re.findall(r"(stage \d) has ([^;]+);", text) == [
        ("stage 1", "3 MB4D on 48×96×160"),
        ("stage 2", "2 MB4D on 96×48×80"),
        ("stage 3", "6 MB4D on 224×24×40"),
        ("stage 4", "3 MB4D on 448×12×20 and 1 MB3D on 240×448"),
    ]
    assert "384×640" in text and "two heads for 1000 classes" in text
    assert f"accDescr: {alt_text('l1')}\n" in architecture_mermaid("l1")


@given(config=configs(), resolution=resolutions)
def test_parts_contain_every_row_once_and_fit_together(
    config: EfficientFormerConfig, resolution: tuple[int, int]
) -> None:
    costs = count(config, resolution)
    network = layer_runs(costs)
    assert tuple(row for part in network for row in part.operations) == costs.rows
    assert all(len(part.first) * part.repeats == len(part.operations) for part in network)
    for before, after in pairwise(network):
        # The same elements, as a feature map or as tokens
        assert elements(before.output_shape) == elements(after.input_shape)
    assert [stage for stage, _ in groupby(network, key=lambda part: part.stage)] == list(costs.by("stage"))


def elements(shape: tuple[int, ...]) -> tuple[int, int]:
    """Positions and channels of a feature map or of tokens."""
    return (shape[1] * shape[2], shape[0]) if len(shape) == 3 else (shape[0], shape[1])


@pytest.mark.parametrize("colour", [*PARTS.values(), NECK], ids=[*PARTS, "neck"])
def test_text_has_contrast(colour: Colour) -> None:
    assert contrast(colour.fill, INK) > 9
    assert contrast(PAPER, colour.line) > 3  # WCAG's requirement for graphics
