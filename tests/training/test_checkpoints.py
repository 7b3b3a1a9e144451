"""A run on disk: whole or not at all, and never mistaken for another."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from efficientformer_edu.training import checkpoints

RUN = {"seed": 0, "size": 32, "recipe": {"epochs": 2}}


def state(epoch: int = 1) -> dict[str, object]:
    return {"run": RUN, "epoch": epoch, "network": {"w": torch.arange(4.0)}, "log": [{"epoch": 1, "top1": 0.5}]}


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    checkpoints.save_checkpoint(tmp_path, state())
    found = checkpoints.load_checkpoint(tmp_path, RUN)
    assert torch.equal(found["network"]["w"], torch.arange(4.0))
    assert (found["epoch"], found["log"]) == (1, [{"epoch": 1, "top1": 0.5}])
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no run to resume; leave --resume out"):
        checkpoints.load_checkpoint(tmp_path, RUN)


@pytest.mark.parametrize("keep", [0, 100, 0.5, -1])
def test_a_broken_checkpoint_is_said_to_be_one(tmp_path: Path, keep: float) -> None:
    checkpoints.save_checkpoint(tmp_path, state())
    path = tmp_path / checkpoints.CHECKPOINT
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep == 0.5 else int(keep)])
    with pytest.raises(ValueError, match=r"checkpoint\.pt: this is no checkpoint, or it is broken"):
        checkpoints.load_checkpoint(tmp_path, RUN)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, ...]:
            return (print, ("it ran",))

    torch.save({"run": RUN, "epoch": Runs()}, tmp_path / checkpoints.CHECKPOINT)
    with pytest.raises(ValueError, match="this is no checkpoint"):
        checkpoints.load_checkpoint(tmp_path, RUN)


def test_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    checkpoints.save_checkpoint(tmp_path, state())
    with pytest.raises(ValueError, match=r"size was 32 and now is 64; a run goes on as it began"):
        checkpoints.load_checkpoint(tmp_path, {**RUN, "size": 64})


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    checkpoints.begin(tmp_path / "runs" / "a")
    checkpoints.begin(tmp_path / "runs" / "a")  # still empty
    checkpoints.save_checkpoint(tmp_path / "runs" / "a", state())
    with pytest.raises(FileExistsError, match="there is a run already; add --resume, or take another folder"):
        checkpoints.begin(tmp_path / "runs" / "a")


def test_the_log_has_each_line_once(tmp_path: Path) -> None:
    rows = [{"epoch": 1, "top1": 0.5}]
    checkpoints.write_log(tmp_path, rows)
    checkpoints.write_log(tmp_path, [*rows, {"epoch": 2, "top1": 0.625}])
    with (tmp_path / checkpoints.LOG).open(encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [{"epoch": "1", "top1": "0.5"}, {"epoch": "2", "top1": "0.625"}]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the writer gets its error in the same call."""
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
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "checkpoint.pt" in said
    assert checkpoints.load_checkpoint(tmp_path, RUN)["epoch"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
