"""The study: planted variants get their verdicts, a kill loses nothing, and different studies are not confused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ablation_runs import EXPLODING, PLANTED, QUICK, TWO, study_of

from efficientformer_edu.ablations.outcome import load_outcome
from efficientformer_edu.ablations.study import (
    PROTOCOLS,
    get_protocol,
    load_images,
    run_of,
    stratified_split,
    teacher_logits,
)
from efficientformer_edu.ablations.variants import BASE, VARIANTS
from efficientformer_edu.data import datasets
from efficientformer_edu.data.datasets import Images, load_data
from efficientformer_edu.training.study import PLAN, Record, get_executor, load_records, train

pytestmark = pytest.mark.slow

SEEDS = 5


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of the base, a variant identical to the base, and one that ignores its input; by two processes."""
    folder = tmp_path_factory.mktemp("planted") / "study"
    done = list(study_of(folder, PLANTED, SEEDS).run(processes=2))
    assert len(done) == 3 * SEEDS
    return folder


def without_time(record: Record) -> tuple[object, ...]:
    log = [{name: value for name, value in row.items() if name != "seconds"} for row in record.log]
    return record.variant, record.seed, record.top1, record.stopped, record.run, log


def test_identical_variants_are_equivalent_and_broken_variants_worse(planted: Path) -> None:
    outcome = load_outcome(planted, PLANTED)
    identical, broken = outcome["identical"], outcome["broken"]
    assert identical.top1 == outcome[BASE].top1 and identical.difference is not None
    assert identical.difference[:3] == (0.0, 0.0, 0.0)
    assert identical.verdict == "equivalent"
    assert set(broken.top1.values()) == {0.1}  # of ten classes, at chance
    assert outcome[BASE].mean > 0.3
    assert broken.verdict == "worse"
    assert len(set(outcome[BASE].top1.values())) > 1  # different seeds, different runs


def test_the_order_of_files_does_not_matter(planted: Path, tmp_path: Path) -> None:
    """Rename the files to change their order: records are paired by the seed inside."""
    files = sorted(planted.glob("*_seed*.json"))
    for number, path in enumerate(reversed(files)):
        (tmp_path / f"{number:02d}_seed.json").write_bytes(path.read_bytes())
    shuffled, reference = load_outcome(tmp_path, PLANTED), load_outcome(planted, PLANTED)
    assert [result.difference for result in shuffled.results] == [result.difference for result in reference.results]


def test_a_record_holds_all_that_its_run_depends_on(planted: Path) -> None:
    stored = json.loads((planted / "broken_seed3.json").read_text(encoding="utf-8"))
    assert (stored["variant"], stored["seed"], stored["stopped"]) == ("broken", 3, "")
    assert stored["run"]["variant"] == "broken: the second stage is 0 and frozen"
    assert stored["run"]["seed"] == 3 and stored["run"]["recipe"]["epochs"] == 1
    assert stored["run"]["train"] == "Fashion-MNIST, 4,000 of its training images, the first 200 of each class"
    assert [row["epoch"] for row in stored["log"]] == [1] and stored["log"][-1]["top1"] == stored["result"]["top1"]
    assert set(stored["where"]) == {"machine", "versions", "date"} and "torch" in stored["where"]["versions"]


def test_results_do_not_depend_on_the_process_or_its_threads(planted: Path) -> None:
    before = torch.get_num_threads()
    here = train(BASE, run_of(BASE, 4, protocol=QUICK, variants=PLANTED))
    assert torch.get_num_threads() == before
    (there,) = (record for record in load_records(planted) if (record.variant, record.seed) == (BASE, 4))
    assert without_time(here) == without_time(there)


STUDY = """
import sys
from pathlib import Path
from ablation_runs import TWO, study_of
for record in study_of(Path(sys.argv[1]), TWO, 4, resume=sys.argv[2] == "resume").run(processes=2):
    print(record.variant, record.seed, flush=True)
"""


