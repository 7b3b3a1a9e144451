"""The class of Fig. 2 that an operator belongs to, from its function or from the module in which it runs.

Paper: section 3, Fig. 2, which names six of the classes. The authors' rules are not published. The rules here are the
tables below, applied in this order:

1. Norms, activations, pooling and operators that only move data (copies, views, concatenations) are classified by their
   function. A layout copy inside an attention product or a linear layer also counts as reshape.
2. Next, the innermost module with a known name or type determines the class.
3. Next, a convolution is classified by its kernel: 1×1 mixes channels like an MLP (the MLP of an MB4D consists of
   two). A larger one at the top of the network is the stem; in a block it mixes neighbouring positions, like the
   pooling in an MB4D, and has the same class.
4. Remaining sums, differences and scales end a branch: a residual connection or a layer scale. They belong to the
   branch that ran before them.
5. Everything else is "other": the heads, the mean over all positions before them, and operators without a rule.

The profiler events of one call of a network, the class of each operator, and the time spent per class.

A profile needs two calls. The first has hooks that record in which module each operator runs. The hooks take longer
than many operators, so this call is not timed. The second has no hooks, calls the same operators, and gives the times.
The profiler adds a constant overhead per event, which would make a network of many small operators seem slower than it
is. The overhead is therefore measured beforehand, on trivial operators, and subtracted.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity

SPATIAL = "spatial convolution and pooling"
CLASSES = ("patch embedding", "attention", "MLP", "reshape", "activation", "norm", SPATIAL, "other")
BRANCH = "branch"  # the class is that of the branch that ran before

Classify = Callable[[str, Sequence[str]], str]
"""Maps an operator's name and the enclosing modules, outermost first, to a class or to `BRANCH`."""

NORMS = {"layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm"}
ACTIVATIONS = {"relu", "relu6", "gelu", "hardtanh", "hardswish", "silu", "hardsigmoid", "leaky_relu", "elu", "mish"}
POOLS = {"avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d"}
LAYOUT = {"clone", "contiguous"}  # layout copies, including those made by other operators
MOVES = LAYOUT | {
    *(
        "copy",
        "to",
        "to_copy",
        "cat",
        "stack",
        "pad",
        "roll",
        "repeat",
        "expand",
        "expand_as",
        "reshape",
        "reshape_as",
        "view",
    ),
    *("view_as", "flatten", "unflatten", "transpose", "permute", "t", "movedim", "squeeze", "unsqueeze", "select"),
    *("slice", "narrow", "split", "split_with_sizes", "chunk", "unbind", "unfold", "as_strided", "alias", "detach"),
}
ENDS = {"add", "sub", "rsub", "mul", "div", "neg", "lerp", "addcmul"}
OPERATORS = (
    (NORMS, "norm"),
    (ACTIVATIONS, "activation"),
    (POOLS, SPATIAL),
    (MOVES, "reshape"),
)

HEADS = r"^/(head\w*|fc|classifier|global_pool):"  # at the top level, where the name starts with a slash
MODULES = (
    (r":(Layer|Batch|Group|Instance|RMS)Norm", "norm"),
    (r":(GELU|ReLU|Hard(s|S)wish|SiLU)", "activation"),
    (r"(?i)attn|attention|mhsa", "attention"),
    (r":(Avg|Max)Pool|:Pooling", SPATIAL),
    (r"^/stem|conv_stem|patch_embed|downsample|:(PatchEmbed|Embedding|Downsample)", "patch embedding"),
    (r"(?i)mlp|feed_?forward|ffn", "MLP"),
    (r":(LayerScale|Scale)", BRANCH),
)
CONVOLUTIONS = (
    (r":Conv\w* 1×1", "MLP"),
    (r"^/.*:Conv", "patch embedding"),
    (r":Conv", SPATIAL),
)


def classify(operator: str, around: Sequence[str]) -> str:
    """The class of an operator that a module calls directly, from the tables in this module.

    Args:
        operator: its name in the profile, such as `"aten::linear"`.
        around: the enclosing modules, outermost first, named as by `place`, without the network itself.
    """
    name = plain(operator)
    for names, kind in OPERATORS:
        if name in names:
            return kind
    if any(re.search(HEADS, part) for part in around):
        return "other"
    for table in (MODULES, CONVOLUTIONS):
        for part in reversed(around):
            for pattern, kind in table:
                if re.search(pattern, part):
                    return kind if kind != BRANCH or name in ENDS else "other"
    return BRANCH if name in ENDS else "other"


def plain(operator: str) -> str:
    """The base name of an operator: `"add"` for `"aten::add_"`, `"to_copy"` for `"aten::_to_copy"`."""
    return operator.removeprefix("aten::").strip("_")


def place(network: nn.Module, path: str) -> tuple[str, ...]:
    """The modules on a path, such as `("/stem:Stem", "conv1:Conv2d 3×3")`, without the network itself."""
    parts: list[str] = []
    module = network
    for name in filter(None, path.split(".")):
        module = module.get_submodule(name)
        kernel = getattr(module, "kernel_size", None)
        size = "×".join(map(str, kernel)) if isinstance(module, nn.Conv2d) and isinstance(kernel, tuple) else ""
        parts.append(f"{'' if parts else '/'}{name}:{type(module).__name__} {size}".rstrip())
    return tuple(parts)


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
