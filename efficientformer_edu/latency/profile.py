"""Reproduce Fig. 2: the share of a network's latency per operator class.

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

PyTorch's profiler records when each operator starts and ends. In one untimed call, hooks record in which module each
operator runs. The timed calls have no hooks, because these take longer than many operators. The time between two
operators, in which Python runs and memory is freed, is added to the class of the second one. The profiler adds a
constant overhead per event, which would make a network of many small operators seem slower than it is, so the overhead
is measured on trivial operators and subtracted. As a check, the network is also timed without the profiler, in turns.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity

from efficientformer_edu.latency.records import Conditions
from efficientformer_edu.latency.timer import measure
from efficientformer_edu.utils.records import from_dict, load_json, save_json
from efficientformer_edu.utils.statistics import MIN_SAMPLES
from efficientformer_edu.utils.tables import Table

SPATIAL = "spatial convolution and pooling"
CLASSES = ("patch embedding", "attention", "MLP", "reshape", "activation", "norm", SPATIAL, "other")
BRANCH = "branch"  # the class is that of the branch that ran before

Classify = Callable[[str, Sequence[str]], str]
"""Maps an operator's name and the enclosing modules, outermost first, to a class or to `BRANCH`."""

LAYOUT_COPIES = {"clone", "contiguous"}  # including those made by other operators
ENDS_OF_BRANCHES = {"add", "sub", "rsub", "mul", "div", "neg", "lerp", "addcmul"}
OPERATORS = {
    "norm": "layer_norm batch_norm group_norm instance_norm rms_norm",
    "activation": "relu relu6 gelu hardtanh hardswish silu hardsigmoid leaky_relu elu mish",
    SPATIAL: "avg_pool1d avg_pool2d max_pool1d max_pool2d",
    "reshape": (
        "clone contiguous copy to to_copy cat stack pad roll repeat expand expand_as reshape reshape_as view view_as "
        "flatten unflatten transpose permute t movedim squeeze unsqueeze select slice narrow split split_with_sizes "
        "chunk unbind unfold as_strided alias detach"
    ),
}
CLASS_OF_OPERATOR = {name: kind for kind, names in OPERATORS.items() for name in names.split()}

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

MARK = "module:"  # before a module's path, in the name of its range
TRIVIAL_OPERATORS, OVERHEAD_ROUNDS = 300, 15  # to measure the profiler's overhead
PROFILES = "profiles"
RESHAPED = "LeViT-256"  # the paper calls the reshapes of this network a bottleneck


def classify(operator: str, modules: Sequence[str]) -> str:
    """The class of an operator that a module calls directly, from the tables in this module.

    Args:
        operator: its name in the profile, such as `"aten::linear"`.
        modules: the enclosing modules, outermost first, named as by `module_names`.
    """
    name = base_name(operator)
    if name in CLASS_OF_OPERATOR:
        return CLASS_OF_OPERATOR[name]
    if any(re.search(HEADS, module) for module in modules):
        return "other"
    for patterns in (MODULES, CONVOLUTIONS):
        for module in reversed(modules):
            for pattern, kind in patterns:
                if re.search(pattern, module):
                    return kind if kind != BRANCH or name in ENDS_OF_BRANCHES else "other"
    return BRANCH if name in ENDS_OF_BRANCHES else "other"


def base_name(operator: str) -> str:
    """The base name of an operator: `"add"` for `"aten::add_"`, `"to_copy"` for `"aten::_to_copy"`."""
    return operator.removeprefix("aten::").strip("_")


def module_names(network: nn.Module, path: str) -> tuple[str, ...]:
    """The modules on a path, such as `("/stem:Stem", "conv1:Conv2d 3×3")`, without the network itself."""
    names: list[str] = []
    module = network
    for name in filter(None, path.split(".")):
        module = module.get_submodule(name)
        kernel = getattr(module, "kernel_size", None)
        size = "×".join(map(str, kernel)) if isinstance(module, nn.Conv2d) and isinstance(kernel, tuple) else ""
        names.append(f"{'' if names else '/'}{name}:{type(module).__name__} {size}".rstrip())
    return tuple(names)


