"""What a place of a feature map looks at in the image: its effective receptive field.

Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NIPS 2016. A
pooling MB4D block reaches its neighbours, an MB3D block all places at once (paper: section 4.1); how much each pixel
then counts is what training decides, and what the gradient tells.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from efficientformer_edu.config_values import natural, wrong
from efficientformer_edu.model import EfficientFormer


def receptive_field(
    network: EfficientFormer, images: Float[Tensor, "B C H W"], stage: int, block: int | None = None
) -> Float[Tensor, "H W"]:
    """How much each pixel counts for the middle place of a map: |d(sum of its channels) / d pixel|.

    Summed over the colours of a pixel, averaged over the images. Where a side of the map has an even number of places,
    the middle one is the later of two. The network is asked in evaluation mode and left in the mode it had.

    Args:
        network: with any weights; random ones show what its layers allow, learned ones what they use.
        images: as the network sees them. Each has another field, for activations and attention depend on it.
        stage: 1, 2, 3 or 4.
        block: after how many blocks of the stage, MB4D before MB3D; 0 is the map that they get, None is after all.

    Returns:
        (H, W), on the CPU. A pixel that cannot change the place has exactly 0.

    Raises:
        ValueError: for a stage or a block that the network does not have, and for images that it cannot take.
    """
    if natural("stage", stage, least=1) > len(network.stages):
        raise wrong("stage", stage, f"1 to {len(network.stages)}")
    part = network.get_submodule(f"stages.{stage - 1}")
    blocks = [*part.get_submodule("mb4d").children(), *part.get_submodule("mb3d").children()]
    steps = [part.get_submodule("downsample"), *blocks]
    if block is not None and natural("block", block) >= len(steps):
        raise wrong("block", block, f"0 to {len(steps) - 1} in stage {stage}, or None")
    outputs: list[Tensor] = []
    asked = part if block is None else steps[block]
    hook = asked.register_forward_hook(lambda *call: outputs.append(call[-1]))
    was_training = network.training
    network.eval()
    try:
        with torch.enable_grad():
            images = images.detach().requires_grad_()
            network.features(images)
            height, width = network.config.grids((images.shape[2], images.shape[3]))[stage - 1]
            y, x = height // 2, width // 2
            middle = outputs[0][:, :, y, x] if outputs[0].ndim == 4 else outputs[0][:, y * width + x]  # (B, C_j)
            (gradient,) = torch.autograd.grad(middle.sum(), images)  # (B, C, H, W)
    finally:
        hook.remove()
        network.train(was_training)
    return gradient.abs().sum(1).mean(0).cpu()


def reached(field: Float[Tensor, "H W"]) -> float:
    """Part of the pixels that count at all."""
    return int(field.count_nonzero()) / field.numel()


def half(field: Float[Tensor, "H W"]) -> float:
    """The smallest part of the pixels that makes up half of a field: small where few pixels count most.

    Raises:
        ValueError: if no pixel counts.
    """
    if not field.any():
        raise ValueError("the field is 0 everywhere: nothing in the image changes this place")
    values = field.double().flatten().sort(descending=True).values
    needed = int((values.cumsum(0) < values.sum() / 2).sum()) + 1
    return needed / values.numel()
