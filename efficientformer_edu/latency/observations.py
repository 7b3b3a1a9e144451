"""The latency claims of section 3, tested on this machine.

The paper made its four observations on a single phone. `observe` times the workloads of one observation in turns. Its
claims are statements about ratios of times, computed from the stored samples on access, so neither a claim nor a
verdict can be older than this code. A saved file also contains claims and verdicts, for people and for the report;
`load_observation` reads only the samples.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, permutations
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch

from efficientformer_edu import paper
from efficientformer_edu.config import PRESETS
from efficientformer_edu.latency import workloads
from efficientformer_edu.latency.engines import ENGINES, prepare
from efficientformer_edu.latency.records import MEASUREMENTS, TOO_FEW, Conditions, Measurement, measurements, to_dict
from efficientformer_edu.latency.timer import measure, timing_device
from efficientformer_edu.latency.workloads import Workload
from efficientformer_edu.utils.records import load_json, save_json
from efficientformer_edu.utils.statistics import Agreement, Estimate, median_estimate, paired_ratio
from efficientformer_edu.utils.tables import Cell, Format, Table

STATUS: Mapping[Agreement, str] = {
    "supported": "same trend",
    "contradicted": "disagrees",
    "inconclusive": "inconclusive",
}
"""The report's status for a verdict. Too few rounds are not a finding."""

IMAGE, NO_IMAGE = (224, 224), (0, 0)
EAGER = ("eager",)
COMPILERS = ("eager", "onnxruntime", "openvino")  # the default engines of observation 4
STEM = "3×3 stem"
NETWORKS = "whole networks"  # the record of observation 3 that is not about single layers
ALONE, INSIDE = "alone, ", "inside L1, "  # before the engine, in the names of the records of observation 4
COMPARISONS = (("HardSwish", "GELU"), ("HardSwish", "ReLU"), ("GELU", "ReLU"))  # the phone's order: the first is slower
RATIO_DIGITS = 6  # decimals of a stored ratio
MARGIN = 0.05  # the same ratio of two networks, measured in two sessions on one machine, differs by 0 to 6 %

Records = Mapping[str, Measurement]
Group = tuple[str, Mapping[str, Workload], tuple[int, int], str]  # name of the record, workloads, image size, engine


@dataclass(frozen=True)
class Claim:
    """A statement about a ratio of times.

    Attributes:
        text: the statement.
        ratio: the measured ratio.
        side: whether the claim expects the ratio above or below the bound.
        bound: the ratio that separates a true claim from a false one.
    """

    text: str
    ratio: Estimate
    side: Literal["above", "below"]
    bound: float = 1.0

    @property
    def verdict(self) -> Agreement:
        """Whether the entire interval lies on the claimed side of the bound, on the other side, or on both."""
        return self.ratio.claim(self.side, self.bound)

    @property
    def verdict_text(self) -> str:
        """The verdict as tables and figures show it."""
        return _verdict_text(self.verdict)

    def to_dict(self) -> dict[str, Any]:
        """The claim as a JSON-serializable dictionary; with too few rounds the interval is null."""
        value, low, high = (round(number, RATIO_DIGITS) if math.isfinite(number) else None for number in self.ratio[:3])
        if self.verdict == "too few":
            low = high = None
        measured = {"ratio": value, "low": low, "high": high, "rounds": self.ratio.samples}
        claimed = {"claimed": self.side, "bound": self.bound, "verdict": self.verdict_text}
        return {"text": self.text, **measured, **claimed}

    def __str__(self) -> str:
        return f"{self.text}: {self.ratio}, claimed {self.side} {self.bound:.3g}; {self.verdict_text}"


