"""A slimming that was run, read back from its folder: the search, its table, and what became of the networks.

Paper: section 4.2. `efficientformer-edu slim` writes the folder; nothing here trains or measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from efficientformer_edu.latency.lookup_errors import Errors
from efficientformer_edu.latency.lookup_table import Lookup
from efficientformer_edu.latency.records import stored
from efficientformer_edu.slimming.contenders import CONTENDERS, Contender, found, load_contenders
from efficientformer_edu.slimming.front import Front, get_front
from efficientformer_edu.slimming.records import SEARCH, Search
from efficientformer_edu.training.records import Record, load_records

LOOKUP, TRAINED, LATENCY = "lookup.json", "trained", "latency.json"


@dataclass(frozen=True)
class Slimmed:
    """What the folder of a slimming holds.

    Attributes:
        search: every step.
        lookup: the table that it read latencies from.
        contenders: the networks that were found, and those it is compared with, if there are any.
        records: of their trainings from scratch, as far as they are done.
        errors: their measured latencies; None before they were timed.
    """

    search: Search
    lookup: Lookup
    contenders: tuple[Contender, ...]
    records: tuple[Record, ...]
    errors: Errors | None

    @cached_property
    def front(self) -> Front:
        """Accuracy and latency of all networks."""
        return get_front(self.contenders, self.records, self.errors, self.lookup.resolution)


def load_slimming(folder: Path) -> Slimmed:
    """The slimming in a folder.

    Raises:
        ValueError: if a file holds something else, or a record is one of another network than its name says.
        OSError: if the search or its table cannot be read.
    """
    search, lookup = Search.load(folder / SEARCH), Lookup.load(folder / LOOKUP)
    others = folder / CONTENDERS
    contenders = load_contenders(others) if others.exists() else found(search, lookup)
    records = load_records(folder / TRAINED)
    configs = {one.name: one.config.to_dict() for one in contenders}
    for record in records:
        if configs.get(record.variant) != record.run["config"]:
            raise ValueError(f"{folder}: {record.variant}, seed {record.seed} is not one of the networks to compare")
    errors = Errors.load(folder / LATENCY) if (folder / LATENCY).exists() else None
    return Slimmed(search, lookup, contenders, records, errors)


def stored_slimming(name: str = "slimming") -> Slimmed | None:
    """The slimming in the `results/` of the checkout that this package runs from; None where there is none."""
    search = stored(f"{name}/{SEARCH}")
    return load_slimming(search.parent) if search else None
