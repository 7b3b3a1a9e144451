"""The command line, `efficientformer-edu`: each command calls the subpackages and prints or writes the result.

Subpackages are imported inside the commands, so that `--help` and commands without torch start quickly.
"""

from __future__ import annotations

import dis
import sys
import traceback
import warnings
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from efficientformer_edu.cli.ablations import ablate
from efficientformer_edu.cli.audit import audit
from efficientformer_edu.cli.common import MODEL_HELP, Pixels, UseEma, read_model, read_resolution, reject_options
from efficientformer_edu.cli.dense import is_dense, predict_dense_file
from efficientformer_edu.cli.latency import bench, export, observe
from efficientformer_edu.cli.slimming import slim
from efficientformer_edu.cli.training import evaluate, train
from efficientformer_edu.config import PRESETS
from efficientformer_edu.utils.files import atomic_write
from efficientformer_edu.utils.optional import missing_message

PROGRAM, PACKAGE = "efficientformer-edu", "efficientformer_edu"

app = typer.Typer(
    name=PROGRAM,
    help="EfficientFormer, taken apart: count it, draw it, time it, train it, slim it, convert its weights, run it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Layout = Literal["official", "timm", "hf", "mmpretrain", "netspresso", "native"]


@app.callback()
def common(
    context: typer.Context,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", envvar="EFFICIENTFORMER_EDU_DEBUG", help="show the traceback of an error; also after the command"
        ),
    ] = False,
) -> None:
    """Options of all commands, stored for `main`."""
    context.ensure_object(dict)["debug"] = debug


app.command()(audit)
app.command()(bench)
app.command()(export)
app.command()(observe)
app.command()(train)
app.command()(evaluate)
app.command()(ablate)
app.command()(slim)


@app.command()
def diagram(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    format: Annotated[Literal["mermaid", "svg", "png"], typer.Option(help="mermaid is text")] = "mermaid",
    out: Annotated[Path | None, typer.Option(help="the file to write; mermaid is printed without one")] = None,
    resolution: Pixels = "224",
) -> None:
    """Draw a network diagram with the shape of every tensor."""
    config, pixels = read_model(model), read_resolution(resolution)
    if format == "mermaid":
        from efficientformer_edu.plots.mermaid import architecture_mermaid

        chart = architecture_mermaid(config, pixels)
        if out is None:
            typer.echo(chart, nl=False)
        else:
            with atomic_write(out) as partial:
                partial.write_bytes(chart.encode())
        return
    if out is None or out.suffix != f".{format}":
        name = "nothing" if out is None else out.name
        raise ValueError(f"--format {format} writes a file: give --out with a name that ends in .{format}, not {name}")

    from efficientformer_edu.plots.architecture import draw_architecture
    from efficientformer_edu.plots.style import save

    save(draw_architecture(config, pixels), out)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="safetensors or torch file in any of the layouts")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="file to write; .safetensors, else a torch file")],
    layout: Annotated[Layout, typer.Option(help="whose names the tensors get; native are those of this package")],
    use_ema: UseEma = None,
) -> None:
    """Convert weights to the layout of another project."""
    from efficientformer_edu.weights import load, save
    from efficientformer_edu.weights.files import read_class_names
    from efficientformer_edu.weights.networks import known_class_names

    names = known_class_names(source)
    save(load(source, use_ema=use_ema), target, layout=layout, class_names=names)
    if names is not None and read_class_names(target) is None:
        typer.echo(f"Warning: {target} holds only tensors: the class names are not stored.", err=True)
    typer.echo(f"{target}: {layout} layout")


