"""Stored results on drawn scenes: networks with and without norms on their feature maps, and two initializations.

`python -m tools.dense_study` trains the networks and writes the records; this module only reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from efficientformer_edu.training.study import Record, load_records
from efficientformer_edu.utils.records import stored
from efficientformer_edu.utils.tables import Cell, Table


def stored_study(path: Path | None = None) -> dict[str, list[Record]]:
    """The records of each variant, sorted by seed.

    Args:
        path: folder of the study, or the file into which it was packed; None for the one that the package contains.

    Raises:
        ValueError: naming the file, if one is not a valid record.
    """
    records: dict[str, list[Record]] = {}
    for record in load_records(path or stored("dense.json")):
        records.setdefault(record.variant, []).append(record)
    return records


def measured(record: Record) -> float:
    """The main metric of a record: AP50 of a detector, mIoU of a segmentation network."""
    return record.result["ap50" if "ap50" in record.result else "miou"]


def study_table(study: Mapping[str, Sequence[Record]]) -> Table:
    """A row for each variant: the metric for each seed, from 0 to 1, and the mean."""
    seeds = sorted({record.seed for records in study.values() for record in records})
    rows: list[tuple[Cell, ...]] = []
    for variant, records in study.items():
        scores = {record.seed: measured(record) for record in records}
        metric = "AP50" if "ap50" in records[0].result else "mIoU"
        rows.append((variant, metric, *map(scores.get, seeds), sum(scores.values()) / len(scores)))
    numbers = (*(f"seed {seed}" for seed in seeds), "mean")
    return Table(("network", "metric", *numbers), tuple(rows), formats=dict.fromkeys(numbers, ".3f"), missing="–")
