"""Count any torch module with fvcore and torch's FlopCounterMode, and explain the differences.

The rules in `audit.rules` are only for EfficientFormers. For any other network, the two tools record the operations of
an actual run. Both count 1 per multiply-add in convolutions and matrix products. They differ in normalization layers,
interpolation, and fused attention calls.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from efficientformer_edu.audit.counters import evaluating, fvcore_analysis, run
from efficientformer_edu.utils.optional import import_optional
from efficientformer_edu.utils.tables import Format, Table

KINDS = {
    "convolution": {"conv", "convolution", "_convolution", "cudnn_convolution", "_slow_conv2d_forward"},
    "matrix product": {
        *("linear", "matmul", "einsum", "addmm", "bmm", "mm", "baddbmm"),
        *("_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"),
        "_scaled_dot_product_cudnn_attention",
    },
    "norm": {"batch_norm", "layer_norm", "group_norm", "instance_norm"},
    "other": set[str](),
}
"""The operators of both tools by kind; all unlisted operators are "other"."""

PRODUCTS = {"scaled_dot_product_attention", "baddbmm", "lstm", "gru", "rnn_tanh", "rnn_relu", "mv", "addmv", "dot"}
FUSED = {
    "_scaled_dot_product_flash_attention_for_cpu",
    "_native_multi_head_attention",
    "_transformer_encoder_layer_fwd",
}
UNCOUNTED = PRODUCTS | FUSED | {"mkldnn_rnn_layer"}
"""Operators that multiply matrices or vectors, but count as 0 in a tool that has no rule for them."""


@dataclass(frozen=True)
class ModuleAudit:
    """The counts of two tools for a network on given images. All counts are MACs.

    Attributes:
        name: class name of the network.
        images: shape of the input.
        params: number of parameters; shared parameters count once.
        fvcore: fvcore's count per operator; None if it failed.
        flop_counter: FlopCounterMode's count per operator, halved.
        uncounted: operators for which fvcore has no rule, and how often each is called.
        unseen: operators that multiply matrices and that FlopCounterMode counts as 0, and how often each is called.
        written_out: FlopCounterMode's MACs with attention computed as two matrix products.
        failure: why fvcore failed, or "".
    """

    name: str
    images: tuple[int, ...]
    params: int
    fvcore: Mapping[str, int] | None
    flop_counter: Mapping[str, int]
    uncounted: Mapping[str, int]
    unseen: Mapping[str, int]
    written_out: int
    failure: str = ""

    @property
    def macs(self) -> int:
        """FlopCounterMode's total, halved."""
        return sum(self.flop_counter.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """Explanations of the difference, and of what both tools leave out: one or two sentences each."""
        return tuple(_notes(self))

    def table(self) -> Table:
        """Return MACs by kind of operator: fvcore, FlopCounterMode, and the difference."""
        kinds = [kind for kind in KINDS if _of_kind(self.fvcore or {}, kind) or _of_kind(self.flop_counter, kind)]
        rows = [self._row(kind, _of_kind(self.fvcore or {}, kind), _of_kind(self.flop_counter, kind)) for kind in kinds]
        total = self._row("total", self.fvcore or {}, self.flop_counter)
        columns = ("kind", "in fvcore", "in FlopCounterMode", "fvcore", "FlopCounterMode / 2", "difference")
        return Table(columns, (*rows, (total[0], None, None, *total[3:])), total=True)

    def to(self, format: Format) -> str:
        """Format the table. Text and Markdown add the notes, JSON all counts."""
        if format == "json":
            return json.dumps({**asdict(self), "macs": self.macs, "notes": self.notes}, indent=2)
        text = self.table().to(format)
        if format == "csv":
            return text
        mark = "* " if format == "markdown" else ""
        lines = "\n".join(f"{mark}{note}" for note in self.notes)
        return f"{self!r}\n\n{text.rstrip()}\n\n{lines}\n"

    def to_markdown(self) -> str:
        """Return the table and the notes as Markdown."""
        return self.to("markdown")

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.images))
        return f"{self.name} on {shape}: {self.params:,} parameters, {self.macs:,} MACs by FlopCounterMode / 2"

    def _row(
        self, label: str, fvcore: Mapping[str, int], flop_counter: Mapping[str, int]
    ) -> tuple[str | int | None, ...]:
        fvcore_total, flop_counter_total = sum(fvcore.values()), sum(flop_counter.values())
        known = self.fvcore is not None
        numbers = (
            fvcore_total if known else None,
            flop_counter_total,
            fvcore_total - flop_counter_total if known else None,
        )
        return (label, ", ".join(fvcore), ", ".join(flop_counter), *numbers)


