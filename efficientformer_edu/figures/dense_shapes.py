"""The shape of everything that passes through a network for a task, as its drawing shows it.

The network runs once on torch's meta device, which works out shapes and nothing else: quick for any network and size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from efficientformer_edu.config import Resolution, resolution_pair
from efficientformer_edu.dense import DenseConfig, DenseNetwork
from efficientformer_edu.dense.backbone import STRIDES
from efficientformer_edu.figures.parts import Shape, shape_text


@dataclass(frozen=True)
class DenseShapes:
    """What a run on one image showed; no shape has the batch.

    Attributes:
        image: (in_channels, H, W).
        inside: what came out of each module that gave one tensor, by its name in the network.
        maps: the backbone's four maps.
        levels: stride to map, of what the head gets; empty for classification, whose head gets no map.
        outputs: what the head gives, by name.
    """

    image: Shape
    inside: Mapping[str, Shape]
    maps: tuple[Shape, ...]
    levels: Mapping[int, Shape]
    outputs: Mapping[str, Shape]


def dense_shapes(config: DenseConfig, resolution: Resolution = 512) -> DenseShapes:
    """The shapes in a network for a task. Raises ValueError for a resolution below 32 pixels."""
    image = (config.backbone.in_channels, *resolution_pair(resolution))
    inside: dict[str, Shape] = {}
    given: list[Tensor] = []
    with torch.device("meta"), torch.no_grad():
        network = DenseNetwork(config).eval()
        for name, module in network.named_modules():
            module.register_forward_hook(partial(_note, inside, name))
        network.head.register_forward_pre_hook(lambda _, inputs: given.extend(inputs[0]))
        found = network(torch.empty(1, *image))
    strides = STRIDES if network.neck is None else network.neck.strides
    of_maps = config.task != "classification"
    return DenseShapes(
        image=image,
        inside=inside,
        maps=tuple(inside[f"backbone.stages.{j}"] for j in range(4)),
        levels={stride: tuple(x.shape[1:]) for stride, x in zip(strides, given, strict=True)} if of_maps else {},
        outputs=_outputs(found, strides),
    )


def dense_alt_text(config: DenseConfig, resolution: Resolution = 512) -> str:
    """What a drawing of the network says, for readers who do not see it. Raises ValueError as `dense_shapes` does."""
    shapes = dense_shapes(config, resolution)
    neck, head = (type(part).__name__.removesuffix("Config") for part in (config.neck, config.head))
    levels = ", ".join(f"{shape_text(size)} at 1/{stride}" for stride, size in shapes.levels.items())
    outputs = ", ".join(f"{name} {shape_text(size)}" for name, size in shapes.outputs.items())
    return (
        f"EfficientFormer with {head} on an image of {shape_text(shapes.image[1:])} pixels: the four stages give "
        f"{', '.join(map(shape_text, shapes.maps))}; "
        + (f"{neck} makes of them {levels}; " if config.neck is not None else "")
        + f"the head gives {outputs}."
    )


def _note(inside: dict[str, Shape], name: str, module: nn.Module, inputs: Any, output: Any) -> None:
    if isinstance(output, Tensor):
        inside[name] = tuple(output.shape[1:])


def _outputs(found: Any, strides: tuple[int, ...]) -> dict[str, Shape]:
    if isinstance(found, Tensor):
        return {"logits": tuple(found.shape[1:])}
    if isinstance(found, tuple):  # of `AnchorPredictions`; its anchors have no batch
        return {name: tuple(x.shape[-2:]) for name, x in found._asdict().items()}  # type: ignore[attr-defined]
    return {f"predictions at 1/{stride}": tuple(x.shape[1:]) for stride, x in zip(strides, found, strict=True)}
