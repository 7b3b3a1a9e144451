"""The network as a Mermaid flowchart: text that a notebook, the site and GitHub draw themselves.

Paper: Fig. 3. Every shape comes from the analytic ledger, so that the chart is right for any configuration and size.
Needs neither torch nor matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise

from efficientformer_edu.audit import count
from efficientformer_edu.config import EfficientFormerConfig, Resolution
from efficientformer_edu.figures.colours import FRAME_LINE, INK, PARTS
from efficientformer_edu.figures.parts import Part, Shape, alt_text, parts, shape_text

FRAME = (
    f"fill:none,stroke:{FRAME_LINE}"  # of a stage: the page shows through, so that its title keeps the page's colours
)


class Mermaid(str):
    """The source of a Mermaid diagram, which Jupyter shows as the drawing. `print` shows the source."""

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return {
            "text/vnd.mermaid": str(self),  # JupyterLab draws this one
            "text/markdown": f"```mermaid\n{self}```",  # other front ends know the fence
            "text/plain": str(self),
        }


def architecture_mermaid(model: str | EfficientFormerConfig, resolution: Resolution = 224) -> Mermaid:
    """A flowchart of a network with the shape of every tensor between its parts; equal blocks in a row are folded.

    Args:
        model: a configuration, or the name of a published network such as `"l1"`.
        resolution: height and width of the image in pixels, or one number for both.

    Returns:
        Mermaid source. A shape is C×H×W for a map, N×C for tokens.

    Raises:
        ValueError: for an unknown name, or a resolution below 32 pixels.
    """
    costs = count(model, resolution)
    stem, *body, head = parts(costs)
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
    # Links between whole stages, not their blocks: only then does Mermaid lay the blocks of a stage side by side.
    lines.append(edge("stem", _id(stages[0][0]), stem.output_shape))
    for (stage, run), (after, following) in pairwise(stages):
        lines.append(edge(_id(stage), _id(after), *_between(run[-1], following[0])))
    lines += _head(head)
    lines.append(edge(_id(stages[-1][0]), "head", *_between(body[-1], head)))
    lines += [f"classDef {name} fill:{fill},stroke:{line},color:{INK}" for name, (fill, line) in PARTS.items()]
    return Mermaid("\n".join(lines) + "\n")


def _stage(stage: str, run: tuple[Part, ...]) -> Iterator[str]:
    yield f'subgraph {_id(stage)}["{stage}"]'
    yield "direction LR"
    for part in run:
        yield f'{_id(stage, part.kind)}["{_label(part)}"]:::{part.kind}'
    for part, following in pairwise(run):
        yield edge(_id(stage, part.kind), _id(stage, following.kind), *_between(part, following))
    yield "end"
    yield f"style {_id(stage)} {FRAME}"


def _head(head: Part) -> Iterator[str]:
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


def _between(part: Part, following: Part) -> Iterable[Shape]:
    """The shape of a tensor on its way, and its other shape where a map becomes tokens or tokens a map."""
    return dict.fromkeys((part.output_shape, following.input_shape))


def _label(part: Part) -> str:
    if part.kind == "embedding":
        return "embedding<br/>3×3, stride 2"
    mixer = "pooling" if part.kind == "MB4D" else "attention"
    return f"{part.kind} ×{part.repeats}<br/>{mixer}"


def edge(start: str, end: str, *shapes: Shape) -> str:
    """An arrow between two parts, with the shape of what passes."""
    return f'{start} -->|"{" → ".join(map(shape_text, shapes))}"| {end}'


def _id(*names: str) -> str:
    return "_".join(names).replace(" ", "")
