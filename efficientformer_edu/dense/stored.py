"""Stored results on drawn scenes: networks with and without norms on their feature maps, and two initializations.

`python -m tools.dense_study` trains the networks and writes the records; this module only reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from efficientformer_edu.utils.records import load_json, record_paths, stored
from efficientformer_edu.utils.tables import Table


def stored_study(path: Path | None = None) -> dict[str, list[dict[str, Any]]]:
    """The records of each variant, sorted by seed.

    Args:
        path: folder of the study, or the file into which it was packed; None for the one that the package contains.

    Raises:
        ValueError: naming the file, if one is not a valid record.
    """
    records: dict[str, list[dict[str, Any]]] = {}
    for file in record_paths(path or stored("dense.json"), "*_seed*.json"):
        variant, record = load_json(file, "training", lambda data: (str(data["variant"]), data))
        records.setdefault(variant, []).append(record)
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
