"""The stored result of one training run of a study: one file per variant and seed, written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from efficientformer_edu.files import atomic_write


@dataclass(frozen=True)
class Record:
    """The result of one run.

    Attributes:
        variant: name of the variant.
        seed: seed of the run; runs with the same seed are paired.
        top1: accuracy on the test images. If a run diverged, the accuracy of random guessing.
        stopped: why the run stopped early; "" if it did not.
        seconds: duration, including evaluation.
        run: everything that the result depends on, from `Run.described`.
        log: one row per epoch.
        where: machine, versions and date.
        planned: whether the seed was planned when the study was first run; False for a seed that was added later.
            Records of earlier versions do not contain this field and count as planned.
    """

    variant: str
    seed: int
    top1: float
    stopped: str
    seconds: float
    run: Mapping[str, Any]
    log: tuple[Mapping[str, Any], ...]
    where: Mapping[str, str]
    planned: bool = True

    def save(self, folder: Path) -> None:
        """Write the record into the folder of a study, atomically. Raises OSError if writing fails."""
        with atomic_write(folder / f"{self.variant}_seed{self.seed}.json") as partial:
            partial.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load_records(folder: Path) -> tuple[Record, ...]:
    """All records in the folder of a study; empty if the folder does not exist.

    Raises:
        ValueError: if a file is not a record; the message names it.
        OSError: if a file cannot be read.
    """
    return tuple(_load(path) for path in sorted(folder.glob("*_seed*.json")))


def _load(path: Path) -> Record:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Record(**{**fields, "log": tuple(fields["log"])})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path.name} is no record of a study: {error}; move it away, and its run is repeated"
        ) from error
