"""What was measured once on drawn scenes, read back: networks with and without norms on their maps, and two beginnings.

`python -m tools.dense_study` trains them and writes the records; nothing here trains.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from efficientformer_edu.audit.tables import Table

FOLDER = Path(__file__).parents[2] / "results" / "dense"


def stored_study(folder: Path = FOLDER) -> dict[str, list[dict[str, Any]]]:
    """The records of each variant, seed by seed; none outside a checkout, for the package carries no results.

    Raises:
        ValueError: naming the file, if one is no record.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*_seed*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            found.setdefault(record["variant"], []).append(record)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path.name} is no record of the study: {error}; train it again") from error
    return found


def measured(record: dict[str, Any]) -> float:
    """The one number that a record is judged by: AP50 of a detector, mIoU of a segmentation."""
    result = record["result"]
    return float(result["ap50"] if "ap50" in result else result["miou"])


def study_table(study: dict[str, list[dict[str, Any]]]) -> Table:
    """A row for each variant: the number of each seed, and their mean."""
    rows = []
    for variant, records in study.items():
        numbers = [measured(record) for record in records]
        judged = "AP50" if "ap50" in records[0]["result"] else "mIoU"
        each = ", ".join(f"{number:.3f}" for number in numbers)
        rows.append((variant, judged, each, f"{sum(numbers) / len(numbers):.3f}"))
    return Table(("network", "judged by", "each seed", "mean"), tuple(rows))
