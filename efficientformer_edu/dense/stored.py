"""Stored results on drawn scenes: networks with and without norms on their feature maps, and two initializations.

`python -m tools.dense_study` trains the networks and writes the records; this module only reads them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from efficientformer_edu.utils.tables import Table

FOLDER = Path(__file__).parents[2] / "results" / "dense"


def stored_study(folder: Path = FOLDER) -> dict[str, list[dict[str, Any]]]:
    """The records of each variant, sorted by seed; empty outside a checkout, because the package contains no results.

    Raises:
        ValueError: naming the file, if one is not a valid record.
    """
    records: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*_seed*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            records.setdefault(record["variant"], []).append(record)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path.name} is no record of the study: {error}; train it again") from error
    return records


def measured(record: dict[str, Any]) -> float:
    """The main metric of a record: AP50 of a detector, mIoU of a segmentation network."""
    result = record["result"]
    return float(result["ap50"] if "ap50" in result else result["miou"])


def study_table(study: dict[str, list[dict[str, Any]]]) -> Table:
    """A row for each variant: the metric for each seed, and the mean."""
    rows = []
    for variant, records in study.items():
        scores = [measured(record) for record in records]
        metric = "AP50" if "ap50" in records[0]["result"] else "mIoU"
        by_seed = ", ".join(f"{score:.3f}" for score in scores)
        rows.append((variant, metric, by_seed, f"{sum(scores) / len(scores):.3f}"))
    return Table(("network", "judged by", "each seed", "mean"), tuple(rows))
