"""Data sets for training and evaluation: labelled images with `load_data`, annotated ones with `load_examples`.

Paper: section 5.1 trains on ImageNet-1K, which is read as a folder of images here; section 5.2 on COCO 2017 and ADE20K.
Fashion-MNIST and synthetic scenes can be learned on a laptop in minutes. Released code: `build_dataset` in
`util/datasets.py`; there a broken file stops the run when it is read, here all files are checked before training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from efficientformer_edu import _validation as values
from efficientformer_edu.data import fashion_mnist
from efficientformer_edu.data.examples import Examples
from efficientformer_edu.data.images import Split, check_image, find_images, open_image, to_rgb, warn_left_out
from efficientformer_edu.utils.files import fingerprint_files, fingerprint_tensors

FASHION_MNIST, FASHION_MNIST_SMALL = "fashion-mnist", "fashion-mnist-small"
SHAPES = "shapes"
SCENES = {"train": 2000, "test": 200}  # numbers of synthetic scenes
CLASS_FOLDERS = {"train": ("train",), "test": ("val", "test")}
COCO_SPLITS = {"train": "train", "test": "val"}

LoadedImage = Image.Image | Tensor  # RGB, or uint8 (1, 28, 28)
Sample = tuple[LoadedImage, int]


class Images(Dataset[Sample]):
    """Images and their labels; `images[i]` is an image without augmentation and its label.

    Fashion-MNIST is kept in memory as tensors, because a network processes 60,000 small images faster than their files
    could be opened. Images from files are read on access.

    Attributes:
        classes: class names; a label is an index into this list.
        labels: labels of all images, in order.
        channels: 1 for grey images, 3 for color images.
        description: a description without a path.
        skipped: number of broken files that were left out.
    """

    def __init__(
        self,
        images: UInt8[Tensor, "N 1 28 28"] | Sequence[Path],
        labels: Sequence[int],
        classes: tuple[str, ...],
        description: str,
        skipped: int = 0,
    ) -> None:
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images and {len(labels)} labels; each image needs a label")
        self._images = images
        self.labels, self.classes, self.description, self.skipped = list(labels), classes, description, skipped
        self.channels = 1 if isinstance(images, Tensor) else 3

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        """One image and its label.

        Raises:
            ValueError: naming the file, if it can no longer be read, or is broken in a way that `load_data` overlooks.
        """
        image = self._images[index]
        return to_rgb(open_image(image)) if isinstance(image, Path) else image, self.labels[index]

    def subset(self, indices: Sequence[int], description: str) -> Images:
        """The images at these indices, in this order, with their own description."""
        source, labels = self._images, [self.labels[index] for index in indices]
        images = source[list(indices)] if isinstance(source, Tensor) else [source[index] for index in indices]
        return Images(images, labels, self.classes, description)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the images and labels, used to verify the data of a resumed run; see `checkpoints`."""
        labels = " ".join([*self.classes, *map(str, self.labels)])
        if isinstance(self._images, Tensor):
            return fingerprint_tensors({labels: self._images})
        return fingerprint_files(self._images, labels)

    def __repr__(self) -> str:
        return f"Images: {self.description}"


def stratified_split(images: Images, per_class: int) -> tuple[Images, Images]:
    """The first `per_class` images of each class, and all others; both in their order.

    Raises:
        ValueError: if a class has fewer images.
    """
    indices: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(images.labels):
        indices[label].append(index)
    fewest = min(len(indices[label]) for label in range(len(images.classes)))
    if fewest < per_class:
        raise ValueError(f"{per_class} images per class requested, but a class has only {fewest}: {images.description}")
    first = sorted(index for of_class in indices.values() for index in of_class[:per_class])
    others = sorted(index for of_class in indices.values() for index in of_class[per_class:])
    text = f"{images.description}, {{}} {per_class:,} of each class"
    return images.subset(first, text.format("the first")), images.subset(others, text.format("all but the first"))


def load_data(
    data: str | Path,
    split: Split,
    *,
    data_dir: Path | None = None,
    download: bool = False,
    strict: bool = False,
) -> Images:
    """The labelled images of one split.

    Args:
        data: `"fashion-mnist"`, the full set; `"fashion-mnist-small"`, the subset that comes with the package; or a
            folder with one sub-folder per class, or, as in ImageNet, with such folders below `train` and below `val` or
            `test`.
        split: `"train"` or `"test"`. If a folder of classes is not split, all images are used for both.
        data_dir: folder that is searched first for the files of the full set.
        download: download the full set if it is not on this machine.
        strict: raise an error for a broken image. If False, broken images are left out and counted.

    Raises:
        ValueError: if a file is damaged, truncated or not what its name says (the message names it); if the split is
            unknown; if an option does not apply to these data.
        OSError: if the data do not exist; the message says how to get them.
    """
    if split not in CLASS_FOLDERS:
        raise values.unknown_name(split, CLASS_FOLDERS, "split")
    if data != FASHION_MNIST and (data_dir is not None or download):
        raise ValueError(f"data_dir and download apply to {FASHION_MNIST!r} only, not to {str(data)!r}")
    if data in (FASHION_MNIST, FASHION_MNIST_SMALL):
        full = data == FASHION_MNIST
        images, labels = fashion_mnist.full(split, data_dir, download) if full else fashion_mnist.small(split)
        kind = "training" if split == "train" else "test"
        description = f"Fashion-MNIST, {len(labels):,} {'' if full else 'of its '}{kind} images"
        return Images(images, labels, fashion_mnist.CLASSES, description)
    if not Path(data).is_dir():
        known = f"{FASHION_MNIST!r}, {FASHION_MNIST_SMALL!r} or a folder of class sub-folders"
        raise FileNotFoundError(f"{data} is not a folder; allowed: {known}")
    return read_image_folder(Path(data), split, strict)


