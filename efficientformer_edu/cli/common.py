"""Arguments shared by several commands: the network and the image size, and how they are parsed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from efficientformer_edu.config import EfficientFormerConfig, Resolution, get_config

if TYPE_CHECKING:
    from efficientformer_edu.training.trainer import Trainer

YAML = (".yaml", ".yml")
MODEL_HELP = "l1, l3 or l7, or a YAML file with a configuration"
UseEma = Annotated[
    bool | None,
    typer.Option(
        "--use-ema/--no-use-ema",
        help="of a file with both, the averaged or the raw weights",
        show_default="averaged, with a warning",
    ),
]
Pixels = Annotated[str, typer.Option(help="pixels of the image, such as 224 or 384x640 (height x width)")]


def read_model(model: str) -> EfficientFormerConfig:
    """The configuration for a command's argument: a published network or a YAML file."""
    if model.endswith(YAML):
        return EfficientFormerConfig.from_yaml(model)
    try:
        return get_config(model)
    except ValueError as error:
        raise ValueError(f"{error}; or a configuration in a file that ends in .yaml") from error


def read_resolution(text: str) -> Resolution:
    """Parse an image size in pixels, "224" or, height first, "384x640"."""
    sizes = text.lower().replace("×", "x").split("x")
    if len(sizes) > 2 or not all(size.isdecimal() and int(size) for size in sizes):
        raise ValueError(f"--resolution {text!r} is not possible; give a number such as 224, or 384x640")
    return int(sizes[0]) if len(sizes) == 1 else (int(sizes[0]), int(sizes[1]))


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect the distinct warnings of a block, as lines to print once the command is known to continue."""
    lines: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lines
    lines += dict.fromkeys(f"Warning: {warning.message}" for warning in caught)


def reject_options(what: str, options: Mapping[str, object]) -> None:
    """Raise ValueError for options that do not apply to a task, instead of ignoring them."""
    if unsupported := [name for name, value in options.items() if value]:
        raise ValueError(f"{' and '.join(unsupported)} cannot be used with {what}")


def print_notes(lines: list[str], *data: Any) -> None:
    """Print warnings, and a description of each data set, on standard error."""
    for line in (*lines, *(images.description for images in data)):
        typer.echo(line, err=True)


def fit(trainer: Trainer) -> None:
    """Train to the end. Raises ValueError, which is reported in one line, if the loss is not finite."""
    from efficientformer_edu.training.nan_checks import NotFiniteError

    try:
        trainer.fit()
    except NotFiniteError as error:
        raise ValueError(str(error)) from error
