"""A run on disk: written atomically, and never mistaken for another run."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from efficientformer_edu.training import checkpoints
from efficientformer_edu.utils.files import fingerprint_files, fingerprint_tensors

pytestmark = pytest.mark.slow

RUN = {"seed": 0, "size": 32, "recipe": {"epochs": 2}}


def state(epoch: int = 1) -> dict[str, object]:
    return {"run": RUN, "epoch": epoch, "network": {"w": torch.arange(4.0)}, "log": [{"epoch": 1, "top1": 0.5}]}


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    checkpoints.save_checkpoint(tmp_path, state())
    loaded = checkpoints.load_checkpoint(tmp_path, RUN)
    assert torch.equal(loaded["network"]["w"], torch.arange(4.0))
    assert (loaded["epoch"], loaded["log"]) == (1, [{"epoch": 1, "top1": 0.5}])
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run to resume"):
        checkpoints.load_checkpoint(tmp_path, RUN)


@pytest.mark.parametrize("keep", [0, 100, 0.5, -1])
def test_a_broken_checkpoint_is_reported(tmp_path: Path, keep: float) -> None:
    checkpoints.save_checkpoint(tmp_path, state())
    path = tmp_path / checkpoints.CHECKPOINT
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep == 0.5 else int(keep)])
    with pytest.raises(ValueError, match=r"checkpoint\.pt: not a checkpoint"):
        checkpoints.load_checkpoint(tmp_path, RUN)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, ...]:
            return (print, ("it ran",))

    torch.save({"run": RUN, "epoch": Runs()}, tmp_path / checkpoints.CHECKPOINT)
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoints.load_checkpoint(tmp_path, RUN)


def test_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    checkpoints.save_checkpoint(tmp_path, state())
    with pytest.raises(ValueError, match=r"checkpoint\.pt: size was 32 and now is 64\. .*--init-from"):
        checkpoints.load_checkpoint(tmp_path, {**RUN, "size": 64})


def test_what_differs_is_named_field_by_field() -> None:
    before = {"seed": 0, "recipe": {"epochs": 2, "ema": None}, "classes": ("a", "b"), "train": "pets", "old": 1}
    now = {"seed": 0, "recipe": {"epochs": 2, "ema": 0.5}, "classes": ["a", "b"], "train": "pets", "new": 1}
    assert list(checkpoints.differences(before, now)) == ["recipe.ema"]
    assert checkpoints.differences(before, {**before, "classes": ["b", "a"]}).keys() == {"classes"}
    long = checkpoints.differences({"classes": ["x" * 999]}, {"classes": []})["classes"]
    assert len(long) < 200


def test_fields_of_earlier_versions_are_compared_under_their_current_names() -> None:
    before = {"recipe": {"clipping": 0.01, "min_rate": 1e-5, "warm_up_steps": 3}}
    now = {"recipe": {"agc_clip": 0.01, "min_lr": 1e-4, "warmup_steps": 3}}
    assert list(checkpoints.differences(before, now)) == ["recipe.min_lr"]


def test_what_has_a_fingerprint_is_compared_by_it() -> None:
    run = {"train": "pets", "teacher": "a.pth", "fingerprints": {"train": "1", "teacher": ""}}
    renamed = {**run, "train": "moved"}
    assert checkpoints.differences(run, renamed) == {}
    assert checkpoints.differences(run, {**run, "fingerprints": {"train": "2", "teacher": ""}}).keys() == {"train"}
    assert checkpoints.differences(run, {**run, "teacher": "b.pth"}).keys() == {"teacher"}  # nothing to hash
    older = {name: value for name, value in run.items() if name != "fingerprints"}
    assert checkpoints.differences(older, renamed).keys() == {"train"}  # stored before there were any


@pytest.mark.parametrize(("before", "now", "allowed"), [(2, 3, True), (2, 2, True), (2, 1, False)])
def test_epochs_may_grow(tmp_path: Path, before: int, now: int, allowed: bool) -> None:
    checkpoints.save_checkpoint(tmp_path, {**state(), "run": {**RUN, "recipe": {"epochs": before}}})
    if allowed:
        checkpoints.load_checkpoint(tmp_path, {**RUN, "recipe": {"epochs": now}})
    else:
        with pytest.raises(ValueError, match=r"recipe\.epochs was 2 and now is 1"):
            checkpoints.load_checkpoint(tmp_path, {**RUN, "recipe": {"epochs": now}})


def test_a_fingerprint_of_files_changes_with_what_they_hold(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b")]
    for file in files:
        file.write_bytes(bytes(5000))

    def print_of(*changed: tuple[int, int]) -> str:
        content = bytearray(5000)
        for index, value in changed:
            content[index] = value
        files[1].write_bytes(content)
        return fingerprint_files(files)

    prints = [print_of(), print_of((0, 1)), print_of((4999, 1))]
    assert len(set(prints)) == 3 and print_of() == prints[0]
    assert fingerprint_files(files[::-1]) != prints[0]
    assert fingerprint_files(files, "labels") != prints[0]
    files[1].write_bytes(bytes(5001))
    assert fingerprint_files(files) != prints[0]


def test_a_fingerprint_of_tensors_changes_with_names_types_shapes_and_values() -> None:
    tensors = {"w": torch.arange(4.0), "n": torch.tensor(3)}
    changed = (
        {**tensors, "w": torch.arange(4.0).view(2, 2)},
        {**tensors, "w": torch.arange(4)},
        {**tensors, "n": torch.tensor(4)},
        {"v": tensors["w"], "n": tensors["n"]},
        {**tensors, "w": torch.arange(4.0).bfloat16()},
    )
    prints = [fingerprint_tensors(tensor_set) for tensor_set in (tensors, *changed)]
    assert len(set(prints)) == len(prints)
    assert fingerprint_tensors({"w": torch.arange(8.0)[::2] / 2, "n": torch.tensor(3)}) == prints[0]


def test_a_folder_holds_a_single_run(tmp_path: Path) -> None:
    checkpoints.begin(tmp_path / "runs" / "a")
    checkpoints.begin(tmp_path / "runs" / "a")  # still empty
    checkpoints.save_checkpoint(tmp_path / "runs" / "a", state())
    with pytest.raises(FileExistsError, match="--resume"):
        checkpoints.begin(tmp_path / "runs" / "a")


def test_the_log_has_every_line_once(tmp_path: Path) -> None:
    rows = [{"epoch": 1, "top1": 0.5}]
    checkpoints.write_log(tmp_path, rows)
    checkpoints.write_log(tmp_path, [*rows, {"epoch": 2, "top1": 0.625}])
    with (tmp_path / checkpoints.LOG).open(encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [{"epoch": "1", "top1": "0.5"}, {"epoch": "2", "top1": "0.625"}]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    """A limit on the file size simulates a full disk: the writer gets its error in the same call."""
    checkpoints.save_checkpoint(tmp_path, state())
    code = f"""
import resource, signal, torch
from pathlib import Path
from efficientformer_edu.training import checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    state = {{"run": {RUN!r}, "epoch": 2, "network": torch.ones(1_000_000)}}
    checkpoints.save_checkpoint(Path({str(tmp_path)!r}), state)
except OSError as error:
    print(error)
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "checkpoint.pt" in output
    assert checkpoints.load_checkpoint(tmp_path, RUN)["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
