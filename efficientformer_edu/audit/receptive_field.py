"""The effective receptive field of a position in a feature map.

Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NIPS 2016. A
pooling MB4D block reaches neighbouring positions, an MB3D block all positions at once (paper: section 4.1). How much
each pixel contributes depends on training, and is measured with the gradient.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from efficientformer_edu._validation import invalid_value, non_negative_int, positive_int
from efficientformer_edu.model import EfficientFormer


def receptive_field(
    network: EfficientFormer, images: Float[Tensor, "B C H W"], stage: int, block: int | None = None
) -> Float[Tensor, "H W"]:
    """How much each pixel affects the center of a feature map: |d(sum of its channels) / d pixel|.

    The gradient is summed over the input channels and averaged over the images. If the side of the feature map is even,
    the center is the second of the two middle positions. The network runs in evaluation mode; its previous mode is
    restored afterwards.

    Args:
        network: a network with any weights. Random weights show what its layers allow, trained weights what they use.
        images: preprocessed images. Each has a different field, because activations and attention depend on the image.
        stage: 1, 2, 3 or 4.
        block: number of blocks of the stage to apply, MB4D before MB3D. 0 selects the input of the first block, None
            the output of the stage.

    Returns:
        (H, W), on the CPU. It is exactly 0 for a pixel that does not affect the position.

    Raises:
        ValueError: if the network does not have this stage or block, or does not accept the images.
    """
    if positive_int("stage", stage) > len(network.stages):
        raise invalid_value("stage", stage, f"1 to {len(network.stages)}")
    part = network.get_submodule(f"stages.{stage - 1}")
    blocks = [*part.get_submodule("mb4d").children(), *part.get_submodule("mb3d").children()]
    steps = [part.get_submodule("downsample"), *blocks]
    if block is not None and non_negative_int("block", block) >= len(steps):
        raise invalid_value("block", block, f"0 to {len(steps) - 1} in stage {stage}, or None")
    outputs: list[Tensor] = []
    module = part if block is None else steps[block]
    hook = module.register_forward_hook(lambda *call: outputs.append(call[-1]))
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


def nonzero_fraction(field: Float[Tensor, "H W"]) -> float:
    """Fraction of the pixels with a non-zero value."""
    return int(field.count_nonzero()) / field.numel()


def half_mass_fraction(field: Float[Tensor, "H W"]) -> float:
    """The smallest fraction of the pixels that sums to half of the field. It is small if few pixels dominate.

    Raises:
        ValueError: if all pixels are 0.
    """
    if not field.any():
        raise ValueError("the field is 0 everywhere: no pixel affects this position")
    values = field.double().flatten().sort(descending=True).values
    needed = int((values.cumsum(0) < values.sum() / 2).sum()) + 1
    return needed / values.numel()
