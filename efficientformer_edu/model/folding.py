"""Folding: an inference form that computes the same function with fewer operations, for one input size.

Paper: section 3, observation 3: a batch norm folds into the convolution before it, a layer norm does not.

Folded: each batch norm into its convolution; γ₂ of an MB4D and both layer scales of an MB3D into the linear layer
before them; the scale of the attention into its queries; the two heads into their mean; the table of offsets into the
bias of the single token grid. Not folded: γ₁ of an MB4D, because no linear layer follows the pooling, and a mean that
excludes the padding at the border is not a fixed kernel. But x + γ₁ (Pool(x) − x) interpolates between x and Pool(x),
which is a single operation.

The memory layout changes to channels-last (NHWC): a 1×1 convolution is then a linear layer on the rows of a matrix, and
a feature map becomes tokens without a copy.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from efficientformer_edu.config import Resolution, resolution_pair
from efficientformer_edu.model.backbone import Backbone
from efficientformer_edu.model.blocks import MB3D, MB4D, DropPath, LayerScale
from efficientformer_edu.model.mixers import Attention, Grid
from efficientformer_edu.model.mlp import ConvMlp
from efficientformer_edu.model.network import EfficientFormer
from efficientformer_edu.model.unwrap import Network, unwrap


def fold(model: Network, resolution: Resolution = 224) -> Network:
    """A copy of the network in inference form: the same outputs, no batch norm, one head.

    Args:
        model: the trained network, with or without heads; wrapped or pruned models are handled by `unwrap`. It is not
            changed.
        resolution: the input size in pixels, a number or (height, width).

    Returns:
        A network of the same class in evaluation mode, an `EfficientFormer` with `config.distillation` False; another
        input size raises ValueError.

    Raises:
        ValueError: if the model is already folded or not an EfficientFormer, or the resolution is below 32.
    """
    folded = folded_maps(model, resolution)
    channels_last(folded)
    return folded


def folded_maps(model: Network, resolution: Resolution = 224) -> Network:
    """Like `fold`, but with the default memory layout, for graph compilers, which select their own layout.

    Arguments, result and errors are those of `fold`.
    """
    size, model = resolution_pair(resolution), unwrap(model)
    if model.input_size is not None:
        raise ValueError("the model is folded already; fold the model as it was trained")
    first = next(model.parameters())
    folded = copy.deepcopy(model).cpu().double().eval()  # products of weights are computed in double and rounded once
    fold_norms(folded)
    drop_dropouts(folded)
    fold_layer_scales(folded)
    fold_attention(folded, size)
    if isinstance(folded, EfficientFormer):
        merge_heads(folded)
    return folded.to(first.device, first.dtype)


class FoldedMB4D(nn.Module):
    """An MB4D with folded norms on channels-last feature maps: pooling and residual are fused, the MLP is linear."""

    def __init__(self, block: MB4D) -> None:
        super().__init__()
        self.token_mixer = block.token_mixer
        scale = block.layer_scale_1
        self.layer_scale_1 = scale.gamma if isinstance(scale, LayerScale) else None
        self.mlp = FoldedMlp(block.mlp)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        pooled = self.token_mixer.pool(x).permute(0, 2, 3, 1)  # (B, H, W, C), a view
        x = x.permute(0, 2, 3, 1)
        x = pooled if self.layer_scale_1 is None else torch.lerp(x, pooled, self.layer_scale_1)  # x + γ₁ (Pool(x) − x)
        x = x.contiguous()  # a copy only for maps with a single channel or position, whose layout is ambiguous
        x = self.mlp(x).add_(x)
        return x.permute(0, 3, 1, 2)  # (B, C, H, W), a view


class FoldedMlp(nn.Module):
    """The MLP of an MB4D with folded norms on channels-last input: each 1×1 convolution is a linear layer."""

    def __init__(self, mlp: ConvMlp) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = as_linear(mlp.fc1), mlp.act, as_linear(mlp.fc2)

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        return self.fc2(self.act(self.fc1(x)))  # (B, H, W, 4C), then (B, H, W, C)


class FoldedAttention(Attention):
    """Attention on one token grid, with the bias looked up and the queries scaled in advance."""

    fixed_bias: Float[Tensor, "heads N N"]

    def __init__(self, attention: Attention, grid: Grid) -> None:
        key_dim, _, value_dim = attention.head_parts
        super().__init__(attention.qkv.in_features, attention.num_heads, key_dim, value_dim, grid, drop=0.0)
        self.qkv, self.drop, self.proj = attention.qkv, attention.drop, attention.proj
        del self.attention_biases
        self.register_buffer("fixed_bias", attention.bias(grid).detach())
        for parameter in self.qkv.parameters():
            heads = parameter.data.unflatten(0, (self.num_heads, -1))  # (heads, 2·key_dim + value_dim, ...)
            heads[:, :key_dim] *= self.scale

    def scores(
        self, q: Float[Tensor, "B heads N key"], k: Float[Tensor, "B heads N key"], grid: Grid
    ) -> Float[Tensor, "B heads N N"]:
        return q @ k.transpose(-2, -1) + self.fixed_bias


def fold_norms(network: nn.Module) -> None:
    """Fold each batch norm into the convolution or linear layer directly before it.

    Submodules of a norm, such as the activation in timm's norm layers, are kept at the same position.
    """
    for module in list(network.modules()):
        for (name, linear), (norm_name, norm) in pairwise(list(module.named_children())):
            if isinstance(linear, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(linear, norm))
            elif isinstance(linear, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
                setattr(module, name, fuse_linear_bn_eval(linear, norm))
            else:
                continue
            setattr(module, norm_name, nn.Sequential(*norm.children()))  # without children it is the identity


def drop_dropouts(network: nn.Module) -> None:
    """Remove dropout and drop path, so that the folded network computes the same function in both modes."""
    for module in network.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, (nn.Dropout, DropPath)):
                setattr(module, name, nn.Identity())


def fold_layer_scales(network: nn.Module) -> None:
    """Multiply each layer scale into the linear layer directly before it; that of the pooling is kept."""
    for block in network.modules():
        if isinstance(block, (MB4D, MB3D)):
            block.layer_scale_2 = fold_scale(block.mlp.fc2, block.layer_scale_2)
        if isinstance(block, MB3D):
            block.layer_scale_1 = fold_scale(block.token_mixer.proj, block.layer_scale_1)


def fold_scale(linear: nn.Linear | nn.Conv2d, scale: nn.Module) -> nn.Identity:
    """Multiply a layer scale into the layer before it. Returns the identity, which replaces the layer scale."""
    if isinstance(scale, LayerScale):
        for parameter in linear.parameters():
            parameter.data *= scale.gamma.detach().view(-1, *[1] * (parameter.ndim - 1))
    return nn.Identity()


def fold_attention(network: Backbone, size: tuple[int, int]) -> None:
    """Look up the attention bias for one input size, and scale the weights of the queries."""
    for stage, grid in zip(network.stages, network.config.grids(size), strict=True):
        for block in stage.modules():
            if isinstance(block, MB3D):
                block.token_mixer = FoldedAttention(block.token_mixer, grid)
    network.input_size = size


def merge_heads(network: EfficientFormer) -> None:
    """Replace two heads by one that computes their mean."""
    if network.head_dist is not None:
        for name, parameter in network.head.named_parameters():  # by name: pruning changes the order
            parameter.data = (parameter.data + network.head_dist.get_parameter(name).data) / 2
        network.head_dist = None
        network.config = network.config.replace(distillation=False)


def channels_last(network: Backbone) -> None:
    """Convert feature maps and weights to channels-last; 1×1 convolutions become linear layers."""
    for stage in network.stages:
        stage.mb4d = nn.ModuleList(FoldedMB4D(block) for block in stage.modules() if isinstance(block, MB4D))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # its output has the layout of its weight
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
        elif isinstance(module, nn.Linear):  # the product copies weights that are not contiguous per input
            module.weight.data = module.weight.data.t().contiguous().t()


def as_linear(conv: nn.Conv2d) -> nn.Linear:
    """A 1×1 convolution as a linear layer on the channels at each position."""
    linear = nn.Linear(conv.in_channels, conv.out_channels, device="meta")  # the values are set below
    learned = dict(conv.named_parameters())
    linear.weight = nn.Parameter(learned["weight"].detach().flatten(1))
    linear.bias = nn.Parameter(learned["bias"].detach())
    return linear
