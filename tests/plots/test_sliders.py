"""The sliders show the HTML of the page and its errors, and a static figure if there is no kernel."""

from __future__ import annotations

import pytest

from efficientformer_edu.config import PRESETS
from efficientformer_edu.plots.live import answer, read
from efficientformer_edu.plots.sliders import sliders

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.mark.parametrize("name", PRESETS)
def test_they_start_from_a_published_network(name: str) -> None:
    question = read(sliders(name, 320).fields)
    assert (question.config, question.resolution) == (PRESETS[name], (320, 320))


def test_a_change_updates_the_output() -> None:
    made = sliders()
    before = made.output.value
    made.controls["depths 3"].value = 7
    made.controls["embed_dims 2"].value = 112
    made.controls["resolution"].value = 256
    made.controls["counter"].value = "thop"
    values = {"depths": "3,2,7,4", "embed_dims": "48,112,224,448", "resolution": "256", "counter": "thop"}
    html = answer(values)
    assert made.output.value != before
    assert all(html[name] in made.output.value for name in ("diagram", "summary", "ledger", "counters", "explanation"))
    assert made.diagram == html["diagram"]


def test_another_preset_moves_all_sliders_at_once() -> None:
    made = sliders()
    outputs: list[str] = []
    made.output.observe(lambda change: outputs.append(change["new"]), "value")
    made.controls["model"].value = "l7"
    assert read(made.fields).config == PRESETS["l7"]
    assert len(outputs) == 1 and answer({"model": "l7"})["summary"] in outputs[0]


def test_an_impossible_network_shows_an_error() -> None:
    made = sliders()
    picture = made.diagram
    made.controls["num_vit"].value = 5
    error = answer(made.fields)["error"]
    assert made.output.value == f'<p role="alert">{error}</p>' and "num_vit=5" in error
    assert made.diagram == picture
    made.controls["depths 4"].value = 5
    assert "num_vit=5" not in made.output.value and made.diagram != picture


def test_without_a_kernel_the_strip_is_shown() -> None:
    made = sliders("l3")
    data = made._repr_mimebundle_()
    assert set(data) == {WIDGET, "image/svg+xml", "text/plain"}
    assert data["image/svg+xml"] == answer({"model": "l3"})["diagram"]
    assert data["text/plain"] == "31.4 M parameters, 3.91 G MACs at 224×224"


@pytest.mark.parametrize(("arguments", "match"), [(("l2",), "l2"), (("l1", 31), "resolution=31")])
def test_errors_name_the_value(arguments: tuple[object, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        sliders(*arguments)
