"""Decisions of the site builder; tests/browser checks the built site."""

from __future__ import annotations

import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from efficientformer_edu.audit import COUNTERS, count, explain
from efficientformer_edu.config import PRESETS
from efficientformer_edu.plots.live import answer, read
from tools import audit_page, page_python, site


def test_reexporting_modules_are_documented_once() -> None:
    reference = site._reference("hf")
    assert reference.startswith("::: efficientformer_edu.hf\n    options:\n      members: false\n")
    assert "::: efficientformer_edu.hf.config\n\n" in reference


def test_nested_subpackages_are_documented() -> None:
    assert "::: efficientformer_edu.dense.detection.heads" in site._reference("dense").split("\n\n")


def test_the_site_is_current_until_a_source_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("site", "site-folder", "docs"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(site, "ROOT", tmp_path)
    monkeypatch.setattr(site, "SITE", tmp_path / "site")
    monkeypatch.setattr(site, "FOLDER", tmp_path / "site-folder")
    monkeypatch.setattr(site, "STAMP", tmp_path / "stamp")
    assert not site.current()
    (tmp_path / "stamp").write_text(site.sources(), encoding="utf-8")
    assert site.current()
    (tmp_path / "docs" / "index.md").write_text("# Home", encoding="utf-8")
    assert not site.current()


def test_a_page_that_loads_from_outside_stops_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.html").write_text('<script src="https://cdn.example/x.js"></script>', encoding="utf-8")
    monkeypatch.setattr(site, "SITE", tmp_path)
    monkeypatch.setattr(site, "FOLDER", tmp_path)
    monkeypatch.setattr(site, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(site, "gather", lambda: None)
    monkeypatch.setattr(site, "build", lambda: None)
    with pytest.raises(site.SiteError, match=r"cdn\.example"):
        site.make()
    assert not (tmp_path / "stamp").exists()


def test_the_archive_is_the_same_and_runs_on_the_standard_library_alone(tmp_path: Path) -> None:
    for name in ("first.zip", "second.zip"):
        page_python.write_archive(tmp_path / name)
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    program = (
        "import sys; sys.path.insert(0, 'first.zip')\n"
        "from efficientformer_edu.plots import live\n"
        "assert 'first.zip' in live.__file__\n"
        "print(live.answer({'model': 'l3'})['summary'])"
    )
    command = [sys.executable, "-I", "-S", "-c", program]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True)
    assert output.stdout.strip() == answer({"model": "l3"})["summary"]


def test_the_table_of_the_presets_holds_our_count_and_every_counter() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in audit_page.presets().splitlines()]
    assert ["MACs", *(f"{count(name).macs:,}" for name in PRESETS)] in rows
    assert ["parameters", *(f"{count(name).params:,}" for name in PRESETS)] in rows
    for counter, rule in COUNTERS.items():
        printed = {tuple(row[1:4]) for row in rows if row[0] == counter}
        quantities = ("macs",) if rule.params is None else ("macs", "params")
        assert printed == {tuple(f"{explain(counter, n, quantity=q).total:,}" for n in PRESETS) for q in quantities}


def test_the_form_starts_with_l1_and_describes_all_presets() -> None:
    form = audit_page.live()
    assert answer({})["diagram"] in form and answer({})["counters"] in form
    assert re.findall("<option>(.+?)</option>", form) == list(COUNTERS)
    presets = re.findall('<option value="(l.)" data-fields="(.+?)">', form)
    assert {name: read(dict(parse_qsl(unescape(fields)))).config for name, fields in presets} == PRESETS
    fields = set(re.findall(r'<(?:input|select)[^>]* name="(\w+)"', form))
    assert fields == {"depths", "embed_dims", "num_vit", "resolution", "form", "counter"}