@dataclass(frozen=True)
class Profile:
    """The latency of a network by operator class.

    Attributes:
        name: name of the network.
        total_ms: median milliseconds of one call without the profiler, from `timer.measure`.
        parts: profiled milliseconds of every class of `CLASSES`, not scaled to the total.
        rounds: number of timed calls, and of profiled calls.
        conditions: the conditions of the measurement.
    """

    name: str
    total_ms: float
    parts: Mapping[str, float]
    rounds: int
    conditions: Conditions

    @property
    def profiled_ms(self) -> float:
        """The sum of the parts."""
        return sum(self.parts.values())

    @property
    def ratio(self) -> float:
        """The sum of the parts divided by the timed total: how much of the latency the profile explains."""
        return self.profiled_ms / self.total_ms

    @property
    def shares(self) -> dict[str, float]:
        """Each class's share of the sum."""
        return {name: ms / self.profiled_ms for name, ms in self.parts.items()}

    def table(self) -> Table:
        """The classes in milliseconds and as shares of their sum, then the sum and the timed total."""
        rows = [(name, ms, self.shares[name]) for name, ms in self.parts.items()]
        ends = [("profiled", self.profiled_ms, 1.0), ("timed", self.total_ms, 1 / self.ratio)]
        columns = (self.name, "ms", "of the profiled")
        return Table(columns, (*rows, *ends), formats={"ms": ".3f", "of the profiled": ".1%"})

    def _repr_markdown_(self) -> str:
        return f"{self.table().to_markdown()}\n\n{self.conditions}"


def profile(
    network: nn.Module,
    images: Tensor,
    classify: Classify = classify,
    *,
    name: str = "",
    num_threads: int | None = None,
    rounds: int = 10,
    command: str = "",
) -> Profile:
    """Time a network on the CPU, and break the latency down by operator class.

    Args:
        network: any network, in evaluation mode.
        images: the input, (B, C, H, W).
        classify: maps an operator to its class; the default is `classify` of this module.
        name: name of the network; the default is the name of its type.
        num_threads: torch threads; None for the current setting.
        rounds: number of timed calls, and of profiled calls in turns with them.
        command: the command that repeats the measurement, which is stored.

    Returns:
        The profile. Its parts are medians over the rounds, computed by `scaled_medians`.

    Raises:
        ValueError: for a network in training mode, images that are not on the CPU, a network that does not call the
            same operators each time, and as `measure` does.

    Warns:
        UserWarning: as `measure` does, also of the profiled calls.
    """
    if network.training or images.device.type != "cpu":
        mode = "training" if network.training else "evaluation"
        raise ValueError(f"a network in {mode} mode on {images.device.type}; allowed: evaluation mode on cpu")
    passes: list[dict[str, float]] = []
    name = name or type(network).__name__
    profiled = f"{name}, profiled"
    conditions = Conditions(command=command, batch=len(images), resolution=(images.shape[2], images.shape[3]))
    with torch.inference_mode():
        network(images)  # the first call of some networks computes and caches biases
        operators, overhead = trace_operators(network, images, classify), profiler_overhead()
        functions = {
            name: lambda: network(images),
            profiled: lambda: passes.append(class_times(record_events(network, images), operators, overhead)),
        }
        timed = measure(functions, conditions, rounds=rounds, num_threads=num_threads)
    last = rounds * (1 + timed[profiled].calls)  # each sample follows an untimed call; before that, warm-up
    return Profile(name, timed[name].milliseconds, scaled_medians(passes[-last:]), rounds, timed.conditions)


class Operator(NamedTuple):
    """An operator that a module calls directly: its name in the profile, and its class."""

    name: str
    kind: str


def trace_operators(network: nn.Module, images: Tensor, classify: Classify = classify) -> tuple[Operator, ...]:
    """The operators that modules call directly during one call of the network, in order, with their classes."""
    with ExitStack() as hooks:
        for path, module in network.named_modules():
            _mark(module, path, hooks)
        events = record_events(network, images)
    operators: list[Operator] = []
    branch = "other"  # the branch that ran last

    def walk(event: FunctionEvent, modules: tuple[str, ...]) -> None:
        nonlocal branch
        if event.name.startswith(MARK):
            inside = module_names(network, event.name.removeprefix(MARK))
            for child in _by_start(event.cpu_children):
                walk(child, inside)
            return
        kind = classify(event.name, modules)
        if kind == BRANCH:
            kind = branch
        elif kind not in ("reshape", "activation", "norm"):
            branch = kind
        operators.append(Operator(event.name, kind))

    for event in _outermost(events):
        walk(event, ())
    return tuple(operators)


def record_events(network: nn.Module, images: Tensor) -> Sequence[FunctionEvent]:
    """The profiler's events of one call."""
    profiler = torch.profiler.profile(activities=[ProfilerActivity.CPU], acc_events=True)
    network(images)  # warms the caches, as before a timed sample
    with _silent():
        profiler.start()
    try:
        network(images)
    finally:
        with _silent():
            profiler.stop()
    return list(profiler.events() or ())


