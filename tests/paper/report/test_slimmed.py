"""The steps of Algorithm 1 are answered from the stored records, for any result."""

from __future__ import annotations

from pathlib import Path

import pytest
from slimming_runs import LOOKUP, SEARCHED

from efficientformer_edu.latency.lookup import Errors, Prediction
from efficientformer_edu.latency.records import Conditions
from efficientformer_edu.paper.report import Row, report, slimming
from efficientformer_edu.slimming.baselines import CONTENDERS, METHODS, Contender, Method, save_contenders
from efficientformer_edu.slimming.front import LATENCY, TRAINED
from efficientformer_edu.slimming.front import LOOKUP as TABLE
from efficientformer_edu.slimming.records import SEARCH, Search, Step, Trial
from efficientformer_edu.slimming.subnet import Action, Subnet
from efficientformer_edu.training.study import Record
from efficientformer_edu.utils.records import pack

WHERE = {"machine": "a laptop", "versions": "torch", "date": "2026-01-31"}
CONDITIONS = Conditions("build()", machine="a laptop", threads=1, versions={"torch": "2"}, date="2026-01-31")
START = LOOKUP.predict(Subnet.largest(SEARCHED).config(SEARCHED))
FIRST = Action("depth", 1, 0)
GAIN = START - LOOKUP.predict(Subnet.largest(SEARCHED).after(FIRST).config(SEARCHED))


def stored(
    results: Path,
    difference: float,
    seeds: int = 5,
    methods: tuple[Method, ...] = ("uniform",),
    errors: Errors | None = None,
) -> None:
    """A slimming of one step, compared with methods whose networks are worse by the given difference."""
    folder = results.parent / "slimming"
    (folder / TRAINED).mkdir(parents=True)
    results.mkdir()
    search = Search(SEARCHED, ((1.0,), (0.5, 2.0), (1.0, 4.0), (1.0, 1.0)), (START - GAIN,), START, {"noise": "gumbel"})
    search = search.with_step(Step(0.8, (Trial(FIRST, GAIN, 0.01),)))
    search.save(folder / SEARCH)
    LOOKUP.save(folder / TABLE)
    (target,) = search.family
    widths = {method: (16, 16 * number, 48, 64) for number, method in enumerate(METHODS, start=1)}
    networks = [
        Contender(method, target, target, search.family[target].replace(embed_dims=widths[method]))
        for method in ("slimming", *methods)
    ]
    save_contenders(networks, folder / CONTENDERS)
    for network in networks:
        for seed in range(seeds):
            top1 = 0.8 + 0.001 * seed + (difference if network.method == "slimming" else 0.001 * (seed % 2))
            run = {"config": network.config.to_dict()}
            Record(network.name, seed, {"top1": top1}, run, where=WHERE).save(folder / TRAINED)
    if errors is not None:
        errors.save(folder / LATENCY)
    pack(folder, results / "slimming.json", ("*.json", f"{TRAINED}/*.json"))


def step(results: Path, number: int) -> Row:
    (results.parent / "notebooks").mkdir(exist_ok=True)
    (results.parent / "notebooks" / "08_latency_driven_slimming.ipynb").write_text("{}", encoding="utf-8")
    return next(row for row in report(results.parent, results) if row.name.startswith(f"Algorithm 1: step {number}"))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.mark.parametrize(
    ("difference", "verdict", "status"),
    [(0.02, "better", "same trend"), (-0.02, "worse", "disagrees"), (0.0005, "inconclusive", "inconclusive")],
)
def test_step_3_reports_the_verdict_of_the_comparison(
    results: Path, difference: float, verdict: str, status: str
) -> None:
    stored(results, difference)
    row = step(results, 3)
    assert (row.status, row.kind) == (status, "measured")
    assert row.result.startswith("1 steps to 1 of 1 targets; against uniform scaling of widths and depths: ")
    assert row.result.endswith(f", {verdict}; 2 networks, 10 trainings, 1 targets") and "random" not in row.result
    assert "Measured on a laptop; torch; 2026-01-31." in row.why and "Predicted" not in row.why
    assert "By the table slimming's take 100% to 100% of the time of uniform scaling's." in row.why
    assert row.command == f"{slimming.COMMAND} --engine eager --noise gumbel --seeds 5"


def test_step_3_names_every_way_and_the_error_of_the_predictions(results: Path) -> None:
    config = Subnet.largest(SEARCHED).after(FIRST).config(SEARCHED)
    errors = Errors(CONDITIONS, (Prediction(config, 0.2, 0.21, 0.25),))
    stored(results, 0.02, methods=("uniform", "random", "no-mb3d"), errors=errors)
    row = step(results, 3)
    assert all(label in row.result for method, label in METHODS.items() if method != "slimming")
    assert "Predicted and measured latency differ by 20.0% at most." in row.why


def test_with_few_pairs_the_claim_stays_open(results: Path) -> None:
    stored(results, 0.02, seeds=4)
    assert step(results, 3).status == "not yet"
    assert step(results, 1).status == "same trend"


def test_step_1_reports_the_accuracy_of_the_supernet(results: Path) -> None:
    stored(results, 0.02)
    row = step(results, 1)
    assert (row.status, row.result) == ("same trend", "7 MetaPaths, worth 0.5 to 4")
    assert row.why.startswith("With gumbel noise.")


@pytest.mark.parametrize(
    ("predicted", "status"),
    [((0.95, 1.08), "same trend"), ((0.95, 0.95, 1.3), "inconclusive"), ((0.8, 0.7), "disagrees")],
)
def test_step_2_reports_the_prediction_error_of_the_table(
    results: Path, predicted: tuple[float, ...], status: str
) -> None:
    results.mkdir()
    good = Errors(CONDITIONS, (Prediction(SEARCHED, 0.98, 1.5, 1.0),))
    other = Errors(CONDITIONS, tuple(Prediction(SEARCHED, value, 1.5, 1.0) for value in predicted))
    good.save(results / "lookup_folded_errors.json")
    other.save(results / "lookup_openvino_errors.json")
    row = step(results, 2)
    assert row.status == status
    median, worst = (f"{100 * value:.1f}%" for value in (other.median_at_speed, other.worst_at_speed))
    assert (
        row.result
        == f"folded: off by 2.0% in the median, 2.0% at worst; openvino: off by {median} in the median, "
        + (f"{worst} at worst")
    )
    assert row.why.endswith("Measured on a laptop, 1 thread; torch 2; 2026-01-31.")
    assert row.command == 'lookup.prediction_errors(lookup.build(engine="folded"), lookup.random_networks(0, 1))'
    assert step(results, 1).status == "not yet"


def test_without_records_there_are_no_answers(tmp_path: Path) -> None:
    assert list(slimming.findings(tmp_path)) == []


def test_a_folder_with_other_files_is_rejected(results: Path) -> None:
    results.mkdir()
    (results / "slimming.json").write_text('{"files": {"search.json": {}}}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"search\.json"):
        list(slimming.findings(results))
