"""A network for a task as a Mermaid flowchart: backbone, neck and head, and the shape of every map between them.

Paper: section 5.2. Every shape comes from a run: `figures.dense_shapes`.
"""

from __future__ import annotations

from collections.abc import Iterator

from efficientformer_edu.config import Resolution
from efficientformer_edu.dense import DenseConfig, DenseNetwork, FPNConfig, YOLOPAFPNConfig
from efficientformer_edu.figures.colours import INK, NECK, PARTS
from efficientformer_edu.figures.dense_shapes import DenseShapes, dense_alt_text, dense_shapes
from efficientformer_edu.figures.mermaid import FRAME, Mermaid, edge

# What a neck or a head does, by the name that a configuration has for it.
WORDS = {
    "fpn": "FPN",
    "yolopafpn": "YOLOPAFPN",
    "fc": "FC<br/>linear layers",
    "all_mlp_decoder": "ALLMLPDecoder<br/>1×1 each, enlarged, concatenated, 1×1 twice",
    "semantic_fpn": "SemanticFPN<br/>3×3 and enlarged, summed, 1×1",
    "anchor_decoupled_head": "AnchorDecoupledHead<br/>two towers, shared by all maps",
    "anchor_free_decoupled_head": "AnchorFreeDecoupledHead<br/>two towers for each map",
}
# The parts of YOLOPAFPN whose outputs the chart shows: down to the finest map, and up again.
PAFPN = {
    "lateral_conv0": "1×1",
    "reduce_conv1": "enlarged, CSP, 1×1",
    "C3_p3": "enlarged, CSP",
    "C3_n3": "halved, CSP",
    "C3_n4": "halved, CSP",
}
EXTRA = {  # where a map beyond the backbone's comes from, by `add_extra_convs`
    False: "every second place",
    "on_input": "3×3, stride 2",
    "on_lateral": "3×3, stride 2,<br/>on the lateral",
    "on_output": "3×3, stride 2",
}


def dense_mermaid(network: DenseNetwork | DenseConfig, resolution: Resolution = 512) -> Mermaid:
    """A flowchart of a network for a task with the shape of every map between its parts.

    Args:
        network: the network, or what it is.
        resolution: height and width of the image in pixels, or one number for both.

    Returns:
        Mermaid source. A shape is C×H×W for a map, N×… for anchors, without the batch.

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
        lines += [f'subgraph neck["{WORDS[neck]}"]', *_neck(config, shapes), "end", f"style neck {FRAME}"]
    lines += [f'head["{WORDS[head]}"]:::head', *_head(config, shapes)]
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
    """The node from which the j-th of the backbone's maps goes out, from 0."""
    return f"norm{j + 1}" if config.norms else f"stage{j + 1}"


def _neck(config: DenseConfig, shapes: DenseShapes) -> Iterator[str]:
    match config.neck:
        case FPNConfig():
            yield from _fpn(config, config.neck, shapes)
        case YOLOPAFPNConfig():
            yield from _pafpn(config, shapes)


def _fpn(config: DenseConfig, neck: FPNConfig, shapes: DenseShapes) -> Iterator[str]:
    """From the coarsest of the backbone's maps to the finest, then what lies beyond the coarsest."""
    last = 3 if neck.end_level == -1 else neck.end_level
    used, strides = range(neck.start_level, last + 1), list(shapes.levels)
    for i, j in reversed(list(enumerate(used))):
        yield f'P{strides[i]}["{"1×1, 3×3" if j == last else "1×1, sum, 3×3"}"]:::neck'
        yield edge(_map(config, j), f"P{strides[i]}", shapes.maps[j])
        if j < last:  # the sum at the coarser map, which is enlarged
            yield edge(f"P{strides[i + 1]}", f"P{strides[i]}", shapes.inside[f"neck.lateral_convs.{i + 1}"])
    for i in range(len(used), neck.num_outs):
        of_input = i == len(used) and neck.add_extra_convs == "on_input"
        words = EXTRA[neck.add_extra_convs] if i == len(used) else EXTRA["on_output" if neck.add_extra_convs else False]
        yield f'P{strides[i]}["{words}"]:::neck'
        if of_input:
            yield edge(_map(config, last), f"P{strides[i]}", shapes.maps[last])
        else:
            yield edge(f"P{strides[i - 1]}", f"P{strides[i]}", shapes.levels[strides[i - 1]])


def _pafpn(config: DenseConfig, shapes: DenseShapes) -> Iterator[str]:
    for name, words in PAFPN.items():
        yield f'{name}["{words}"]:::neck'
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
        yield f'found{n}(["{name}"]):::image'
        yield edge("head", f"found{n}", size)
