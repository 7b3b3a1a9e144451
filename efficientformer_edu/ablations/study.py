"""The ablation study: runs with the same seed differ only in the named change."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from efficientformer_edu.ablations import protocol as protocols
from efficientformer_edu.ablations.protocol import Protocol
from efficientformer_edu.ablations.variants import Variant
from efficientformer_edu.training.distillation import Indices
from efficientformer_edu.training.run import Run
from efficientformer_edu.training.study import Study
from efficientformer_edu.training.trained import trained_words


def get_study(
    folder: Path,
    protocol: Protocol,
    variants: Mapping[str, Variant],
    seeds: int,
    *,
    resume: bool = False,
    data_dir: Path | None = None,
) -> Study:
    """A study of several variants.

    Args:
        folder: folder of the records.
        protocol: settings that the runs share.
        variants: variants by name.
        seeds: number of seeds; they are 0, 1, 2 and so on.
        resume: continue the study in the folder.
        data_dir: folder with the files of Fashion-MNIST.

    Raises:
        ValueError, FileExistsError, FileNotFoundError: as `Study` does.
    """
    return Study(folder, partial(_run, protocol, dict(variants), data_dir), tuple(variants), seeds, resume=resume)


def _run(protocol: Protocol, variants: Mapping[str, Variant], data_dir: Path | None, name: str, seed: int) -> Run:
    return run_of(protocol, name, variants[name], seed, data_dir)


def run_of(protocol: Protocol, name: str, variant: Variant, seed: int, data_dir: Path | None = None) -> Run:
    """The run of a variant with a seed: the protocol's settings with the change applied.

    Args:
        protocol: settings that the runs share.
        name: name of the variant.
        variant: the change.
        seed: random seed.
        data_dir: folder with the files of Fashion-MNIST.
    """
    train, test = protocols.load_images(protocol, data_dir)
    recipe = protocol.recipe.replace(**variant.recipe(protocol.recipe))
    distils = recipe.distillation is not None
    return Run(
        config=protocol.config.replace(**variant.fields(protocol.config)),
        train=train,
        test=test,
        recipe=recipe,
        size=protocol.size,
        seed=seed,
        teacher=partial(_teach, protocol, data_dir) if distils else None,
        teacher_words=f"the package's network, {trained_words()}" if distils else "",
        build=variant.network,
        variant=f"{name}: {variant.words}",
    )


def _teach(protocol: Protocol, data_dir: Path | None, images: Tensor, indices: Indices) -> Tensor:
    return protocols.teacher_logits(protocol, data_dir)(images, indices)
