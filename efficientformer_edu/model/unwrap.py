"""Unwrap a wrapped, pruned or parametrized network, so that it can be copied, folded, saved and exported."""

from __future__ import annotations

import copy
from typing import TypeVar, overload

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from efficientformer_edu.model.backbone import Backbone

Network = TypeVar("Network", bound=Backbone)

# Attributes that hold the wrapped network: the first in DataParallel, DistributedDataParallel, AveragedModel and timm's
# ModelEmaV3; the second in torch.compile.
WRAPPED = ("module", "_orig_mod")

# Hooks that compute a weight from other parameters before each forward pass.
WEIGHT_HOOKS = (BasePruningMethod, SpectralNorm, WeightNorm)


@overload
def unwrap(model: Network) -> Network: ...
@overload
def unwrap(model: nn.Module) -> Backbone: ...
def unwrap(model: nn.Module) -> Backbone:
    """The network inside DataParallel, DistributedDataParallel, AveragedModel or torch.compile, with ordinary weights.

    Args:
        model: a network, or a wrapper around one; wrappers can be nested.

    Returns:
        The network itself. If it is pruned (`torch.nn.utils.prune`) or parametrized (`weight_norm`, `spectral_norm`),
        a copy in evaluation mode with the computed weights; the model is not changed.

    Raises:
        ValueError: if the model is not an EfficientFormer or a known wrapper around one.
    """
    network = model
    while not isinstance(network, Backbone):
        inner = next((value for name in WRAPPED if isinstance(value := getattr(network, name, None), nn.Module)), None)
        if inner is None:
            path = next((name for name, module in network.named_modules() if isinstance(module, Backbone)), None)
            hint = "" if path is None else f"; pass its attribute {path}, which is one"
            raise ValueError(f"{type(network).__name__} is not an EfficientFormer{hint}")
        network = inner
    return _with_computed_weights(network) if any(map(_computes_weights, network.modules())) else network


def _computes_weights(module: nn.Module) -> bool:
    hooks = module._forward_pre_hooks.values()
    return parametrize.is_parametrized(module) or any(isinstance(hook, WEIGHT_HOOKS) for hook in hooks)


def _with_computed_weights(network: Backbone) -> Backbone:
    # deepcopy refuses tensors with a gradient history, such as pruned weights: replace them with detached ones.
    attributes = [value for module in network.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    network = copy.deepcopy(network, {id(value): value.detach().clone() for value in attributes}).eval()
    for module in list(network.modules()):
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, WEIGHT_HOOKS):
                hook.remove(module)
                del module._forward_pre_hooks[key]
        if parametrize.is_parametrized(module):
            # Not `remove_parametrizations`, which changes a class that the copy shares with the original.
            assert isinstance(module.parametrizations, nn.ModuleDict)
            weights = {name: nn.Parameter(getattr(module, name).detach().clone()) for name in module.parametrizations}
            del module.parametrizations
            module.__class__ = type(module).__bases__[0]
            for name, weight in weights.items():
                module.register_parameter(name, weight)
    return network