def _notes(audit: ModuleAudit) -> Iterator[str]:
    fvcore, unseen = audit.fvcore or {}, audit.unseen
    if audit.fvcore is None:
        yield f"fvcore could not follow this network: {audit.failure}."
    if norms := _of_kind(fvcore, "norm"):
        yield (
            f"fvcore adds {sum(norms.values()):,} for {_join(norms)}: 2 per element of a batch norm and 5 of any other "
            "norm, 1 and 4 without learned factors. FlopCounterMode counts no norm."
        )
    if others := _of_kind(fvcore, "other"):
        yield f"fvcore adds {sum(others.values()):,} for {_join(others)}, which FlopCounterMode does not count."
    for kind in ("convolution", "matrix product"):
        more = sum(_of_kind(audit.flop_counter, kind).values()) - sum(_of_kind(fvcore, kind).values())
        if more and audit.fvcore is not None:
            yield f"In all {kind}s FlopCounterMode counts {abs(more):,} MACs {'more' if more > 0 else 'fewer'}."
    known = {name: calls for name, calls in audit.uncounted.items() if name in UNCOUNTED}
    if known:
        yield f"fvcore counts 0 for {_list_calls(known)}, though it multiplies."
    if unseen:
        yield f"FlopCounterMode counts 0 for {_list_calls(unseen)}, though it multiplies."
    elif "scaled_dot_product_attention" in known:
        yield "FlopCounterMode counts scaled_dot_product_attention in full here: torch made plain products of it."
    if hidden := audit.written_out - audit.macs:
        yield f"With attention as plain products FlopCounterMode counts {audit.written_out:,} MACs, {hidden:,} more."
    if extra := {name: calls for name, calls in audit.uncounted.items() if name not in known}:
        rule = "FlopCounterMode counts only convolutions and matrix products"
        yield f"fvcore has no rule for {_list_calls(extra)}; {rule}."
    if audit.fvcore is not None and sum(fvcore.values()) == audit.macs:
        yield "The two totals agree."


def _of_kind(counts: Mapping[str, int], kind: str) -> dict[str, int]:
    """Return the operators of a kind with nonzero counts."""
    return {name: macs for name, macs in counts.items() if macs and _kind(name) == kind}


def _kind(operator: str) -> str:
    return next((kind for kind, names in KINDS.items() if operator in names), "other")


def _list_calls(counts: Mapping[str, int]) -> str:
    return _join(f"{name} ({calls:,} call{'s' * (calls > 1)})" for name, calls in counts.items())


def _join(items: Iterable[str]) -> str:
    *others, last = items
    return f"{', '.join(others)} and {last}" if others else last


def audit_module(network: nn.Module, images: Tensor) -> ModuleAudit:
    """Count any network with fvcore and FlopCounterMode, in evaluation mode and without gradients.

    Args:
        network: any module that takes one tensor. A copy of it is run if it can be copied; the module is unchanged.
        images: an input of the network, such as (1, C, H, W).

    Raises:
        ValueError: if the network cannot take these images.
        ImportError: if fvcore is not installed, with the command that installs it.
    """
    import_optional("fvcore.nn")
    with torch.no_grad(), evaluating(network) as network, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer and the tools warn about their own code
        _check_runs(network, images)
        counted, unseen = _count_with_torch(network, images)
        with _unfused_attention():
            written_out, _ = _count_with_torch(network, images)
        fvcore, uncounted, failure = _count_with_fvcore(network, images)
    params = sum(parameter.numel() for parameter in network.parameters())
    name, shape = type(network).__name__, tuple(images.shape)
    total = sum(written_out.values())
    return ModuleAudit(name, shape, params, fvcore, counted, uncounted, unseen, total, failure)


