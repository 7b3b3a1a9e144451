"""Rows, verdicts and findings match the records, and the report includes the findings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from ablation_records import BASES, COSTS, records, stored

from efficientformer_edu.ablations.outcome import COSTS as COSTS_FILE
from efficientformer_edu.ablations.outcome import findings, load_outcome, save_outcome, stored_outcome
from efficientformer_edu.ablations.variants import BASE, REPORTED, VARIANTS
from efficientformer_edu.paper.report import rows
from efficientformer_edu.paper.report.slimming import answered, read_findings
from efficientformer_edu.training.study import load_records
from efficientformer_edu.utils.statistics import MIN_SAMPLES, paired_t_test

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


def test_every_row_is_in_the_table_with_its_verdict(folder: Path) -> None:
    outcome = load_outcome(folder)
    table = outcome.table()
    by_name = {str(row[0]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert set(by_name) == set(VARIANTS)
    assert by_name[BASE]["top-1"] == pytest.approx(0.72) and by_name[BASE]["difference, points"] is None
    relu = by_name["relu"]
    assert (relu["top-1"], relu["verdict"]) == (pytest.approx(0.7), "worse")
    assert relu["difference, points"] == outcome["relu"].difference.scaled(100)
    assert (relu["reported"], relu["agreement"], relu["seeds"], relu["added"]) == ("worse", "supported", 5, 0)
    assert (by_name["hard-swish"]["verdict"], by_name["hard-swish"]["agreement"]) == ("better", "contradicted")
    assert (by_name["hard"]["verdict"], by_name["hard"]["agreement"]) == ("inconclusive", "inconclusive")
    norm = by_name["layer-norm"]
    assert (norm["verdict"], norm["reported"], norm["agreement"]) == ("equivalent", "equivalent", "supported")
    assert (relu["parameters"], relu["MACs"]) == (12, 34)
    assert by_name["hard"]["parameters"] is None  # it was not timed
    patches = by_name["patches"]
    assert (patches["top-1"], patches["seeds"], patches["verdict"]) == (None, 0, None)
    points = {row["row"]: row["difference, points"] for row in json.loads(table.to_json())}
    assert points["relu"] == pytest.approx(-2) and points["patches"] is None
    assert outcome.to_run("patches") == "efficientformer-edu ablate --rows patches --resume"
    assert set(outcome.not_run) == set(VARIANTS) - set(SHIFTS) - {BASE}
    for value in ("5 seeds", "within 0.5 points", "95 % confidence intervals", "all 5 rows", "A processor, 2026"):
        assert value in outcome.description


def test_times_have_intervals_and_ratios_are_paired(folder: Path) -> None:
    """The machine is slower by a factor of 1.5 in the last rounds, which does not change any paired ratio."""
    stored(folder, {"no-scale": (0.0,) * 5})
    table = load_outcome(folder).table()
    by_row = {str(row[0]): dict(zip(table.columns, row, strict=True)) for row in table.rows}
    relu, no_scale, norm = (by_row[name] for name in ("relu", "no-scale", "group-norm"))
    assert relu["ms eager"][:3] == pytest.approx((120, 80, 120))
    assert relu["ms folded"][:3] == pytest.approx((60, 40, 60))
    for form in ("eager", "folded"):
        assert relu[f"times base, {form}"][:3] == pytest.approx([8 / 9] * 3)
        assert relu[f"verdict, {form}"] == "faster"
        assert no_scale[f"times base, {form}"][:3] == pytest.approx([1] * 3)
        assert no_scale[f"verdict, {form}"] == "inconclusive"
    assert norm["times base, eager"][:3] == pytest.approx([4 / 3] * 3) and norm["verdict, eager"] == "slower"
    assert norm["ms folded"] is norm["times base, folded"] is norm["verdict, folded"] is None
    assert by_row[BASE]["ms eager"][:3] == pytest.approx((135, 90, 135))
    assert by_row[BASE]["times base, eager"] is by_row[BASE]["verdict, eager"] is None


def test_a_family_of_verdicts_is_corrected(folder: Path, tmp_path: Path) -> None:
    """The adjusted p-values are Holm's, written out: the k-th smallest of n times (n - k), and never decreasing."""
    outcome = load_outcome(folder)
    p_values = {name: paired_t_test(SHIFTS[name]) for name in SHIFTS}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(SHIFTS) - rank) * p_values[name]))
        assert outcome[name].p_value == pytest.approx(largest)
    weak = (-0.03, -0.03, -0.01, -0.02, -0.002)  # worse without the correction: p = 0.025
    alone, many = tmp_path / "alone", tmp_path / "many"
    stored(alone, {"patches": weak})
    stored(many, {"patches": weak, **SHIFTS, "no-norm": (-0.2,) * 5})
    for folder, holm_verdict in ((alone, "worse"), (many, "inconclusive")):
        result = load_outcome(folder)["patches"]
        assert (result.verdict, result.holm_verdict) == ("worse", holm_verdict)
        columns, rows = load_outcome(folder).table().columns, load_outcome(folder).table().rows
        row = next(dict(zip(columns, row, strict=True)) for row in rows if row[0] == "patches")
        assert (row["verdict"], row["Holm"]) == ("worse", holm_verdict)
    assert load_outcome(many)["no-norm"].holm_verdict == "worse"


