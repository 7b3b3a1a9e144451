"""A training run on disk: it can be killed at any moment, and goes on from the last whole epoch.

The folder of a run holds, in the end:

    run.json               what the run depends on, and what came out
    log.csv                one line an epoch
    checkpoint.pt          weights, optimizer and averages after the last whole epoch
    weights.safetensors    the trained network, for `load`, `predict` and `evaluate`
    average.safetensors    the average of the weights, where the recipe asks for one

Each file is written whole or not at all.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from efficientformer_edu.files import whole

CHECKPOINT, LOG, RUN = "checkpoint.pt", "log.csv", "run.json"
WEIGHTS, AVERAGE = "weights.safetensors", "average.safetensors"


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> None:
    """Write tensors, numbers, words and what is made of them. Raises OSError if there is no room."""
    with whole(folder / CHECKPOINT) as partial:
        try:
            torch.save(dict(state), partial)
        except RuntimeError as error:  # torch's own writer raises this when a disk is full
            raise OSError(f"{folder / CHECKPOINT}: it cannot be written: {str(error).splitlines()[0]}") from error


def load_checkpoint(folder: Path, run: Mapping[str, Any]) -> dict[str, Any]:
    """What `save_checkpoint` wrote, if it belongs to the same run.

    Args:
        folder: of the run.
        run: what this run depends on; it stands under "run" in the checkpoint.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if it is broken, or belongs to another run, naming what differs.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no run to resume; leave --resume out to begin one")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        before = state["run"]
    except Exception as error:  # what torch raises for broken files has no common class
        raise ValueError(f"{path}: this is no checkpoint, or it is broken; begin the run anew") from error
    changed = [name for name in run if before.get(name) != run[name]]
    if changed:
        name = changed[0]
        raise ValueError(f"{path}: {name} was {before.get(name)!r} and now is {run[name]!r}; a run goes on as it began")
    return state


def begin(folder: Path) -> None:
    """Make the folder of a new run. Raises FileExistsError if it holds one already."""
    if (folder / CHECKPOINT).exists() or (folder / WEIGHTS).exists():
        raise FileExistsError(f"{folder}: there is a run already; add --resume, or take another folder")
    folder.mkdir(parents=True, exist_ok=True)


def write_log(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one line an epoch, all of them anew: a line stands there once, whatever happened before."""
    with whole(folder / LOG) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Write what the run depends on, and what came out."""
    with whole(folder / RUN) as partial:
        partial.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
