"""The figure of the network shows the ledger's numbers and shapes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

from efficientformer_edu.audit import count
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.plots import PARTS
from efficientformer_edu.plots.architecture import draw_architecture, stacks
from efficientformer_edu.plots.mermaid import layer_runs
from efficientformer_edu.plots.style import Drawing, save

SUPERNET = EfficientFormerConfig(num_vit=(0, 1, 6, 2), distillation=False, layer_scale_init=None, act="hard_swish")


def texts(figure: Drawing) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("resolution", [224, (225, 480)])
def test_numbers_and_shapes_are_the_ledgers(name: str, resolution: int | tuple[int, int]) -> None:
    costs, labels = count(name, resolution), texts(draw_architecture(name, resolution))
    assert f"EfficientFormer-{name.upper()}" in labels
    assert any(f"{costs.params:,}" in label and f"{costs.macs:,}" in label for label in labels)
    known = {row.output_shape for row in costs.rows} | {(3, *costs.resolution), costs.resolution}
    for label in labels:
        for shape in re.findall(r"\d+(?:×\d+){1,2}", re.sub(r"conv \S+|pool \S+", "", label)):
            assert tuple(map(int, shape.split("×"))) in known
    runs = [part for part in layer_runs(costs) if part.kind in ("MB4D", "MB3D")]
    assert [label for label in labels if label.startswith("×")] == [f"×{part.repeats}" for part in runs]


@pytest.mark.parametrize("config", [*PRESETS.values(), SUPERNET])
def test_every_block_has_a_card(config: EfficientFormerConfig) -> None:
    figure = draw_architecture(config)
    boxes = [patch for patch in figure.findobj(FancyBboxPatch) if abs(patch.get_height() - 8.0) < 1e-9]
    cards = [tuple(patch.get_facecolor()) for patch in boxes]
    for kind, number in (("MB4D", sum(config.depths) - sum(config.vits)), ("MB3D", sum(config.vits))):
        fill = tuple(int(PARTS[kind].fill[i : i + 2], 16) / 255 for i in (1, 3, 5))
        assert sum(card[:3] == pytest.approx(fill) for card in cards) == number


def test_operations_follow_the_configuration() -> None:
    labels = texts(draw_architecture(SUPERNET, (225, 480)))
    assert "HardSwish" in labels
    assert "GELU" not in labels
    assert not {"γ₁", "γ₂", "head_dist"} & set(labels)
    labels = texts(draw_architecture("l1"))
    assert {"γ₁", "γ₂", "GELU", "ReLU", "head", "head_dist", "/ √32", "pool 3×3", "8×49×128"} <= set(labels)


def test_steps_of_attention_share_a_stack() -> None:
    block = next(part for part in layer_runs(count("l1")) if part.kind == "MB3D").first
    assert [len(stack) for stack in stacks(block)] == [1, 1, 5, 1, 1, 1, 1, 2, 1, 1, 1]


@pytest.mark.parametrize("config", [*PRESETS.values(), SUPERNET, PRESETS["l1"].replace(num_vit=0)])
@pytest.mark.parametrize("resolution", [224, (64, 320)])
def test_labels_stay_on_the_card_and_do_not_overlap(
    config: EfficientFormerConfig, resolution: int | tuple[int, int]
) -> None:
    figure = draw_architecture(config, resolution)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert all(figure.bbox.x0 < box.x0 and box.x1 < figure.bbox.x1 for box in boxes)
    assert all(figure.bbox.y0 < box.y0 and box.y1 < figure.bbox.y1 for box in boxes)
    for i, box in enumerate(boxes):
        assert not any(box.shrunk(0.98, 0.9).overlaps(other.shrunk(0.98, 0.9)) for other in boxes[i + 1 :])


def test_text_is_never_small() -> None:
    assert min(text.get_fontsize() for text in draw_architecture("l7").axes[0].texts) >= 8


def test_saved_files_are_reproducible(tmp_path: Path) -> None:
    for suffix in (".svg", ".png"):
        first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
        save(draw_architecture("l1"), first)
        save(draw_architecture("l1"), second)
        assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg", "b.png", "b.svg"]


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "network.svg"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save(draw_architecture("l1"), path)
    assert [file.name for file in tmp_path.iterdir()] == ["network.svg"]
    assert path.read_text() == "old"


def test_other_suffixes_and_missing_folders_are_rejected(tmp_path: Path) -> None:
    figure = Drawing()
    with pytest.raises(ValueError, match=r"network\.jpg"):
        save(figure, tmp_path / "network.jpg")
    with pytest.raises(FileNotFoundError, match="missing"):
        save(figure, tmp_path / "missing" / "network.png")


def test_a_figure_renders_itself_without_pyplot() -> None:
    assert draw_architecture("l1")._repr_png_().startswith(b"\x89PNG")