def test_results_that_are_not_significant_are_equivalent_only_within_the_margin(tmp_path: Path) -> None:
    small = (-0.003, -0.003, -0.001, -0.002, -0.0002)
    stored(tmp_path, {"patches": small, **SHIFTS})
    result = load_outcome(tmp_path)["patches"]
    assert (result.verdict, result.holm_verdict) == ("worse", "equivalent")


def test_rows_without_enough_pairs_are_no_part_of_the_family(tmp_path: Path) -> None:
    stored(tmp_path, {"relu": SHIFTS["relu"], "hard": SHIFTS["hard"][:4]})
    outcome = load_outcome(tmp_path)
    assert outcome["relu"].p_value == pytest.approx(paired_t_test(SHIFTS["relu"]))
    hard = outcome["hard"]
    assert (hard.p_value, hard.verdict, hard.holm_verdict, hard.agreement) == (None, "too few", "too few", "too few")


def test_seeds_that_were_added_later_are_marked(tmp_path: Path) -> None:
    stored(tmp_path, {"relu": SHIFTS["relu"]})
    for record in load_records(tmp_path):
        if record.seed > 2 and record.variant == "relu":
            replace(record, planned=False).save(tmp_path)
    outcome = load_outcome(tmp_path)
    table = outcome.table()
    counts = {row[0]: row[table.columns.index("seeds") :][:2] for row in table.rows}
    assert (counts[BASE], counts["relu"]) == ((5, 0), (5, 2))
    assert "added" in outcome.trained
    (answer,) = findings(outcome)
    assert "3 + 2 added" in answer["ours"] and "added" in answer["why"]


def test_the_report_takes_the_findings_up(folder: Path) -> None:
    outcome = load_outcome(folder)
    save_outcome(outcome, folder, folder.parent / "ablations.json")
    report = {row.name: row for row in answered(rows(), read_findings(folder.parent))}
    relu, swish = (report[f"Appendix B: L3 with {name}, top-1 accuracy"] for name in ("ReLU", "HardSwish"))
    assert (relu.status, swish.status) == ("same trend", "disagrees")
    assert relu.result.startswith("ReLU for GELU: -2.00 points (") and relu.result.endswith("reported worse: supported")
    assert "worse, Holm-corrected worse" in relu.result and "all 5 rows" in relu.why
    assert relu.command == "efficientformer-edu ablate" and "A processor" in relu.why and "2 training" in relu.why
    norms = report["Appendix B: remark 1"]
    assert norms.status == "same trend" and "GN with one group for BN: +1.40" in norms.result
    assert "channel-wise LN for BN: +0.04" in norms.result
    teacher = report["Appendix B: remark 3"]
    assert teacher.status == "inconclusive" and teacher.result.endswith("reported better: inconclusive")
    assert "MACs" not in teacher.why and "5 seeds" in teacher.why
    assert report["Appendix B: remark 4"].status == "not yet"  # it was not run


