"""The backbone that all networks here share: a stem and four stages, from images to four feature maps.

Paper: section 4.1, Fig. 3 and Table 6. Y = ∏ᵢ MBᵢ(PatchEmbed(X₀)): MB4D blocks on feature maps first, then MB3D blocks
on tokens, with one change of dimension between them. Released code: `EfficientFormer` in `models/efficientformer.py`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu.config import SMALLEST_INPUT, EfficientFormerConfig
from efficientformer_edu.model.blocks import MB3D, MB4D
from efficientformer_edu.model.mixers import Attention
from efficientformer_edu.model.stem import Embedding, Stem


class Stage(nn.Module):
    """Stage 0, 1, 2 or 3: an embedding, MB4D blocks on the feature map, then MB3D blocks on its tokens."""

    def __init__(self, config: EfficientFormerConfig, stage: int) -> None:
        super().__init__()
        dims, first = config.embed_dims, sum(config.depths[:stage])
        rates = config.drop_path_rates[first : first + config.depths[stage]]
        num_mb4d = config.depths[stage] - config.vits[stage]
        self.downsample: nn.Module = nn.Identity()
        if config.downsamples[stage]:
            self.downsample = Embedding(dims[max(stage - 1, 0)], dims[stage])
        self.mb4d = nn.ModuleList(MB4D(config, stage, rate) for rate in rates[:num_mb4d])
        self.mb3d = nn.ModuleList(MB3D(config, stage, rate) for rate in rates[num_mb4d:])

    def forward(self, x: Float[Tensor, "B in_dim H W"]) -> Float[Tensor, "B C h w"]:
        x = self.downsample(x)  # (B, C_j, ⌈H/2⌉, ⌈W/2⌉)
        for block in self.mb4d:
            x = block(x)
        if len(self.mb3d) > 0:
            grid = (x.shape[2], x.shape[3])
            x = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, N, C_j): the feature map becomes tokens
            for block in self.mb3d:
                x = block(x, grid)
            x = x.transpose(1, 2).unflatten(2, grid)  # (B, C_j, h, w): a view, no copy
        return x


class Backbone(nn.Module):
    """A stem, four stages and the final norm, for any input size from 32×32, square or not.

    Attributes:
        config: the network's configuration.
        input_size: height and width of the only input size of a folded network; None if any size is allowed.
    """

    def __init__(self, config: EfficientFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.input_size: tuple[int, int] | None = None
        self.stem = Stem(config.in_channels, config.stem_width, config.embed_dims[0], config.stem_act)
        self.stages = nn.ModuleList(Stage(config, j) for j in range(4))
        self.norm = nn.LayerNorm(config.embed_dims[-1])

    def extract_feat(self, images: Float[Tensor, "B in_channels H W"]) -> tuple[Float[Tensor, "B C4"]]:
        """The input of the heads, (B, C₄), in a tuple of length 1: the mean over all tokens after the final norm."""
        tokens = self.features(images)[-1].permute(0, 2, 3, 1).flatten(1, 2)  # (B, N, C₄)
        return (self.norm(tokens).mean(1),)

    def features(self, images: Float[Tensor, "B in_channels H W"]) -> list[Tensor]:
        """Feature maps of the four stages, (B, C_j, ⌈H/2^(j+1)⌉, ⌈W/2^(j+1)⌉) for j = 1 to 4, before the final norm."""
        x = self.stem(check_images(images, self.config.in_channels, self.input_size))
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    def attention_maps(self, images: Float[Tensor, "B in_channels H W"]) -> list[Float[Tensor, "B heads N N"]]:
        """The attention probabilities of each MB3D block, first block first; row i is the distribution of token i."""
        maps: list[Tensor] = []
        mixers = [module for module in self.modules() if isinstance(module, Attention)]
        hooks = [mixer.softmax.register_forward_hook(lambda *call: maps.append(call[-1])) for mixer in mixers]
        try:
            self.features(images)
        finally:
            for hook in hooks:
                hook.remove()
        return maps

    def extra_repr(self) -> str:
        size = "any size from 32×32" if self.input_size is None else f"{self.input_size[0]}×{self.input_size[1]} only"
        return f"{sum(p.numel() for p in self.parameters()):,} parameters, images of {size}"


@torch.fx.wrap  # a leaf for torch.fx, which cannot trace conditions on sizes
def check_images(images: Tensor, in_channels: int, input_size: tuple[int, int] | None) -> Tensor:
    """Return the images. Raises ValueError if their type, shape or size does not fit the network."""
    size = "H and W at least 32" if input_size is None else f"{input_size[0]}×{input_size[1]}, for which it was folded"
    expected = f"a float tensor (B, {in_channels}, H, W), {size}"
    if images.ndim != 4 or images.shape[1] != in_channels or not images.is_floating_point():
        raise ValueError(f"images are {images.dtype} of shape {tuple(images.shape)}; wanted: {expected}")
    height, width = images.shape[2:]
    if min(height, width) < SMALLEST_INPUT or (input_size is not None and (height, width) != input_size):
        raise ValueError(f"images are {height}×{width} pixels; wanted: {expected}")
    return images
