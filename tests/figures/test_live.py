"""The answer to a question: it says what Python says, any question fits into a link, and no library is needed."""

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
from efficientformer_edu.figures.live import DEFAULTS, SHAPE, Live, Question, answer, fields, live, read
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
def test_what_is_asked_fits_into_a_link(question: Question) -> None:
    words = fields(question)
    assert read(words) == question
    link = answer(words)["link"]
    assert re.fullmatch(r"[\w=&,.%+-]+", link)
    assert read(dict(parse_qsl(link))) == question


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_shortest_link(name: str) -> None:
    assert answer({"model": name})["link"] == f"model={name}"
    assert read({"model": name}) == L1._replace(config=PRESETS[name])


def test_what_is_not_named_is_l1_at_224_pixels() -> None:
    assert read({}) == L1


def test_words_of_every_sort() -> None:
    words = {
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
    assert read(words) == Question(config, (384, 640), "folded", "thop")
    assert fields(read(words))["resolution"] == "384x640"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"depth": "3,2,6,4"}, "Unknown field 'depth'. Did you mean 'depths'?"),
        ({"model": "l2"}, "model='l2' is unknown; use one of "),
        ({"depths": "3,2,6"}, "depths=(3, 2, 6) is not possible; allowed: four values, one for each stage"),
        ({"depths": "3,2,6,0"}, "depths=0 is not possible; allowed: a whole number, at least 1"),
        ({"depths": "97,2,6,4"}, "depths=(97, 2, 6, 4) is not possible; allowed: at most 100 blocks in all"),
        ({"depths": ""}, "depths='' is not possible; allowed: four values, one for each stage"),
        ({"embed_dims": "48,96,wide,448"}, "embed_dims='wide' is not possible; allowed: a whole number, at least 1"),
        ({"embed_dims": "48,96,224,1e99"}, "embed_dims='1e99' is not possible; allowed: numbers up to 30,000"),
        ({"embed_dims": "9" * 5000}, "embed_dims='999"),
        ({"num_vit": "5"}, "num_vit=5 is not possible; allowed: at most the depth of its stage"),
        ({"num_vit": "nan"}, "num_vit=nan is not possible"),
        ({"resolution": "31"}, "resolution=31 is not possible; allowed: at least 32 pixels high and wide"),
        ({"resolution": "224x"}, "resolution='' is not possible; allowed: a whole number, at least 1"),
        ({"resolution": "224x224x3"}, "resolution=(224, 224, 3) is not possible; allowed: one whole number, or two"),
        ({"form": "fused"}, "form='fused' is not possible; allowed: trained, folded"),
        ({"counter": "fvcor"}, "counter='fvcor' is unknown; did you mean 'fvcore'?"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(words: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        read(words)
    assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value)
    assert answer(words) == {"error": str(caught.value)}


@settings(max_examples=200)
@given(words=st.dictionaries(st.sampled_from([*DEFAULTS, *SHAPE]), st.text() | st.text("0123456789.,x-e"), max_size=3))
def test_no_words_break_the_page(words: dict[str, str]) -> None:
    found = answer(words)
    assert set(found) in ({"error"}, {*Live._fields, "link"})


@settings(max_examples=25)
@given(question=questions)
def test_the_pieces_say_what_python_says(question: Question) -> None:
    costs = count(question.config, question.resolution, question.form)
    found = live(question)
    ElementTree.fromstring(found.diagram)
    assert f"{costs.params:,}" in found.summary and f"{costs.macs:,}" in found.summary
    for html, level in ((found.ledger, "stage"), (found.kinds, "kind")):
        ((header, *rows),) = cells(html)
        assert header == list(costs.table(level).columns)
        assert [row[0] for row in rows] == [*costs.by(level), "total"]
        assert [tuple(map(number, row[1:])) for row in rows] == [*costs.by(level).values(), costs.sums]


@settings(max_examples=15)
@given(question=questions)
def test_counters_and_steps_are_those_of_the_audit(question: Question) -> None:
    config, resolution, form, chosen = question
    costs = count(config, resolution, form)
    found = live(question)
    ((_, ours, *rows),) = cells(found.counters)
    assert [number(ours[1]), number(ours[3])] == [costs.macs, costs.params]
    assert [row[0] for row in rows] == list(COUNTERS)
    for name, macs, more_macs, params, more_params, status in rows:
        assert number(macs) == explain(name, config, resolution, form).total == costs.macs + number(more_macs)
        assert status == ("run in the tests" if COUNTERS[name].runs else "derived, not run")
        if COUNTERS[name].params is None:
            assert params == more_params == ""
        else:
            total = explain(name, config, resolution, form, "params").total
            assert number(params) == total == costs.params + number(more_params)
    for _, first, *steps, last in cells(found.explanation):
        assert number(first[1]) + sum(number(step[1]) for step in steps) == number(last[1])
    assert cells(found.explanation)[0][-1][1] == next(row[1] for row in rows if row[0] == chosen)


def test_other_code_is_named_where_its_number_differs() -> None:
    said = live(L1._replace(counter="ptflops")).explanation
    for code in ("released", "huggingface"):
        assert f"{explain('ptflops', 'l1', code=code).total:,} for " in said
    assert "written otherwise" not in live(L1).explanation


@given(question=questions)
def test_the_code_builds_the_same_network(question: Question) -> None:
    made: dict[str, Any] = {}
    source = live(question).python
    exec(re.sub(r"^print.*$", "", source, flags=re.MULTILINE), made)
    assert made["config"] == question.config
    assert made["costs"] == count(*question[:3])


def test_code_and_yaml_as_they_are_copied(tmp_path: Path) -> None:
    question = L1._replace(config=PRESETS["l3"], resolution=(384, 640), form="folded")
    found = live(question)
    assert found.python == (
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
    (tmp_path / "l3.yaml").write_text(found.yaml, encoding="utf-8")
    assert EfficientFormerConfig.from_yaml(tmp_path / "l3.yaml") == PRESETS["l3"]


@pytest.mark.parametrize("counter", COUNTERS)
def test_the_pieces_are_well_formed_and_tables_are_headed(counter: str) -> None:
    found = live(L1._replace(counter=counter))
    for name in HTML:
        root = ElementTree.fromstring(f"<div>{getattr(found, name)}</div>")
        for table in root.iter("table"):
            assert table[0].tag == "caption" and table[0].text
            assert {head.get("scope") for head in table.iter("th")} == {"col", "row"}
            for row in table.iter("tr"):
                for cell in row:
                    text = cell.text or ""
                    assert cell.get("class") == "number" or not re.fullmatch(r"[+-]?[\d,]+", text)


def test_the_answer_is_plain_text_that_json_can_hold() -> None:
    found = answer({"model": "l7"})
    assert set(found) == {*Live._fields, "link"}
    assert all(type(text) is str for text in found.values())
    assert json.loads(json.dumps(found)) == found


def test_the_browser_needs_these_files_and_no_library() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "from efficientformer_edu.figures.live import answer; answer({}); answer({'depths': 'x'})\n"
        "print(*(set(sys.modules) - before))"
    )
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    package = {name for name in loaded if name.startswith("efficientformer_edu")}
    rest = {name.partition(".")[0] for name in set(loaded) - package}
    assert rest <= sys.stdlib_module_names
    above, deeper = "efficientformer_edu", ["audit", "config", "config_formats", "config_values", "figures"]
    audit = [f"audit.{name}" for name in ("analytic", "costs", "explain", "growth", "rules", "tables")]
    figures = [f"figures.{name}" for name in ("colours", "fragments", "live", "strip")]
    assert package == {above, *(f"{above}.{name}" for name in deeper + audit + figures)}