def test_a_sentence_with_two_claims_needs_both(tmp_path: Path) -> None:
    stored(tmp_path, {"group-norm": SHIFTS["group-norm"]})
    assert findings(load_outcome(tmp_path)) == []
    for shifts, status in (((-0.02,) * 5, "disagrees"), ((0.0,) * 5, "same trend")):
        stored(tmp_path, {"layer-norm": shifts})
        (finding,) = findings(load_outcome(tmp_path))
        assert (finding["row"], finding["status"]) == (REPORTED["group-norm"].row, status)
    stored(tmp_path, {"group-norm": (0.01, -0.02, 0.03, 0.0, -0.01)})
    assert findings(load_outcome(tmp_path))[0]["status"] == "inconclusive"  # one of its two claims is supported
    stored(tmp_path, {"layer-norm": (-0.02,) * 5})
    assert findings(load_outcome(tmp_path))[0]["status"] == "disagrees"  # the other claim is contradicted


def test_too_few_pairs_answer_nothing(tmp_path: Path) -> None:
    stored(tmp_path, {"relu": SHIFTS["relu"][:4], "hard": SHIFTS["hard"]})
    assert [finding["row"] for finding in findings(load_outcome(tmp_path))] == [REPORTED["hard"].row]


def test_the_stored_table_is_that_of_the_outcome(folder: Path) -> None:
    outcome = load_outcome(folder)
    save_outcome(outcome, folder, folder.parent / "ablations.json")
    stored = json.loads((folder.parent / "ablations.json").read_text(encoding="utf-8"))
    assert stored["table"] == json.loads(outcome.table().to_json())
    assert stored["words"] == outcome.description and stored["machine"] == "A processor"
    assert stored["not_run"]["patches"].endswith("--rows patches --resume")
    assert load_outcome(folder.parent / "ablations.json") == outcome


def test_runs_that_broke_off_are_counted(tmp_path: Path) -> None:
    stored(tmp_path, {})
    for record in records("no-norm", [0.1 - base for base in BASES]):
        replace(record, stopped="step 3: the loss is nan").save(tmp_path)
    outcome = load_outcome(tmp_path)
    row, table = outcome["no-norm"], outcome.table()
    assert (row.stopped, row.verdict) == (5, "worse")
    stopped = {cells[0]: cells[table.columns.index("stopped early")] for cells in table.rows}
    assert stopped == {BASE: 0, "no-norm": 5} | dict.fromkeys(outcome.not_run)


def test_a_variant_with_other_seeds_has_no_difference(tmp_path: Path) -> None:
    stored(tmp_path, {})
    replace(records("relu", (0.1,))[0], seed=9).save(tmp_path)
    variant = load_outcome(tmp_path)["relu"]
    assert variant.difference is None and variant.verdict is None and variant.agreement is None
    with pytest.raises(KeyError, match="'patches' was not run; available: base, relu"):
        load_outcome(tmp_path)["patches"]


def test_the_study_in_the_package_is_complete() -> None:
    outcome = stored_outcome()
    assert not outcome.not_run and all(len(result.top1) >= MIN_SAMPLES for result in outcome.results)
    assert outcome.costs is not None and set(outcome.costs.params) == set(VARIANTS)


def test_a_folder_that_is_not_a_study_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the base was not run"):
        load_outcome(tmp_path)
    stored(tmp_path, {"relu": SHIFTS["relu"]})
    for other, message in (
        ({"variant": "gelu"}, "'gelu'.*base, patches"),
        ({"run": {"train": "others", "test": "10 test images", "size": 32}}, "relu, seed 2.*train"),
    ):
        replace(load_records(tmp_path)[-1], seed=2, **other).save(tmp_path)
        with pytest.raises(ValueError, match=message):
            load_outcome(tmp_path)
        (tmp_path / f"{other.get('variant', 'relu')}_seed2.json").unlink()
