"""The profiler's events of one call of a network, the class of each operator, and the time that each class takes.

Two calls make a profile. One has hooks that note in which module each operator runs; they take longer than many an
operator, so it is not timed. The other has none, calls the same operators, and gives the times. The profiler itself
takes a moment for each event, as long for a small operator as for a large one; a network of many small operators would
seem slower than it is. So that moment is measured beforehand, on operators that do next to nothing, and taken off.
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
TRIVIAL = 300  # operators that the profiler's cost is measured on
ROUNDS = 15


class Called(NamedTuple):
    """An operator that a module calls itself, by its name in the profile, and its class."""

    name: str
    kind: str


def calls(network: nn.Module, images: Tensor, classify: Classify = classify) -> tuple[Called, ...]:
    """The operators that the modules call themselves, in the order of one call of the network, with their classes."""
    with ExitStack() as hooks:
        for path, module in network.named_modules():
            _mark(module, path, hooks)
        events = record(network, images)
    found: list[Called] = []
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
        found.append(Called(event.name, kind))

    for event in _outermost(events):
        walk(event, ())
    return tuple(found)


def record(network: nn.Module, images: Tensor) -> Sequence[FunctionEvent]:
    """The profiler's events of one call."""
    recorder = torch.profiler.profile(activities=[ProfilerActivity.CPU], acc_events=True)
    network(images)  # so that the caches hold what is its own, as before a sample of the clock
    with _silent():
        recorder.start()
    try:
        network(images)
    finally:
        with _silent():
            recorder.stop()
    return list(recorder.events() or ())


class Trivial(nn.Module):
    """Operators that do next to nothing, one event each."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(TRIVIAL):
            x = x + x
        return x


def profiler_cost() -> float:
    """Milliseconds that the profiler adds for each event on this machine, by a network of trivial operators."""
    network, x, extra = Trivial(), torch.zeros(4), []
    for _ in range(ROUNDS):
        network(x)
        started = time.perf_counter()
        network(x)
        plain_ms = 1e3 * (time.perf_counter() - started)
        events = _outermost(record(network, x))
        span = (events[-1].time_range.end - events[0].time_range.start) / 1e3
        extra.append((span - plain_ms) / len(events))
    return max(median(extra), 0.0)


def sums(events: Sequence[FunctionEvent], called: Sequence[Called], cost: float = 0.0) -> dict[str, float]:
    """Milliseconds by class of one call, from the start of its first operator to the end of its last.

    Args:
        events: of a call without hooks.
        called: its operators with their classes, as `calls` gives them.
        cost: milliseconds to take off for each event, as `profiler_cost` gives them.

    Raises:
        ValueError: if they are not the operators of this call.
    """
    outermost = _outermost(events)
    if [event.name for event in outermost] != [one.name for one in called]:
        raise ValueError("the network does not call the same operators each time, so that none can be told apart")
    found = dict.fromkeys(CLASSES, 0.0)

    def add(event: FunctionEvent, kind: str) -> None:
        """Book an operator and those that it calls, which share its class unless they copy for the layout's sake."""
        kind = "reshape" if plain(event.name) in LAYOUT else kind
        found[kind] += event.self_cpu_time_total / 1e3 - cost
        for child in event.cpu_children:
            add(child, kind)

    end = outermost[0].time_range.start if outermost else 0.0
    for event, (_, kind) in zip(outermost, called, strict=True):
        found[kind] += (event.time_range.start - end) / 1e3
        end = event.time_range.end
        add(event, kind)
    return found


def _outermost(events: Sequence[FunctionEvent]) -> list[FunctionEvent]:
    return _in_turn([event for event in events if event.cpu_parent is None])


def _in_turn(events: Sequence[FunctionEvent]) -> list[FunctionEvent]:
    return sorted(events, key=lambda event: event.time_range.start)


def _mark(module: nn.Module, path: str, hooks: ExitStack) -> None:
    """Make each call of a module a range of the profile, until the hooks are closed."""
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
    """Inside, nothing reaches the error stream: the profiler's library writes there when it starts and stops."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