@dataclass(frozen=True)
class Observation:
    """One of the four observations of section 3, tested on this machine.

    Attributes:
        number: 1 to 4, as in the paper.
        records: the measurements, by name.
        macs: multiply-accumulates of the workloads of a record, if the claims need them.

    Raises:
        ValueError: for an unknown number, or without records.
    """

    number: int
    records: Records
    macs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.number not in NOTES:
            raise ValueError(f"observation {self.number} does not exist; allowed: {', '.join(map(str, NOTES))}")
        if not self.records:
            raise ValueError("an observation needs at least one record")

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        """The claims that determine the verdict, most important first."""
        if self.number == 1:
            return _stem_claims(self.records, self.macs)
        return {2: _mixer_claims, 3: _norm_claims, 4: _engine_claims}[self.number](self.records)

    @cached_property
    def context(self) -> tuple[Claim, ...]:
        """Observation 4: the phone's order of activations, tested in each engine. It does not affect the verdict."""
        return tuple(
            Claim(
                f"L1 in {engine}: {slow} takes longer than {fast}, as on the phone", record.ratio(slow, fast), "above"
            )
            for engine, record in _by_engine(self.records, INSIDE).items()
            for slow, fast in COMPARISONS
        )

    @property
    def verdict(self) -> Agreement:
        """Supported if all claims are supported, contradicted if any is, and "too few" if any has too few rounds.

        Inconclusive without claims: a single engine cannot show that times depend on the engine.
        """
        if any(claim.verdict == "too few" for claim in (*self.claims, *self.context)):
            return "too few"
        verdicts = {claim.verdict for claim in self.claims}
        if "contradicted" in verdicts:
            return "contradicted"
        return "supported" if verdicts == {"supported"} else "inconclusive"

    @property
    def verdict_text(self) -> str:
        """The verdict as tables and figures show it."""
        return _verdict_text(self.verdict)

    @property
    def summary(self) -> str:
        """The number of supported claims and the most important claim in full, as shown in the report."""
        claims, context = (
            f"{sum(claim.verdict == 'supported' for claim in group)} of {len(group)}"
            for group in (self.claims, self.context)
        )
        as_on_the_phone = f"; as on the phone: {context} comparisons" if self.context else ""
        return ". ".join([f"{claims} claims supported{as_on_the_phone}", *map(str, self.claims[:1])])

    @property
    def note(self) -> str:
        """A caveat for machines other than the paper's phone."""
        return NOTES[self.number]

    @property
    def findings(self) -> list[dict[str, str]]:
        """The finding for the report; empty without claims or with too few rounds."""
        if not self.claims or self.verdict not in STATUS:
            return []
        row = f"§3: observation {self.number}"
        return [{"row": row, "status": STATUS[self.verdict], "ours": self.summary, "why": self.note}]

    def table(self) -> Table:
        """One row per claim, then the context, then the observation's verdict."""
        rows: list[tuple[Cell, ...]] = [
            (claim.text, claim.ratio, claim.side, claim.bound, claim.verdict_text)
            for claim in (*self.claims, *self.context)
        ]
        rows.append((f"observation {self.number}", None, None, None, self.verdict_text))
        columns = ("claim", "times as long", "claimed", "bound", "verdict")
        return Table(columns, tuple(rows), total=True, formats={"bound": ".3g"})

    def record_table(self, name: str) -> Table:
        """Milliseconds of the workloads of a record, with their MACs if known."""
        table = self.records[name].table()
        if name not in self.macs:
            return table
        rows = tuple((row[0], self.macs[name][str(row[0])], *row[1:]) for row in table.rows)
        return Table((table.columns[0], "MACs", *table.columns[1:]), rows, formats=table.formats)

    def to(self, format: Format) -> str:
        """All records, claims, the verdict and the conditions; JSON contains every sample, CSV only the claims.

        Raises:
            ValueError: for an unknown format.
        """
        if format == "json":
            return json.dumps(self.to_dict(), indent=1)
        if format == "csv":
            return self.table().to_csv()
        texts = []
        for name in self.records:
            texts.append(f"**{name}**" if format == "markdown" else name)
            texts.append(self.record_table(name).to(format).rstrip())
        return "\n\n".join((*texts, self.table().to(format).rstrip(), self.note, str(self._conditions))) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """The conditions, the findings for the report, the claims for readers, and the measurements."""
        claims = [claim.to_dict() for claim in (*self.claims, *self.context)]
        return {
            **self._conditions.where(),
            "findings": self.findings,
            "observation": {"number": self.number, "macs": self.macs, "claims": claims},
            MEASUREMENTS: {name: to_dict(record) for name, record in self.records.items()},
        }

    def save(self, path: Path) -> None:
        """Atomically write the file that `load_observation` and the report read. Raises OSError if that fails."""
        save_json(self, path, MEASUREMENTS)

    def _repr_markdown_(self) -> str:
        return self.to("markdown")

    @property
    def _conditions(self) -> Conditions:
        return next(iter(self.records.values())).conditions


