"""Outputs and gradients of every kind of block against a second implementation of the equations in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from golden_weights import golden_value

from efficientformer_edu import EfficientFormerConfig
from efficientformer_edu.model import MB3D, MB4D, EfficientFormer

CONFIG = EfficientFormerConfig(
    depths=(1, 1, 1, 1), embed_dims=(3, 3, 3, 3), mlp_ratio=2, num_heads=2, key_dim=2, attn_ratio=1.5, bias_grid=(2, 3)
)
erf = np.vectorize(math.erf)


def block(kind: type[torch.nn.Module]) -> torch.nn.Module:
    """A block in float64 whose weights are generated from their names."""
    module = kind(CONFIG, 0, 0.0).double()
    for name, value in module.state_dict().items():
        if "num_batches" not in name:
            value.copy_(golden_value(f"layer_scale.{name}" if "gamma" in name else name, tuple(value.shape)))
    return module


def gelu(x):
    return x * (1 + erf(x / math.sqrt(2))) / 2


def pool(x):
    """The mean over the part of the 3×3 neighbourhood inside the map, pixel by pixel."""
    y = np.empty_like(x)
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            y[:, :, i, j] = x[:, :, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean((2, 3))
    return y


def batch_norm(x, w, name, training):
    mean, var = (
        (x.mean((0, 2, 3)), x.var((0, 2, 3))) if training else (w[f"{name}.running_mean"], w[f"{name}.running_var"])
    )
    shape = (1, -1, 1, 1)
    x = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + 1e-5)
    return x * w[f"{name}.weight"].reshape(shape) + w[f"{name}.bias"].reshape(shape)


def conv1x1(x, w, name):
    return np.einsum("bchw,dc->bdhw", x, w[f"{name}.weight"][:, :, 0, 0]) + w[f"{name}.bias"].reshape(1, -1, 1, 1)


def mb4d(x, w, training):
    gamma_1, gamma_2 = (w[f"layer_scale_{i}.gamma"].reshape(1, -1, 1, 1) for i in (1, 2))
    x = x + gamma_1 * (pool(x) - x)
    hidden = gelu(batch_norm(conv1x1(x, w, "mlp.fc1"), w, "mlp.norm1", training))
    return x + gamma_2 * batch_norm(conv1x1(hidden, w, "mlp.fc2"), w, "mlp.norm2", training)


def layer_norm(x, w, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x, w, name):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def mhsa(x, w, grid):
    """Eq. 6 for one head, one query and one key at a time."""
    batch, tokens, _ = x.shape
    qkv, mixed = linear(x, w, "token_mixer.qkv"), np.zeros((batch, tokens, 6))
    for b in range(batch):
        for head in range(2):
            q, k, v = np.split(qkv[b, :, 7 * head : 7 * head + 7], [2, 4], axis=1)  # [q 2 | k 2 | v 3] per head
            for i in range(tokens):
                scores = np.empty(tokens)
                for j in range(tokens):
                    dy, dx = abs(i // grid[1] - j // grid[1]), abs(i % grid[1] - j % grid[1])
                    bias = w["token_mixer.attention_biases"][head, dy * grid[1] + dx]
                    scores[j] = q[i] @ k[j] / math.sqrt(2) + bias
                weights = np.exp(scores) / np.exp(scores).sum()
                mixed[b, i, 3 * head : 3 * head + 3] = weights @ v
    return linear(mixed, w, "token_mixer.proj")


def mb3d(x, w, grid):
    x = x + w["layer_scale_1.gamma"] * mhsa(layer_norm(x, w, "norm1"), w, grid)
    hidden = gelu(linear(layer_norm(x, w, "norm2"), w, "mlp.fc1"))
    return x + w["layer_scale_2.gamma"] * linear(hidden, w, "mlp.fc2")


CASES = {
    "MB4D in evaluation": (MB4D, (2, 3, 3, 4), lambda x, w: mb4d(x, w, False)),
    "MB4D in training": (MB4D, (2, 3, 3, 4), lambda x, w: mb4d(x, w, True)),
    "MB3D": (MB3D, (2, 6, 3), lambda x, w: mb3d(x, w, (2, 3))),
}


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_equal_the_second_computation(case):
    kind, shape, reference = CASES[case]
    module = block(kind).train("training" in case)
    weights = {name: value.numpy().copy() for name, value in module.state_dict().items()}
    x = golden_value("input.weight", shape)
    direction = golden_value("direction.weight", shape)  # the gradient of ⟨direction, output⟩ is compared
    leaf = x.clone().requires_grad_()
    output = module(leaf, (2, 3)) if kind is MB3D else module(leaf)
    np.testing.assert_allclose(output.detach().numpy(), reference(x.numpy(), weights), rtol=0, atol=1e-12)
    (output * direction).sum().backward()

    def slope(array):
        """Central differences of the second implementation, one element of the array at a time."""
        gradient = np.empty_like(array)
        for index in np.ndindex(array.shape):
            before, ends = array[index], []
            for step in (1e-5, -1e-5):
                array[index] = before + step
                ends.append((reference(x.numpy(), weights) * direction.numpy()).sum())
            array[index] = before
            gradient[index] = (ends[0] - ends[1]) / 2e-5
        return gradient

    np.testing.assert_allclose(leaf.grad.numpy(), slope(x.numpy()), rtol=1e-6, atol=1e-8)
    for name, parameter in module.named_parameters():
        np.testing.assert_allclose(parameter.grad.numpy(), slope(weights[name]), rtol=1e-6, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_gradcheck(case):
    kind, shape, _ = CASES[case]
    module = block(kind).train("training" in case)
    names, values = zip(*((n, p.detach().clone().requires_grad_()) for n, p in module.named_parameters()), strict=True)

    def function(x, *parameters):
        arguments = (x, (2, 3)) if kind is MB3D else (x,)
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), arguments)

    x = golden_value("input.weight", shape).requires_grad_()
    assert torch.autograd.gradcheck(function, (x, *values))


@pytest.mark.parametrize("num_vit", [0, 1, (0, 0, 1, 1)])
def test_an_image_has_the_same_gradients_alone_and_in_a_batch(num_vit: int | tuple[int, ...]) -> None:
    """On a CPU, torch's batch norm has wrong gradients for a single image if the gradient has the layout of tokens."""
    torch.manual_seed(0)
    fields = {"depths": (1, 1, 1, 2), "embed_dims": (4, 4, 8, 8), "num_classes": 3, "layer_scale_init": 0.5}
    model = EfficientFormer(EfficientFormerConfig(**fields, num_vit=num_vit)).double().eval()

    def gradients(images: torch.Tensor) -> list[torch.Tensor]:
        model.zero_grad()
        images.requires_grad_()
        model(images)[0, 0].backward()
        return [images.grad[:1], *(parameter.grad.clone() for parameter in model.parameters())]

    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    for alone, beside in zip(gradients(image.clone()), gradients(torch.cat((image, image))), strict=True):
        torch.testing.assert_close(alone, beside)
