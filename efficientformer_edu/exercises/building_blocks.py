"""Checks of chapter 2, the building blocks: layer scale, pooling, folding, attention, and the attention-bias table.

Paper: section 4.1, Eq. 4 to 6. Each check has an independent oracle: loops over pixels, the unfolded layers, the
package's attention, or a table whose resized values are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientformer_edu.exercises._check import (
    call,
    close,
    compare,
    done,
    expect_items,
    expect_shape,
    random_tensor,
    require,
)
from efficientformer_edu.model import Attention

IMAGES = ((224, 224), (225, 320), (1000, 600), (32, 100))


def check_layer_scale(layer_scale: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Compare with a loop over the channels, on tensors whose axes all have the same length."""
    gamma = torch.tensor([0.5, -1.0, 2.0, 3.0])
    x = random_tensor(4, 4, 4, 4)
    _check_scaled(
        call(layer_scale, x, gamma),
        x,
        gamma,
        1,
        "You scaled along the width of the map: PyTorch aligns shapes from the right. Channels are axis 1, so "
        "gamma needs the shape (C, 1, 1).",
        x * gamma,
    )
    x = random_tensor(4, 4, 4)
    _check_scaled(
        call(layer_scale, x, gamma),
        x,
        gamma,
        2,
        "You scaled the wrong axis of the tokens: tokens have their channels last, so (C,) is correct.",
        x * gamma[:, None, None],
    )
    done("one factor per channel, on feature maps and on tokens.")


def _check_scaled(answer: Tensor, x: Tensor, gamma: Tensor, axis: int, mistake: str, wrong: Tensor) -> None:
    kind = "feature map" if axis == 1 else "tokens"
    expect_shape(answer, tuple(x.shape), f"Layer scale keeps the shape of the {kind}.")
    expected = torch.stack([channel * factor for channel, factor in zip(x.unbind(axis), gamma, strict=True)], axis)
    message = f"For a {kind} tensor of shape {tuple(x.shape)}, channel c must be multiplied by gamma[c]."
    compare(answer, expected, {mistake: wrong}, message)


def check_pool_by_convolution(pool_by_convolution: Callable[[Tensor], Tensor]) -> None:
    """Compare with means computed in a loop over all pixels."""
    x = random_tensor(2, 3, 5, 6)
    answer = call(pool_by_convolution, x)
    expect_shape(answer, tuple(x.shape), "The token mixer keeps the shape of the map.")
    mean, padded = _means(x)
    across = mean.mean(1, keepdim=True)  # what a kernel over all channels averages
    for factor in (1, x.shape[1]):
        require(
            not close(answer[..., 1:-1, 1:-1], (factor * across - x)[..., 1:-1, 1:-1]),
            "Your kernel mixes the channels. Pooling treats each separately: groups=C.",
        )
    mistakes = {
        "This is Pool(x) itself. The token mixer is Pool(x) − x, because MB4D adds x again.": mean,
        "Your values are correct inside the map, but not at the border: you divide by 9 where a window has only 6 or 4 "
        "pixels. Count the pixels in each window with a convolution of ones.": padded - x,
    }
    message = "Sum over the 3×3 window, divide by the number of pixels in it, and subtract x."
    compare(answer, mean - x, mistakes, message)
    done("sum and count are convolutions; their ratio is not, because of the border.")


def check_fold_all(fold_all: Callable[[nn.Conv2d, nn.BatchNorm2d, Tensor], tuple[Tensor, Tensor]]) -> None:
    """Compare the folded convolution with γ ⊙ norm(conv(x)), and name the factor that is missing."""
    values = {"weight": random_tensor(4), "bias": random_tensor(4, seed=2)}
    values |= {"running_mean": random_tensor(4, seed=3), "running_var": random_tensor(4, seed=4).abs() + 0.3}
    conv, norm, gamma = nn.Conv2d(6, 4, kernel_size=1), nn.BatchNorm2d(4).eval(), random_tensor(4, seed=5)
    norm.load_state_dict(values, strict=False)
    own_bias = random_tensor(4, seed=6)
    conv.load_state_dict({"weight": random_tensor(4, 6, 1, 1, seed=7), "bias": own_bias})
    answer = call(fold_all, conv, norm, gamma)
    expect_items(answer, 2, "fold_all must return two tensors: a weight and a bias.")
    weight, bias = answer
    expect_shape(weight, (4, 6, 1, 1), "The folded weight has the shape of the convolution's.")
    expect_shape(bias, (4,), "The folded bias has one value per channel.")
    variance = values["running_var"] + norm.eps
    scale = values["weight"] / variance.sqrt()
    shift = values["bias"] - values["running_mean"] * scale

    def scaled(factor: Tensor) -> Tensor:
        return conv.weight * factor.view(-1, 1, 1, 1)

    message = "F.conv2d(x, weight, bias) is not gamma · norm(conv(x)). Work through the formula again."
    weight_mistakes = {
        "You divide by the variance; batch norm divides by the standard deviation, the root of running_var + eps.": (
            scaled(gamma * values["weight"] / variance)
        ),
        "The weight lacks layer scale: every output channel is multiplied by its gamma, after the norm.": scaled(scale),
    }
    compare(weight, scaled(gamma * scale), weight_mistakes, message)
    bias_mistakes = {
        "The bias lacks a term: the convolution's own bias passes through the norm, too, scaled like the weight.": (
            gamma * shift
        ),
        "The weight is correct; the bias lacks layer scale. γ multiplies the entire output of the branch.": (
            own_bias * scale + shift
        ),
    }
    compare(bias, gamma * (own_bias * scale + shift), bias_mistakes, message)
    x = random_tensor(2, 6, 3, 3)
    require(close(F.conv2d(x, weight, bias), gamma.view(-1, 1, 1) * norm(conv(x)), atol=1e-5), message)
    done("three operations became one convolution.")


