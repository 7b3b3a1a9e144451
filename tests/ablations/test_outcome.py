"""Rows, verdicts and findings are those of the records, and the report takes the findings up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from ablation_records import BASES, COSTS, records, stored

from efficientformer_edu.ablations.findings import findings, save_findings
from efficientformer_edu.ablations.outcome import COSTS as COSTS_FILE
from efficientformer_edu.ablations.outcome import load_outcome, stored_outcome
from efficientformer_edu.ablations.variants import BASE, SAID, VARIANTS
from efficientformer_edu.report import rows
from efficientformer_edu.report.findings import answered, read_findings
from efficientformer_edu.training.records import load_records

SHIFTS: Mapping[str, Sequence[float]] = {
    "relu": (-0.02, -0.03, -0.02, -0.01, -0.02),
    "hard-swish": (0.01, 0.02, 0.01, 0.02, 0.01),
    "hard": (0.01, -0.02, 0.03, 0.0, -0.01),
    "group-norm": (0.01, 0.02, 0.01, 0.02, 0.01),
    "layer-norm": (0.001, -0.001, 0.0, 0.002, 0.0),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    stored(tmp_path / "study", SHIFTS)
    COSTS.save(tmp_path / "study" / COSTS_FILE)
    return tmp_path / "study"


def test_every_row_stands_in_the_table_with_its_verdict(folder: Path) -> None:
    outcome = load_outcome(folder)
    table = outcome.table()
    found = {str(row[0]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert set(found) == set(VARIANTS)
    assert found[BASE]["top-1"] == "72.00 %" and found[BASE]["difference"] is None
    relu = found["relu"]
    assert (relu["top-1"], relu["difference"], relu["verdict"]) == ("70.00 %", "-2.00", "worse")
    assert (relu["reported"], relu["trend"]) == ("worse", "agrees")
    assert (found["hard-swish"]["verdict"], found["hard-swish"]["trend"]) == ("better", "disagrees")
    assert (found["hard"]["verdict"], found["hard"]["trend"]) == ("cannot tell", "cannot tell")
    assert (found["layer-norm"]["reported"], found["layer-norm"]["trend"]) == ("alike", "agrees")
    assert (relu["parameters"], relu["MACs"], relu["ms eager"], relu["ms folded"]) == (12, 34, "80.0", "40.0")
    assert (found["group-norm"]["ms eager"], found["group-norm"]["ms folded"]) == ("120.0", "–")
    assert found["hard"]["parameters"] is None  # it was not timed
    assert found["patches"]["top-1"] == "not run" and found["patches"]["verdict"] is None
    assert outcome.to_run("patches") == "efficientformer-edu ablate --rows patches --resume"
    assert set(outcome.not_run) == set(VARIANTS) - set(SHIFTS) - {BASE}
    assert "5 seeds" in outcome.words and "within 0.5 points" in outcome.words and "95 % interval" in outcome.words


def test_the_report_takes_the_findings_up(folder: Path) -> None:
    outcome = load_outcome(folder)
    save_findings(outcome, folder.parent / "ablations.json")
    report = {row.name: row for row in answered(rows(), read_findings(folder.parent))}
    relu, swish = (report[f"Appendix B: L3 with {name}, top-1 accuracy"] for name in ("ReLU", "HardSwish"))
    assert (relu.status, swish.status) == ("same trend", "disagrees")
    assert relu.ours.startswith("ReLU for GELU: -2.00 points (") and relu.ours.endswith("), reported worse: agrees")
    assert relu.command == "efficientformer-edu ablate" and "A processor" in relu.why and "2 training" in relu.why
    norms = report["Appendix B: remark 1"]
    assert norms.status == "same trend" and "GN with one group for BN: +1.40" in norms.ours
    assert "channel-wise LN for BN: +0.04" in norms.ours
    teacher = report["Appendix B: remark 3"]
    assert teacher.status == "cannot tell" and teacher.ours.endswith("), reported better: cannot tell")
    assert "MACs" not in teacher.why and "5 seeds" in teacher.why
    assert report["Appendix B: remark 4"].status == "not yet"  # it was not run


def test_a_sentence_with_two_claims_needs_both(tmp_path: Path) -> None:
    stored(tmp_path, {"group-norm": SHIFTS["group-norm"]})
    assert findings(load_outcome(tmp_path)) == []
    for shifts, status in (((-0.02,) * 5, "disagrees"), ((0.0,) * 5, "same trend")):
        stored(tmp_path, {"layer-norm": shifts})
        (one,) = findings(load_outcome(tmp_path))
        assert (one["row"], one["status"]) == (SAID["group-norm"].row, status)
    stored(tmp_path, {"group-norm": (0.01, -0.02, 0.03, 0.0, -0.01)})
    assert findings(load_outcome(tmp_path))[0]["status"] == "cannot tell"  # half of it is left open
    stored(tmp_path, {"layer-norm": (-0.02,) * 5})
    assert findings(load_outcome(tmp_path))[0]["status"] == "disagrees"  # for the other half is wrong


def test_too_few_pairs_answer_nothing(tmp_path: Path) -> None:
    stored(tmp_path, {"relu": SHIFTS["relu"][:4], "hard": SHIFTS["hard"]})
    assert [one["row"] for one in findings(load_outcome(tmp_path))] == [SAID["hard"].row]


def test_the_stored_table_is_that_of_the_outcome(folder: Path) -> None:
    outcome = load_outcome(folder)
    save_findings(outcome, folder.parent / "ablations.json")
    told = json.loads((folder.parent / "ablations.json").read_text(encoding="utf-8"))
    assert told["table"] == json.loads(outcome.table().to_json())
    assert told["words"] == outcome.words and told["machine"] == "A processor"
    assert told["not_run"]["patches"].endswith("--rows patches --resume")


def test_runs_that_broke_off_are_counted(tmp_path: Path) -> None:
    stored(tmp_path, {})
    for record in records("no-norm", [0.1 - base for base in BASES]):
        replace(record, stopped="step 3: the loss is nan").save(tmp_path)
    row = load_outcome(tmp_path)["no-norm"]
    assert (row.stopped, row.verdict) == (5, "worse")
    assert "10.00 %, 5 broke off" in load_outcome(tmp_path).table().to_text()


def test_a_variant_with_other_seeds_has_no_difference(tmp_path: Path) -> None:
    stored(tmp_path, {})
    replace(records("relu", (0.1,))[0], seed=9).save(tmp_path)
    found = load_outcome(tmp_path)["relu"]
    assert found.difference is None and found.verdict is None and found.agreement is None
    with pytest.raises(KeyError, match="'patches' was not run; there are base, relu"):
        load_outcome(tmp_path)["patches"]


def test_the_study_of_the_checkout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder.with_suffix(".json")
    monkeypatch.setattr(
        "efficientformer_edu.ablations.outcome.stored", lambda name: path if name == path.name else None
    )
    assert stored_outcome() is None
    assert stored_outcome(folder.name) == load_outcome(folder)


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the base was not run"):
        load_outcome(tmp_path)
    stored(tmp_path, {"relu": SHIFTS["relu"]})
    for other, message in (
        ({"variant": "gelu"}, "'gelu' is no variant; there are base, patches"),
        ({"run": {"train": "others", "test": "10 test images", "size": 32}}, "relu, seed 2 has another train"),
    ):
        replace(load_records(tmp_path)[-1], seed=2, **other).save(tmp_path)
        with pytest.raises(ValueError, match=message):
            load_outcome(tmp_path)
        (tmp_path / f"{other.get('variant', 'relu')}_seed2.json").unlink()
