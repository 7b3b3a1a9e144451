"""The sliders show what the page shows, say what is wrong, and leave a picture where there is no kernel."""

from __future__ import annotations

import pytest

from efficientformer_edu.config import PRESETS
from efficientformer_edu.figures.live import answer, read
from efficientformer_edu.figures.sliders import sliders

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.mark.parametrize("name", PRESETS)
def test_they_start_from_a_published_network(name: str) -> None:
    question = read(sliders(name, 320).fields)
    assert (question.config, question.resolution) == (PRESETS[name], (320, 320))


def test_a_change_changes_what_is_shown() -> None:
    made = sliders()
    before = made.shown.value
    made.controls["depths 3"].value = 7
    made.controls["embed_dims 2"].value = 112
    made.controls["resolution"].value = 256
    made.controls["counter"].value = "thop"
    words = {"depths": "3,2,7,4", "embed_dims": "48,112,224,448", "resolution": "256", "counter": "thop"}
    pieces = answer(words)
    assert made.shown.value != before
    assert all(pieces[name] in made.shown.value for name in ("diagram", "summary", "ledger", "counters", "explanation"))
    assert made.diagram == pieces["diagram"]


def test_another_preset_moves_all_sliders_at_once() -> None:
    made = sliders()
    shown: list[str] = []
    made.shown.observe(lambda change: shown.append(change["new"]), "value")
    made.controls["model"].value = "l7"
    assert read(made.fields).config == PRESETS["l7"]
    assert len(shown) == 1 and answer({"model": "l7"})["summary"] in shown[0]


def test_what_is_not_possible_is_said() -> None:
    made = sliders()
    picture = made.diagram
    made.controls["num_vit"].value = 5
    sentence = "num_vit=5 is not possible; allowed: at most the depth of its stage (depths=(3, 2, 6, 4))"
    assert made.shown.value == f'<p role="alert">{sentence}</p>'
    assert made.diagram == picture
    made.controls["depths 4"].value = 5
    assert "num_vit=5 is" not in made.shown.value and made.diagram != picture


def test_without_a_kernel_the_strip_is_shown() -> None:
    made = sliders("l3")
    data = made._repr_mimebundle_()
    assert set(data) == {WIDGET, "image/svg+xml", "text/plain"}
    assert data["image/svg+xml"] == answer({"model": "l3"})["diagram"]
    assert data["text/plain"] == "31.4 M parameters, 3.91 G MACs at 224×224"


@pytest.mark.parametrize(
    ("arguments", "sentence"), [(("l2",), "model='l2' is unknown"), (("l1", 31), "resolution=31 is not possible")]
)
def test_errors_name_what_is_wrong(arguments: tuple[object, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        sliders(*arguments)
