"""Detection and segmentation in the commands `train`, `evaluate` and `predict`, called by `cli.training` and `cli`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from efficientformer_edu._formats import read_yaml
from efficientformer_edu.cli.common import YAML, collect_warnings, fit, print_notes, read_model
from efficientformer_edu.utils.tables import Format

if TYPE_CHECKING:
    from efficientformer_edu.dense.network import DenseConfig

SHAPES = "shapes"
SHAPES_SIZE, PHOTO_SIZE = 96, 512  # input height and width in pixels for synthetic scenes, and for photos


def train_dense(
    model: str,
    task: str,
    data: str,
    out: Path,
    *,
    head: str | None,
    init_from: str | None,
    recipe: str,
    changed: dict[str, Any],
    size: int | None,
    seed: int,
    strict: bool,
    **trainer_options: Any,
) -> None:
    """Train a network for a task. Arguments as for the command; `changed` contains changed fields of the recipe."""
    from efficientformer_edu.data.datasets import load_examples
    from efficientformer_edu.dense.evaluation import classes_of
    from efficientformer_edu.dense.metrics import check_installed
    from efficientformer_edu.dense.recipe import get_dense_recipe
    from efficientformer_edu.dense.trainer import DenseRun, DenseTrainer

    check_installed(task)
    with collect_warnings() as data_warnings:
        examples, tests = (
            load_examples(data, split, strict=strict, size=size or SHAPES_SIZE) for split in ("train", "test")
        )
    config = _config(model, task, len(classes_of(examples, task)), head)
    selected_recipe = get_dense_recipe(recipe).replace(**changed)
    pixels = size or (SHAPES_SIZE if data == SHAPES else PHOTO_SIZE)
    run = DenseRun(config, examples, tests, selected_recipe, pixels, seed, init_from)
    with collect_warnings() as run_warnings:
        trainer = DenseTrainer(run, out, **trainer_options)
    print_notes([*data_warnings, *run_warnings], examples, tests)
    fit(trainer)


def evaluate_dense_file(
    weights: str, data: str, format: Format, *, size: int | None, batch: int, workers: int, strict: bool
) -> None:
    """Evaluate the network in a file and print its table."""
    import torch

    from efficientformer_edu.data.datasets import load_examples
    from efficientformer_edu.dense.evaluation import classes_of, evaluate_dense
    from efficientformer_edu.dense.files import load_dense
    from efficientformer_edu.dense.metrics import check_installed
    from efficientformer_edu.training.evaluation import check_classes

    saved = load_dense(weights)
    check_installed(saved.network.config.task)
    pixels, device = size or saved.size, "cuda" if torch.cuda.is_available() else "cpu"
    with collect_warnings() as data_warnings:
        tests = load_examples(data, "test", strict=strict, size=pixels)
    check_classes(saved.classes, classes_of(tests, saved.network.config.task), weights)
    result = evaluate_dense(saved.network.to(device), tests, pixels, batch, device=device, workers=workers)
    print_notes(data_warnings, tests)
    typer.echo(result.table().to(format), nl=False)
    if format == "table":
        typer.echo(f"\n{result}; {pixels}×{pixels} pixels")


def predict_dense_file(photo: Path, weights: Path, out: Path | None) -> None:
    """Print the predictions of the network in a file for a photo, and draw them to `out`."""
    from efficientformer_edu.dense.evaluation import predict_photo
    from efficientformer_edu.dense.files import load_dense
    from efficientformer_edu.plots.overlays import SCORE, class_shares, draw_overlay
    from efficientformer_edu.plots.style import FORMATS, save

    if out is not None and out.suffix not in FORMATS:
        raise ValueError(f"--out {out.name} is not an image file; allowed are names that end in {' or '.join(FORMATS)}")
    saved = load_dense(weights)
    prediction = predict_photo(saved.network, saved.classes, photo, saved.size)
    if prediction.detections is not None:
        typer.echo("   score  class            left    top  right bottom")
        for box, score, label in zip(*(part.tolist() for part in prediction.detections), strict=True):
            typer.echo(f"{score:8.2%}  {prediction.classes[label]:14}" + "".join(f"{side:7.0f}" for side in box))
    if prediction.semantic is not None:
        typer.echo("  pixels  class")
        for name, part in class_shares(prediction.semantic, prediction.classes).items():
            typer.echo(f"{part:8.2%}  {name}")
    if out is not None:
        save(draw_overlay(prediction), out)
        note = "" if prediction.detections is None else f", boxes with a score of {SCORE:.0%} or more"
        typer.echo(f"Drawn: {out}{note}")


def is_dense(weights: str | Path) -> bool:
    """Whether a file contains a network for detection or segmentation; False if the file does not exist."""
    if not Path(weights).is_file():
        return False
    from efficientformer_edu.dense.files import header

    return header(weights) is not None


def _config(model: str, task: str, num_classes: int, head: str | None) -> DenseConfig:
    """The configuration: a backbone by name or from a file, or a complete network from a NetsPresso file."""
    from efficientformer_edu.dense import from_yaml
    from efficientformer_edu.dense.network import SMALL_BACKBONE, default_config

    if model.endswith(YAML) and "model" in read_yaml(Path(model)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            config = from_yaml(model, num_classes).config
        if config.task != task or head is not None:
            raise ValueError(
                f"{model} is a complete network for {config.task}; use --task {config.task} without --head"
            )
        for warning in caught:
            typer.echo(f"Warning: {warning.message}.", err=True)
        return config
    backbone = SMALL_BACKBONE if model == "small" else read_model(model)
    return default_config(
        backbone.replace(in_channels=3), task, num_classes, head
    )  # all of these data sets are in colour
