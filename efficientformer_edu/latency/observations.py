"""The four observations of section 3, each looked at on this machine.

The paper made them on one phone. Each function times small subjects side by side, and holds what the paper claims
against the intervals: a claim can hold here, not hold here, or be too close to tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, permutations

from efficientformer_edu import paper
from efficientformer_edu.config import PRESETS
from efficientformer_edu.latency import subjects, subjects_norms
from efficientformer_edu.latency.claims import Claim, Observation, load_observation
from efficientformer_edu.latency.engines import ENGINES
from efficientformer_edu.latency.records import Measurement
from efficientformer_edu.latency.session import EAGER, IMAGE, NO_IMAGE, Session
from efficientformer_edu.latency.statistics import Interval

__all__ = [
    "Claim",
    "Observation",
    "load_observation",
    "observe",
    "observe_activations",
    "observe_mixers",
    "observe_norms",
    "observe_stem",
]

STEM = "3×3 stem"


def observe(
    number: int,
    rounds: int = 30,
    num_threads: int | None = None,
    progress: bool = False,
    engines: Sequence[str] | None = None,
    device: str = "cpu",
) -> Observation:
    """Look at one of the four observations.

    Args:
        number: 1 stem, 2 token mixers, 3 norms, 4 activations.
        rounds: how often each subject is timed.
        num_threads: of torch and of the engines; None for what is set.
        progress: show a bar on the terminal.
        engines: keys of `engines.ENGINES` for observation 4; without them, eager alone.
        device: "cpu" or a CUDA device.

    Raises:
        ValueError: for another number, or engines for an observation that is looked at in eager mode alone.
    """
    if number == 4:
        return observe_activations(rounds, num_threads, progress, engines or EAGER, device)
    others = {1: observe_stem, 2: observe_mixers, 3: observe_norms}
    if number not in others:
        raise ValueError(f"there is no observation {number}; the paper has 1, 2, 3 and 4")
    if engines and tuple(engines) != EAGER:
        raise ValueError(f"observation {number} is looked at in eager mode alone; engines are for observation 4")
    return others[number](rounds, num_threads, progress, device)


def observe_stem(
    rounds: int = 30, num_threads: int | None = None, progress: bool = False, device: str = "cpu"
) -> Observation:
    """Observation 1: patch embeddings with a large kernel against stems of 3×3 convolutions. Arguments: `observe`'s."""
    session = Session(1, rounds, num_threads, progress, device)
    found = {"to 14×14": subjects.embeddings_to_a_sixteenth(), "to 56×56": subjects.embeddings_to_a_quarter()}
    macs = {place: {name: one.macs for name, one in some.items()} for place, some in found.items()}
    records = {place: session.time(some, IMAGE) for place, some in found.items()}
    longer, for_each_mac = [], []
    for place, patches in (("to 14×14", "16×16/16 patches"), ("to 56×56", "7×7/4 patches")):
        ratio = records[place].ratio(patches, STEM)
        longer.append(Claim(f"{patches} take longer than a 3×3 stem to the same map, with fewer MACs", ratio, "above"))
        part = macs[place][patches] / macs[place][STEM]
        for_each_mac.append(Claim(f"MAC for MAC, {patches} take longer than a 3×3 stem", ratio, "above", part))
    return session.observation((*longer, *for_each_mac), records, macs)


def observe_mixers(
    rounds: int = 30, num_threads: int | None = None, progress: bool = False, device: str = "cpu"
) -> Observation:
    """Observation 2: pooling, attention on tokens, attention on maps with its reshapes. Arguments: `observe`'s."""
    session = Session(2, rounds, num_threads, progress, device)
    config = PRESETS["l1"]
    records, macs, claims = {}, {}, []
    for stage in (2, 3):
        dim, (height, width) = config.embed_dims[stage], config.grids(IMAGE)[stage]
        place = f"{dim} channels, {height}×{width}"
        found = subjects.mixers(dim, (height, width))
        records[place] = record = session.time(found, NO_IMAGE)
        macs[place] = {name: one.macs for name, one in found.items()}
        claims += [
            Claim(
                f"{place}: attention takes longer on maps than on tokens",
                record.ratio("attention on maps", "attention on tokens"),
                "above",
            ),
            Claim(
                f"{place}: the reshapes take longer than the attention",
                record.ratio("reshapes alone", "attention on tokens"),
                "above",
            ),
            Claim(
                f"{place}: attention takes less time than the MLP",
                record.ratio("attention on tokens", "MLP on tokens"),
                "below",
            ),
        ]
    return session.observation(claims, records, macs)