def torchinfo_summary(network: nn.Module, images: Tensor) -> str:
    """Return torchinfo's summary of a network, preceded by the MACs that release 1.8.0 misses in it.

    It counts a linear layer on tokens for a single token. It does not count matrix products outside of layers.

    Raises:
        ValueError: if the network cannot take these images.
        ImportError: if torchinfo is not installed, with the command that installs it.
    """
    hidden = 0

    def on_tokens(linear: nn.Module, _: Any, tokens: Tensor) -> None:  # tokens are (B, ..., C)
        nonlocal hidden
        if tokens.dim() > 1:
            hidden += linear.get_parameter("weight").numel() * (prod(tokens.shape[:-1]) - prod(tokens.shape[:1]))

    with torch.no_grad(), evaluating(network) as network, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        linears = [module for module in network.modules() if isinstance(module, nn.Linear)]
        hooks = [linear.register_forward_hook(on_tokens) for linear in linears]
        try:
            _check_runs(network, images)
        finally:
            for hook in hooks:
                hook.remove()
        counted = run("flop_counter", network, images).macs // 2
        summary = import_optional("torchinfo").summary(network, input_data=images, verbose=0)
    fault = (
        f"torchinfo 1.8.0 counts each linear layer for one token of an image: here that hides {hidden:,} MACs. "
        f"It prints {summary.total_mult_adds:,} mult-adds; FlopCounterMode / 2 is {counted:,} MACs."
    )
    return f"{fault}\n\n{summary}\n"


def _check_runs(network: nn.Module, images: Tensor) -> None:
    try:
        network(images)
    except Exception as error:  # the network may raise any exception
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{type(network).__name__} cannot take images of shape {tuple(images.shape)}: {type(error).__name__}: "
            f"{reason}; allowed: a shape that it accepts (command line: --resolution, --channels)"
        ) from error


class _CallCounter(TorchDispatchMode):
    """Count the calls of each operator."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[_operator_name(str(func))] += 1
        return func(*args, **(kwargs or {}))


def _count_with_torch(network: nn.Module, images: Tensor) -> tuple[dict[str, int], dict[str, int]]:
    """Return FlopCounterMode's MACs per operator, and the calls of operators that it wrongly counts as 0."""
    with (
        _CallCounter() as calls,
        FlopCounterMode(display=False) as counter,
    ):  # _CallCounter is outside, so it sees the operators after decomposition
        network(images)
    total = counter.get_flop_counts().get("Global", {})
    counted = {_operator_name(str(operator)): flops // 2 for operator, flops in total.items()}
    return counted, {name: times for name, times in sorted(calls.counts.items()) if name in UNCOUNTED - set(counted)}


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Make torch compute attention as two matrix products instead of one fused call."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _count_with_fvcore(network: nn.Module, images: Tensor) -> tuple[dict[str, int] | None, dict[str, int], str]:
    """Return fvcore's MACs per operator, the calls that it does not count, and the error if it failed."""
    try:
        analysis = fvcore_analysis(network, images)
        counted = {operator: int(macs) for operator, macs in analysis.by_operator().items()}
        left_out = analysis.unsupported_ops().most_common()
    except Exception as error:  # raised by the tracer, or by a rule that does not support this shape
        return None, {}, " ".join(f"{type(error).__name__}: {error}".split())
    return counted, {_operator_name(operator): times for operator, times in left_out}, ""


def _operator_name(operator: str) -> str:
    """Return the bare operator name of `aten::linear` or `aten.addmm.default`."""
    return operator.replace("::", ".").split(".")[1]
