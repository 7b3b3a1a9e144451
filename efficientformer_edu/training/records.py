"""One trained network of a study, as it is stored: one file for each variant and seed, written whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from efficientformer_edu.files import whole


@dataclass(frozen=True)
class Record:
    """What came out of one run.

    Attributes:
        variant: its name.
        seed: of the run; runs of the same seed are pairs.
        top1: part of the test images that was recognised. Where the numbers of a run exploded, what guessing gives.
        stopped: why the run broke off; "" where it did not.
        seconds: that it took, evaluation included.
        run: everything that the result depends on, as `Run.described` gives it.
        log: one row an epoch.
        where: machine, versions and date.
        planned: whether its seed was planned when the study was first run; False for a seed that was added later.
            Records of earlier versions do not say it and count as planned.
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
        """Write the record into the folder of a study, whole or not at all. Raises OSError if that fails."""
        with whole(folder / f"{self.variant}_seed{self.seed}.json") as partial:
            partial.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load_records(folder: Path) -> tuple[Record, ...]:
    """All records of a study's folder; none if there is no folder.

    Raises:
        ValueError: naming the file, if one is no record.
        OSError: if one cannot be read.
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
