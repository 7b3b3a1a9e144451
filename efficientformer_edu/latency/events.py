"""The profiler events of one call of a network, the class of each operator, and the time spent per class.

A profile needs two calls. The first has hooks that record in which module each operator runs. The hooks take longer
than many operators, so this call is not timed. The second has no hooks, calls the same operators, and gives the times.
The profiler adds a constant overhead per event, which would make a network of many small operators seem slower than it
is. The overhead is therefore measured beforehand, on trivial operators, and subtracted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity

from efficientformer_edu.latency.operators import BRANCH, CLASSES, LAYOUT, Classify, classify, place, plain

MARK = "module:"  # before a module's path, in the name of its range
TRIVIAL = 300  # operators on which the profiler's overhead is measured
ROUNDS = 15


class Called(NamedTuple):
    """An operator that a module calls directly: its name in the profile, and its class."""

    name: str
    kind: str


def calls(network: nn.Module, images: Tensor, classify: Classify = classify) -> tuple[Called, ...]:
    """The operators that modules call directly during one call of the network, in order, with their classes."""
    with ExitStack() as hooks:
        for path, module in network.named_modules():
            _mark(module, path, hooks)
        events = record(network, images)
    operators: list[Called] = []
    last = "other"  # the branch that ran last

    def walk(event: FunctionEvent, around: tuple[str, ...]) -> None:
        nonlocal last
        if event.name.startswith(MARK):
            inside = place(network, event.name.removeprefix(MARK))
            for child in _in_turn(event.cpu_children):
                walk(child, inside)
            return
        kind = classify(event.name, around)
        if kind == BRANCH:
            kind = last
        elif kind not in ("reshape", "activation", "norm"):
            last = kind
        operators.append(Called(event.name, kind))

    for event in _outermost(events):
        walk(event, ())
    return tuple(operators)


def record(network: nn.Module, images: Tensor) -> Sequence[FunctionEvent]:
    """The profiler's events of one call."""
    recorder = torch.profiler.profile(activities=[ProfilerActivity.CPU], acc_events=True)
    network(images)  # warms the caches, as before a timed sample
    with _silent():
        recorder.start()
    try:
        network(images)
    finally:
        with _silent():
            recorder.stop()
    return list(recorder.events() or ())


class Trivial(nn.Module):
    """Trivial operators, one event each."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(TRIVIAL):
            x = x + x
        return x


def profiler_cost() -> float:
    """Milliseconds that the profiler adds per event on this machine, measured with a network of trivial operators."""
    network, x, extra = Trivial(), torch.zeros(4), []
    for _ in range(ROUNDS):
        network(x)
        started = time.perf_counter()
        network(x)
        unprofiled_ms = 1e3 * (time.perf_counter() - started)
        events = _outermost(record(network, x))
        span = (events[-1].time_range.end - events[0].time_range.start) / 1e3
        extra.append((span - unprofiled_ms) / len(events))
    return max(median(extra), 0.0)


def sums(events: Sequence[FunctionEvent], called: Sequence[Called], cost: float = 0.0) -> dict[str, float]:
    """Milliseconds per class in one call, from the start of its first operator to the end of its last.

    Args:
        events: events of a call without hooks.
        called: its operators with their classes, from `calls`.
        cost: milliseconds to subtract per event, from `profiler_cost`.

    Raises:
        ValueError: if `called` does not match the operators of this call.
    """
    outermost = _outermost(events)
    if [event.name for event in outermost] != [operator.name for operator in called]:
        raise ValueError("the network does not call the same operators each time, so that none can be told apart")
    totals = dict.fromkeys(CLASSES, 0.0)

    def add(event: FunctionEvent, kind: str) -> None:
        """Add an operator and its children, which have the same class unless they are layout copies."""
        kind = "reshape" if plain(event.name) in LAYOUT else kind
        totals[kind] += event.self_cpu_time_total / 1e3 - cost
        for child in event.cpu_children:
            add(child, kind)

    end = outermost[0].time_range.start if outermost else 0.0
    for event, (_, kind) in zip(outermost, called, strict=True):
        totals[kind] += (event.time_range.start - end) / 1e3
        end = event.time_range.end
        add(event, kind)
    return totals


def _outermost(events: Sequence[FunctionEvent]) -> list[FunctionEvent]:
    return _in_turn([event for event in events if event.cpu_parent is None])


def _in_turn(events: Sequence[FunctionEvent]) -> list[FunctionEvent]:
    return sorted(events, key=lambda event: event.time_range.start)


def _mark(module: nn.Module, path: str, hooks: ExitStack) -> None:
    """Record each call of a module as a range in the profile, until the hooks are closed."""
    ranges: list[record_function] = []

    def enter(*_: object) -> None:
        ranges.append(record_function(MARK + path))
        ranges[-1].__enter__()

    def leave(*_: object) -> None:
        ranges.pop().__exit__(None, None, None)

    hooks.callback(module.register_forward_pre_hook(enter).remove)
    hooks.callback(module.register_forward_hook(leave, always_call=True).remove)


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress the error stream, to which the profiler's library writes when it starts and stops."""
    stderr, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(devnull)