def load_observation(path: Path) -> Observation:
    """Load what `Observation.save` wrote. Raises ValueError, naming the file, if it contains something else."""

    def parse(data: Mapping[str, Any]) -> Observation:
        observation = Observation(data["observation"]["number"], measurements(data), data["observation"]["macs"])
        _ = observation.claims, observation.context  # fail here if a workload is missing
        return observation

    return load_json(path, MEASUREMENTS, parse)


def observe(
    number: int,
    rounds: int = 30,
    num_threads: int | None = None,
    progress: bool = False,
    engines: Sequence[str] | None = None,
    device: str = "cpu",
) -> Observation:
    """Measure one of the four observations.

    Args:
        number: 1 stem, 2 token mixers, 3 normalization, 4 activations.
        rounds: timed calls of each workload. A verdict needs 5; that of observation 4 needs 9, because half of
            the rounds select the claims.
        num_threads: threads of torch and of the engines; None for the current setting.
        progress: show a progress bar on the terminal.
        engines: keys of `engines.ENGINES` for observation 4; None for those of `COMPILERS` that are installed.
        device: as `measure` takes it.

    Raises:
        ValueError: for an unknown number, a device that cannot be timed, engines for observations 1 to 3, an unknown
            engine, or one that cannot run L1.
        ImportError: if an engine's library is missing, with the command that installs it.
    """
    if number not in NOTES:
        raise ValueError(f"observation {number} does not exist; allowed: {', '.join(map(str, NOTES))}")
    if number != 4 and engines and tuple(engines) != EAGER:
        raise ValueError(f"observation {number} runs in eager mode only; engines are for observation 4")
    if engines is None:
        engines = [engine for engine in COMPILERS if not ENGINES[engine].missing]
    engines = tuple(dict.fromkeys(engines))
    if unknown := set(engines) - set(ENGINES):
        raise ValueError(f"engine {min(unknown)!r} is unknown; allowed: {', '.join(ENGINES)}")
    timing_device(device)
    command = _command(number, rounds, num_threads, device, engines)
    records, macs = dict[str, Measurement](), dict[str, dict[str, int]]()
    for name, group, resolution, engine in _groups(number, engines):
        group = {key: workload.to(device) for key, workload in group.items()}
        calls = {
            key: workload if engine == "eager" else prepare(engine, workload.network, workload.inputs, num_threads)
            for key, workload in group.items()
        }
        conditions = Conditions(command, resolution=resolution)
        with torch.inference_mode():
            records[name] = measure(
                calls, conditions, rounds=rounds, num_threads=num_threads, device=device, progress=progress
            )
        if number in (1, 2):  # whose claims or tables compare MACs
            macs[name] = {key: workload.macs for key, workload in group.items()}
    return Observation(number, records, macs)


def _command(number: int, rounds: int, num_threads: int | None, device: str, engines: Sequence[str]) -> str:
    """The command that repeats the measurement."""
    options = {"rounds": rounds, "threads": num_threads, "device": None if device == "cpu" else device}
    options["engine"] = ",".join(engines) if number == 4 else None
    flags = "".join(f" --{name} {value}" for name, value in options.items() if value is not None)
    return f"efficientformer-edu observe {number}{flags}"


