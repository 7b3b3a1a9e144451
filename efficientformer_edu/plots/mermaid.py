"""The network as a Mermaid flowchart, which notebooks, the site and GitHub render. Needs neither torch nor matplotlib.

Paper: Fig. 3. `layer_runs` folds the analytic ledger into stem, embeddings, runs of equal blocks, and head. Every shape
in a figure of the network comes from there, so figures are right for any configuration and image size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise

from efficientformer_edu.audit import Costs, Operation, count
from efficientformer_edu.config import EfficientFormerConfig, Resolution
from efficientformer_edu.plots import FRAME_LINE, INK, PARTS

FRAME = f"fill:none,stroke:{FRAME_LINE}"  # of a stage: transparent, so that its title keeps the colours of the page
Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerRun:
    """A run of equal blocks, an embedding, the stem or the head.

    Attributes:
        kind: "stem", "embedding", "MB4D", "MB3D" or "head".
        stage: "stem", "stage 1" to "stage 4" or "head".
        repeats: number of equal blocks in the run.
        input_shape: of the first block: (C, H, W) for a feature map, (N, C) for tokens.
        operations: rows of the ledger for the run.
    """

    kind: str
    stage: str
    repeats: int
    input_shape: Shape
    operations: tuple[Operation, ...]

    @property
    def output_shape(self) -> Shape:
        """(C, H, W) for a feature map, (N, C) for tokens, (classes,) for logits."""
        return self.operations[-1].output_shape

    @property
    def first(self) -> tuple[Operation, ...]:
        """The rows of the first block of the run."""
        return tuple(row for row in self.operations if row.block == self.operations[0].block)


class Mermaid(str):
    """The source of a Mermaid diagram, which Jupyter renders. `print` shows the source."""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {
            "text/vnd.mermaid": str(self),  # for JupyterLab
            "text/markdown": f"```mermaid\n{self}```",  # for other front ends
            "text/plain": str(self),
        }


def layer_runs(costs: Costs) -> list[LayerRun]:
    """Stem, embeddings, runs of equal blocks and head of a network, in execution order."""
    maps = [
        (dim, *grid) for dim, grid in zip(costs.config.embed_dims, costs.config.grids(costs.resolution), strict=True)
    ]
    current: Shape = (costs.config.in_channels, *costs.resolution)  # the input of the next embedding or of the stem
    network = []
    for (stage, kind), run in groupby(costs.rows, key=lambda row: (row.stage, _kind(row))):
        operations = tuple(run)
        # Norms and pooling keep the shape, so the first row of a block, or of the head, has the shape of its input.
        entry = current if kind in ("stem", "embedding") else operations[0].output_shape
        network.append(LayerRun(kind, stage, len({row.block for row in operations}), entry, operations))
        current = maps[int(stage[-1]) - 1] if stage.startswith("stage") else operations[-1].output_shape
    return network


def shape_text(shape: Shape) -> str:
    """A shape on one line: 48×56×56 for a feature map, 49×448 for tokens."""
    return "×".join(str(size) for size in shape)


def alt_text(model: str | EfficientFormerConfig, resolution: Resolution = 224) -> str:
    """A description of the network's figure for screen readers. Arguments and errors as for `count`."""
    costs = count(model, resolution)
    stages = []
    for stage, run in groupby(layer_runs(costs), key=lambda part: part.stage):
        if stage.startswith("stage"):
            blocks = [part for part in run if part.kind != "embedding"]
            runs = " and ".join(f"{part.repeats} {part.kind} on {shape_text(part.output_shape)}" for part in blocks)
            stages.append(f"{stage} has {runs}")
    heads = "two heads" if costs.config.distillation else "one head"
    return (
        f"EfficientFormer on an image of {shape_text(costs.resolution)} pixels: after the stem, {'; '.join(stages)}; "
        f"then layer norm, the mean over the tokens and {heads} for {costs.config.num_classes} classes."
    )