def start(folder: Path, how: str) -> subprocess.Popen[str]:
    tests = str(Path(__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {tests!r})\nif __name__ == '__main__':\n" + "".join(
        f"    {line}\n" for line in STUDY.strip().splitlines()
    )
    command = [sys.executable, "-c", code, str(folder), how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(process: subprocess.Popen[str]) -> list[Path]:
    """The processes that it started, as folders of /proc; none if there is no /proc."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [Path("/proc") / number for number in path.read_text().split()] if path.exists() else []


def test_a_killed_study_loses_nothing_and_repeats_nothing(planted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    process = start(folder, "begin")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    started = children(process)
    assert all(lines) and (started or not os.path.exists("/proc/self/task"))
    process.kill()
    process.communicate()
    for _ in range(100):  # its processes end with it
        if not any(child.exists() for child in started):
            break
        time.sleep(0.1)
    assert not any(child.exists() for child in started)
    before = {f"{record.variant} {record.seed}\n" for record in load_records(folder)}
    assert set(lines) <= before and len(before) < 8
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    out, err = start(folder, "resume").communicate()
    again = out.splitlines(keepends=True)
    assert len(again) == len(set(again)) and not set(again) & before, err
    assert set(again) | before == {f"{name} {seed}\n" for name in TWO for seed in range(4)}
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}
    complete = [without_time(record) for record in load_records(planted) if record.variant in TWO and record.seed < 4]
    assert [without_time(record) for record in load_records(folder)] == complete


def test_a_finished_study_has_nothing_to_do(planted: Path) -> None:
    study = study_of(planted, PLANTED, SEEDS, resume=True)
    assert study.missing == () and list(study.run()) == []
    more = study_of(planted, PLANTED, SEEDS + 1, resume=True)
    assert more.missing == ((BASE, 5), ("identical", 5), ("broken", 5))


def test_seeds_that_are_added_later_are_marked(tmp_path: Path) -> None:
    """A study of one seed is extended to two. The mark survives a further resume that asks for fewer or more seeds."""
    folder, base = tmp_path / "study", {BASE: PLANTED[BASE]}
    (first,) = study_of(folder, base, 1).run(processes=1)
    (second,) = study_of(folder, base, 2, resume=True).run(processes=1)
    assert (first.planned, second.planned) == (True, False)
    assert [record.planned for record in load_records(folder)] == [True, False]
    assert study_of(folder, base, 3, resume=True).planned == 1


def test_records_that_do_not_say_so_count_as_planned(planted: Path, tmp_path: Path) -> None:
    """A folder of an earlier version: other fields, and no file with the plan."""
    for path in planted.glob("base_seed*.json"):
        fields = json.loads(path.read_text(encoding="utf-8"))
        assert fields.pop("planned") is True
        del fields["format"], fields["version"]
        fields["top1"] = fields.pop("result")["top1"]
        (tmp_path / path.name).write_text(json.dumps(fields), encoding="utf-8")
    assert all(record.planned for record in load_records(tmp_path))
    base = {BASE: PLANTED[BASE]}
    assert study_of(tmp_path, base, SEEDS + 3, resume=True).planned == SEEDS
    (tmp_path / PLAN).write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"plan\.json"):
        study_of(tmp_path, base, SEEDS, resume=True)


def test_a_different_study_is_not_resumed(planted: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="--resume"):
        study_of(planted, PLANTED, SEEDS)
    with pytest.raises(FileNotFoundError, match="nothing.*--resume"):
        study_of(tmp_path / "nothing", PLANTED, SEEDS, resume=True)
    other = {**PLANTED, "broken": VARIANTS["relu"]}
    with pytest.raises(ValueError, match=r"broken, seed 0: config\.\w+ was "):
        study_of(planted, other, SEEDS, resume=True)
    (planted / "junk_seed0.json").write_text("{}", encoding="utf-8")
    try:
        with pytest.raises(ValueError, match="junk_seed0.json"):
            study_of(planted, PLANTED, SEEDS, resume=True)
    finally:
        (planted / "junk_seed0.json").unlink()


def test_a_run_whose_numbers_explode_counts_as_guessing() -> None:
    record = train("exploding", run_of("exploding", 0, protocol=QUICK, variants={"exploding": EXPLODING}))
    assert record.stopped.startswith("step 0: the gradient of stem.conv1.weight")
    assert record.top1 == 0.1 and record.log == ()


def test_a_study_that_cannot_write_reports_it(tmp_path: Path) -> None:
    study = study_of(tmp_path / "gone", {BASE: PLANTED[BASE]}, 1)
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        list(study.run())


def test_distilled_rows_learn_from_the_trained_network() -> None:
    train_images, _ = load_images(QUICK)
    logits = teacher_logits(QUICK).logits
    assert logits.shape == (2000, 10)
    right = (logits.argmax(1) == torch.tensor(train_images.labels)).float().mean()
    assert right > 0.85
    record = train("soft", run_of("soft", 0, protocol=QUICK, variants={"soft": VARIANTS["soft"]}))
    assert record.run["teacher"].startswith("the package's network, trained on Fashion-MNIST, 60,000 training images")


def test_the_first_images_per_class() -> None:
    labels = [2, 0, 0, 1, 2, 1, 0, 2]
    pictures = torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1).expand(8, 1, 28, 28)
    selected = stratified_split(Images(pictures, labels, ("a", "b", "c"), "eight images"), 2)[0]
    assert selected.labels == [2, 0, 0, 1, 2, 1] and selected.description == "eight images, the first 2 of each class"
    assert [int(torch.as_tensor(selected[label][0])[0, 0, 0]) for label in range(6)] == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="3 images.* 2: eight images"):
        stratified_split(Images(pictures, labels, ("a", "b", "c"), "eight images"), 3)[0]


def test_the_protocol_is_that_of_the_images_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def load(name: str, split: str, **options: object) -> Images:
        raise FileNotFoundError("Fashion-MNIST is not on this machine")

    assert [get_protocol(name) for name in PROTOCOLS] == ["laptop", "embedded"]
    with pytest.raises(ValueError, match="'gpu'.*laptop, embedded"):
        get_protocol("gpu")
    with monkeypatch.context() as patch:
        patch.setattr("efficientformer_edu.ablations.study.load_data", load)
        assert get_protocol() == "embedded"
        patch.setattr("efficientformer_edu.ablations.study.load_data", lambda *_, **__: None)
        assert get_protocol() == "laptop"


def test_both_protocols_take_about_as_many_steps() -> None:
    laptop, embedded = PROTOCOLS["laptop"], PROTOCOLS["embedded"]
    assert laptop.per_class is not None and laptop.data == datasets.FASHION_MNIST
    steps = 10 * laptop.per_class // laptop.recipe.batch * laptop.recipe.epochs
    few = len(load_data(datasets.FASHION_MNIST_SMALL, "train")) // embedded.recipe.batch * embedded.recipe.epochs
    assert few == pytest.approx(steps, rel=0.1)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A dask cluster of two workers with one thread each, as processes of this machine."""
    distributed = pytest.importorskip("distributed", reason="dask.distributed (extra `cluster`) is not installed")
    with distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as local:
        yield local


def test_a_killed_worker_of_a_cluster_loses_nothing(cluster: Any, planted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    killed, records = False, list[Record]()
    with get_executor(cluster.scheduler_address) as executor:
        for record in study_of(folder, TWO, 4).run(executor):
            records.append(record)
            if not killed:
                os.kill(next(iter(cluster.workers.values())).process.pid, signal.SIGKILL)
                killed = True
    assert len(records) == 8 and {(record.variant, record.seed) for record in records} == {
        (name, seed) for name in TWO for seed in range(4)
    }
    complete = [without_time(record) for record in load_records(planted) if record.variant in TWO and record.seed < 4]
    assert [without_time(record) for record in load_records(folder)] == complete


def test_a_cluster_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with get_executor(None) as executor:
        assert executor is None
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install .*(cluster|distributed)"), get_executor("tcp://127.0.0.1:1"):
        pass


def test_a_scheduler_that_does_not_answer_is_named() -> None:
    pytest.importorskip("distributed", reason="dask.distributed (extra `cluster`) is not installed")
    with pytest.raises(ConnectionError, match=r"tcp://127\.0\.0\.1:1'"), get_executor("tcp://127.0.0.1:1"):
        pass