def observe_norms(
    rounds: int = 30, num_threads: int | None = None, progress: bool = False, device: str = "cpu"
) -> Observation:
    """Observation 3: Conv-BN against other pairs of layer and norm; a network's norms. Arguments: `observe`'s."""
    session = Session(3, rounds, num_threads, progress, device)
    config = PRESETS["l1"]
    dim, (height, width) = config.embed_dims[2], config.grids(IMAGE)[2]
    place = f"{dim} channels, {height}×{width}"
    records = {
        place: session.time(subjects_norms.norms(dim, (height, width)), NO_IMAGE),
        "whole networks": session.time(subjects_norms.networks_and_norms(), IMAGE),
    }
    claims = [
        Claim(f"folded Conv-BN takes less time than {other}", records[place].ratio("Conv-BN, folded", other), "below")
        for other in ("LN-Linear", "Conv-LN", "Conv-GN")
    ]
    with_norms = records["whole networks"].ratio("DeiT-S", "DeiT-S without norms")
    share = paper.observations()[2].share
    assert share is not None  # it is sourced
    claims += [
        Claim(f"LN is at least {share.low:g} % of DeiT-S", with_norms, "above", times(share.low)),
        Claim(f"LN is at most {share.high:g} % of DeiT-S", with_norms, "below", times(share.high)),
    ]
    return session.observation(claims, records)


def times(share: float) -> float:
    """How many times as long as without a part a network takes, from the part's share of it in per cent."""
    return 1 / (1 - share / 100)


def observe_activations(
    rounds: int = 30,
    num_threads: int | None = None,
    progress: bool = False,
    engines: Sequence[str] = EAGER,
    device: str = "cpu",
) -> Observation:
    """Observation 4: activations alone and inside L1, in each engine. Arguments: `observe`'s.

    Raises:
        ValueError: for an engine that is unknown or cannot run L1, and for less than two rounds with several engines:
            one half of the rounds chooses, the other decides.
        ImportError: if an engine's library is missing, with the command that installs it.
    """
    session = Session(4, rounds, num_threads, progress, device, tuple(dict.fromkeys(engines)))
    if unknown := set(session.engines) - set(ENGINES):
        raise ValueError(f"engine {min(unknown)!r} is unknown; there are {', '.join(ENGINES)}")
    alone = [engine for engine in session.engines if not ENGINES[engine].ours]  # a lone activation cannot fold
    if len(alone) > 1 and rounds < 2:
        raise ValueError(f"{rounds} round is not possible with several engines; wanted: at least 2")
    lone = {engine: session.time(subjects_norms.activations(), NO_IMAGE, engine) for engine in alone}
    inside = {
        engine: session.time(subjects_norms.networks_and_activations(), IMAGE, engine) for engine in session.engines
    }
    claims = [
        Claim(
            f"L1 in {engine}: HardSwish for GELU is no trap as it was in LeViT-256 on the phone",
            record.ratio("HardSwish", "GELU"),
            "below",
            phone_factor(),
        )
        for engine, record in inside.items()
    ]
    records = {f"alone, {engine}": record for engine, record in lone.items()}
    records |= {f"inside L1, {engine}": record for engine, record in inside.items()}
    return session.observation((*exchanged(lone), *claims), records)


def phone_factor() -> float:
    """How many times as long LeViT-256 took on the phone with HardSwish as with GELU, as reported."""
    gelu = paper.table1()["LeViT-256", "npu"]
    (hard_swish,) = gelu.also
    return hard_swish.value / gelu.value


def exchanged(records: Mapping[str, Measurement]) -> list[Claim]:
    """The claim that the order of activations depends on the engine: one is quicker than another here, slower there.

    Which two are meant is chosen on the first half of the rounds. The claims are about the second half, so that a
    change by chance is not taken for one.

    Args:
        records: the same activations, in each engine. With less than two engines there is nothing to claim.
    """
    places = list(combinations(records, 2))
    if not places:
        return []
    names = [timing.name for timing in next(iter(records.values())).timings]

    def change(candidate: tuple[tuple[str, str], tuple[str, str]]) -> float:
        (here, there), pair = candidate
        return min(1 / _half(records[here], pair, 0).median, _half(records[there], pair, 0).median)

    (here, there), pair = max(((place, pair) for place in places for pair in permutations(names, 2)), key=change)
    quick, slow = pair
    return [
        Claim(f"alone in {here}, {quick} is quicker than {slow}", _half(records[here], pair, 1), "below"),
        Claim(f"alone in {there}, {quick} is slower than {slow}", _half(records[there], pair, 1), "above"),
    ]


def _half(record: Measurement, pair: tuple[str, str], second: int) -> Interval:
    """The ratio of a pair in the first or in the second half of the rounds."""
    middle = len(record.timings[0].seconds) // 2
    part = slice(middle, None) if second else slice(middle)
    timings = tuple(replace(timing, seconds=timing.seconds[part]) for timing in record.timings)
    return Measurement(record.conditions, timings).ratio(*pair)
