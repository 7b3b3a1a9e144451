"""What norms on the maps change, what the backbone's first weights do, and what four heads make of the same scenes.

    python -m tools.dense_study

Chapter 9 shows what comes out. Eighteen networks, each on one thread, as many at a time as there are cores: about
twenty minutes on two. Networks whose record is there are not trained again.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date
from multiprocessing import get_context

from efficientformer_edu.data.shapes import Shapes
from efficientformer_edu.dense.defaults import SMALL, usual
from efficientformer_edu.dense.files import save_dense
from efficientformer_edu.dense.loop import DenseLoop, DenseRun
from efficientformer_edu.dense.recipe import SHAPES
from efficientformer_edu.utils.files import atomic_write
from efficientformer_edu.utils.hardware import cores, processor, threads, versions
from tools import ROOT

SIZE, SCENES, TESTS, SEEDS = 96, 2000, 200, 3
OTHER_HEADS = {"detection with anchors": "anchor_decoupled_head", "segmentation by MLPs": "all_mlp_decoder"}
FIRST = ("detection", "detection without norms", "segmentation", *OTHER_HEADS)
THEN = ("segmentation from the detector",)  # needs its backbone
RECORDS = ROOT / "results" / "dense"
WEIGHTS = ROOT / "build" / "dense_study"


def main() -> None:
    """Train what has no record yet."""
    for folder in (RECORDS, WEIGHTS):
        folder.mkdir(parents=True, exist_ok=True)
    for variants in (FIRST, THEN):
        wanted = [(variant, seed) for variant in variants for seed in range(SEEDS)]
        with ProcessPoolExecutor(cores(), mp_context=get_context("spawn")) as pool:
            for words in pool.map(train, *zip(*wanted, strict=True)):
                print(words, flush=True)


def train(variant: str, seed: int) -> str:
    """Train one network and store its record; says what came out."""
    path = RECORDS / f"{variant.replace(' ', '-')}_seed{seed}.json"
    if path.exists():
        return f"{path.name} is there"
    task, detector = variant.partition(" ")[0], WEIGHTS / f"detector{seed}.safetensors"
    train, test = Shapes(SCENES, SIZE, "train"), Shapes(TESTS, SIZE, "test")
    classes = train.classes if task == "detection" else train.pixel_classes
    usual_config = usual(SMALL, task, len(classes), OTHER_HEADS.get(variant))
    config = replace(usual_config, norms="without norms" not in variant)
    run = DenseRun(config, train, test, SHAPES, SIZE, seed, detector if variant in THEN else None)
    with threads(1):
        loop = DenseLoop(run)
        log = list(loop.epochs())
        trained = loop.finish()
    if variant == "detection":
        save_dense(trained.network.state_dict(), config, SIZE, classes, detector)
    libraries = ", ".join(f"{library} {version}" for library, version in versions().items())
    where = {"machine": processor(), "versions": libraries, "date": date.today().isoformat()}
    record = {"variant": variant, "result": dict(trained.evaluation.result), "run": run.described(), "log": log}
    with atomic_write(path) as partial:
        text = json.dumps({**record, "where": where}, indent=1, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8")
    return f"{path.name}: {trained.evaluation}"


if __name__ == "__main__":
    main()