def architecture_mermaid(model: str | EfficientFormerConfig, resolution: Resolution = 224) -> Mermaid:
    """A flowchart of a network with the shape of every tensor between its parts; runs of equal blocks are folded.

    Args:
        model: a configuration, or the name of a published network such as `"l1"`.
        resolution: height and width of the image in pixels, or one number for both.

    Returns:
        Mermaid source. Shapes are C×H×W for feature maps, N×C for tokens.

    Raises:
        ValueError: for an unknown name, or a resolution below 32 pixels.
    """
    costs = count(model, resolution)
    stem, *body, head = layer_runs(costs)
    stages = [(stage, tuple(run)) for stage, run in groupby(body, key=lambda part: part.stage)]
    lines = [
        "flowchart TB",
        "accTitle: EfficientFormer",
        f"accDescr: {alt_text(model, resolution)}",
        'image(["image"]):::image',
        'stem["stem<br/>3×3, stride 2, twice"]:::stem',
        edge("image", "stem", stem.input_shape),
    ]
    for stage, run in stages:
        lines += _stage(stage, run)
    # Links connect the stages, not their blocks: only then does Mermaid put the blocks of a stage side by side.
    lines.append(edge("stem", _id(stages[0][0]), stem.output_shape))
    for (stage, run), (after, following) in pairwise(stages):
        lines.append(edge(_id(stage), _id(after), *_between(run[-1], following[0])))
    lines += _head(head)
    lines.append(edge(_id(stages[-1][0]), "head", *_between(body[-1], head)))
    lines += [f"classDef {name} fill:{fill},stroke:{line},color:{INK}" for name, (fill, line) in PARTS.items()]
    return Mermaid("\n".join(lines) + "\n")


def edge(start: str, end: str, *shapes: Shape) -> str:
    """An arrow between two nodes, labelled with the shape of the tensor that passes."""
    return f'{start} -->|"{" → ".join(map(shape_text, shapes))}"| {end}'


def _stage(stage: str, run: tuple[LayerRun, ...]) -> Iterator[str]:
    yield f'subgraph {_id(stage)}["{stage}"]'
    yield "direction LR"
    for part in run:
        yield f'{_id(stage, part.kind)}["{_label(part)}"]:::{part.kind}'
    for part, following in pairwise(run):
        yield edge(_id(stage, part.kind), _id(stage, following.kind), *_between(part, following))
    yield "end"
    yield f"style {_id(stage)} {FRAME}"


def _head(head: LayerRun) -> Iterator[str]:
    norm, pooled, *classifiers = head.operations
    yield 'subgraph head["head"]'
    yield "direction LR"
    yield 'norm["layer norm"]:::head'
    yield 'pooled["mean over<br/>the tokens"]:::head'
    yield edge("norm", "pooled", norm.output_shape)
    linears = [row for row in classifiers if row.kind == "linear"]
    yield f'logits(["{"logits" if len(linears) == 1 else "logits: the mean"}"]):::image'
    for row in linears:
        yield f'{row.name}_linear["{row.name}"]:::head'
        yield edge("pooled", f"{row.name}_linear", pooled.output_shape)
        yield edge(f"{row.name}_linear", "logits", row.output_shape)
    yield "end"
    yield f"style head {FRAME}"


def _between(part: LayerRun, following: LayerRun) -> Iterable[Shape]:
    """The shape of a tensor between two parts, and its second shape if it is reshaped from map to tokens or back."""
    return dict.fromkeys((part.output_shape, following.input_shape))


def _label(part: LayerRun) -> str:
    if part.kind == "embedding":
        return "embedding<br/>3×3, stride 2"
    mixer = "pooling" if part.kind == "MB4D" else "attention"
    return f"{part.kind} ×{part.repeats}<br/>{mixer}"


def _kind(row: Operation) -> str:
    return row.block.split()[0] if row.block else row.stage


def _id(*names: str) -> str:
    return "_".join(names).replace(" ", "")
