"""Checks of chapter 2, the building blocks: layer scale, pooling, folding, attention, and the attention-bias table.

Paper: section 4.1, Eq. 4 to 6. Each check has an independent oracle: loops over pixels, the unfolded layers, the
package's attention, or a table whose resized values are known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from efficientformer_edu.exercises._check import call, done, expect_shape, require

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGES = ((224, 224), (225, 320), (1000, 600), (32, 100))


def check_layer_scale(layer_scale: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Compare with a loop over the channels, on tensors whose axes all have the same length."""
    import torch

    gamma = torch.tensor([0.5, -1.0, 2.0, 3.0])
    for kind, shape, axis in (("map", (4, 4, 4, 4), 1), ("tokens", (4, 4, 4), 2)):
        x = _random(*shape)
        got = call(layer_scale, x, gamma)
        expect_shape(got, shape, f"Layer scale keeps the shape of the {kind}.")
        expected = torch.stack([c * factor for c, factor in zip(x.unbind(axis), gamma, strict=True)], dim=axis)
        require(
            kind != "map" or not _same(got, x * gamma),
            "You scaled along the width of the map: PyTorch aligns shapes from the right. Channels are axis 1, so "
            "gamma needs the shape (C, 1, 1).",
        )
        require(
            kind != "tokens" or not _same(got, x * gamma[:, None, None]),
            "You scaled the wrong axis of the tokens: tokens have their channels last, so (C,) is correct.",
        )
        require(_same(got, expected), f"For {kind} of shape {shape}, channel c must be multiplied by gamma[c].")
    done("one factor per channel, on feature maps and on tokens.")


def check_pool_by_convolution(pool_by_convolution: Callable[[Tensor], Tensor]) -> None:
    """Compare with means computed in a loop over all pixels."""
    x = _random(2, 3, 5, 6)
    got = call(pool_by_convolution, x)
    expect_shape(got, tuple(x.shape), "The token mixer keeps the shape of the map.")
    mean, padded = _means(x)
    require(
        not _same(got, mean),
        "This is Pool(x) itself. The token mixer is Pool(x) − x, because MB4D adds x again.",
    )
    require(
        not _same(got, padded - x),
        "Inside the map it is right, at the border it is not: you divide by 9 where only 6 or 4 places exist. Count "
        "the pixels in each window with a convolution of ones.",
    )
    across = mean.mean(1, keepdim=True)  # what a kernel over all channels averages
    for times in (1, x.shape[1]):
        require(
            not _same(got[..., 1:-1, 1:-1], (times * across - x)[..., 1:-1, 1:-1]),
            "Your kernel mixes the channels. Pooling treats each separately: groups=C.",
        )
    require(_same(got, mean - x), "Sum over the 3×3 window, divide by the number of pixels in it, and subtract x.")
    done("sum and count are convolutions; their ratio is not, because of the border.")


def check_fold_all(fold_all: Callable[[nn.Conv2d, nn.BatchNorm2d, Tensor], tuple[Tensor, Tensor]]) -> None:
    """Compare the folded convolution with γ ⊙ norm(conv(x)), and name the factor that is missing."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    values = {"weight": _random(4), "bias": _random(4, seed=2)}
    values |= {"running_mean": _random(4, seed=3), "running_var": _random(4, seed=4).abs() + 0.3}
    conv, norm, gamma = nn.Conv2d(6, 4, kernel_size=1), nn.BatchNorm2d(4).eval(), _random(4, seed=5)
    norm.load_state_dict(values, strict=False)
    own_bias = _random(4, seed=6)
    conv.load_state_dict({"weight": _random(4, 6, 1, 1, seed=7), "bias": own_bias})
    answer = call(fold_all, conv, norm, gamma)
    require(isinstance(answer, tuple) and len(answer) == 2, "fold_all must return two tensors: a weight and a bias.")
    weight, bias = answer
    expect_shape(weight, (4, 6, 1, 1), "The folded weight has the shape of the convolution's.")
    expect_shape(bias, (4,), "The folded bias has one value per channel.")
    variance = values["running_var"] + norm.eps
    scale = values["weight"] / variance.sqrt()
    shift = values["bias"] - values["running_mean"] * scale
    wide = conv.weight * gamma.view(-1, 1, 1, 1)
    require(
        not _same(weight, wide * (values["weight"] / variance).view(-1, 1, 1, 1)),
        "You divide by the variance; batch norm divides by the standard deviation, the root of running_var + eps.",
    )
    require(
        not _same(weight, conv.weight * scale.view(-1, 1, 1, 1)),
        "The weight lacks layer scale: every output channel is multiplied by its gamma, after the norm.",
    )
    require(
        not _same(bias, gamma * shift),
        "The bias lacks a part: the convolution's own bias passes through the norm, too, scaled like the weight.",
    )
    require(
        not _same(bias, own_bias * scale + shift),
        "The weight is right; the bias lacks layer scale. γ multiplies everything that the branch gives.",
    )
    x = _random(2, 6, 3, 3)
    with torch.no_grad():
        expected, got = gamma.view(-1, 1, 1) * norm(conv(x)), F.conv2d(x, weight, bias)
    require(
        _same(got, expected), "F.conv2d(x, weight, bias) is not gamma · norm(conv(x)). Work through the formula again."
    )
    done("three operations became one convolution.")


def check_attend(attend: Callable[..., Tensor]) -> None:
    """Compare with the package's attention before its projection, and with common mistakes on the same input."""
    import torch
    from torch import nn

    from efficientformer_edu.model import Attention

    heads, key_dim, value_dim, tokens, dim = 2, 3, 5, 6, 10
    oracle = Attention(dim, heads, key_dim, value_dim, bias_grid=(2, 3), drop=0.0).eval()
    oracle.qkv.weight.data = _random(*oracle.qkv.weight.shape, seed=3)
    oracle.attention_biases.data = _random(heads, tokens, seed=4)
    oracle.proj = nn.Identity()  # type: ignore[assignment]
    x, bias = _random(2, tokens, dim), oracle.bias((2, 3)).detach()
    with torch.no_grad():
        got, expected = call(attend, x, oracle.qkv, bias, heads, key_dim), oracle(x, (2, 3))
        expect_shape(got, (2, tokens, heads * value_dim), "Each token gets the values of all heads, side by side.")
        for sentence, slip in _slips(x, oracle, bias, key_dim, expected).items():
            require(not _same(got, slip), sentence)
    require(_same(got, expected), "Slice one head's query, key and value out of qkv, and apply Eq. 6 to them.")
    done("the same values as the package's attention, one head at a time.")


