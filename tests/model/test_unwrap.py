"""Wrapped, pruned and parametrized networks: unwrapped and folded, their outputs do not change."""

from __future__ import annotations

import pytest
import torch
from golden_weights import golden_images, golden_state
from strategies import SMALL
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

from efficientformer_edu import EfficientFormer, fold
from efficientformer_edu.model import unwrap

WRAPPERS = {
    "none": lambda network: network,
    "DataParallel": nn.DataParallel,
    "torch.compile": torch.compile,
    "AveragedModel": AveragedModel,
    "all three": lambda network: nn.DataParallel(torch.compile(AveragedModel(network))),
}


def unchanged(network):
    """Return the network unchanged."""


def pruned(network):
    prune.l1_unstructured(network.stages[0].mb4d[0].mlp.fc1, "weight", 0.5)
    prune.random_unstructured(network.head, "weight", 0.4)
    prune.ln_structured(network.head, "weight", 0.2, n=2, dim=1)  # twice: a container of methods
    prune.random_unstructured(network.head, "bias", 0.3)


def parametrized(network):
    parametrizations.weight_norm(network.head)
    parametrizations.spectral_norm(network.stages[-1].mb3d[0].token_mixer.qkv)


def with_hooks(network):
    torch.nn.utils.weight_norm(network.head)
    torch.nn.utils.spectral_norm(network.stem.conv1)


# AveragedModel copies the network, which torch refuses for weights that are computed by hooks.
CASES = [
    (change, wrapper)
    for change in (unchanged, pruned, parametrized, with_hooks)
    for wrapper in WRAPPERS
    if change in (unchanged, parametrized) or wrapper not in ("AveragedModel", "all three")
]


def changed_network(change):
    network = EfficientFormer(SMALL).double().eval()
    network.load_state_dict(golden_state(SMALL))
    change(network)
    for parameter in network.parameters():  # a training step: cached values are out of date
        parameter.data *= 1.01
    return network


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize(("change", "wrapper"), CASES)
@torch.no_grad()
def test_the_same_function_with_the_tensors_of_an_unwrapped_network(change, wrapper):
    network = changed_network(change)
    images = golden_images(2, 64, 64)
    expected = network(images)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    wrapped = WRAPPERS[wrapper](network)
    unwrapped = unwrap(wrapped)
    assert set(unwrapped.state_dict()) == set(golden_state(SMALL))
    assert torch.equal(unwrapped(images), expected)
    torch.testing.assert_close(fold(wrapped, 64)(images), expected, rtol=0, atol=1e-8)
    assert torch.equal(network(images), expected)  # the original still works
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_network_that_needs_no_change_is_not_copied():
    network = EfficientFormer(SMALL).train()
    assert unwrap(network) is network
    assert unwrap(nn.DataParallel(torch.compile(network))) is network
    assert network.training


class Module(nn.Module):
    """A training module as users write them, with the network as an attribute."""

    def __init__(self):
        super().__init__()
        self.net = EfficientFormer(SMALL)


@pytest.mark.parametrize("function", [unwrap, fold])
def test_what_is_not_an_efficientformer_is_refused(function):
    with pytest.raises(ValueError, match="^Linear is not an EfficientFormer$"):
        function(nn.DataParallel(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match=r"^Module is not an EfficientFormer.*\bnet\b"):
        function(Module())
