"""The command line, `efficientformer-edu`: each command wires the rooms together and prints or writes the result.

The rooms are imported inside the commands, so that `--help` and everything that needs no torch answer at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from efficientformer_edu.config import EfficientFormerConfig, Resolution, get_config

app = typer.Typer(
    name="efficientformer-edu",
    help="EfficientFormer, taken apart: draw it, convert its weights, run it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

MODEL_HELP = "l1, l3 or l7, or a YAML file with a configuration"
Layout = Literal["official", "timm", "hf", "mmpretrain", "netspresso", "native"]


@app.command()
def diagram(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    format: Annotated[Literal["mermaid", "svg", "png"], typer.Option(help="mermaid is text")] = "mermaid",
    out: Annotated[Path | None, typer.Option(help="the file to write; mermaid is printed without one")] = None,
    resolution: Annotated[
        str, typer.Option(help="pixels of the image, such as 224 or 384x640 (height x width)")
    ] = "224",
) -> None:
    """Draw a network with the shape of every tensor."""
    config, pixels = read_model(model), read_resolution(resolution)
    if format == "mermaid":
        from efficientformer_edu.figures.files import write_whole
        from efficientformer_edu.figures.mermaid import architecture_mermaid

        chart = architecture_mermaid(config, pixels)
        if out is None:
            typer.echo(chart, nl=False)
        else:
            write_whole(out, chart.encode())
        return
    if out is None or out.suffix != f".{format}":
        came = "nothing" if out is None else out.name
        raise ValueError(f"--format {format} writes a file: give --out with a name that ends in .{format}, not {came}")

    from efficientformer_edu.figures.architecture import draw_architecture
    from efficientformer_edu.figures.style import save

    save(draw_architecture(config, pixels), out)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="safetensors or torch file in any of the layouts")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="file to write; .safetensors, else a torch file")],
    layout: Annotated[Layout, typer.Option(help="whose names the tensors get; native are those of this package")],
) -> None:
    """Write weights in another project's layout."""
    from efficientformer_edu.weights import load, save

    save(load(source), target, layout=layout)
    typer.echo(f"{target}: {layout} layout")


@app.command()
def predict(
    photo: Annotated[Path, typer.Argument(help="an image file")],
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "l1",
    weights: Annotated[Path | None, typer.Option(help="safetensors or torch file in any layout")] = None,
    top: Annotated[int, typer.Option(min=1, help="how many classes to print")] = 5,
) -> None:
    """Print what a network sees in a photograph."""
    config = read_model(model)

    from efficientformer_edu.weights import class_names, get_model, inference_model

    network = get_model(config, pretrained=weights or False)
    scores = inference_model(network, photo)["pred_scores"]  # (num_classes,)
    names = class_names() if len(scores) == 1000 else [""] * len(scores)
    typer.echo("   score  label  class")
    for label in scores.argsort()[::-1][:top]:
        typer.echo(f"{scores[label]:8.2%}  {label:5d}  {names[label]}".rstrip())
    if weights is None:
        typer.echo(
            "The weights are random, so this prediction means nothing. To bring trained ones, fetch a file, say "
            "model.safetensors of timm/efficientformer_l1.snap_dist_in1k on the Hugging Face hub, and give it with "
            "--weights FILE.",
            err=True,
        )


def read_model(model: str) -> EfficientFormerConfig:
    """The configuration that a command's argument names: a published network or a YAML file."""
    if model.endswith((".yaml", ".yml")):
        return EfficientFormerConfig.from_yaml(model)
    try:
        return get_config(model)
    except ValueError as error:
        raise ValueError(f"{error}; or a configuration in a file that ends in .yaml") from error


def read_resolution(text: str) -> Resolution:
    """Pixels from "224" or, height first, "384x640"."""
    sizes = text.lower().replace("×", "x").split("x")
    if not all(size.isdecimal() for size in sizes) or len(sizes) > 2:
        raise ValueError(f"--resolution {text!r} is not possible; give a number such as 224, or 384x640")
    return int(sizes[0]) if len(sizes) == 1 else (int(sizes[0]), int(sizes[1]))


def main(arguments: list[str] | None = None) -> None:
    """Run a command; what was wrong with its input is said in one line, with exit code 2."""
    try:
        app(arguments)
    except (ValueError, OSError) as error:
        words = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.strerror else str(error)
        print(f"efficientformer-edu: {' '.join(words.split())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
