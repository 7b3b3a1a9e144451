"""The commands `efficientformer-edu train` and `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from errno import ENOENT
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from efficientformer_edu.cli.common import (
    MODEL_HELP,
    UseEma,
    collect_warnings,
    fit,
    print_notes,
    read_model,
    reject_options,
)
from efficientformer_edu.cli.dense import evaluate_dense_file, is_dense, train_dense
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.utils.tables import Format

if TYPE_CHECKING:
    from efficientformer_edu.data.datasets import Images
    from efficientformer_edu.training.distillation import Teacher
    from efficientformer_edu.training.recipe import Recipe

NONE, TIMM, LOGITS = "none", "timm:", "logits:"
COLOR_SIZE = 224  # pixels
DATA_HELP = (
    "fashion-mnist-small, which is part of the package; fashion-mnist, the full data set; or a folder with a subfolder "
    "per class. For detection and segmentation: shapes, which are drawn; a folder in COCO's layout; or one of images "
    "and masks"
)
Data = Annotated[str | None, typer.Option(help=DATA_HELP, show_default="fashion-mnist-small, or shapes")]
Task = Literal["classification", "segmentation", "detection"]
DEFAULTS: Mapping[bool, tuple[str, str]] = {True: ("fashion-mnist-small", "laptop"), False: ("shapes", "shapes")}
"""Default data and recipe, by whether the task is classification."""
DataDir = Annotated[Path | None, typer.Option(help="folder with the files of Fashion-MNIST")]
Download = Annotated[bool, typer.Option("--download", help="download Fashion-MNIST if it is missing, 30 MB")]
Tracker = Literal["tensorboard"]
Strict = Annotated[bool, typer.Option("--strict", help="stop at images that cannot be read, instead of skipping them")]
Workers = Annotated[int, typer.Option(min=0, help="number of processes that load images, per training process")]
Size = Annotated[int | None, typer.Option(min=32, help="input height and width of the network, in pixels")]


def train(
    model: Annotated[str, typer.Argument(help=f"{MODEL_HELP}; or small, for Fashion-MNIST or drawn shapes")],
    task: Annotated[Task, typer.Option(help="what the network learns")] = "classification",
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="folder of the run; runs/MODEL by default")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="laptop, paper, or code (of the released code); for detection and segmentation shapes, ade20k or coco",
            show_default="laptop, or shapes",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="replaces that of the recipe; may increase with --resume")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="images per step, over all processes")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="replaces that of the recipe; for classification, for a batch of 1,024")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="FILE|timm:NAME|logits:FILE|none", help="teacher for distillation"),
    ] = None,
    head: Annotated[str | None, typer.Option(help="head for segmentation or detection")] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="initial weights; the head is loaded if the file has the same classes as the data"
        ),
    ] = None,
    size: Size = None,
    seed: Annotated[int, typer.Option(min=0, help="random seed")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="continue the run in the folder")] = False,
    workers: Workers = 0,
    tracker: Annotated[Tracker | None, typer.Option(help="also write the log for TensorBoard")] = None,
    data_dir: DataDir = None,
    download: Download = False,
    strict: Strict = False,
) -> None:
    """Train or fine-tune a network.

    --resume continues an interrupted run and gives the same weights as without the interruption. With more --epochs, a
    finished run continues with the learning rates of the longer schedule. --init-from FILE fine-tunes existing weights.

    On several GPUs or in several processes: torchrun --nproc_per_node 8 -m efficientformer_edu.cli train ...
    """
    for file in (init_from, teacher):
        _check_exists(file)
    default_data, default_recipe = DEFAULTS[task == "classification"]
    data, recipe, out = data or default_data, recipe or default_recipe, out or Path("runs") / Path(model).stem
    if tracker is not None:
        from efficientformer_edu.training.trainer import check_tracker

        check_tracker(tracker, out)
    trainer_options: dict[str, Any] = {"resume": resume, "workers": workers, "tracker": tracker}
    if task != "classification":
        reject_options(f"--task {task}", {"--teacher": teacher, "--data-dir": data_dir, "--download": download})
        settings = {"epochs": epochs, "batch": batch, "learning_rate": learning_rate}
        changed = {name: value for name, value in settings.items() if value is not None}
        options: dict[str, Any] = {"head": head, "init_from": init_from, "recipe": recipe, "changed": changed}
        return train_dense(model, task, data, out, **options, **trainer_options, size=size, seed=seed, strict=strict)
    reject_options("--task classification", {"--head": head})
    config = _config(model)
    _check_split(data)

    from efficientformer_edu.data.datasets import load_data
    from efficientformer_edu.training.classification import ClassificationTrainer, Run

    with collect_warnings() as data_warnings:
        images, tests = (
            load_data(data, split, data_dir=data_dir, download=download, strict=strict) for split in ("train", "test")
        )
    config = config.replace(num_classes=len(images.classes), in_channels=images.channels)
    selected_recipe = _recipe(recipe, teacher, epochs=epochs, batch=batch, learning_rate=learning_rate)
    teacher_network = _teacher(teacher, images) if selected_recipe.distillation else None
    run = Run(
        config,
        images,
        tests,
        selected_recipe,
        size or _default_size(config, images),
        seed,
        init_from,
        teacher_network,
        teacher if teacher_network and teacher else "",
    )
    with collect_warnings() as run_warnings:
        trainer = ClassificationTrainer(run, out, **trainer_options)
    print_notes([*data_warnings, *run_warnings], images, tests)
    fit(trainer)


def evaluate(
    weights: Annotated[str, typer.Argument(help="a file in any layout, or l1, l3 or l7 for the published weights")],
    data: Data = None,
    rule: Annotated[
        str | None,
        typer.Option(help="crop rule: official, timm, mmpretrain, hf or netspresso", show_default="official"),
    ] = None,
    size: Size = None,
    batch: Annotated[int, typer.Option(min=1, help="images per batch")] = 64,
    format: Annotated[Format, typer.Option(help="format of the table")] = "table",
    out: Annotated[Path | None, typer.Option(help="file for the confusion matrix, .png or .svg")] = None,
    workers: Workers = 0,
    data_dir: DataDir = None,
    download: Download = False,
    strict: Strict = False,
    use_ema: UseEma = None,
) -> None:
    """Evaluate a network on the test images, in total and per class.

    Reports top-1 and top-5 accuracy for classification, COCO's average precision for detection, and mean intersection
    over union for segmentation. The class names stored with the weights have to match those of the data.
    """
    if is_dense(weights):
        options = {"--rule": rule, "--out": out, "--data-dir": data_dir, "--download": download}
        options["--use-ema"] = use_ema is not None
        reject_options(f"{Path(weights).name}, which is not a classifier", options)
        data = data or DEFAULTS[False][0]
        return evaluate_dense_file(weights, data, format, size=size, batch=batch, workers=workers, strict=strict)
    data, rule = data or DEFAULTS[True][0], rule or "official"
    if out is not None and out.suffix not in (".png", ".svg"):
        raise ValueError(f"--out {out.name} is not an image file; allowed are names that end in .png or .svg")

    import torch

    from efficientformer_edu.data.datasets import load_data
    from efficientformer_edu.data.images import get_crop_rule
    from efficientformer_edu.training.evaluation import check_classes
    from efficientformer_edu.training.evaluation import evaluate as evaluate_network
    from efficientformer_edu.training.loading import EvalBatches, loader
    from efficientformer_edu.weights import from_weights, get_model

    published = weights in PRESETS and not Path(weights).exists()
    load: Any = partial(get_model, pretrained=True) if published else from_weights
    network = load(weights, use_ema=use_ema)
    with collect_warnings() as data_warnings:
        tests = load_data(data, "test", data_dir=data_dir, download=download, strict=strict)
    if note := check_classes(network.class_names, tests.classes, weights):
        data_warnings.append(f"Note: {note}.")
    pixels = size or (get_crop_rule(rule).size if tests.channels == 3 else _default_size(network.config, tests))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batches = EvalBatches(tests, pixels, network.config.in_channels, batch, rule)
    result = evaluate_network(network.to(device), loader(batches, workers), tests.classes, device)
    print_notes(data_warnings, tests)
    typer.echo(result.table().to(format), nl=False)
    if format == "table":
        typer.echo(f"\n{result}; {pixels}×{pixels} pixels, crop rule {rule}")
    if out is not None:
        from efficientformer_edu.plots.style import save
        from efficientformer_edu.plots.training import draw_confusion

        save(draw_confusion(result), out)


def _config(model: str) -> EfficientFormerConfig:
    if model != "small":
        return read_model(model)
    from efficientformer_edu.training import small

    return small.SMALL


def _check_split(data: str) -> None:
    """Raise ValueError for an unsplit folder of classes, which would evaluate the network on its training images."""
    from efficientformer_edu.data import datasets as named

    root = Path(data)
    if data not in (named.FASHION_MNIST, named.FASHION_MNIST_SMALL) and root.is_dir() and not (root / "train").is_dir():
        raise ValueError(
            f"{root} has no folder train; it needs class folders in train for training and in val for evaluation"
        )


def _recipe(name: str, teacher: str | None, **fields: Any) -> Recipe:
    """The recipe by name with changed fields. A teacher turns distillation on, and `none` turns it off."""
    from efficientformer_edu.training.recipe import get_recipe

    recipe = get_recipe(name).replace(**{field: value for field, value in fields.items() if value is not None})
    if teacher == NONE:
        return recipe.replace(distillation=None)
    return recipe.replace(distillation=recipe.distillation or "hard") if teacher else recipe


def _check_exists(option: str | None) -> None:
    """Raise an error for a missing file, or if timm is needed but not installed, before the images are read."""
    if option is None or option == NONE:
        return
    if option.startswith(TIMM):
        from efficientformer_edu.latency.peers import check_installed

        return check_installed()
    path = Path(option.removeprefix(LOGITS))
    if not path.is_file():
        raise FileNotFoundError(ENOENT, "No such file or directory", str(path))


def _teacher(teacher: str | None, images: Images) -> Teacher:
    from efficientformer_edu.latency.peers import peer
    from efficientformer_edu.training.distillation import StoredLogits, network_teacher
    from efficientformer_edu.weights import from_weights

    if teacher is None:
        raise ValueError(
            "the recipe needs a teacher: --teacher FILE, timm:NAME or logits:FILE; --teacher none learns from labels"
        )
    if teacher.startswith(LOGITS):
        return StoredLogits.load(teacher.removeprefix(LOGITS), len(images), len(images.classes))
    if teacher.startswith(TIMM):
        return network_teacher(peer(teacher.removeprefix(TIMM), pretrained=True))
    network = from_weights(teacher)
    teacher_shape, data_shape = (
        (network.config.num_classes, network.config.in_channels),
        (len(images.classes), images.channels),
    )
    if teacher_shape != data_shape:
        needs = "num_classes={}, in_channels={}"
        raise ValueError(f"{teacher} has {needs.format(*teacher_shape)}; these data need {needs.format(*data_shape)}")
    return network_teacher(network)


def _default_size(config: EfficientFormerConfig, images: Images) -> int:
    """The paper's size for colour images; for small images, the smallest size with enough tokens for attention."""
    from efficientformer_edu.training.small import smallest_size

    return COLOR_SIZE if images.channels == 3 else smallest_size(config)
