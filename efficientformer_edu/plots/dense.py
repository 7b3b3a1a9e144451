"""A network for a dense task as a Mermaid flowchart: backbone, neck and head, with the shape of every feature map.

Paper: section 5.2. `dense_shapes` runs the network once on torch's meta device, which computes shapes only, so it is
fast for any network and size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from efficientformer_edu.config import Resolution, resolution_pair
from efficientformer_edu.dense import DenseConfig, DenseNetwork, FPNConfig, YOLOPAFPNConfig
from efficientformer_edu.dense.network import STRIDES
from efficientformer_edu.plots import INK, NECK, PARTS
from efficientformer_edu.plots.mermaid import FRAME, Mermaid, Shape, edge, shape_text

LABELS = {  # of necks and heads, by their names in `DenseConfig`
    "fpn": "FPN",
    "yolopafpn": "YOLOPAFPN",
    "fc": "FC<br/>linear layers",
    "all_mlp_decoder": "ALLMLPDecoder<br/>1×1 each, enlarged, concatenated, 1×1 twice",
    "semantic_fpn": "SemanticFPN<br/>3×3 and enlarged, summed, 1×1",
    "anchor_decoupled_head": "AnchorDecoupledHead<br/>two towers, shared by all maps",
    "anchor_free_decoupled_head": "AnchorFreeDecoupledHead<br/>two towers per map",
}
PAFPN = {  # modules of YOLOPAFPN in the chart: down to the finest feature map, and up again
    "lateral_conv0": "1×1",
    "reduce_conv1": "enlarged, CSP, 1×1",
    "C3_p3": "enlarged, CSP",
    "C3_n3": "halved, CSP",
    "C3_n4": "halved, CSP",
}
EXTRA = {  # how a level beyond the backbone's is made, by `add_extra_convs`
    False: "every second pixel",
    "on_input": "3×3, stride 2",
    "on_lateral": "3×3, stride 2,<br/>on the lateral",
    "on_output": "3×3, stride 2",
}


@dataclass(frozen=True)
class DenseShapes:
    """The shapes in a network for one image, without the batch.

    Attributes:
        image: (in_channels, H, W).
        inside: name of a module to the shape of its output, for modules that return one tensor.
        maps: the four feature maps of the backbone.
        levels: stride to feature map, of the inputs of the head; empty for classification.
        outputs: name to shape, of the outputs of the head.
    """

    image: Shape
    inside: Mapping[str, Shape]
    maps: tuple[Shape, ...]
    levels: Mapping[int, Shape]
    outputs: Mapping[str, Shape]


def dense_shapes(config: DenseConfig, resolution: Resolution = 512) -> DenseShapes:
    """The shapes in a network for a dense task. Raises ValueError for a resolution below 32 pixels."""
    image = (config.backbone.in_channels, *resolution_pair(resolution))
    inside: dict[str, Shape] = {}
    inputs: list[Tensor] = []
    with torch.device("meta"), torch.no_grad():
        network = DenseNetwork(config).eval()
        for name, module in network.named_modules():
            module.register_forward_hook(partial(_note, inside, name))
        network.head.register_forward_pre_hook(lambda _, arguments: inputs.extend(arguments[0]))
        outputs = network(torch.empty(1, *image))
    strides = STRIDES if network.neck is None else network.neck.strides
    return DenseShapes(
        image=image,
        inside=inside,
        maps=tuple(inside[f"backbone.stages.{j}"] for j in range(4)),
        levels={}
        if config.task == "classification"
        else {stride: tuple(x.shape[1:]) for stride, x in zip(strides, inputs, strict=True)},
        outputs=_outputs(outputs, strides),
    )


def dense_alt_text(config: DenseConfig, resolution: Resolution = 512) -> str:
    """A description of the network's figure for screen readers. Raises ValueError as `dense_shapes` does."""
    shapes = dense_shapes(config, resolution)
    neck, head = (type(part).__name__.removesuffix("Config") for part in (config.neck, config.head))
    levels = ", ".join(f"{shape_text(size)} at 1/{stride}" for stride, size in shapes.levels.items())
    outputs = ", ".join(f"{name} {shape_text(size)}" for name, size in shapes.outputs.items())
    return (
        f"EfficientFormer with {head} on an image of {shape_text(shapes.image[1:])} pixels: the four stages return "
        f"{', '.join(map(shape_text, shapes.maps))}; "
        + (f"{neck} turns them into {levels}; " if config.neck is not None else "")
        + f"the head returns {outputs}."
    )


def dense_mermaid(network: DenseNetwork | DenseConfig, resolution: Resolution = 512) -> Mermaid:
    """A flowchart of a network for a dense task with the shape of every feature map between its parts.

    Args:
        network: the network or its configuration.
        resolution: height and width of the image in pixels, or one number for both.

    Returns:
        Mermaid source. Shapes are C×H×W for feature maps, N×… for anchors, without the batch.

    Raises:
        ValueError: for a resolution below 32 pixels.
    """
    config = network.config if isinstance(network, DenseNetwork) else network
    shapes = dense_shapes(config, resolution)
    neck, head = config.names
    lines = [
        "flowchart TB",
        f"accTitle: EfficientFormer for {config.task}",
        f"accDescr: {dense_alt_text(config, resolution)}",
        'image(["image"]):::image',
        'subgraph backbone["EfficientFormer"]',
        *_backbone(config, shapes),
        "end",
        f"style backbone {FRAME}",
        edge("image", "backbone", shapes.image),
    ]
    if config.neck is not None:
        lines += [f'subgraph neck["{LABELS[neck]}"]', *_neck(config, shapes), "end", f"style neck {FRAME}"]
    lines += [f'head["{LABELS[head]}"]:::head', *_head(config, shapes)]
    colours = {**PARTS, "neck": NECK}
    lines += [f"classDef {name} fill:{fill},stroke:{line},color:{INK}" for name, (fill, line) in colours.items()]
    return Mermaid("\n".join(lines) + "\n")


