"""Run other FLOP counters on a network and return what they print.

They are not part of this package: FlopCounterMode comes with torch, the others with the extra `notebooks`. Each runs on
a copy of the network if it can be copied, because some counters leave hooks and buffers behind.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from efficientformer_edu.audit.explain import get_rule
from efficientformer_edu.audit.ledger import Costs
from efficientformer_edu.model import EfficientFormer, fold
from efficientformer_edu.utils.optional import import_optional


class CounterOutput(NamedTuple):
    """The printed result of a counter for one image; `params` is None if it does not count parameters."""

    macs: int
    params: int | None


def run(counter: str, network: nn.Module, images: Tensor) -> CounterOutput:
    """Run a counter on a network.

    Args:
        counter: a key of `COUNTERS` whose rule has `runs=True`.
        network: any module. A copy of it is run. If it cannot be copied, the module itself is run, and some counters
            leave hooks on it.
        images: (1, C, H, W), an input of the network.

    Raises:
        ValueError: for an unknown counter, or one that cannot be run.
        ImportError: if the tool is not installed, with the command that installs it.
    """
    get_rule(counter)
    if counter not in RUNNERS:
        raise ValueError(f"{counter} is derived from its code, not run; counters that run: {', '.join(RUNNERS)}")
    with torch.no_grad(), evaluating(network) as network, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tools warn about their own use of deprecated functions
        return RUNNERS[counter](network, images)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """Yield a copy of a network in evaluation mode, or the network itself if it cannot be copied.

    A module that holds a lock, an open file or a tensor with a gradient history cannot be copied. It is put into
    evaluation mode for the duration of the block; afterwards each of its modules is restored to its previous mode.
    """
    modes = {module: module.training for module in network.modules()}
    with suppress(Exception):  # copying an attribute may raise any exception
        network = copy.deepcopy(network)
    try:
        yield network.eval()
    finally:
        for module, training in modes.items():
            module.training = training


def build(costs: Costs) -> tuple[EfficientFormer, Tensor]:
    """Build the network that a ledger describes, in the same form, and an image of the same size."""
    network = EfficientFormer(costs.config).eval()
    if costs.form == "folded":
        network = fold(network, costs.resolution)
    return network, torch.zeros(1, costs.config.in_channels, *costs.resolution)


def fvcore_analysis(network: nn.Module, images: Tensor) -> Any:
    """Analyze a network with fvcore, without its warnings about unknown operators."""
    analysis = import_optional("fvcore.nn").FlopCountAnalysis(network, images)
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")


def _fvcore(network: nn.Module, images: Tensor) -> CounterOutput:
    params = import_optional("fvcore.nn").parameter_count(network)[""]
    return CounterOutput(int(fvcore_analysis(network, images).total()), params)


def _flop_counter(network: nn.Module, images: Tensor) -> CounterOutput:
    with FlopCounterMode(display=False) as counter:
        network(images)
    return CounterOutput(counter.get_total_flops(), None)


def _torchinfo(network: nn.Module, images: Tensor) -> CounterOutput:
    summary = import_optional("torchinfo").summary(network, input_data=images, verbose=0)
    return CounterOutput(summary.total_mult_adds, summary.total_params)


def _ptflops(backend: str) -> Callable[[nn.Module, Tensor], CounterOutput]:
    def count(network: nn.Module, images: Tensor) -> CounterOutput:
        macs, params = import_optional("ptflops").get_model_complexity_info(
            network, tuple(images.shape[1:]), backend=backend, as_strings=False, print_per_layer_stat=False
        )
        return CounterOutput(int(macs), int(params))

    return count


def _thop(network: nn.Module, images: Tensor) -> CounterOutput:
    macs, params = import_optional("thop").profile(network, (images,), verbose=False)
    return CounterOutput(int(macs), int(params))


RUNNERS: Mapping[str, Callable[[nn.Module, Tensor], CounterOutput]] = MappingProxyType(
    {
        "fvcore": _fvcore,
        "flop_counter": _flop_counter,
        "torchinfo": _torchinfo,
        "ptflops": _ptflops("pytorch"),
        "ptflops-aten": _ptflops("aten"),
        "thop": _thop,
    }
)
