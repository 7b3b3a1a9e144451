"""No hidden state: the output of a network depends on its weights and dtype, not on earlier operations."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from golden_weights import golden_state
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SMALL

from efficientformer_edu import EfficientFormer

CONFIG = SMALL.replace(bias_grid=3, drop_path_rate=0.2)
IMAGES = torch.randn(2, 3, 80, 64, generator=torch.Generator().manual_seed(0))


def train(model):
    return model.train()


def evaluate(model):
    assert model.eval() is model
    return model


def forward_with_gradients(model):
    images = IMAGES.to(next(model.parameters()).dtype)
    model(images).square().sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad.clamp(-1, 1)
    model.zero_grad()
    return model


def load(model):
    model.load_state_dict(golden_state(CONFIG))
    return model


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def attention_maps(model):
    model.attention_maps(IMAGES.to(next(model.parameters()).dtype))
    return model


STEPS = [
    train, evaluate, forward_with_gradients, load, copy.deepcopy, pickled, saved, attention_maps,
    torch.nn.Module.double, torch.nn.Module.float, torch.nn.Module.bfloat16,
]  # fmt: skip


@pytest.mark.slow
@given(st.lists(st.sampled_from(STEPS), max_size=8))
@settings(max_examples=100)
def test_any_order_of_steps_ends_like_a_fresh_network(steps):
    model = EfficientFormer(CONFIG)
    for step in steps:
        model = step(model)
    fresh = EfficientFormer(CONFIG).to(next(model.parameters()).dtype)
    fresh.load_state_dict(model.state_dict())
    fresh.eval()
    assert model.eval() is model
    images = IMAGES.to(next(model.parameters()).dtype)
    assert torch.equal(model(images), fresh(images))
    assert all(map(torch.equal, model.features(images), fresh.features(images)))


def test_evaluation_repeats_and_training_returns_the_same_type():
    model = EfficientFormer(CONFIG).eval()
    assert torch.equal(model(IMAGES), model(IMAGES))
    assert type(model(IMAGES)) is type(model.train()(IMAGES)) is torch.Tensor
