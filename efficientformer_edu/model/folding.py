"""The inference form: the same function with fewer operations, for one input size.

Paper: section 3, observation 3: a batch norm folds into the convolution before it, a layer norm does not.

What folds: each batch norm into its convolution; γ₂ of an MB4D and both layer scales of an MB3D into the linear map
before them; the two heads into their mean; the table of offsets into the bias of the one token grid. What stays: γ₁
of an MB4D, because no linear map follows the pooling, and a mean that leaves out the border's padding is no fixed
kernel.
"""

from __future__ import annotations

import copy
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from efficientformer_edu.config import Resolution, resolution_pair
from efficientformer_edu.model.blocks import MB3D, MB4D, DropPath, LayerScale
from efficientformer_edu.model.mixers import Attention, Grid
from efficientformer_edu.model.network import EfficientFormer


def fold(model: EfficientFormer, resolution: Resolution = 224) -> EfficientFormer:
    """A copy of the network in inference form: the same logits, no batch norm, one head.

    Args:
        model: the network as trained; it is left as it is.
        resolution: the one input size in pixels, a number or (height, width).

    Returns:
        An `EfficientFormer` in evaluation mode with `config.distillation` False; another input size raises ValueError.

    Raises:
        ValueError: if the model already is folded, or the resolution is below 32.
    """
    size = resolution_pair(resolution)
    if model.input_size is not None:
        raise ValueError("the model is folded already; fold the model as it was trained")
    first = next(model.parameters())
    folded = copy.deepcopy(model).cpu().double().eval()  # products of weights are taken in double and rounded once
    fold_norms(folded)
    drop_dropouts(folded)
    for stage, grid in zip(folded.stages, model.config.grids(size), strict=True):
        for block in list(stage.modules()):
            if isinstance(block, (MB4D, MB3D)):
                block.layer_scale_2 = fold_scale(block.mlp.fc2, block.layer_scale_2)
            if isinstance(block, MB3D):
                block.layer_scale_1 = fold_scale(block.token_mixer.proj, block.layer_scale_1)
                block.token_mixer = FixedBiasAttention(block.token_mixer, grid)
    merge_heads(folded)
    folded.input_size = size
    return folded.to(first.device, first.dtype)


class FixedBiasAttention(Attention):
    """Attention on one token grid, whose bias was looked up once and for all."""

    fixed_bias: Float[Tensor, "heads N N"]

    def __init__(self, attention: Attention, grid: Grid) -> None:
        key_dim, _, value_dim = attention.head_parts
        super().__init__(attention.qkv.in_features, attention.num_heads, key_dim, value_dim, grid, drop=0.0)
        self.qkv, self.drop, self.proj = attention.qkv, attention.drop, attention.proj
        del self.attention_biases
        self.register_buffer("fixed_bias", attention.bias(grid).detach())

    def bias(self, grid: Grid) -> Float[Tensor, "heads N N"]:
        return self.fixed_bias


def fold_norms(network: nn.Module) -> None:
    """Fold each batch norm into the convolution right before it."""
    for module in network.modules():
        for (conv_name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())


def drop_dropouts(network: nn.Module) -> None:
    """Take out what acts in training only, so that the folded form is the same function in either mode."""
    for module in network.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, (nn.Dropout, DropPath)):
                setattr(module, name, nn.Identity())


def fold_scale(linear: nn.Linear | nn.Conv2d, scale: nn.Module) -> nn.Identity:
    """Multiply the layer's outputs by the layer scale behind it; what is left of that scale is the identity."""
    if isinstance(scale, LayerScale):
        for parameter in linear.parameters():
            parameter.data *= scale.gamma.detach().view(-1, *[1] * (parameter.ndim - 1))
    return nn.Identity()


def merge_heads(network: EfficientFormer) -> None:
    """Replace two heads by one that gives their mean."""
    if network.head_dist is not None:
        for ours, other in zip(network.head.parameters(), network.head_dist.parameters(), strict=True):
            ours.data = (ours.data + other.data) / 2
        network.head_dist = None
        network.config = network.config.replace(distillation=False)
