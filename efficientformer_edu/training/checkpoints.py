"""A training run on disk: it can be killed at any time, and resumes from the last complete epoch.

The folder of a finished run contains:

    run.json               everything the run depends on, and its result
    log.csv                one line per epoch
    checkpoint.pt          weights, optimizer and averages after the last complete epoch
    weights.safetensors    the trained network, for `load`, `predict` and `evaluate`
    average.safetensors    the average of the weights, if the recipe uses one

Each file is written atomically.

A run is resumed only if it is the same run. Data sets, teachers and initial weights are compared by their content, so
a folder may be renamed; everything else is compared field by field. The number of epochs may increase: the remaining
epochs then use the learning rates of the longer schedule, so the rate rises again when training continues. The result
differs from that of a run with the longer schedule from the start, and `run.json` records this.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from efficientformer_edu.training.recipe import rename_old_fields
from efficientformer_edu.utils.files import atomic_write
from efficientformer_edu.utils.records import save_json

CHECKPOINT, LOG, RUN = "checkpoint.pt", "log.csv", "run.json"
WEIGHTS, AVERAGE = "weights.safetensors", "average.safetensors"

EPOCHS = "recipe.epochs"  # the setting that may grow when a run is resumed


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint of tensors, numbers, strings and containers of them. Raises OSError if the disk is full."""
    with atomic_write(folder / CHECKPOINT) as partial:
        try:
            torch.save(dict(state), partial)
        except RuntimeError as error:  # torch's own writer raises this when a disk is full
            raise OSError(f"{folder / CHECKPOINT}: it cannot be written: {str(error).splitlines()[0]}") from error


def load_checkpoint(folder: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """Read a checkpoint, if it belongs to the same run.

    Args:
        folder: folder of the run.
        run: what this run depends on; compared with "run" in the checkpoint. More epochs are allowed.

    Raises:
        FileNotFoundError: if the checkpoint does not exist.
        ValueError: if it is damaged or belongs to another run; the message lists the settings that differ and what to
            do.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no run to resume; omit --resume to start a new one")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        before = state["run"]
    except Exception as error:  # torch's errors for broken files have no common class
        raise ValueError(f"{path}: not a checkpoint, or damaged; start the run again") from error
    diff = differences(before, run)
    if _epochs(run) > _epochs(before):
        diff.pop(EPOCHS, None)
    if diff:
        raise ValueError(
            f"{path}: {'; '.join(diff.values())}. Repeat the stored settings to continue, or train in another folder; "
            "--init-from starts from the weights of this run"
        )
    return state


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Compare a stored description of a run with the current one: name of each setting that differs -> a sentence.

    Settings that only one of them has are not compared, because a different version of this package wrote the other.
    Settings with a fingerprint in both are compared by fingerprint only, not by description.
    """
    before = {**before, "recipe": rename_old_fields(before.get("recipe", {}))}
    prints, others = (run.get("fingerprints", {}) for run in (before, now))
    by_content = {name for name, value in others.items() if value and prints.get(name)}
    stored, current = (dict(_flat({**run, "fingerprints": {}})) for run in (before, now))
    diff = {
        name: f"{name} was {_shown(stored[name])} and now is {_shown(value)}"
        for name, value in current.items()
        if name not in by_content and name in stored and stored[name] != value
    }
    diff |= {
        name: f"{name} has changed content: it was {_shown(before.get(name))} and now is {_shown(now.get(name))}"
        for name in sorted(by_content)
        if prints[name] != others[name]
    }
    return diff


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", list(value) if isinstance(value, tuple) else value


def _shown(value: Any, longest: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _epochs(run: Mapping[str, Any]) -> int:
    return int(dict(_flat(run)).get(EPOCHS, 0))


def begin(folder: Path) -> None:
    """Create the folder of a new run. Raises FileExistsError if it already contains a run."""
    if (folder / CHECKPOINT).exists() or (folder / WEIGHTS).exists():
        raise FileExistsError(f"{folder}: this folder contains a run; add --resume, or choose another folder")
    folder.mkdir(parents=True, exist_ok=True)


def write_log(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the log, one line per epoch. The complete file is rewritten, so no line occurs twice."""
    with atomic_write(folder / LOG) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Write what the run depends on, and its result."""
    save_json(run, folder / RUN, "run")
