"""Train the study of chapter 9 on drawn scenes: norms on feature maps, initial weights, and four heads.

    python -m tools.dense_study [--scheduler ADDRESS]

Eighteen networks, each on one thread, in parallel: about twenty minutes on two cores. A study that was interrupted is
continued. The complete study is packed into the package's results.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from efficientformer_edu.data.shapes import Shapes
from efficientformer_edu.dense.files import save_dense
from efficientformer_edu.dense.network import SMALL_BACKBONE, default_config
from efficientformer_edu.dense.recipe import SHAPES
from efficientformer_edu.dense.trainer import DenseRun, DenseTrainer
from efficientformer_edu.training.study import Study, get_executor, load_records
from efficientformer_edu.utils.records import pack, stored
from tools import ROOT

SIZE, SCENES, TESTS, SEEDS = 96, 2000, 200, 3
OTHER_HEADS = {"detection with anchors": "anchor_decoupled_head", "segmentation by MLPs": "all_mlp_decoder"}
FIRST = ("detection", "detection without norms", "segmentation", *OTHER_HEADS)
THEN = ("segmentation from the detector",)  # needs the weights of the networks "detection"
FOLDER = ROOT / "runs" / "dense"


class StudyTrainer(DenseTrainer):
    """Also stores the weights of the detectors that other networks start from."""

    def epochs(self, after_step: Callable[[], None] = lambda: None) -> Iterator[dict[str, Any]]:
        """Train as `DenseTrainer` does, and store the weights at the end."""
        yield from super().epochs(after_step)
        run = self.run
        if run.config == default_config(SMALL_BACKBONE, "detection", len(run.classes)):
            path = FOLDER / f"detector{run.seed}.safetensors"
            save_dense(self.network.state_dict(), run.config, SIZE, run.classes, path)


def run_of(variant: str, seed: int) -> DenseRun:
    """The run of a network of the study."""
    task = variant.partition(" ")[0]
    train, test = Shapes(SCENES, SIZE, "train"), Shapes(TESTS, SIZE, "test")
    classes = train.classes if task == "detection" else train.pixel_classes
    config = default_config(SMALL_BACKBONE, task, len(classes), OTHER_HEADS.get(variant))
    config = replace(config, norms="without norms" not in variant)
    detector = FOLDER / f"detector{seed}.safetensors"
    return DenseRun(config, train, test, SHAPES, SIZE, seed, detector if variant in THEN else None)


def main() -> None:
    """Train the networks without a record, and pack the study."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scheduler", help="address of a dask.distributed scheduler")
    with get_executor(parser.parse_args().scheduler) as executor:
        for names in (FIRST, THEN):
            resume = bool(load_records(FOLDER))
            study = Study(FOLDER, run_of, names, SEEDS, resume=resume, trainer=StudyTrainer)
            for record in study.run(executor):
                print(f"{record.variant}, seed {record.seed}: {dict(record.result)}", flush=True)
    pack(FOLDER, stored("dense.json"), ("*_seed*.json",))


if __name__ == "__main__":
    main()
