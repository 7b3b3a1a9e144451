"""The other counters, really run: what each prints for a network.

They are not part of this package: FlopCounterMode comes with torch, the others with the extra `notebooks`. Each is run
on a copy where the network can be copied, because some leave hooks and buffers behind.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from efficientformer_edu.audit.costs import Costs
from efficientformer_edu.audit.explain import get_rule
from efficientformer_edu.model import EfficientFormer, fold
from efficientformer_edu.torchvision_build import import_beside_torch


class Printed(NamedTuple):
    """What a counter prints for a network and one image; `params` is None where it counts none."""

    macs: int
    params: int | None


def run(counter: str, network: nn.Module, images: Tensor) -> Printed:
    """Run a counter on a network.

    Args:
        counter: a key of `COUNTERS` whose rule says that it runs.
        network: any module. It is copied; one that cannot be copied runs itself, and some counters leave hooks on it.
        images: (1, C, H, W), what the network takes.

    Raises:
        ValueError: for an unknown counter, or one that cannot be run.
        ImportError: if the tool is not installed, with the command that installs it.
    """
    get_rule(counter)
    if counter not in RUNNERS:
        raise ValueError(f"{counter} is derived from its code, not run; counters that run: {', '.join(RUNNERS)}")
    with torch.no_grad(), evaluating(network) as network, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tools' own, about deprecated functions
        return RUNNERS[counter](network, images)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[nn.Module]:
    """A copy of a network in evaluation mode; the network itself if it cannot be copied.

    A module that holds a lock, an open file or a tensor with a gradient history cannot be copied. It is put into
    evaluation mode for the duration of the block, then each of its modules is back in the mode that it had.
    """
    modes = {module: module.training for module in network.modules()}
    with suppress(Exception):  # any attribute may refuse to be copied, in any way
        network = copy.deepcopy(network)
    try:
        yield network.eval()
    finally:
        for module, training in modes.items():
            module.training = training


def build(costs: Costs) -> tuple[EfficientFormer, Tensor]:
    """The network that a ledger is about, in its form, and an image of its size."""
    network = EfficientFormer(costs.config).eval()
    if costs.form == "folded":
        network = fold(network, costs.resolution)
    return network, torch.zeros(1, costs.config.in_channels, *costs.resolution)


def needs(name: str) -> ModuleType:
    """A tool's module. Raises ImportError with the command that installs it."""
    try:
        return import_beside_torch(name)  # ptflops imports torchvision where it is installed
    except ImportError as error:
        tool = name.partition(".")[0]
        raise ImportError(
            f"{tool} is missing: it comes with this kit's extra 'notebooks', or pip install {tool}"
        ) from error


def fvcore_analysis(network: nn.Module, images: Tensor) -> Any:
    """fvcore's analysis of a network, without what it prints about operators that it does not know."""
    analysis = needs("fvcore.nn").FlopCountAnalysis(network, images)
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")


def _fvcore(network: nn.Module, images: Tensor) -> Printed:
    params = needs("fvcore.nn").parameter_count(network)[""]
    return Printed(int(fvcore_analysis(network, images).total()), params)


def _flop_counter(network: nn.Module, images: Tensor) -> Printed:
    with FlopCounterMode(display=False) as counter:
        network(images)
    return Printed(counter.get_total_flops(), None)


def _torchinfo(network: nn.Module, images: Tensor) -> Printed:
    summary = needs("torchinfo").summary(network, input_data=images, verbose=0)
    return Printed(summary.total_mult_adds, summary.total_params)


def _ptflops(backend: str) -> Callable[[nn.Module, Tensor], Printed]:
    def count(network: nn.Module, images: Tensor) -> Printed:
        macs, params = needs("ptflops").get_model_complexity_info(
            network, tuple(images.shape[1:]), backend=backend, as_strings=False, print_per_layer_stat=False
        )
        return Printed(int(macs), int(params))

    return count


def _thop(network: nn.Module, images: Tensor) -> Printed:
    macs, params = needs("thop").profile(network, (images,), verbose=False)
    return Printed(int(macs), int(params))


RUNNERS: Mapping[str, Callable[[nn.Module, Tensor], Printed]] = MappingProxyType(
    {
        "fvcore": _fvcore,
        "flop_counter": _flop_counter,
        "torchinfo": _torchinfo,
        "ptflops": _ptflops("pytorch"),
        "ptflops-aten": _ptflops("aten"),
        "thop": _thop,
    }
)