def check_attend(attend: Callable[..., Tensor]) -> None:
    """Compare with the package's attention before its projection, and with common mistakes on the same input."""
    heads, key_dim, value_dim, tokens, dim = 2, 3, 5, 6, 10
    oracle = Attention(dim, heads, key_dim, value_dim, bias_grid=(2, 3), drop=0.0).eval()
    oracle.qkv.weight.data = random_tensor(*oracle.qkv.weight.shape, seed=3)
    oracle.attention_biases.data = random_tensor(heads, tokens, seed=4)
    oracle.proj = nn.Identity()  # type: ignore[assignment]
    x, bias = random_tensor(2, tokens, dim), oracle.bias((2, 3)).detach()
    with torch.no_grad():
        answer, expected, qkv = call(attend, x, oracle.qkv, bias, heads, key_dim), oracle(x, (2, 3)), oracle.qkv(x)
    expect_shape(answer, (2, tokens, heads * value_dim), "Each token gets the values of all heads, concatenated.")

    def mix(parts: Sequence[Tensor], scale: float) -> Tensor:
        q, k, v = parts
        return torch.softmax(q @ k.transpose(-2, -1) * scale + bias, dim=-1) @ v  # (B, heads, N, value_dim)

    def join(mixed: Tensor) -> Tensor:
        return mixed.transpose(1, 2).flatten(2)

    by_head = qkv.unflatten(-1, (heads, -1)).transpose(1, 2).split([key_dim, key_dim, value_dim], dim=-1)
    sizes = [heads * size for size in (key_dim, key_dim, value_dim)]
    by_kind = [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv.split(sizes, dim=-1)]
    scale = key_dim**-0.5
    mistakes = {
        "You cut qkv into all queries, all keys, all values. Here q, k and v of each head are adjacent.": (
            join(mix(by_kind, scale))
        ),
        "You scale the scores by √C, as Eq. 6 is printed; the released code scales them by √key_dim.": (
            join(mix(by_head, dim**-0.5))
        ),
        "You left out the scale: the scores are divided by √key_dim.": join(mix(by_head, 1.0)),
        "The values of different heads and tokens are mixed up: transpose heads and tokens before you join the heads, "
        "or concatenate the heads along the channels.": mix(by_head, scale).reshape(expected.shape),
    }
    compare(answer, expected, mistakes, "Slice one head's query, key and value out of qkv, and apply Eq. 6 to them.")
    done("the same values as the package's attention, one head at a time.")


def check_bias_for_image(bias_for_image: Callable[[Tensor, tuple[int, int], tuple[int, int]], Tensor]) -> None:
    """Compare with a table that is linear in the offset, so that its values on any grid are known."""

    def linear(down: Tensor, right: Tensor) -> Tensor:
        return torch.stack([2 * down + 3 * right, down - 5 * right])  # of two heads

    table = linear(torch.arange(7.0)[:, None].expand(7, 7), torch.arange(7.0).expand(7, 7)).flatten(1)
    trained = linear(*(offset.abs() for offset in _offsets(7, 7)))  # (2, 49, 49)
    for height, width in IMAGES:
        h, w = ceil(height / 32), ceil(width / 32)
        answer = call(bias_for_image, table, (7, 7), (height, width))
        at = f"An image of {height}×{width} pixels has {h}×{w} tokens"
        shape = (2, h * w, h * w)
        message = f"{at}: the stem and the embeddings round up. There is one value per head and pair of tokens."
        expect_shape(answer, shape, message)
        down, right = _offsets(h, w)
        expected = linear(down.abs() * (6 / max(h - 1, 1)), right.abs() * (6 / max(w - 1, 1)))
        matrix = F.interpolate(trained[None], size=shape[1:], mode="bilinear", align_corners=True)[0]
        aligned, centred = (
            F.interpolate(table.view(1, 2, 7, 7), size=(h, w), mode="bilinear", align_corners=align)[0].flatten(1)
            for align in (True, False)
        )
        mistakes = {
            f"{at}. You resized the N×N matrix: its neighbours are not neighbours in the image where a row of tokens "
            "ends. Resize the table, then look up.": matrix,
            "The offset 0 must keep its bias, and so must the largest: align_corners=True.": (
                centred[:, (down.abs() * w + right.abs()).long()]
            ),
            "A negative index reads the table from its end, without an error. Offsets are absolute: |Δy| and |Δx|.": (
                aligned[:, (down * w + right).long()]
            ),
        }
        message = f"{at}; entry (i, j) must be the resized table at |Δy|·{w} + |Δx|."
        compare(answer, expected, mistakes, message, lambda a, b: close(a, b, atol=1e-5))
    done("one table serves images of any size.")


def _means(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean over the existing pixels of each 3×3 window, and their sum divided by 9."""
    mean, padded = torch.empty_like(x), torch.empty_like(x)
    height, width = x.shape[2:]
    for y in range(height):
        for z in range(width):
            window = x[:, :, max(y - 1, 0) : y + 2, max(z - 1, 0) : z + 2]
            mean[:, :, y, z] = window.mean((2, 3))
            padded[:, :, y, z] = window.sum((2, 3)) / 9
    return mean, padded


def _offsets(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return Δy and Δx, (N, N) each, between all pairs of tokens of a grid."""
    y = torch.arange(float(height)).repeat_interleave(width)
    x = torch.arange(float(width)).repeat(height)
    return y[:, None] - y, x[:, None] - x