def _groups(number: int, engines: Sequence[str]) -> Iterator[Group]:
    """The groups of workloads that are timed together, each built when it is needed."""
    dims, grids = PRESETS["l1"].embed_dims, PRESETS["l1"].grids(IMAGE)
    names = [f"{dim} channels, {height}×{width}" for dim, (height, width) in zip(dims, grids, strict=True)]
    if number == 1:
        yield "to 14×14", workloads.stride16_stems(), IMAGE, "eager"
        yield "to 56×56", workloads.stride4_stems(), IMAGE, "eager"
    elif number == 2:
        for stage in (2, 3):
            yield names[stage], workloads.token_mixers(dims[stage], grids[stage]), NO_IMAGE, "eager"
    elif number == 3:
        yield names[2], workloads.norm_layers(dims[2], grids[2]), NO_IMAGE, "eager"
        yield NETWORKS, workloads.networks_with_norms(), IMAGE, "eager"
    else:
        for engine in engines:
            if not ENGINES[engine].efficientformer_only:  # an activation alone cannot be folded
                yield ALONE + engine, workloads.activations(), NO_IMAGE, engine
        for engine in engines:
            yield INSIDE + engine, workloads.networks_with_activations(), IMAGE, engine


def phone_factor() -> float:
    """Latency of LeViT-256 on the phone with HardSwish divided by that with GELU. Source: Table 1."""
    gelu = paper.table1()["LeViT-256", "npu"]
    (hard_swish,) = gelu.also
    return hard_swish.value / gelu.value


NOTES = {
    1: "The paper's reason is the phone's compiler, which supports large kernels poorly. A library for processors or "
    "GPUs runs a patch embedding as one matrix product. 'MAC for MAC' is a weaker claim than the paper's.",
    2: "Reshapes are a bottleneck if they take longer than the attention between them. They copy the feature map here, "
    "as they must where maps and tokens have different memory layouts. With channels-last, as in the folded network, a "
    "map already has the layout of tokens, and nothing is copied.",
    3: "A layer and its normalization run one after the other here. 'Linear alone' shows how much of LN-Linear is the "
    "matrix product. The share of LN is the time saved by removing all normalization layers from DeiT-S.",
    4: f"On the phone LeViT-256 took {phone_factor():.2f} times as long with HardSwish as with GELU (Table 1). It is "
    "another network, so the factor is context and not a bound. The rows 'as on the phone' show where the phone's "
    "order of activations holds; the verdict rests on whether engines differ. The largest difference is chosen on the "
    "first half of the rounds and tested on the second half. Two engines count as different if their ratios differ by "
    f"more than {MARGIN:.0%}, because ratios measured in two sessions differ by about as much. With one engine the "
    "observation is inconclusive.",
}


def _stem_claims(records: Records, macs: Mapping[str, Mapping[str, int]]) -> tuple[Claim, ...]:
    longer, per_mac = [], []
    for name, patches in (("to 14×14", "16×16/16 patches"), ("to 56×56", "7×7/4 patches")):
        ratio = records[name].ratio(patches, STEM)
        text = f"{patches} take longer than a 3×3 stem to the same feature map, with fewer MACs"
        longer.append(Claim(text, ratio, "above"))
        share = macs[name][patches] / macs[name][STEM]
        per_mac.append(Claim(f"MAC for MAC, {patches} take longer than a 3×3 stem", ratio, "above", share))
    return (*longer, *per_mac)


def _mixer_claims(records: Records) -> tuple[Claim, ...]:
    statements: tuple[tuple[str, str, str, Literal["above", "below"]], ...] = (
        ("attention takes longer on maps than on tokens", "attention on maps", "attention on tokens", "above"),
        ("the reshapes take longer than the attention", "reshapes alone", "attention on tokens", "above"),
        ("attention takes less time than the MLP", "attention on tokens", "MLP on tokens", "below"),
    )
    return tuple(
        Claim(f"{name}: {text}", record.ratio(workload, reference), side)
        for name, record in records.items()
        for text, workload, reference, side in statements
    )