def _backbone(config: DenseConfig, shapes: DenseShapes) -> Iterator[str]:
    yield 'stem["stem<br/>3×3, stride 2, twice"]:::stem'
    yield edge("stem", "stage1", shapes.inside["backbone.stem"])
    for j, (depth, vit) in enumerate(zip(config.backbone.depths, config.backbone.vits, strict=True), start=1):
        blocks = [f"{kind} ×{times}" for kind, times in (("MB4D", depth - vit), ("MB3D", vit)) if times]
        inside = ", ".join(["embedding"] * (j > 1) + blocks)
        yield f'stage{j}["stage {j}<br/>{inside}"]:::{"MB3D" if vit else "MB4D"}'
        if j > 1:
            yield edge(f"stage{j - 1}", f"stage{j}", shapes.maps[j - 2])
    if config.task == "classification":
        yield 'mean["layer norm,<br/>mean over the tokens"]:::head'
        yield edge("stage4", "mean", shapes.maps[3])
    elif config.norms:
        for j, size in enumerate(shapes.maps, start=1):
            yield f'norm{j}["group norm"]:::embedding'
            yield edge(f"stage{j}", f"norm{j}", size)


def _map(config: DenseConfig, j: int) -> str:
    """The node whose output is the j-th feature map of the backbone, from 0."""
    return f"norm{j + 1}" if config.norms else f"stage{j + 1}"


def _neck(config: DenseConfig, shapes: DenseShapes) -> Iterator[str]:
    match config.neck:
        case FPNConfig():
            yield from _fpn(config, config.neck, shapes)
        case YOLOPAFPNConfig():
            yield from _pafpn(config, shapes)


def _fpn(config: DenseConfig, neck: FPNConfig, shapes: DenseShapes) -> Iterator[str]:
    """From the coarsest feature map of the backbone to the finest, then the levels beyond the coarsest."""
    last = 3 if neck.end_level == -1 else neck.end_level
    used, strides = range(neck.start_level, last + 1), list(shapes.levels)
    for i, j in reversed(list(enumerate(used))):
        yield f'P{strides[i]}["{"1×1, 3×3" if j == last else "1×1, sum, 3×3"}"]:::neck'
        yield edge(_map(config, j), f"P{strides[i]}", shapes.maps[j])
        if j < last:  # the sum at the coarser level, which is enlarged
            yield edge(f"P{strides[i + 1]}", f"P{strides[i]}", shapes.inside[f"neck.lateral_convs.{i + 1}"])
    for i in range(len(used), neck.num_outs):
        of_input = i == len(used) and neck.add_extra_convs == "on_input"
        label = EXTRA[neck.add_extra_convs] if i == len(used) else EXTRA["on_output" if neck.add_extra_convs else False]
        yield f'P{strides[i]}["{label}"]:::neck'
        if of_input:
            yield edge(_map(config, last), f"P{strides[i]}", shapes.maps[last])
        else:
            yield edge(f"P{strides[i - 1]}", f"P{strides[i]}", shapes.levels[strides[i - 1]])


def _pafpn(config: DenseConfig, shapes: DenseShapes) -> Iterator[str]:
    for name, label in PAFPN.items():
        yield f'{name}["{label}"]:::neck'
    down5, down4, up3, up4, up5 = PAFPN
    for j, part in ((3, down5), (2, down4), (1, up3)):
        yield edge(_map(config, j), part, shapes.maps[j])
    for start, end in ((down5, down4), (down4, up3), (up3, up4), (down4, up4), (up4, up5), (down5, up5)):
        yield edge(start, end, shapes.inside[f"neck.{start}"])


def _head(config: DenseConfig, shapes: DenseShapes) -> Iterator[str]:
    match config.neck:
        case None if config.task == "classification":
            starts = {"mean": shapes.maps[3][:1]}
        case None:
            starts = {_map(config, j): size for j, size in enumerate(shapes.maps)}
        case FPNConfig():
            starts = {f"P{stride}": size for stride, size in shapes.levels.items()}
        case YOLOPAFPNConfig():
            starts = dict(zip(list(PAFPN)[2:], shapes.levels.values(), strict=True))
    for start, size in starts.items():
        yield edge(start, "head", size)
    for n, (name, size) in enumerate(shapes.outputs.items()):
        yield f'output{n}(["{name}"]):::image'
        yield edge("head", f"output{n}", size)


def _note(inside: dict[str, Shape], name: str, module: nn.Module, inputs: Any, output: Any) -> None:
    if isinstance(output, Tensor):
        inside[name] = tuple(output.shape[1:])


def _outputs(output: Any, strides: tuple[int, ...]) -> dict[str, Shape]:
    if isinstance(output, Tensor):
        return {"logits": tuple(output.shape[1:])}
    if isinstance(output, tuple):  # `AnchorPredictions`, whose anchors have no batch dimension
        return {name: tuple(x.shape[-2:]) for name, x in output._asdict().items()}  # type: ignore[attr-defined]
    return {f"predictions at 1/{stride}": tuple(x.shape[1:]) for stride, x in zip(strides, output, strict=True)}