@app.command()
def predict(
    photo: Annotated[Path, typer.Argument(help="an image file")],
    weights: Annotated[Path | None, typer.Option(help="safetensors or torch file in any layout")] = None,
    model: Annotated[str | None, typer.Option(help=f"{MODEL_HELP}; without it, what the file holds, or l1")] = None,
    rule: Annotated[
        str | None,
        typer.Option(help="whose crop: official, timm, mmpretrain, hf or netspresso", show_default="official"),
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="how many classes to print", show_default="5")] = None,
    classes: Annotated[
        str | None,
        typer.Option(metavar="FILE|imagenet", help="names of the classes, one per line, if the weights have none"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="a picture of what a detector or a segmentation found")] = None,
    use_ema: UseEma = None,
) -> None:
    """Predict the class of an image, detect its objects, or classify its pixels."""
    if weights is not None and is_dense(weights):
        options = {"--model": model, "--rule": rule, "--top": top, "--classes": classes}
        options["--use-ema"] = use_ema is not None
        reject_options(f"{weights.name}, which is not a classifier", options)
        return predict_dense_file(photo, weights, out)
    if weights is None:
        reject_options("a network without --weights", {"--use-ema": use_ema is not None})
    if out is not None:
        raise ValueError("--out draws what a detector or a segmentation found; give its file with --weights")
    config = None if model is None else read_model(model)

    from efficientformer_edu.weights import class_names, from_weights, get_model, inference_model

    network: Any = config or "l1"
    names: Sequence[str] | None = class_names() if network == "l1" or network in PRESETS.values() else None
    if weights is not None:
        network = (
            get_model(config, pretrained=weights, use_ema=use_ema) if config else from_weights(weights, use_ema=use_ema)
        )
        names = network.class_names
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scores = inference_model(network, photo, rule or "official")["pred_scores"]  # (num_classes,)
    if classes is not None:
        names = class_names() if classes == "imagenet" else Path(classes).read_text(encoding="utf-8").splitlines()
    if names is not None and len(names) != len(scores):
        raise ValueError(f"--classes {classes} has {len(names)} names; the network has {len(scores)} classes")
    if names is None:
        note = "does not name its classes; labels count them in the order of training. --classes names them"
        typer.echo(f"Note: {weights or model} {note}.", err=True)
        names = [""] * len(scores)
    typer.echo("   score  label  class")
    for label in scores.argsort()[::-1][: top or 5]:
        typer.echo(f"{scores[label]:8.2%}  {label:5d}  {names[label]}".rstrip())
    for warning in caught:
        typer.echo(f"Warning: {warning.message}; use --weights FILE to load trained ones.", err=True)


def main(arguments: list[str] | None = None) -> None:
    """Run a command.

    Invalid input, a file that cannot be read or written, and a missing package are reported in one line, with exit code
    2. An error that was not raised by this package is reported as unexpected, with exit code 1.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # in a pipe, Windows would use a code page without → and ×
            stream.reconfigure(encoding="utf-8")
    arguments = sys.argv[1:] if arguments is None else arguments
    arguments = sorted(arguments, key=lambda argument: argument != "--debug")  # --debug first, the others in order
    settings = {"debug": False}
    try:
        app(arguments, obj=settings)
    except (ValueError, OSError, ImportError) as error:
        message, code = _describe(error)
        if settings["debug"]:
            traceback.print_exception(error)
        print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(code)


def _describe(error: ValueError | OSError | ImportError) -> tuple[str, int]:
    """The message for an error, and the exit code."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.strerror else str(error), 2
    if isinstance(error, ImportError) and not (error.name or "").startswith(PACKAGE):
        if isinstance(error, ModuleNotFoundError) and error.name:
            return missing_message(error.name), 2
        return str(error), 2
    if _raised_by_this_package(error):
        return str(error), 2
    return f"unexpected {type(error).__name__}: {error}; --debug shows the traceback", 1


def _raised_by_this_package(error: Exception) -> bool:
    """Whether the error was raised by a `raise` statement of this package, and not by another library or a bug."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or not last.tb_frame.f_globals.get("__name__", "").startswith((PACKAGE, "__main__")):
        return False
    return last.tb_frame.f_code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]