def check_bias_for_image(bias_for_image: Callable[[Tensor, tuple[int, int], tuple[int, int]], Tensor]) -> None:
    """Compare with a table that is linear in the offset, so that its values on any grid are known."""
    import torch
    from torch.nn import functional as F

    def linear(down: Tensor, right: Tensor) -> Tensor:
        return torch.stack([2 * down + 3 * right, down - 5 * right])  # of two heads

    table = linear(torch.arange(7.0)[:, None].expand(7, 7), torch.arange(7.0).expand(7, 7)).flatten(1)
    trained = linear(*(offset.abs() for offset in _offsets(7, 7)))  # (2, 49, 49)
    for height, width in IMAGES:
        h, w = ceil(height / 32), ceil(width / 32)
        got = call(bias_for_image, table, (7, 7), (height, width))
        at = f"An image of {height}×{width} pixels has {h}×{w} tokens"
        shape = (2, h * w, h * w)
        expect_shape(
            got, shape, f"{at}: the stem and the embeddings round up. There is one value per head and pair of tokens."
        )
        down, right = _offsets(h, w)
        expected = linear(down.abs() * (6 / max(h - 1, 1)), right.abs() * (6 / max(w - 1, 1)))
        matrix = F.interpolate(trained[None], size=shape[1:], mode="bilinear", align_corners=True)[0]
        maps = table.view(1, 2, 7, 7)
        centred = F.interpolate(maps, size=(h, w), mode="bilinear", align_corners=False)[0].flatten(1)
        cornered = F.interpolate(maps, size=(h, w), mode="bilinear", align_corners=True)[0].flatten(1)
        require(
            (h, w) == (7, 7) or not _same(got, matrix),
            f"{at}. You resized the N×N matrix: its neighbours are not neighbours in the image where a row of tokens "
            "ends. Resize the table, then look up.",
        )
        require(
            (h, w) == (7, 7) or not _same(got, centred[:, (down.abs() * w + right.abs()).long()]),
            "The offset 0 must keep its bias, and so must the largest: align_corners=True.",
        )
        require(
            not _same(got, cornered[:, (down * w + right).long()]),
            "A negative index reads the table from its end, without an error. Offsets are absolute: |Δy| and |Δx|.",
        )
        require(_same(got, expected), f"{at}; entry (i, j) must be the resized table at |Δy|·{w} + |Δx|.")
    done("one table serves images of any size.")


def _slips(x: Tensor, oracle: Any, bias: Tensor, key_dim: int, expected: Tensor) -> dict[str, Tensor]:
    """Return the results of common mistakes, by the sentence that explains each."""
    import torch

    heads, parts = oracle.num_heads, oracle.head_parts
    qkv = oracle.qkv(x)

    def mix(parts: Sequence[Tensor], scale: float) -> Tensor:
        q, k, v = parts
        return torch.softmax(q @ k.transpose(-2, -1) * scale + bias, dim=-1) @ v  # (B, heads, N, value_dim)

    def join(mixed: Tensor) -> Tensor:
        return mixed.transpose(1, 2).flatten(2)

    by_head = qkv.unflatten(-1, (heads, -1)).transpose(1, 2).split(parts, dim=-1)
    by_part = [
        p.unflatten(-1, (heads, -1)).transpose(1, 2) for p in qkv.split([heads * part for part in parts], dim=-1)
    ]
    right = mix(by_head, key_dim**-0.5)
    return {
        "You cut qkv into all queries, all keys, all values. Here each head's q, k and v lie side by side.": join(
            mix(by_part, key_dim**-0.5)
        ),
        "You scale the scores by √C, as Eq. 6 is printed; the released code scales them by √key_dim.": join(
            mix(by_head, x.shape[-1] ** -0.5)
        ),
        "You left out the scale: the scores are divided by √key_dim.": join(mix(by_head, 1.0)),
        "The values of different heads and tokens are mixed up: transpose heads and tokens before you join the heads, "
        "or concatenate the heads along the channels.": right.reshape(expected.shape),
    }


def _means(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean over the existing pixels of each 3×3 window, and their sum divided by 9."""
    import torch

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
    import torch

    y = torch.arange(float(height)).repeat_interleave(width)
    x = torch.arange(float(width)).repeat(height)
    return y[:, None] - y, x[:, None] - x


def _random(*shape: int, seed: int = 1) -> Tensor:
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _same(a: Tensor, b: Tensor) -> bool:
    import torch

    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-5)
