"""The live audit shows the results of Python, any query fits into a link, and no library is needed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import configs, resolutions

from efficientformer_edu.audit import COUNTERS, count, explain
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.plots.live import CODES, DEFAULTS, SHAPE, Live, Question, Sliders, answer, fields, live, read
from tools import ROOT

L1 = Question(PRESETS["l1"], (224, 224), "trained", "fvcore")
questions = st.builds(
    Question,
    configs() | st.sampled_from(list(PRESETS.values())),
    resolutions | st.just((224, 224)),
    st.sampled_from(["trained", "folded"]),
    st.sampled_from(list(COUNTERS)),
)
HTML = ("summary", "ledger", "kinds", "counters", "explanation")


def cells(html: str) -> list[list[list[str]]]:
    """The rows of each table, as text."""
    root = ElementTree.fromstring(f"<div>{html}</div>")
    return [[["".join(cell.itertext()) for cell in row] for row in table.iter("tr")] for table in root.iter("table")]


def number(text: str) -> int:
    return int(text.replace(",", ""))


@given(question=questions)
def test_any_question_fits_into_a_link(question: Question) -> None:
    values = fields(question)
    assert read(values) == question
    link = answer(values)["link"]
    assert re.fullmatch(r"[\w=&,.%+-]+", link)
    assert read(dict(parse_qsl(link))) == question


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_shortest_link(name: str) -> None:
    assert answer({"model": name})["link"] == f"model={name}"
    assert read({"model": name}) == L1._replace(config=PRESETS[name])


def test_missing_fields_are_l1_at_224_pixels() -> None:
    assert read({}) == L1


def test_values_of_every_type() -> None:
    values = {
        "model": "l3",
        "depths": "3, 2,6,4",
        "num_vit": "0,0,1,1",
        "resolution": "384×640",
        "form": "folded",
        "counter": "thop",
        "distillation": "false",
        "layer_scale_init": "none",
        "mlp_ratio": "2.5",
        "act": "relu",
    }
    config = PRESETS["l3"].replace(
        depths=(3, 2, 6, 4), num_vit=(0, 0, 1, 1), distillation=False, layer_scale_init=None, mlp_ratio=2.5, act="relu"
    )
    assert read(values) == Question(config, (384, 640), "folded", "thop")
    assert fields(read(values))["resolution"] == "384x640"


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"depth": "3,2,6,4"}, ("'depth'", "'depths'")),
        ({"model": "l2"}, ("l2", "l1", "l3", "l7")),
        ({"depths": "3,2,6"}, ("depths=(3, 2, 6)", "four")),
        ({"depths": "3,2,6,0"}, ("depths=0", "at least 1")),
        ({"depths": "97,2,6,4"}, ("depths=(97, 2, 6, 4)", "100")),
        ({"depths": ""}, ("depths=''", "four")),
        ({"embed_dims": "48,96,wide,448"}, ("embed_dims='wide'", "at least 1")),
        ({"embed_dims": "48,96,224,1e99"}, ("embed_dims='1e99'", "30,000")),
        ({"embed_dims": "9" * 5000}, ("embed_dims='999",)),
        ({"num_vit": "5"}, ("num_vit=5", "depth")),
        ({"num_vit": "nan"}, ("num_vit=nan",)),
        ({"resolution": "31"}, ("resolution=31", "32")),
        ({"resolution": "224x"}, ("resolution=''",)),
        ({"resolution": "224x224x3"}, ("resolution=(224, 224, 3)", "two")),
        ({"form": "fused"}, ("form='fused'", "trained", "folded")),
        ({"counter": "fvcor"}, ("'fvcor'", "'fvcore'")),
    ],
)
def test_errors_name_the_field_the_value_and_the_allowed_values(values: dict[str, str], parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        read(values)
    message = str(caught.value)
    assert all(part in message for part in parts) and "\n" not in message
    assert answer(values) == {"error": message}


@settings(max_examples=200)
@given(values=st.dictionaries(st.sampled_from([*DEFAULTS, *SHAPE]), st.text() | st.text("0123456789.,x-e"), max_size=3))
def test_no_text_breaks_the_page(values: dict[str, str]) -> None:
    result = answer(values)
    assert set(result) in ({"error"}, {*Live._fields, "link"})


@settings(max_examples=25)
@given(question=questions)
def test_the_html_has_the_results_of_python(question: Question) -> None:
    costs = count(question.config, question.resolution, question.form)
    result = live(question)
    ElementTree.fromstring(result.diagram)
    assert f"{costs.params:,}" in result.summary and f"{costs.macs:,}" in result.summary
    for html, level in ((result.ledger, "stage"), (result.kinds, "kind")):
        ((header, *rows),) = cells(html)
        assert header == list(costs.table(level).columns)
        assert [row[0] for row in rows] == [*costs.by(level), "total"]
        assert [tuple(map(number, row[1:])) for row in rows] == [*costs.by(level).values(), costs.sums]


@settings(max_examples=15)
@given(question=questions)
def test_counters_and_steps_are_those_of_the_audit(question: Question) -> None:
    config, resolution, form, counter = question
    costs = count(config, resolution, form)
    result = live(question)
    ((_, audit, *rows),) = cells(result.counters)
    assert [number(audit[1]), number(audit[3])] == [costs.macs, costs.params]
    assert [row[0] for row in rows] == list(COUNTERS)
    for name, macs, more_macs, params, more_params, status in rows:
        assert number(macs) == explain(name, config, resolution, form).total == costs.macs + number(more_macs)
        assert status == ("run in the tests" if COUNTERS[name].runs else "derived, not run")
        if COUNTERS[name].params is None:
            assert params == more_params == ""
        else:
            total = explain(name, config, resolution, form, "params").total
            assert number(params) == total == costs.params + number(more_params)
    for _, first, *steps, last in cells(result.explanation):
        assert number(first[1]) + sum(number(step[1]) for step in steps) == number(last[1])
    assert cells(result.explanation)[0][-1][1] == next(row[1] for row in rows if row[0] == counter)


def test_other_code_is_named_if_its_count_differs() -> None:
    html = live(L1._replace(counter="ptflops")).explanation
    for code in ("released", "huggingface"):
        assert f"{explain('ptflops', 'l1', code=code).total:,} for " in html
    assert all(f" for {name}" not in live(L1).explanation for name in CODES.values())


@given(question=questions)
def test_the_code_builds_the_same_network(question: Question) -> None:
    namespace: dict[str, Any] = {}
    source = live(question).python
    exec(re.sub(r"^print.*$", "", source, flags=re.MULTILINE), namespace)
    assert namespace["config"] == question.config
    assert namespace["costs"] == count(*question[:3])


def test_code_and_yaml_can_be_copied(tmp_path: Path) -> None:
    question = L1._replace(config=PRESETS["l3"], resolution=(384, 640), form="folded")
    result = live(question)
    assert result.python == (
        "import efficientformer_edu as ef\n\n"
        "config = ef.EfficientFormerConfig(\n"
        "    depths=(4, 4, 12, 6),\n"
        "    embed_dims=(64, 128, 320, 512),\n"
        "    num_vit=4,\n"
        ")\n"
        'costs = ef.count(config, resolution=(384, 640), form="folded")\n'
        "print(costs.to_markdown())\n"
    )
    assert "config = ef.EfficientFormerConfig()\n" in live(L1).python
    (tmp_path / "l3.yaml").write_text(result.yaml, encoding="utf-8")
    assert EfficientFormerConfig.from_yaml(tmp_path / "l3.yaml") == PRESETS["l3"]


@pytest.mark.parametrize("counter", COUNTERS)
def test_html_is_well_formed_and_tables_have_headers(counter: str) -> None:
    result = live(L1._replace(counter=counter))
    for name in HTML:
        root = ElementTree.fromstring(f"<div>{getattr(result, name)}</div>")
        for table in root.iter("table"):
            assert table[0].tag == "caption" and table[0].text
            assert {head.get("scope") for head in table.iter("th")} == {"col", "row"}
            for row in table.iter("tr"):
                for cell in row:
                    text = cell.text or ""
                    assert cell.get("class") == "number" or not re.fullmatch(r"[+-]?[\d,]+", text)


def test_the_answer_is_json_serializable_text() -> None:
    result = answer({"model": "l7"})
    assert set(result) == {*Live._fields, "link"}
    assert all(type(text) is str for text in result.values())
    assert json.loads(json.dumps(result)) == result


def test_the_browser_needs_these_files_and_no_library() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "from efficientformer_edu.plots.live import answer; answer({}); answer({'depths': 'x'})\n"
        "print(*(set(sys.modules) - before))"
    )
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    package = {name for name in loaded if name.startswith("efficientformer_edu")}
    libraries = {name.partition(".")[0] for name in set(loaded) - package}
    assert libraries <= sys.stdlib_module_names
    modules = {name.removeprefix("efficientformer_edu").lstrip(".") for name in package}
    assert {name for name in modules if name.startswith("plots")} == {"plots", "plots.live", "plots.strip"}
    assert {name.split(".")[0] for name in modules} <= {
        "",
        "_formats",
        "_validation",
        "audit",
        "config",
        "plots",
        "utils",
    }


WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.mark.parametrize("name", PRESETS)
def test_sliders_start_from_a_published_network(name: str) -> None:
    question = read(Sliders(name, 320).fields)
    assert (question.config, question.resolution) == (PRESETS[name], (320, 320))


def test_a_slider_updates_the_output() -> None:
    widget = Sliders()
    before = widget.output.value
    widget.controls["depths 3"].value = 7
    widget.controls["embed_dims 2"].value = 112
    widget.controls["resolution"].value = 256
    widget.controls["counter"].value = "thop"
    values = {"depths": "3,2,7,4", "embed_dims": "48,112,224,448", "resolution": "256", "counter": "thop"}
    html = answer(values)
    assert widget.output.value != before
    assert all(
        html[name] in widget.output.value for name in ("diagram", "summary", "ledger", "counters", "explanation")
    )
    assert widget.diagram == html["diagram"]


def test_another_preset_moves_all_sliders_at_once() -> None:
    widget = Sliders()
    outputs: list[str] = []
    widget.output.observe(lambda change: outputs.append(change["new"]), "value")
    widget.controls["model"].value = "l7"
    assert read(widget.fields).config == PRESETS["l7"]
    assert len(outputs) == 1 and answer({"model": "l7"})["summary"] in outputs[0]


def test_an_impossible_network_shows_an_error() -> None:
    widget = Sliders()
    picture = widget.diagram
    widget.controls["num_vit"].value = 5
    error = answer(widget.fields)["error"]
    assert widget.output.value == f'<p role="alert">{error}</p>' and "num_vit=5" in error
    assert widget.diagram == picture
    widget.controls["depths 4"].value = 5
    assert "num_vit=5" not in widget.output.value and widget.diagram != picture


def test_without_a_kernel_the_strip_is_shown() -> None:
    widget = Sliders("l3")
    data = widget._repr_mimebundle_()
    assert set(data) == {WIDGET, "image/svg+xml", "text/plain"}
    assert data["image/svg+xml"] == answer({"model": "l3"})["diagram"]
    assert data["text/plain"] == "31.4 M parameters, 3.91 G MACs at 224×224"


@pytest.mark.parametrize(("arguments", "match"), [(("l2",), "l2"), (("l1", 31), "resolution=31")])
def test_errors_name_the_value(arguments: tuple[object, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Sliders(*arguments)
