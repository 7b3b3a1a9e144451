"""The flowchart says what the ledger says."""

from __future__ import annotations

import re
from itertools import groupby, pairwise

import pytest
from hypothesis import given
from strategies import configs, resolutions

from efficientformer_edu.audit import count
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.figures.colours import INK, NECK, PAPER, PARTS, Colour
from efficientformer_edu.figures.mermaid import architecture_mermaid
from efficientformer_edu.figures.parts import alt_text, parts

SIZES = [224, (225, 480)]


def shapes(text: str) -> set[tuple[int, ...]]:
    labels = re.findall(r'-->\|"([^"]+)"\|', text)
    return {tuple(map(int, shape.split("×"))) for label in labels for shape in label.split(" → ")}


def blocks(text: str) -> dict[int, list[tuple[str, int]]]:
    """Stage to its (kind, repeats), as the chart's labels say."""
    found: dict[int, list[tuple[str, int]]] = {}
    for stage, kind, times in re.findall(r'stage(\d)_MB\dD\["(MB\dD) ×(\d+)<br/>', text):
        found.setdefault(int(stage), []).append((kind, int(times)))
    return found


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
    found = blocks(architecture_mermaid(config))
    for stage, (depth, vit) in enumerate(zip(config.depths, config.vits, strict=True), start=1):
        wanted = [("MB4D", depth - vit), ("MB3D", vit)]
        assert found[stage] == [(kind, times) for kind, times in wanted if times > 0]


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


def test_a_network_without_attention_makes_tokens_for_its_head() -> None:
    text = architecture_mermaid(PRESETS["l1"].replace(num_vit=0, distillation=False))
    assert 'stage4 -->|"448×7×7 → 49×448"| head' in text
    assert "head_dist" not in text


def test_shows_itself_in_a_notebook() -> None:
    chart = architecture_mermaid("l1")
    bundle = chart._repr_mimebundle_()
    assert bundle["text/vnd.mermaid"] == chart
    assert bundle["text/markdown"] == f"```mermaid\n{chart}```"
    assert chart.endswith("\n")


def test_alt_text_tells_the_whole_network() -> None:
    assert alt_text("l1", (384, 640)) == (
        "EfficientFormer on an image of 384×640 pixels: after the stem, stage 1 has 3 MB4D on 48×96×160; "
        "stage 2 has 2 MB4D on 96×48×80; stage 3 has 6 MB4D on 224×24×40; "
        "stage 4 has 3 MB4D on 448×12×20 and 1 MB3D on 240×448; "
        "then layer norm, the mean over the tokens and two heads for 1000 classes."
    )
    assert f"accDescr: {alt_text('l1')}\n" in architecture_mermaid("l1")


@given(config=configs(), resolution=resolutions)
def test_parts_hold_every_row_once_and_fit_together(config: EfficientFormerConfig, resolution: tuple[int, int]) -> None:
    costs = count(config, resolution)
    found = parts(costs)
    assert tuple(row for part in found for row in part.operations) == costs.rows
    assert all(len(part.first) * part.repeats == len(part.operations) for part in found)
    for before, after in pairwise(found):
        # The same numbers flow on, as a map or as tokens.
        assert elements(before.output_shape) == elements(after.input_shape)
    assert [stage for stage, _ in groupby(found, key=lambda part: part.stage)] == list(costs.by("stage"))


def elements(shape: tuple[int, ...]) -> tuple[int, int]:
    """Places and channels of a map or of tokens."""
    return (shape[1] * shape[2], shape[0]) if len(shape) == 3 else (shape[0], shape[1])


@pytest.mark.parametrize("colour", [*PARTS.values(), NECK], ids=[*PARTS, "neck"])
def test_text_has_contrast(colour: Colour) -> None:
    lighter, darker = luminance(colour.fill), luminance(INK)
    assert (lighter + 0.05) / (darker + 0.05) > 9
    assert (luminance(PAPER) + 0.05) / (luminance(colour.line) + 0.05) > 3  # a frame, as WCAG asks of graphics


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
