"""Any other torch module, really run through fvcore and torch's FlopCounterMode.

The rules in `audit.rules` hold for EfficientFormers. For a network that the kit knows nothing about, two tools that
follow the operations of a real run stand in; `ModuleAudit` lays them side by side.
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
    """Count any network by fvcore and by FlopCounterMode, in evaluation mode and without gradients.

    Args:
        network: any module that takes one tensor, left unchanged. It is copied; a module that cannot be copied is
            counted itself.
        images: what it takes, such as (1, C, H, W).

    Raises:
        ValueError: if the network cannot take these images.
        ImportError: if fvcore is not installed, with the command that installs it.
    """
    needs("fvcore.nn")
    with torch.no_grad(), evaluating(network) as network, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the tracer and the tools say about their own code
        _try(network, images)
        counted, unseen = _torch(network, images)
        with _plain_attention():
            written_out, _ = _torch(network, images)
        fvcore, uncounted, failure = _fvcore(network, images)
    params = sum(parameter.numel() for parameter in network.parameters())
    name, shape = type(network).__name__, tuple(images.shape)
    total = sum(written_out.values())
    return ModuleAudit(name, shape, params, fvcore, counted, uncounted, unseen, total, failure)


def torchinfo_summary(network: nn.Module, images: Tensor) -> str:
    """torchinfo's summary of a network, and above it what its newest release, 1.8.0, counts wrongly in it.

    It takes a linear layer on tokens for one on a single token. Matrix products that are no layer it does not see.

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
    except Exception as error:  # whatever another's code may raise
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{type(network).__name__} cannot take images of shape {tuple(images.shape)}: {type(error).__name__}: "
            f"{reason}; allowed: a shape that it accepts (command line: --resolution, --channels)"
        ) from error


class _Calls(TorchDispatchMode):
    """The operators that run, and how often."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[_bare(str(func))] += 1
        return func(*args, **(kwargs or {}))


def _torch(network: nn.Module, images: Tensor) -> tuple[dict[str, int], dict[str, int]]:
    """FlopCounterMode's MACs for each operator, and the calls of those that it should count and does not."""
    with _Calls() as calls, FlopCounterMode(display=False) as counter:  # the outer one sees what is really run
        network(images)
    counted = {
        _bare(str(operator)): flops // 2 for operator, flops in counter.get_flop_counts().get("Global", {}).items()
    }
    return counted, {name: often for name, often in sorted(calls.counts.items()) if name in UNSEEN - set(counted)}


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Inside, torch computes attention by its two products, not by one fused call."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _fvcore(network: nn.Module, images: Tensor) -> tuple[dict[str, int] | None, dict[str, int], str]:
    """fvcore's MACs for each operator, the calls that it does not count, and why it failed, if it did."""
    try:
        analysis = fvcore_analysis(network, images)
        counted = {operator: int(macs) for operator, macs in analysis.by_operator().items()}
        left_out = analysis.unsupported_ops().most_common()
    except Exception as error:  # the tracer, or a rule that does not expect this shape
        return None, {}, " ".join(f"{type(error).__name__}: {error}".split())
    return counted, {_bare(operator): often for operator, often in left_out}, ""


def _bare(operator: str) -> str:
    """`aten::linear` and `aten.addmm.default` without what surrounds the name."""
    return operator.replace("::", ".").split(".")[1]
