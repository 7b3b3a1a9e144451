"""Every reported number and sentence has a source, cannot be changed, and is marked as reported."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientformer_edu import paper
from efficientformer_edu.paper.records import TAGS, Reported, Statement, find, read

DATA = {
    file.name: tomllib.loads(file.read_text("utf-8")) for file in files(paper).iterdir() if file.name.endswith("toml")
}
ORDINALS = {"number"}  # counts the records of a list and reports nothing


def records() -> list[Any]:
    """All that the subpackage returns."""
    return [
        *(paper.table1(), paper.table2(), paper.appendix_b(), *paper.external_latencies(), *paper.ratios()),
        *(*paper.external_counts(), *paper.external_accuracies()),
        *(*paper.observations(), paper.figure2(), *paper.equations(), *paper.architectures(), *paper.differences()),
        *(*paper.algorithm1(), *paper.slimming_actions()),
        *(setting for topic in ("recipe", "table1", "table2", "architecture") for setting in paper.settings(topic)),
        *(remark for topic in ("slimming", "appendix_b", "recipe") for remark in paper.remarks(topic)),
    ]


def parts(record: Any) -> Iterator[Any]:
    """A record and every record within it."""
    if dataclasses.is_dataclass(record):
        yield record
        for field in dataclasses.fields(record):
            yield from parts(getattr(record, field.name))
    elif isinstance(record, tuple):
        for item in record:
            yield from parts(item)


def untagged(data: Any, location: str, tagged: bool = False) -> Iterator[str]:
    """Locations of numbers, sentences and protocols without tags at the same level or above."""
    if isinstance(data, dict):
        for name, value in data.items():
            if name not in ORDINALS:
                yield from untagged(value, f"{location}.{name}", tagged or "tags" in data)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from untagged(value, f"{location}[{index}]", tagged)
    elif not tagged and (isinstance(data, int | float) or location.endswith((".text", ".protocol", ".latex"))):
        yield location


@pytest.mark.parametrize("name", DATA)
def test_every_number_in_the_files_has_a_tag(name: str) -> None:
    assert list(untagged(DATA[name], name)) == []


def test_the_search_for_untagged_numbers_detects_an_example() -> None:
    assert list(untagged({"rows": [{"number": 1, "npu": {"value": 1.6}}]}, "file")) == ["file.rows[0].npu.value"]


def test_every_number_and_sentence_of_the_files_reaches_a_record() -> None:
    def leaves(data: Any) -> Iterator[Any]:
        if isinstance(data, dict):
            yield from (data[key] for key in ("value", "text") if key in data)
            data = list(data.values())
        if isinstance(data, list):
            for item in data:
                yield from leaves(item)

    shown = [part for record in records() for part in parts(record)]
    values = [part.value for part in shown if isinstance(part, Reported)]
    texts = [part.text for part in shown if isinstance(part, Statement)]
    assert sorted(map(str, values + texts)) == sorted(str(leaf) for data in DATA.values() for leaf in leaves(data))


def test_tags_are_known_and_all_are_used() -> None:
    used = {tag for record in records() for part in parts(record) for tag in getattr(part, "tags", ())}
    assert used == set(TAGS)


@pytest.mark.parametrize("tags", [(), ("V", "V"), ("X",), ("V", "v")])
def test_a_wrong_tag_is_rejected(tags: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="use one or more of V, FIG, CP"):
        Reported("top1", 79.2, "%", tags)
    with pytest.raises(ValueError, match="use one or more of V, FIG, CP"):
        Statement("ReLU", tags)


def test_nothing_can_be_changed() -> None:
    for record in records():
        hash(record)  # at every depth: a list or dict inside would raise
        for part in parts(record):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, dataclasses.fields(part)[0].name, "changed")
    with pytest.raises(TypeError):
        TAGS["X"] = "unknown"  # type: ignore[index]


def test_two_readings_are_equal() -> None:
    assert records() == records()


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (Reported("top1", 79.2, "%", ("V", "CP")), "79.2 % (reported, V, CP)"),
        (Reported("npu", 44.5, "ms", ("TR",), note="with HardSwish"), "44.5 ms (reported, TR; with HardSwish)"),
        (Reported("mixup", 0.8, "", ("V",)), "0.8 (reported, V)"),
        (Reported("macs", 1.3, "G", ("PROJ",), decimals=2), "1.30 G (reported, PROJ)"),
        (Reported("epochs", 1000, "epochs", ("V",)), "1000 epochs (reported, V)"),
        (Reported("macs", 3_737_045_760, "", ("PROJ",)), "3,737,045,760 (reported, PROJ)"),
        (Reported("miou", 45.1, "%", ("D",)), "45.1 % (derived from what is reported, D)"),
        (Statement("fp32", ("V",)), "fp32 (reported, V)"),
    ],
)
def test_printed_values_say_that_they_are_reported(value: Reported | Statement, printed: str) -> None:
    assert str(value) == printed


@pytest.mark.parametrize(
    ("value", "decimals", "digits"), [(12.3, None, 1), (31, None, 0), (45.25, None, 2), (1.3, 2, 2), (2.0, None, 1)]
)
def test_a_printed_number_stands_for_what_rounds_to_it(value: float, decimals: int | None, digits: int) -> None:
    number = Reported("params", value, "M", ("V",), decimals=decimals)
    assert number.digits == digits
    for sign in (-1, 1):
        assert number.stands_for(value + sign * 0.4 * 10.0**-digits)
        assert not number.stands_for(value + sign * 0.6 * 10.0**-digits)


def test_names_are_unique() -> None:
    named = [
        [record.name for record in paper.equations()],
        [record.name for record in paper.algorithm1()],
        [record.name for record in paper.slimming_actions()],
        [record.preset for record in paper.architectures()],
        [record.topic for record in paper.differences()],
        [(record.model, record.against, record.stated.quantity) for record in paper.ratios()],
        *(
            [record.name for record in paper.settings(topic)]
            for topic in ("recipe", "table1", "table2", "architecture")
        ),
    ]
    for names in named:
        assert len(set(names)) == len(names)


@given(st.sampled_from(["EfficientFormer-L1", "MobileNetV2×1.4", "l1"]), st.randoms(use_true_random=False))
def test_names_match_in_any_spelling(name: str, random: Any) -> None:
    spelled = "".join(random.choice((letter.upper(), letter.lower(), f"{letter}_")) for letter in name)
    known = {"EfficientFormer-L1": 1, "MobileNetV2×1.4": 2, "l1": 3}
    assert find(spelled.replace("×", "x"), known, "row") == known[name]


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown equation: 'mb5d'; did you mean 'mb[34]d', 'mb[34]d'\?"):
        paper.equation("mb5d")
    with pytest.raises(
        ValueError, match="unknown topic with remarks: 'zzz'; available: 'slimming', 'appendix_b', 'recipe'"
    ):
        paper.remarks("zzz")
    with pytest.raises(ValueError, match="unknown topic with settings: 'recipes'; did you mean 'recipe'"):
        paper.settings("recipes")


def test_files_are_read_again_on_every_call() -> None:
    read("table1")["rows"].clear()
    assert paper.table1().rows


def test_the_subpackage_needs_only_the_standard_library() -> None:
    probe = "import sys, efficientformer_edu.paper; print({'torch', 'numpy', 'yaml'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout == "set()\n"
