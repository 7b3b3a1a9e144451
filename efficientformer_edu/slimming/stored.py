"""Read a finished slimming from its folder: the search, its lookup table, and the results of the networks.

Paper: section 4.2. `efficientformer-edu slim` writes the folder; this module does not train or measure anything.
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
    """Contents of the folder of a slimming.

    Attributes:
        search: the search with every step.
        lookup: the lookup table that the search used.
        contenders: the networks of the search and, if available, those that they are compared with.
        records: records of their completed trainings from scratch.
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
    """Load the slimming in a folder.

    Raises:
        ValueError: if a file has other contents, or a record belongs to a different network than its name indicates.
        OSError: if the search or its table cannot be read.
    """
    search, lookup = Search.load(folder / SEARCH), Lookup.load(folder / LOOKUP)
    others = folder / CONTENDERS
    contenders = load_contenders(others) if others.exists() else found(search, lookup)
    records = load_records(folder / TRAINED)
    configs = {contender.name: contender.config.to_dict() for contender in contenders}
    for record in records:
        if configs.get(record.variant) != record.run["config"]:
            raise ValueError(f"{folder}: {record.variant}, seed {record.seed} is not one of the networks to compare")
    errors = Errors.load(folder / LATENCY) if (folder / LATENCY).exists() else None
    return Slimmed(search, lookup, contenders, records, errors)


def stored_slimming(name: str = "slimming") -> Slimmed | None:
    """The slimming in the `results/` of the checkout that this package runs from; None if there is none."""
    search = stored(f"{name}/{SEARCH}")
    return load_slimming(search.parent) if search else None
