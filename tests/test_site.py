"""What the building of the site decides by itself; tests/browser looks at the result."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import site


def test_what_a_module_only_hands_on_is_described_once() -> None:
    reference = site._reference("weights")
    assert "::: efficientformer_edu.weights.huggingface\n    options:\n      members: false" in reference
    assert "::: efficientformer_edu.weights.hf_config\n\n" in reference


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
