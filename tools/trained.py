"""Retrain the small network that ships with the package: `make trained`.

It takes about ten minutes on two cores, and needs the full Fashion-MNIST data set, for example from Debian's package.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from efficientformer_edu.data.datasets import load_data
from efficientformer_edu.training import checkpoints
from efficientformer_edu.training.classification import ClassificationTrainer, Run
from efficientformer_edu.training.recipe import LAPTOP
from efficientformer_edu.training.small import FOLDER, SMALL

RECIPE = LAPTOP.replace(epochs=12, crop=1)  # enough epochs to see every image in several crop positions
KEPT = (checkpoints.WEIGHTS, checkpoints.LOG, checkpoints.RUN)


def main() -> int:
    """Train, and copy weights, log and description into the package; on failure the old files are kept."""
    train, test = (load_data("fashion-mnist", split) for split in ("train", "test"))
    with TemporaryDirectory() as folder:
        ClassificationTrainer(Run(SMALL, train, test, RECIPE, size=32), Path(folder, "run")).fit()
        for name in KEPT:
            shutil.copyfile(Path(folder, "run", name), FOLDER / name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
