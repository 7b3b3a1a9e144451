"""The stored result of one training run of a study: one file per variant and seed, written atomically.

A study: networks trained with several seeds, one process per core; it can be killed and resumed.

Runs with the same seed use the same images in the same order with the same augmentation: all randomness is a function
of seed, epoch and step. Each run uses one thread, so its result does not depend on the number of parallel runs.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from efficientformer_edu.training.checkpoints import differences
from efficientformer_edu.training.classification import ClassificationTrainer, Run
from efficientformer_edu.training.nan_checks import NotFiniteError
from efficientformer_edu.utils.hardware import accelerator, cores, threads, versions
from efficientformer_edu.utils.records import exists, from_dict, load_json, record_paths, save_json


@dataclass(frozen=True)
class Record:
    """The result of one run.

    Attributes:
        variant: name of the variant.
        seed: seed of the run; runs with the same seed are paired.
        top1: accuracy on the test images. If a run diverged, the accuracy of random guessing.
        stopped: why the run stopped early; "" if it did not.
        seconds: duration, including evaluation.
        run: everything that the result depends on, from `Run.described`.
        log: one row per epoch.
        where: machine, versions and date.
        planned: whether the seed was planned when the study was first run; False for a seed that was added later.
            Records of earlier versions do not contain this field and count as planned.
    """

    variant: str
    seed: int
    top1: float
    stopped: str
    seconds: float
    run: Mapping[str, Any]
    log: tuple[Mapping[str, Any], ...]
    where: Mapping[str, str]
    planned: bool = True

    def save(self, folder: Path) -> None:
        """Write the record into the folder of a study, atomically. Raises OSError if writing fails."""
        save_json(self, folder / f"{self.variant}_seed{self.seed}.json", "training")


def load_records(folder: Path) -> tuple[Record, ...]:
    """All records of a study; empty if the folder does not exist.

    Args:
        folder: folder of the study, or the file into which it was packed.

    Raises:
        ValueError: if a file is not a record; the message names it.
        OSError: if a file cannot be read.
    """
    paths = record_paths(folder, "*_seed*.json")
    return tuple(load_json(path, "training", partial(from_dict, Record)) for path in paths)


PLAN = "plan.json"  # in the folder of a study: number of seeds planned when it was first run


def train(variant: str, run: Run) -> Record:
    """Train one network, on one CPU thread, or on the GPU if available.

    A run that diverges gets a record as well.

    Args:
        variant: name of the network in its study.
        run: everything that the result depends on.
    """
    started = time.perf_counter()
    with threads(1):
        loop, stopped = ClassificationTrainer(run), ""
        try:
            for row in loop.epochs():
                top1: float = row["top1"]
        except NotFiniteError as error:
            stopped, top1 = str(error), 1 / len(run.test.classes)
    libraries = ", ".join(f"{library} {version}" for library, version in versions().items())
    where = {"machine": accelerator(loop.accelerator.device), "versions": libraries, "date": date.today().isoformat()}
    seconds = round(time.perf_counter() - started, 1)
    return Record(variant, run.seed, top1, stopped, seconds, run.described(), tuple(loop.log), where)


class Study:
    """Networks and seeds, with a folder that contains a record for each pair.

    Args:
        folder: folder of the records.
        run_of: returns the run for a network's name and a seed. It is sent to other processes, so it must be picklable.
        names: names of the networks.
        seeds: number of seeds; they are 0, 1, 2 and so on.
        resume: continue the study in the folder.

    Attributes:
        missing: (name, seed) pairs without a record, ordered by name.
        planned: number of seeds planned when the study was first run. Records of later seeds are marked. If the folder
            does not contain this number, all its seeds count as planned.

    Raises:
        ValueError: if a record in the folder belongs to another study; the message lists the differences.
        FileExistsError: if the folder contains a study and `resume` is False.
        FileNotFoundError: if it does not contain a study and `resume` is True.
    """

    def __init__(
        self,
        folder: Path,
        run_of: Callable[[str, int], Run],
        names: Sequence[str],
        seeds: int,
        *,
        resume: bool = False,
    ) -> None:
        self.folder, self.run_of = folder, run_of
        stored = {(record.variant, record.seed): record for record in load_records(folder)}
        if stored and not resume:
            raise FileExistsError(f"{folder}: there is a study already; add --resume, or take another folder")
        if resume and not stored:
            raise FileNotFoundError(f"{folder}: there is no study to resume; leave --resume out to begin one")
        jobs = [(name, seed) for name in names for seed in range(seeds)]
        for job in jobs:
            if job in stored:
                self._check(stored[job])
        self.missing = tuple(job for job in jobs if job not in stored)
        self.planned = (_load_plan(folder) or 1 + max(seed for _, seed in stored)) if stored else seeds
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, processes: int | None = None) -> Iterator[Record]:
        """Train the missing networks.

        Args:
            processes: number of parallel processes; None for one per core. With 1, training runs in this process.

        Yields:
            Each record once it is stored, in order of completion.

        Raises:
            OSError: if a record cannot be written; records stored before are kept.
        """
        if _load_plan(self.folder) != self.planned:
            save_json({"seeds": self.planned}, self.folder / PLAN, "study plan")
        count = min(processes or cores(), len(self.missing))
        if count <= 1:
            for job in self.missing:
                yield _stored(self.folder, self.run_of, self.planned, *job)
            return
        with ProcessPoolExecutor(count, get_context("spawn"), _end_with_parent) as pool:
            waiting = [pool.submit(_stored, self.folder, self.run_of, self.planned, *job) for job in self.missing]
            try:
                for done in as_completed(waiting):
                    yield done.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _check(self, record: Record) -> None:
        if mismatches := differences(record.run, as_stored(self.run_of(record.variant, record.seed))):
            what = "; ".join(mismatches.values())
            raise ValueError(f"{self.folder}: {record.variant}, seed {record.seed}: {what}; take another folder")


def as_stored(run: Run) -> dict[str, Any]:
    """Everything a run depends on, after a round trip through JSON."""
    described: dict[str, Any] = json.loads(json.dumps(run.described()))
    return described


def _load_plan(folder: Path) -> int | None:
    """The number of planned seeds; None if the file is missing. Raises ValueError if its content is invalid."""
    return load_json(folder / PLAN, "study plan", lambda data: int(data["seeds"])) if exists(folder / PLAN) else None


def _stored(folder: Path, run_of: Callable[[str, int], Run], planned: int, name: str, seed: int) -> Record:
    record = replace(train(name, run_of(name, seed)), planned=seed < planned)
    record.save(folder)
    return record


def _end_with_parent() -> None:
    """End this process when its parent ends for any reason, because its results would be lost."""
    parent = parent_process()
    assert parent is not None  # it was spawned

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
