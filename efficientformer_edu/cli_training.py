"""The commands `efficientformer-edu train` and `evaluate`: learn from images, and say how good a network is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from efficientformer_edu.audit.tables import Format
from efficientformer_edu.cli_arguments import MODEL_HELP, read_model, refuse
from efficientformer_edu.cli_dense import evaluate_dense_file, is_dense, train_dense
from efficientformer_edu.config import PRESETS, EfficientFormerConfig

if TYPE_CHECKING:
    from efficientformer_edu.training.data import Images
    from efficientformer_edu.training.distillation import Teacher
    from efficientformer_edu.training.recipe import Recipe

SMALL = "small"
NONE, TIMM, LOGITS = "none", "timm:", "logits:"
PHOTOGRAPH = 224  # pixels
DATA_HELP = (
    "fashion-mnist-small, which is in the package; fashion-mnist, the whole; or a folder of class folders. "
    "For detection and segmentation: shapes, which are drawn; or a folder like COCO's, or of images and masks"
)
Data = Annotated[str | None, typer.Option(help=DATA_HELP, show_default="fashion-mnist-small, or shapes")]
Task = Literal["classification", "segmentation", "detection"]
USUAL: Mapping[bool, tuple[str, str]] = {True: ("fashion-mnist-small", "laptop"), False: ("shapes", "shapes")}
"""Whether the task is classification: the data and the recipe unless others are named."""
DataDir = Annotated[Path | None, typer.Option(help="where Fashion-MNIST's files lie")]
Download = Annotated[bool, typer.Option("--download", help="fetch Fashion-MNIST if it is not there, 30 MB")]
Strict = Annotated[bool, typer.Option("--strict", help="a broken image is an error; without, it is left out")]
Workers = Annotated[int, typer.Option(min=0, help="processes that read images, besides each that trains")]
Size = Annotated[int | None, typer.Option(min=32, help="height and width in pixels that the network sees")]


def train(
    model: Annotated[str, typer.Argument(help=f"{MODEL_HELP}; or small, for Fashion-MNIST or drawn shapes")],
    task: Annotated[Task, typer.Option(help="what the network is to learn")] = "classification",
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="the folder of the run; without it runs/MODEL")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="laptop, paper, or code for the released one's; otherwise shapes, ade20k or coco",
            show_default="laptop, or shapes",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="instead of the recipe's")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="images in a step, over all processes")] = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="FILE|timm:NAME|logits:FILE|none", help="whom to learn from besides the labels"),
    ] = None,
    head: Annotated[str | None, typer.Option(help="of segmentation or detection, instead of the usual one")] = None,
    backbone: Annotated[
        str | None, typer.Option(metavar="FILE", help="weights to begin with, a classifier's or another network's")
    ] = None,
    size: Size = None,
    seed: Annotated[int, typer.Option(min=0, help="of all that is random")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in the folder")] = False,
    workers: Workers = 0,
    data_dir: DataDir = None,
    download: Download = False,
    strict: Strict = False,
) -> None:
    """Train a network. A run that was stopped goes on with --resume, to the same weights.

    On several GPUs or in several processes: torchrun --nproc_per_node 8 -m efficientformer_edu.cli train ...
    """
    usual_data, usual_recipe = USUAL[task == "classification"]
    data, recipe, out = data or usual_data, recipe or usual_recipe, out or Path("runs") / Path(model).stem
    if task != "classification":
        refuse(f"--task {task}", {"--teacher": teacher, "--data-dir": data_dir, "--download": download})
        changed = {name: value for name, value in {"epochs": epochs, "batch": batch}.items() if value is not None}
        given: dict[str, Any] = {"head": head, "backbone": backbone, "recipe": recipe, "changed": changed}
        return train_dense(
            model, task, data, out, **given, size=size, seed=seed, resume=resume, workers=workers, strict=strict
        )
    refuse("--task classification", {"--head": head, "--backbone": backbone})
    config = _config(model)
    _check_split(data)

    from efficientformer_edu.training.data import load_data
    from efficientformer_edu.training.guard import NotFiniteError
    from efficientformer_edu.training.loop import Loop
    from efficientformer_edu.training.progress import follow
    from efficientformer_edu.training.run import Run

    images, tests = (
        load_data(data, split, data_dir=data_dir, download=download, strict=strict) for split in ("train", "test")
    )
    config = config.replace(num_classes=len(images.classes), in_channels=images.channels)
    chosen = _recipe(recipe, epochs, batch, teacher)
    teaches = _teacher(teacher, images) if chosen.distillation else None
    run = Run(
        config,
        images,
        tests,
        chosen,
        size or _usual_size(config, images),
        seed,
        teaches,
        teacher if teaches and teacher else "",
    )
    _say(images, tests)
    try:
        follow(Loop(run, out, resume=resume, workers=workers))
    except NotFiniteError as error:
        raise ValueError(str(error)) from error


def evaluate(
    weights: Annotated[str, typer.Argument(help="a file in any layout, or l1, l3 or l7 for the published weights")],
    data: Data = None,
    rule: Annotated[
        str | None,
        typer.Option(help="whose crop: official, timm, mmpretrain, hf or netspresso", show_default="official"),
    ] = None,
    size: Size = None,
    batch: Annotated[int, typer.Option(min=1, help="images at once")] = 64,
    format: Annotated[Format, typer.Option(help="of the table of classes")] = "table",
    out: Annotated[Path | None, typer.Option(help="a .png or .svg file for the confusion matrix")] = None,
    workers: Workers = 0,
    data_dir: DataDir = None,
    download: Download = False,
    strict: Strict = False,
) -> None:
    """How good a network is on the test images, class by class.

    Top-1 and top-5 accuracy of a classifier; COCO's average precision of a detector; the mean intersection over union
    of a segmentation.
    """
    if is_dense(weights):
        given = {"--rule": rule, "--out": out, "--data-dir": data_dir, "--download": download}
        refuse(f"{Path(weights).name}, which is no classifier", given)
        data = data or USUAL[False][0]
        return evaluate_dense_file(weights, data, format, size=size, batch=batch, workers=workers, strict=strict)
    data, rule = data or USUAL[True][0], rule or "official"
    if out is not None and out.suffix not in (".png", ".svg"):
        raise ValueError(f"--out {out.name} is no picture; wanted: a name that ends in .png or .svg")

    import torch

    from efficientformer_edu.training.data import load_data
    from efficientformer_edu.training.evaluation import evaluate as ask
    from efficientformer_edu.training.loading import TestBatches, loader
    from efficientformer_edu.weights import from_weights, get_model
    from efficientformer_edu.weights.crops import get_rule

    published = weights in PRESETS and not Path(weights).exists()
    network = get_model(weights, pretrained=True) if published else from_weights(weights)
    tests = load_data(data, "test", data_dir=data_dir, download=download, strict=strict)
    pixels = size or (get_rule(rule).size if tests.channels == 3 else _usual_size(network.config, tests))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batches = TestBatches(tests, pixels, network.config.in_channels, batch, rule)
    found = ask(network.to(device), loader(batches, workers), tests.classes, device)
    _say(tests)
    typer.echo(found.table().to(format), nl=False)
    if format == "table":
        typer.echo(f"\n{found}; {pixels}×{pixels} pixels, crop rule {rule}")
    if out is not None:
        from efficientformer_edu.figures.style import save
        from efficientformer_edu.figures.training import draw_confusion

        save(draw_confusion(found), out)


def _config(model: str) -> EfficientFormerConfig:
    if model != SMALL:
        return read_model(model)
    from efficientformer_edu.training import small

    return small.SMALL


def _check_split(data: str) -> None:
    """Refuse a folder of classes that is not split: the network would be judged by the images that it learned from."""
    from efficientformer_edu.training import data as named

    root = Path(data)
    if data not in (named.FULL, named.SMALL) and root.is_dir() and not (root / "train").is_dir():
        raise ValueError(
            f"{root} has no folder train; wanted: class folders in train to learn from, in val to judge by"
        )


def _recipe(name: str, epochs: int | None, batch: int | None, teacher: str | None) -> Recipe:
    """The recipe by name with what is given beside it: a teacher makes it distil, no teacher keeps it from that."""
    from efficientformer_edu.training.recipe import get_recipe

    given: dict[str, Any] = {"epochs": epochs, "batch": batch}
    recipe = get_recipe(name).replace(**{field: value for field, value in given.items() if value is not None})
    if teacher == NONE:
        return recipe.replace(distillation=None)
    return recipe.replace(distillation=recipe.distillation or "hard") if teacher else recipe


def _teacher(teacher: str | None, images: Images) -> Teacher:
    from efficientformer_edu.latency.peers import peer
    from efficientformer_edu.training.distillation import StoredLogits, network_teacher
    from efficientformer_edu.weights import from_weights

    if teacher is None:
        raise ValueError(
            "the recipe distils: give --teacher FILE, timm:NAME or logits:FILE, or --teacher none to learn from labels"
        )
    if teacher.startswith(LOGITS):
        return StoredLogits.load(teacher.removeprefix(LOGITS), len(images), len(images.classes))
    if teacher.startswith(TIMM):
        try:
            return network_teacher(peer(teacher.removeprefix(TIMM), pretrained=True))
        except ImportError as error:
            raise ValueError(str(error)) from error
    network = from_weights(teacher)
    theirs, ours = (network.config.num_classes, network.config.in_channels), (len(images.classes), images.channels)
    if theirs != ours:
        needs = "num_classes={}, in_channels={}"
        raise ValueError(f"{teacher} has {needs.format(*theirs)}; these data need {needs.format(*ours)}")
    return network_teacher(network)


def _usual_size(config: EfficientFormerConfig, images: Images) -> int:
    """Photographs as the paper has them; small images so large that attention has tokens to look at."""
    from efficientformer_edu.training.small import smallest_size

    return PHOTOGRAPH if images.channels == 3 else smallest_size(config)


def _say(*data: Images) -> None:
    for images in data:
        typer.echo(images.words, err=True)
        if images.skipped:
            typer.echo(f"Take care: broken images left out: {images.skipped:,}; --strict names the first.", err=True)
