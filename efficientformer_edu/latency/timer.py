"""An interleaved timer: functions run in turns, and the conditions are recorded.

Paper: section 3 and the columns "Latency" of Table 1, which are means of 1000 runs on a phone. Here functions are
interleaved, A B C A B C ..., so that a machine that gets hot or busy slows all of them. Each sample follows an untimed
call, so that no function starts with the cold cache that the previous one left. During timing, garbage collection is
off, denormal numbers are flushed to 0, and freed memory stays with the process.
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
from functools import partial

import torch

from efficientformer_edu.latency.records import Conditions, Measurement, Timing
from efficientformer_edu.utils.hardware import accelerator, busy, keep_memory, page_faults, threads, versions
from efficientformer_edu.utils.statistics import MIN_SAMPLES

Function = Callable[[], object]

SHORTEST = 2e-3  # seconds: a faster function is called several times in a row for one sample
WIDE = 0.10  # relative to the median: a wider interval causes a warning


def measure(
    functions: Mapping[str, Function],
    conditions: Conditions | None = None,
    *,
    rounds: int = 30,
    warm_up: int = 3,
    num_threads: int | None = None,
    device: str = "cpu",
    progress: bool = False,
) -> Measurement:
    """Time functions in turns.

    Args:
        functions: functions without arguments, by name; return values are ignored.
        conditions: fields set by the caller (batch, resolution, command, ...); the others are filled in here.
        rounds: timed samples of each function. A verdict needs at least `MIN_SAMPLES` of `utils.statistics`.
        warm_up: preceding rounds that are not counted.
        num_threads: torch threads; None for the current setting. Functions that run in another library have to set
            their own.
        device: device of the functions: "cpu"; a CUDA device such as "cuda" or "cuda:1", timed by CUDA events; or
            "mps", timed by the wall clock with a synchronization before and after each sample.
        progress: show a progress bar on the terminal.

    Returns:
        Seconds of one call for each function and round; the order of functions is the same in all rounds.

    Raises:
        ValueError: without functions or rounds, for a device that cannot be timed, or an impossible number of threads.

    Warns:
        UserWarning: if the machine is busy, or a 95 % confidence interval is wider than a tenth of its median.
    """
    if not functions or rounds < 1:
        raise ValueError(
            f"{len(functions)} functions in {rounds} rounds is not possible; allowed: at least one of each"
        )
    runs_on = timing_device(device)
    if load := busy():
        warnings.warn(f"{load}; close what you can", stacklevel=2)
    clock = partial(_CLOCKS[runs_on.type], runs_on)
    samples: dict[str, list[float]] = {name: [] for name in functions}
    faults = dict.fromkeys(functions, 0)
    with threads(num_threads) as in_force, _quiet() as memory_kept:
        calls = {name: _calls(function, warm_up, clock) for name, function in functions.items()}
        for _ in _bar(rounds, progress):
            for name, function in functions.items():
                function()
                before = page_faults()
                samples[name].append(clock(function, calls[name]))
                faults[name] += page_faults() - before
    timings = tuple(
        Timing(name, tuple(samples[name]), faults[name] / (rounds * calls[name]), calls[name]) for name in functions
    )
    complete = (conditions or Conditions()).complete(
        machine=accelerator(runs_on),
        threads=in_force,
        versions=versions(),
        date=date.today().isoformat(),
        memory_kept=memory_kept,
        busy=load,
    )
    for timing in timings:
        if rounds >= MIN_SAMPLES and timing.estimate.relative_width > WIDE:
            warnings.warn(f"{timing.name}: the confidence interval is wide, {timing}; use more rounds", stacklevel=2)
    return Measurement(complete, timings)


def timing_device(device: str) -> torch.device:
    """The device, if it can be timed.

    Raises:
        ValueError: for a device that this timer cannot synchronize, or that this machine does not have.
    """
    kind, _, index = device.partition(":")
    if kind not in _CLOCKS or (index and not index.isdecimal()):
        raise ValueError(f"device={device!r} cannot be timed; allowed: cpu, cuda, cuda:0, cuda:1, ... and mps")
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= available:
        raise ValueError(f"device={device!r} is not available; {kind} devices of this machine: {available}")
    return torch.device(device)


def _wall(device: torch.device, function: Function, calls: int) -> float:
    """Seconds of one call by the wall clock, averaged over consecutive calls."""
    started = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - started) / calls


def _events(device: torch.device, function: Function, calls: int) -> float:
    """Seconds of one call by CUDA events. Calls are asynchronous, so a wall clock would only time the launches."""
    with torch.cuda.device(device):  # else events and synchronization would use cuda:0
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        for _ in range(calls):
            function()
        end.record()
        torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / calls


def _synchronized(device: torch.device, function: Function, calls: int) -> float:
    """Seconds of one call by the wall clock, with the queue of the Apple GPU empty before and after."""
    torch.mps.synchronize()
    started = time.perf_counter()
    for _ in range(calls):
        function()
    torch.mps.synchronize()
    return (time.perf_counter() - started) / calls


_CLOCKS = {"cpu": _wall, "cuda": _events, "mps": _synchronized}


def _calls(function: Function, warm_up: int, clock: Callable[[Function, int], float]) -> int:
    """Warm up a function, and return the number of calls in a sample that is long enough to be timed."""
    seconds = min(clock(function, 1) for _ in range(max(warm_up, 1)))
    return max(1, math.ceil(SHORTEST / seconds))


@contextmanager
def _quiet() -> Iterator[bool]:
    """Turn off garbage collection and flush denormal numbers to 0. Yields whether freed memory is kept."""
    collecting, flushing = gc.isenabled(), _flushes_denormals()
    gc.collect()
    gc.disable()
    torch.set_flush_denormal(True)
    try:
        yield keep_memory()
    finally:
        torch.set_flush_denormal(flushing)
        if collecting:
            gc.enable()


def _flushes_denormals() -> bool:
    """Whether denormal numbers are currently flushed to 0. torch can set this but not report it."""
    return float(torch.tensor(5e-324, dtype=torch.float64) * 1) == 0


def _bar(rounds: int, progress: bool) -> Iterator[int]:
    """Indices of the rounds, with a progress bar on the error stream if `progress` is set and it is a terminal."""
    if not (progress and sys.stderr.isatty()):
        yield from range(rounds)
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(range(rounds), description="rounds", console=Console(stderr=True), transient=True)
