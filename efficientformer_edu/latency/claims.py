"""A claim about times, an observation made of claims, and the file in `results/` that holds one.

A verdict is computed from a claim's interval whenever it is asked for. It is stored nowhere but in the findings, where
the report reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from efficientformer_edu.audit.tables import Cell, Format, Table
from efficientformer_edu.latency.records import Measurement, from_dict, save, to_dict
from efficientformer_edu.latency.statistics import Interval, Verdict, verdict

STATUS: Mapping[Verdict, str] = {"holds here": "same trend", "does not hold here": "disagrees"}
"""The report's words; what cannot be told is no finding."""


@dataclass(frozen=True)
class Claim:
    """One statement about a ratio of times.

    Attributes:
        words: what is claimed, as the paper sees it on its phone.
        interval: the ratio as it was measured here.
        claim: on which side of the bound the paper has it.
        bound: where it would turn.
    """

    words: str
    interval: Interval
    claim: Literal["above", "below"]
    bound: float = 1.0

    @property
    def verdict(self) -> Verdict:
        """Whether the whole interval lies on the claimed side, on the other one, or on both."""
        return verdict(self.interval, self.claim, self.bound)

    def __str__(self) -> str:
        return f"{self.words}: {self.interval}, claimed {self.claim} {self.bound:.3g}; {self.verdict}"


@dataclass(frozen=True)
class Observation:
    """One of the paper's four observations, looked at on this machine.

    Attributes:
        number: 1 to 4, as in section 3.
        claims: what of it can be measured here, the foremost first.
        records: what was measured, by name.
        macs: multiply-accumulates of the subjects of a record, where they are of interest.
        why: what to keep in mind when the machine is not the paper's phone.
    """

    number: int
    claims: tuple[Claim, ...]
    records: Mapping[str, Measurement]
    macs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    why: str = ""

    def __post_init__(self) -> None:
        if not self.claims or not self.records:
            raise ValueError(
                f"an observation of {len(self.claims)} claims on {len(self.records)} records says nothing; "
                "wanted: at least one of each"
            )

    @property
    def verdict(self) -> Verdict:
        """It holds if every claim holds, it does not if one does not; else it cannot be told."""
        verdicts = {claim.verdict for claim in self.claims}
        if "does not hold here" in verdicts:
            return "does not hold here"
        return "cannot tell" if "cannot tell" in verdicts else "holds here"

    @property
    def summary(self) -> str:
        """How many claims hold, and the foremost in full: what the report shows."""
        hold = sum(claim.verdict == "holds here" for claim in self.claims)
        return f"{hold} of {len(self.claims)} claims hold{'s' * (hold == 1)}. {self.claims[0]}"

    def table(self) -> Table:
        """One row for each claim, and the verdict on the whole."""
        rows: list[tuple[Cell, ...]] = [
            (one.words, str(one.interval), f"{one.claim} {one.bound:.3g}", one.verdict) for one in self.claims
        ]
        rows.append((f"observation {self.number}", "", "", self.verdict))
        return Table(("claim", "times as long", "claimed", "verdict"), tuple(rows), total=True)

    def record_table(self, name: str) -> Table:
        """Milliseconds of the subjects of a record, with their MACs where they are known."""
        table = self.records[name].table()
        if name not in self.macs:
            return table
        rows = tuple((row[0], self.macs[name][str(row[0])], *row[1:]) for row in table.rows)
        return Table((table.columns[0], "MACs", *table.columns[1:]), rows)

    def to(self, format: Format) -> str:
        """Every record, the claims, the verdict and what it was measured on; JSON holds every sample, CSV the claims.

        Raises:
            ValueError: for another format.
        """
        if format == "json":
            return self.to_json()
        if format == "csv":
            return self.table().to_csv()
        parts = []
        for name in self.records:
            parts.append(f"**{name}**" if format == "markdown" else name)
            parts.append(self.record_table(name).to(format).rstrip())
        return "\n\n".join((*parts, self.table().to(format).rstrip(), self.why, str(self._conditions))) + "\n"

    def to_json(self) -> str:
        """What `save` writes."""
        return json.dumps(
            {**self._head(), "measurements": {name: to_dict(one) for name, one in self.records.items()}}, indent=1
        )

    def save(self, path: Path) -> None:
        """Write the file that `load_observation` and the report read, whole or not at all.

        Raises:
            OSError: if the folder does not exist or cannot be written.
        """
        save(self.records, path, **self._head())

    def _repr_markdown_(self) -> str:
        return self.to("markdown")

    @property
    def _conditions(self) -> Any:
        return next(iter(self.records.values())).conditions

    def _head(self) -> dict[str, Any]:
        """All but the measurements: where they were taken, what the report is told, the claims."""
        finding = {"row": f"§3: observation {self.number}", "ours": self.summary, "why": self.why}
        status = STATUS.get(self.verdict)
        return {
            **self._conditions.where(),
            "findings": [{**finding, "status": status}] if status else [],
            "observation": {
                "number": self.number,
                "why": self.why,
                "macs": self.macs,
                "claims": [asdict(claim) for claim in self.claims],
            },
        }


def load_observation(path: Path) -> Observation:
    """The observation that `Observation.save` wrote into a file.

    Raises:
        ValueError: naming the file, if it holds none.
        OSError: if it cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        head = data["observation"]
        claims = tuple(Claim(**{**claim, "interval": Interval(*claim["interval"])}) for claim in head["claims"])
        records = {name: from_dict(one) for name, one in data["measurements"].items()}
        return Observation(head["number"], claims, records, head["macs"], head["why"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path.name} holds no observation: {error}") from error
