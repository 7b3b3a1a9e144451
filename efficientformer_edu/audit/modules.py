"""Count any torch module with fvcore and torch's FlopCounterMode.

The rules in `audit.rules` are only for EfficientFormers. For any other network, two tools record the operations of an
actual run; `ModuleAudit` compares them.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from efficientformer_edu.audit.counters import evaluating, fvcore_analysis, needs, run
from efficientformer_edu.audit.module_audit import UNSEEN, ModuleAudit


def audit_module(network: nn.Module, images: Tensor) -> ModuleAudit:
    """Count any network with fvcore and FlopCounterMode, in evaluation mode and without gradients.

    Args:
        network: any module that takes one tensor. A copy of it is run if it can be copied; the module is unchanged.
        images: an input of the network, such as (1, C, H, W).

    Raises:
        ValueError: if the network cannot take these images.
        ImportError: if fvcore is not installed, with the command that installs it.
    """
    needs("fvcore.nn")
    with torch.no_grad(), evaluating(network) as network, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer and the tools warn about their own code
        _try(network, images)
        counted, unseen = _torch(network, images)
        with _unfused_attention():
            written_out, _ = _torch(network, images)
        fvcore, uncounted, failure = _fvcore(network, images)
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
            _try(network, images)
        finally:
            for hook in hooks:
                hook.remove()
        counted = run("flop_counter", network, images).macs // 2
        summary = needs("torchinfo").summary(network, input_data=images, verbose=0)
    fault = (
        f"torchinfo 1.8.0 counts each linear layer for one token of an image: here that hides {hidden:,} MACs. "
        f"It prints {summary.total_mult_adds:,} mult-adds; FlopCounterMode / 2 is {counted:,} MACs."
    )
    return f"{fault}\n\n{summary}\n"


def _try(network: nn.Module, images: Tensor) -> None:
    try:
        network(images)
    except Exception as error:  # the network may raise any exception
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{type(network).__name__} cannot take images of shape {tuple(images.shape)}: {type(error).__name__}: "
            f"{reason}; allowed: a shape that it accepts (command line: --resolution, --channels)"
        ) from error


class _Calls(TorchDispatchMode):
    """Count the calls of each operator."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[_bare(str(func))] += 1
        return func(*args, **(kwargs or {}))


def _torch(network: nn.Module, images: Tensor) -> tuple[dict[str, int], dict[str, int]]:
    """Return FlopCounterMode's MACs per operator, and the calls of operators that it wrongly counts as 0."""
    with (
        _Calls() as calls,
        FlopCounterMode(display=False) as counter,
    ):  # _Calls is outside, so it sees the operators after decomposition
        network(images)
    counted = {
        _bare(str(operator)): flops // 2 for operator, flops in counter.get_flop_counts().get("Global", {}).items()
    }
    return counted, {name: times for name, times in sorted(calls.counts.items()) if name in UNSEEN - set(counted)}


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


def _fvcore(network: nn.Module, images: Tensor) -> tuple[dict[str, int] | None, dict[str, int], str]:
    """Return fvcore's MACs per operator, the calls that it does not count, and the error if it failed."""
    try:
        analysis = fvcore_analysis(network, images)
        counted = {operator: int(macs) for operator, macs in analysis.by_operator().items()}
        left_out = analysis.unsupported_ops().most_common()
    except Exception as error:  # raised by the tracer, or by a rule that does not support this shape
        return None, {}, " ".join(f"{type(error).__name__}: {error}".split())
    return counted, {_bare(operator): times for operator, times in left_out}, ""


def _bare(operator: str) -> str:
    """Return the bare operator name of `aten::linear` or `aten.addmm.default`."""
    return operator.replace("::", ".").split(".")[1]