def class_times(
    events: Sequence[FunctionEvent], operators: Sequence[Operator], overhead: float = 0.0
) -> dict[str, float]:
    """Milliseconds per class in one call, from the start of its first operator to the end of its last.

    Args:
        events: events of a call without hooks.
        operators: its operators with their classes, from `trace_operators`.
        overhead: milliseconds to subtract per event, from `profiler_overhead`.

    Raises:
        ValueError: if `operators` are not those of this call.
    """
    outermost = _outermost(events)
    if [event.name for event in outermost] != [operator.name for operator in operators]:
        raise ValueError("the network does not call the same operators each time, so their classes are unknown")
    totals = dict.fromkeys(CLASSES, 0.0)

    def add(event: FunctionEvent, kind: str) -> None:
        """Add an operator and its children, which have the same class unless they are layout copies."""
        kind = "reshape" if base_name(event.name) in LAYOUT_COPIES else kind
        totals[kind] += event.self_cpu_time_total / 1e3 - overhead
        for child in event.cpu_children:
            add(child, kind)

    end = outermost[0].time_range.start if outermost else 0.0
    for event, (_, kind) in zip(outermost, operators, strict=True):
        totals[kind] += (event.time_range.start - end) / 1e3
        end = event.time_range.end
        add(event, kind)
    return totals


def scaled_medians(passes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each class, scaled so that they sum to the median of the passes' sums.

    A disturbance usually affects a single class, so each class is disturbed in fewer passes than the total. Without
    scaling, the medians would sum to less than the latency of a call.
    """
    medians = {kind: median(times[kind] for times in passes) for kind in CLASSES}
    scale = median(sum(times.values()) for times in passes) / sum(medians.values())
    return {kind: ms * scale for kind, ms in medians.items()}


class Trivial(nn.Module):
    """Trivial operators, one event each."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(TRIVIAL_OPERATORS):
            x = x + x
        return x


def profiler_overhead() -> float:
    """Milliseconds that the profiler adds per event on this machine, measured with a network of trivial operators."""
    network, x, extra = Trivial(), torch.zeros(4), []
    for _ in range(OVERHEAD_ROUNDS):
        network(x)
        started = time.perf_counter()
        network(x)
        unprofiled_ms = 1e3 * (time.perf_counter() - started)
        events = _outermost(record_events(network, x))
        span = (events[-1].time_range.end - events[0].time_range.start) / 1e3
        extra.append((span - unprofiled_ms) / len(events))
    return max(median(extra), 0.0)


def _outermost(events: Sequence[FunctionEvent]) -> list[FunctionEvent]:
    return _by_start([event for event in events if event.cpu_parent is None])


def _by_start(events: Sequence[FunctionEvent]) -> list[FunctionEvent]:
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


def findings(profiles: Sequence[Profile]) -> list[dict[str, str]]:
    """Whether reshapes take a larger share in LeViT-256 than in any other network, as observation 2 states for Fig. 2.

    Empty without LeViT-256 and another network, or with too few rounds.
    """
    shares = {entry.name: entry.shares.get("reshape", 0.0) for entry in profiles if entry.rounds >= MIN_SAMPLES}
    levit = shares.pop(RESHAPED, None)
    if levit is None or not shares:
        return []
    largest = max(shares, key=shares.__getitem__)
    summary = f"reshapes take {levit:.0%} of {RESHAPED}'s time, and {shares[largest]:.0%} of {largest}'s"
    status = "same trend" if levit > shares[largest] else "disagrees"
    why = (
        "No milliseconds of single operators are sourced. What section 3 says of them is that reshapes slow LeViT down."
    )
    return [{"row": "Fig. 2: latency by class of operators", "status": status, "ours": summary, "why": why}]


def save_profiles(profiles: Sequence[Profile], path: Path) -> None:
    """Write profiles to a JSON file, atomically, with the finding on Fig. 2 for the report. Raises OSError."""
    data = {**profiles[0].conditions.where(), "findings": findings(profiles), "profiles": list(profiles)}
    save_json(data, path, PROFILES)


def load_profiles(path: Path) -> list[Profile]:
    """Load the profiles that `save_profiles` wrote. Raises ValueError with the file name if there are none."""
    return load_json(path, PROFILES, lambda data: [from_dict(Profile, entry) for entry in data["profiles"]])