def read_image_folder(root: Path, split: Split, strict: bool = False) -> Images:
    """Images in one sub-folder per class, as in ImageNet and for torchvision's ImageFolder. Warns of those left out.

    The classes are those of `train` if it exists, so that a label means the same in both splits.

    Args:
        root: contains the class folders, or `train`, `val` or `test` with the class folders.
        split: `"train"` or `"test"`. Without `train`, `val` and `test`, all images are used for both.
        strict: raise an error for an image that cannot be read, instead of leaving it out.

    Raises:
        ValueError: if the folder has no classes, a class has no readable image, or a class does not occur in training;
            with `strict`, for the first image that cannot be read. Each message gives the first reason.
        FileNotFoundError: if the folder only has the other split.
    """
    folder = _split_folder(root, split)
    classes = _class_names(root / "train") if (root / "train").is_dir() else _class_names(folder)
    if unknown := sorted(set(_class_names(folder)) - set(classes)):
        raise ValueError(f"{folder / unknown[0]}: {root / 'train'} has no class of this name")
    paths = [(path, label) for label, name in enumerate(classes) for path in find_images(folder / name)]
    with ThreadPoolExecutor() as pool:  # most of the time is spent waiting for files
        errors = list(pool.map(lambda item: _read_error(item[0]), paths))
    reasons = [error for error in errors if error]
    if strict and reasons:
        raise ValueError(f"{reasons[0]} (and {len(reasons) - 1} more)" if len(reasons) > 1 else reasons[0])
    usable = [item for item, error in zip(paths, errors, strict=True) if not error]
    labels = [label for _, label in usable]
    readable = set(labels)
    for label, name in enumerate(classes):
        if label not in readable and (folder / name).is_dir():
            first = next((e for (_, other), e in zip(paths, errors, strict=True) if other == label), "it is empty")
            raise ValueError(f"{folder / name} has no readable image ({first}); remove the folder if it is not a class")
    warn_left_out(root.name, reasons, len(paths))
    kind = "training" if split == "train" else "test"
    description = f"{root.name}, {len(usable):,} {kind} images of {len(classes)} classes"
    description += f", {len(reasons):,} left out" * bool(reasons)
    return Images([path for path, _ in usable], labels, classes, description, len(reasons))


def load_examples(data: str | Path, split: Split, *, strict: bool = False, size: int = 96) -> Examples:
    """The annotated images of one split.

    Args:
        data: `"shapes"`, scenes that are drawn when they are indexed; or a folder in one of two layouts. COCO's:
            `annotations/instances_train2017.json` with the images in `train2017`, and the same with `val2017`; the year
            may differ or be missing. Or `images` next to `masks` or, as in ADE20K, next to `annotations`.
        split: `"train"` or `"test"`.
        strict: reject images and entries that cannot be used; by default they are left out, with a warning.
        size: height and width of synthetic scenes in pixels. Images from files keep their size.

    Raises:
        FileNotFoundError: if the data or this split of it does not exist.
        ImportError: if pycocotools, which COCO's layout requires, is missing.
        ValueError: for an unknown split or layout, and as `read_coco` and `read_mask_folder`.
    """
    if split not in SCENES:
        raise values.unknown_name(split, SCENES, "split")
    if data == SHAPES:
        from efficientformer_edu.data.shapes import Shapes

        return Shapes(SCENES[split], size, split)
    root = Path(data)
    if not root.is_dir():
        raise FileNotFoundError(f"{data} is not a folder; allowed: {SHAPES!r}, or a folder in COCO's or a mask layout")
    if any((root / "annotations").glob("instances_*.json")):
        from efficientformer_edu.data.coco import read_coco  # only this layout needs pycocotools

        annotations = _annotation_file(root, COCO_SPLITS[split])
        return read_coco(annotations, root / annotations.stem.removeprefix("instances_"), strict)
    if (root / "images").is_dir() and any((root / name).is_dir() for name in ("masks", "annotations")):
        from efficientformer_edu.data.mask_folders import read_mask_folder

        return read_mask_folder(root, split, strict)
    raise ValueError(
        f"{root} has neither annotations/instances_train*.json (COCO) nor images/ with masks/ or annotations/ "
        f"(ADE20K); {SHAPES!r} gives synthetic scenes"
    )


def _read_error(path: Path) -> str:
    """Why an image cannot be read; empty if it can."""
    try:
        check_image(path)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def _split_folder(root: Path, split: Split) -> Path:
    existing = [name for names in CLASS_FOLDERS.values() for name in names if (root / name).is_dir()]
    if not existing:
        return root
    usable = [name for name in CLASS_FOLDERS[split] if name in existing]
    if not usable:
        expected = " or ".join(CLASS_FOLDERS[split])
        raise FileNotFoundError(f"{root} has {' and '.join(existing)}, but no {expected} for the {split} images")
    return root / usable[0]


def _class_names(folder: Path) -> tuple[str, ...]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise ValueError(f"{folder} has no sub-folders; expected one per class, with its images")
    return tuple(names)


def _annotation_file(root: Path, split_name: str) -> Path:
    """COCO's annotation file of one split."""
    paths = sorted((root / "annotations").glob(f"instances_{split_name}*.json"))
    if not paths:
        raise FileNotFoundError(f"{root / 'annotations'} has no instances_{split_name}*.json")
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise ValueError(f"{root / 'annotations'} has several files for this split: {names}; keep one of them")
    return paths[0]
