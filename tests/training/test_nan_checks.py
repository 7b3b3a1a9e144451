"""A loss or a gradient that is not finite stops the run, and the error names the cause."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from efficientformer_edu.training.nan_checks import NotFiniteError, check_gradients, check_loss


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))


IMAGES = torch.ones(2, 1, 8, 8)
NAN = torch.tensor(math.nan)


def test_finite_losses_and_gradients_pass() -> None:
    model = network()
    loss = model(IMAGES).square().mean()
    check_loss(loss, model, IMAGES, 0)
    loss.backward()
    check_gradients(model.named_parameters(), 0)


def test_an_image_is_the_cause() -> None:
    images = IMAGES.clone()
    images[1, 0, 3, 3] = math.inf
    with pytest.raises(NotFiniteError, match=r"step 7: the loss is nan; an image of the batch is not finite"):
        check_loss(NAN, network(), images, 7)


def test_weights_are_the_cause() -> None:
    model = network()
    with torch.no_grad():
        model[3].weight[1, 2] = math.nan
    with pytest.raises(NotFiniteError, match=r"the weights 3\.weight are not finite"):
        check_loss(NAN, model, IMAGES, 0)


def test_a_module_is_the_cause() -> None:
    class Overflow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 1e38 * 1e38

    model = network()
    model.insert(1, Overflow())
    with pytest.raises(NotFiniteError, match="it begins in the output of 1$"):
        check_loss(NAN, model, IMAGES, 0)


def test_the_loss_is_the_cause() -> None:
    with pytest.raises(NotFiniteError, match="the loss is inf; .*: it begins in the loss"):
        check_loss(torch.tensor(math.inf), network(), IMAGES, 0)


def test_a_gradient_is_the_cause() -> None:
    model = network()
    (model(IMAGES).abs() + 1e-45).sqrt().sum().backward()
    assert model[3].weight.grad is not None
    model[3].weight.grad[0, 0] = math.inf
    with pytest.raises(NotFiniteError, match=r"step 12: the gradient of 3\.weight is not finite"):
        check_gradients(model.named_parameters(), 12)


def test_looking_for_the_cause_changes_neither_the_network_nor_the_random_state() -> None:
    """The diagnostic forward pass is in evaluation mode: in training mode it would count a batch and sample dropout."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    model[1].eval()  # modes may differ within a network
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes, random = [module.training for module in model.modules()], torch.get_rng_state()
    with pytest.raises(NotFiniteError):
        check_loss(NAN, model, IMAGES, 0)
    model[1].train()
    with pytest.raises(NotFiniteError):
        check_loss(NAN, model, IMAGES, 0)
    model[1].eval()
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