def _norm_claims(records: Records) -> tuple[Claim, ...]:
    (layers,) = (record for name, record in records.items() if name != NETWORKS)
    share = paper.observations()[2].share
    assert share is not None  # it is sourced
    with_norms = records[NETWORKS].ratio("DeiT-S", "DeiT-S without norms")
    # A component with a share of s percent makes a network 1 / (1 - s / 100) times as slow.
    low, high = (1 / (1 - percent / 100) for percent in (share.low, share.high))
    return (
        *(
            Claim(f"folded Conv-BN takes less time than {other}", layers.ratio("Conv-BN, folded", other), "below")
            for other in ("LN-Linear", "Conv-LN", "Conv-GN")
        ),
        Claim(f"LN is at least {share.low:g} % of DeiT-S", with_norms, "above", low),
        Claim(f"LN is at most {share.high:g} % of DeiT-S", with_norms, "below", high),
    )


def _engine_claims(records: Records) -> tuple[Claim, ...]:
    """The latency of activations depends on the engine: alone, their order changes; inside L1, the effect size changes.

    Each claim is selected on the first half of the rounds and tested on the second half, because the largest of many
    differences is partly large by chance and would pass a test on the same rounds.
    """
    return (*_order_claims(_by_engine(records, ALONE)), *_effect_claims(_by_engine(records, INSIDE)))


def _order_claims(records: Records) -> tuple[Claim, ...]:
    """One activation is faster than another in one engine and slower in another; no claims if the order is the same."""

    def change(engines: tuple[str, str], pair: tuple[str, str]) -> float:
        first, second = (median(_halves(records[engine], *pair)[0]) for engine in engines)
        return min(1 / first, second)

    names = [timing.name for record in list(records.values())[:1] for timing in record.timings]
    candidates = [(engines, pair) for engines in combinations(records, 2) for pair in permutations(names, 2)]
    if not candidates:
        return ()
    engines, (fast, slow) = max(candidates, key=lambda candidate: change(*candidate))
    if change(engines, (fast, slow)) <= 1:
        return ()
    first, second = (median_estimate(_halves(records[engine], fast, slow)[1]) for engine in engines)
    return (
        Claim(f"alone in {engines[0]}, {fast} is faster than {slow}", first, "below"),
        Claim(f"alone in {engines[1]}, {fast} is slower than {slow}", second, "above"),
    )


def _effect_claims(records: Records) -> tuple[Claim, ...]:
    """The same change of activation slows L1 down more in one engine than in another."""

    def change(engines: tuple[str, str], pair: tuple[str, str]) -> float:
        first, second = (median(_halves(records[engine], *pair)[0]) for engine in engines)
        return first / second

    candidates = [(engines, pair) for engines in permutations(records, 2) for pair in COMPARISONS]
    if not candidates:
        return ()
    (more, less), (new, old) = max(candidates, key=lambda candidate: change(*candidate))
    # The engines ran one after the other, so the rounds of the two are paired arbitrarily, as independent samples.
    ratio = paired_ratio(_halves(records[more], new, old)[1], _halves(records[less], new, old)[1])
    text = f"inside L1, {new} instead of {old} costs more in {more} than in {less}"
    return (Claim(text, ratio, "above", 1 + MARGIN),)


def _by_engine(records: Records, prefix: str) -> Records:
    return {name.removeprefix(prefix): record for name, record in records.items() if name.startswith(prefix)}


def _halves(record: Measurement, workload: str, reference: str) -> tuple[Sequence[float], Sequence[float]]:
    """Ratios by round: the half that selects a claim, and the half that tests it."""
    pairs = zip(record[workload].seconds, record[reference].seconds, strict=True)
    ratios = [seconds / other for seconds, other in pairs]
    middle = len(ratios) // 2
    return ratios[: max(middle, 1)], ratios[middle:]


def _verdict_text(verdict: Agreement) -> str:
    return TOO_FEW if verdict == "too few" else verdict
