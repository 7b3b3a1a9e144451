"""The commands `efficientformer-edu train` and `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from errno import ENOENT
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from efficientformer_edu.cli.common import MODEL_HELP, collect_warnings, read_model, reject_options
from efficientformer_edu.cli.dense import evaluate_dense_file, is_dense, train_dense
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.utils.tables import Format

if TYPE_CHECKING:
    from efficientformer_edu.data.datasets import Images
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
"""Default data and recipe, by whether the task is classification."""
DataDir = Annotated[Path | None, typer.Option(help="where Fashion-MNIST's files lie")]
Download = Annotated[bool, typer.Option("--download", help="fetch Fashion-MNIST if it is not there, 30 MB")]
Strict = Annotated[
    bool, typer.Option("--strict", help="refuse images that cannot be read; otherwise they are left out")
]
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
    epochs: Annotated[int | None, typer.Option(min=1, help="instead of the recipe's; may grow with --resume")] = None,
    batch: Annotated[int | None, typer.Option(min=2, help="images in a step, over all processes")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="instead of the recipe's; for classification per 1,024 images in a batch")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="FILE|timm:NAME|logits:FILE|none", help="teacher for distillation"),
    ] = None,
    head: Annotated[str | None, typer.Option(help="of segmentation or detection, instead of the default one")] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="weights to start from; the head is kept if the file has the same classes as the data"
        ),
    ] = None,
    size: Size = None,
    seed: Annotated[int, typer.Option(min=0, help="of all that is random")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the run in the folder")] = False,
    workers: Workers = 0,
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
    default_data, default_recipe = USUAL[task == "classification"]
    data, recipe, out = data or default_data, recipe or default_recipe, out or Path("runs") / Path(model).stem
    if task != "classification":
        reject_options(f"--task {task}", {"--teacher": teacher, "--data-dir": data_dir, "--download": download})
        settings = {"epochs": epochs, "batch": batch, "learning_rate": learning_rate}
        changed = {name: value for name, value in settings.items() if value is not None}
        options: dict[str, Any] = {"head": head, "init_from": init_from, "recipe": recipe, "changed": changed}
        return train_dense(
            model, task, data, out, **options, size=size, seed=seed, resume=resume, workers=workers, strict=strict
        )
    reject_options("--task classification", {"--head": head})
    config = _config(model)
    _check_split(data)

    from efficientformer_edu.data.datasets import load_data
    from efficientformer_edu.training.loop import Loop
    from efficientformer_edu.training.nan_checks import NotFiniteError
    from efficientformer_edu.training.progress import follow
    from efficientformer_edu.training.run import Run

    with collect_warnings() as data_warnings:
        images, tests = (
            load_data(data, split, data_dir=data_dir, download=download, strict=strict) for split in ("train", "test")
        )
    config = config.replace(num_classes=len(images.classes), in_channels=images.channels)
    selected_recipe = _recipe(recipe, teacher, epochs=epochs, batch=batch, learning_rate=learning_rate)
    distiller = _teacher(teacher, images) if selected_recipe.distillation else None
    run = Run(
        config,
        images,
        tests,
        selected_recipe,
        size or _usual_size(config, images),
        seed,
        distiller,
        teacher if distiller and teacher else "",
        init_from=init_from,
    )
    with collect_warnings() as run_warnings:
        loop = Loop(run, out, resume=resume, workers=workers)
    _say([*data_warnings, *run_warnings], images, tests)
    try:
        follow(loop)
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
    """Evaluate a network on the test images, in total and per class.

    Reports top-1 and top-5 accuracy for classification, COCO's average precision for detection, and mean intersection
    over union for segmentation. The class names stored with the weights have to match those of the data.
    """
    if is_dense(weights):
        options = {"--rule": rule, "--out": out, "--data-dir": data_dir, "--download": download}
        reject_options(f"{Path(weights).name}, which is no classifier", options)
        data = data or USUAL[False][0]
        return evaluate_dense_file(weights, data, format, size=size, batch=batch, workers=workers, strict=strict)
    data, rule = data or USUAL[True][0], rule or "official"
    if out is not None and out.suffix not in (".png", ".svg"):
        raise ValueError(f"--out {out.name} is no picture; wanted: a name that ends in .png or .svg")

    import torch

    from efficientformer_edu.data.crops import get_rule
    from efficientformer_edu.data.datasets import load_data
    from efficientformer_edu.training.evaluation import check_classes
    from efficientformer_edu.training.evaluation import evaluate as evaluate_network
    from efficientformer_edu.training.loading import TestBatches, loader
    from efficientformer_edu.weights import from_weights, get_model

    published = weights in PRESETS and not Path(weights).exists()
    network = get_model(weights, pretrained=True) if published else from_weights(weights)
    with collect_warnings() as data_warnings:
        tests = load_data(data, "test", data_dir=data_dir, download=download, strict=strict)
    if note := check_classes(network.class_names, tests.classes, weights):
        data_warnings.append(f"Note: {note}.")
    pixels = size or (get_rule(rule).size if tests.channels == 3 else _usual_size(network.config, tests))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batches = TestBatches(tests, pixels, network.config.in_channels, batch, rule)
    result = evaluate_network(network.to(device), loader(batches, workers), tests.classes, device)
    _say(data_warnings, tests)
    typer.echo(result.table().to(format), nl=False)
    if format == "table":
        typer.echo(f"\n{result}; {pixels}×{pixels} pixels, crop rule {rule}")
    if out is not None:
        from efficientformer_edu.plots.style import save
        from efficientformer_edu.plots.training import draw_confusion

        save(draw_confusion(result), out)


def _config(model: str) -> EfficientFormerConfig:
    if model != SMALL:
        return read_model(model)
    from efficientformer_edu.training import small

    return small.SMALL


def _check_split(data: str) -> None:
    """Raise ValueError for an unsplit folder of classes, which would evaluate the network on its training images."""
    from efficientformer_edu.data import datasets as named

    root = Path(data)
    if data not in (named.FULL, named.SMALL) and root.is_dir() and not (root / "train").is_dir():
        raise ValueError(
            f"{root} has no folder train; wanted: class folders in train to learn from, in val to judge by"
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
            "the recipe distils: give --teacher FILE, timm:NAME or logits:FILE, or --teacher none to learn from labels"
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


def _usual_size(config: EfficientFormerConfig, images: Images) -> int:
    """The paper's size for colour images; for small images, the smallest size with enough tokens for attention."""
    from efficientformer_edu.training.small import smallest_size

    return PHOTOGRAPH if images.channels == 3 else smallest_size(config)


def _say(lines: list[str], *data: Images) -> None:
    for line in (*lines, *(images.words for images in data)):
        typer.echo(line, err=True)
