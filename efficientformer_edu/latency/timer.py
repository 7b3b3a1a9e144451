"""One clock for the whole kit: subjects run in turns, and what they run on is written down.

Paper: section 3 and the columns "Latency" of Table 1, which are means of 1000 runs on a phone. Here subjects are
interleaved, A B C A B C ..., so that a machine that grows warm or busy slows all of them. Each sample comes after a
call that is not timed: else a subject would pay for what the one before it has left in the caches. Meanwhile garbage is
not collected, numbers too small for normal arithmetic count as 0, and freed memory stays with the process.
"""

from __future__ import annotations

import gc
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date

import torch

from efficientformer_edu.latency.records import Conditions, Measurement, Timing
from efficientformer_edu.machine import accelerator, busy, keep_memory, page_faults, threads, versions

Subject = Callable[[], object]

SHORTEST = 2e-3  # seconds: a subject that is quicker is called several times in a row for one sample
WIDE = 0.10  # an interval wider than this part of its median is said to be wide


def measure(
    subjects: Mapping[str, Subject],
    conditions: Conditions | None = None,
    *,
    rounds: int = 30,
    warm_up: int = 3,
    num_threads: int | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> Measurement:
    """Time some subjects side by side.

    Args:
        subjects: what to call, by name. A subject takes nothing; what it returns is dropped.
        conditions: what the caller knows of it (batch, resolution, command, ...); the rest is filled in here.
        rounds: how often each is timed.
        warm_up: rounds before, which are not counted.
        num_threads: torch's threads; None for what is set. A subject that runs elsewhere has to set its own.
        device: "cpu", or a CUDA device, on which events of the device are the clock.
        progress: show a bar on the terminal.

    Returns:
        Seconds of one call for each subject and round, in rounds of the same order.

    Raises:
        ValueError: without subjects or rounds, or for a number of threads that is not possible.

    Warns:
        UserWarning: if the machine is busy, or an interval is wider than a tenth of its median.
    """
    if not subjects or rounds < 1:
        raise ValueError(f"{len(subjects)} subjects in {rounds} rounds is not possible; wanted: at least one of each")
    if said := busy():
        warnings.warn(f"{said}; close what you can", stacklevel=2)
    clock = _events if torch.device(device).type == "cuda" else _wall
    samples: dict[str, list[float]] = {name: [] for name in subjects}
    faults = dict.fromkeys(subjects, 0)
    with threads(num_threads) as in_force, _quiet() as memory_kept:
        calls = {name: _calls(subject, warm_up, clock) for name, subject in subjects.items()}
        for _ in _bar(rounds, progress):
            for name, subject in subjects.items():
                subject()
                before = page_faults()
                samples[name].append(clock(subject, calls[name]))
                faults[name] += page_faults() - before
    timings = tuple(
        Timing(name, tuple(samples[name]), faults[name] / (rounds * calls[name]), calls[name]) for name in subjects
    )
    complete = (conditions or Conditions()).complete(
        machine=accelerator(torch.device(device)),
        threads=in_force,
        versions=versions(),
        date=date.today().isoformat(),
        memory_kept=memory_kept,
        busy=said,
    )
    for timing in timings:
        if timing.interval.width > WIDE:
            warnings.warn(f"{timing.name}: the interval is wide, {timing}; take more rounds", stacklevel=2)
    return Measurement(complete, timings)


def _wall(subject: Subject, calls: int) -> float:
    """Seconds of one call by the wall clock, the mean of so many in a row."""
    started = time.perf_counter()
    for _ in range(calls):
        subject()
    return (time.perf_counter() - started) / calls


def _events(subject: Subject, calls: int) -> float:
    """Seconds of one call by the GPU's own clock: its work is queued, and Python would only time the queueing."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        subject()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / calls


def _calls(subject: Subject, warm_up: int, clock: Callable[[Subject, int], float]) -> int:
    """Warm a subject up, and find how many calls make a sample that is long enough to be timed."""
    took = min(clock(subject, 1) for _ in range(max(warm_up, 1)))
    return max(1, math.ceil(SHORTEST / took))


@contextmanager
def _quiet() -> Iterator[bool]:
    """Inside, nothing is collected and denormal numbers are 0. Yields whether freed memory is kept."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    flushed = torch.set_flush_denormal(True)
    try:
        yield keep_memory()
    finally:
        if flushed:
            torch.set_flush_denormal(False)
        if collecting:
            gc.enable()


def _bar(rounds: int, progress: bool) -> Iterator[int]:
    """The rounds' numbers, with a bar on the error stream if one is wanted and somebody is watching."""
    if not (progress and sys.stderr.isatty()):
        yield from range(rounds)
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(range(rounds), description="rounds", console=Console(stderr=True), transient=True)
