"""A study: networks trained with several seeds, in parallel, with one record per training.

Runs with the same seed use the same images in the same order with the same augmentation: all randomness is a function
of seed, epoch and step. Each run uses one thread, so its result does not depend on the number of parallel runs, or on
the machine of a cluster that trained it. The process of the study writes the records: a study that was killed is
resumed, and machines need not share its folder.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from efficientformer_edu.training.checkpoints import differences
from efficientformer_edu.training.classification import ClassificationTrainer
from efficientformer_edu.training.nan_checks import NotFiniteError
from efficientformer_edu.training.run import BaseRun
from efficientformer_edu.training.trainer import Trainer
from efficientformer_edu.utils.hardware import accelerator, cores, threads, versions
from efficientformer_edu.utils.optional import import_optional
from efficientformer_edu.utils.records import exists, from_dict, load_json, record_paths, save_json

PLAN = "plan.json"  # in the folder of a study: number of seeds planned when it was first run


@dataclass(frozen=True)
class Record:
    """The result of one training.

    Attributes:
        variant: name of the variant.
        seed: seed of the run; runs with the same seed are paired.
        result: metrics on the test images. If the run diverged, those of random guessing.
        run: everything that the result depends on, from `BaseRun.described`.
        log: one row per epoch.
        where: machine, versions and date.
        stopped: why the run stopped early; "" if it did not.
        seconds: duration, including evaluation; None if it is not known.
        planned: whether the seed was planned when the study was first run; False for a seed that was added later.
    """

    variant: str
    seed: int
    result: Mapping[str, float]
    run: Mapping[str, Any]
    log: tuple[Mapping[str, Any], ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    stopped: str = ""
    seconds: float | None = None
    planned: bool = True

    @property
    def top1(self) -> float:
        """Accuracy of a classifier, from 0 to 1."""
        return self.result["top1"]

    def save(self, folder: Path) -> None:
        """Write the record into the folder of a study, atomically. Raises OSError if writing fails."""
        save_json(self, folder / f"{self.variant.replace(' ', '-')}_seed{self.seed}.json", "training")


def load_records(folder: Path) -> tuple[Record, ...]:
    """All records of a study, sorted by file name; empty if the folder does not exist.

    Args:
        folder: folder of the study, or the file into which it was packed.

    Raises:
        ValueError: if a file is not a record; the message names it.
        OSError: if a file cannot be read.
    """

    def parse(data: dict[str, Any]) -> Record:
        if "top1" in data:  # as earlier versions stored the result of a classifier
            data["result"] = {"top1": data.pop("top1")}
        return from_dict(Record, {"seed": data["run"].get("seed"), **data})

    return tuple(load_json(path, "training", parse) for path in record_paths(folder, "*_seed*.json"))


def train(variant: str, run: BaseRun, trainer: Callable[[Any], Trainer] = ClassificationTrainer) -> Record:
    """Train one network, on one CPU thread, or on the GPU if available.

    A run that diverges gets a record as well.

    Args:
        variant: name of the network in its study.
        run: everything that the result depends on.
        trainer: creates the trainer of the run.
    """
    started, stopped = time.perf_counter(), ""
    with threads(1):
        training = trainer(run)
        try:
            for _ in training.epochs():
                pass
            result = dict(training.evaluation.result)
        except NotFiniteError as error:
            stopped, result = str(error), dict.fromkeys(training.metric_names, 0.0)
            if "top1" in result:
                result = {"top1": 1 / len(run.classes)}
    libraries = ", ".join(f"{library} {version}" for library, version in versions().items())
    device = training.accelerator.device
    where = {"machine": accelerator(device), "versions": libraries, "date": date.today().isoformat()}
    seconds = round(time.perf_counter() - started, 1)
    return Record(variant, run.seed, result, run.described(), tuple(training.log), where, stopped, seconds)


class Study:
    """Networks and seeds, with a folder that contains a record for each pair.

    Args:
        folder: folder of the records.
        run_of: returns the run for a network's name and a seed. It is sent to other processes, so it must be picklable.
        names: names of the networks.
        seeds: number of seeds; they are 0, 1, 2 and so on.
        resume: continue the study in the folder.
        trainer: creates the trainer of a run.

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
        run_of: Callable[[str, int], BaseRun],
        names: Sequence[str],
        seeds: int,
        *,
        resume: bool = False,
        trainer: Callable[[Any], Trainer] = ClassificationTrainer,
    ) -> None:
        self.folder, self.run_of, self.trainer = folder, run_of, trainer
        stored = {(record.variant, record.seed): record for record in load_records(folder)}
        if stored and not resume:
            raise FileExistsError(f"{folder} already contains a study; add --resume, or choose another folder")
        if resume and not stored:
            raise FileNotFoundError(f"{folder} contains no study to resume; omit --resume to start one")
        jobs = [(name, seed) for name in names for seed in range(seeds)]
        for job in jobs:
            if job in stored:
                self._check(stored[job])
        self.missing = tuple(job for job in jobs if job not in stored)
        self.planned = (self._load_plan() or 1 + max(seed for _, seed in stored)) if stored else seeds
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, executor: Executor | None = None, processes: int | None = None) -> Iterator[Record]:
        """Train the missing networks.

        Args:
            executor: where to train, such as a cluster (see `get_executor`); None for processes of this machine.
            processes: their number; None for one per core. With 1, training runs in this process.

        Yields:
            Each record once it is stored, in order of completion.

        Raises:
            OSError: if a record cannot be written; records stored before are kept.
        """
        if self._load_plan() != self.planned:
            save_json({"seeds": self.planned}, self.folder / PLAN, "study plan")
        count = min(processes or cores(), len(self.missing))
        if executor is None and count <= 1:
            for job in self.missing:
                yield self._store(_train(self.run_of, self.trainer, *job))
            return
        pool = executor or ProcessPoolExecutor(count, get_context("spawn"), _end_with_parent)
        waiting = {pool.submit(_train, self.run_of, self.trainer, *job) for job in self.missing}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from [self._store(future.result()) for future in done if not future.exception()]
                for future in done:
                    future.result()  # raises the error of a failed training
        finally:  # trainings that have begun are still stored
            running = [future for future in waiting if not future.cancel()]
            for future in wait(running).done:
                if not future.cancelled() and not future.exception():
                    self._store(future.result())
            if executor is None:
                pool.shutdown()

    def _store(self, record: Record) -> Record:
        record = replace(record, planned=record.seed < self.planned)
        record.save(self.folder)
        return record

    def _check(self, record: Record) -> None:
        described = json.loads(json.dumps(self.run_of(record.variant, record.seed).described()))  # tuples become lists
        if mismatches := differences(record.run, described):
            mismatch = "; ".join(mismatches.values())
            raise ValueError(f"{self.folder}: {record.variant}, seed {record.seed}: {mismatch}; choose another folder")

    def _load_plan(self) -> int | None:
        """The number of planned seeds; None if the file is missing. Raises ValueError if its content is invalid."""
        path = self.folder / PLAN
        return load_json(path, "study plan", lambda data: int(data["seeds"])) if exists(path) else None


@contextmanager
def get_executor(scheduler: str | None) -> Iterator[Executor | None]:
    """The cluster of a dask.distributed scheduler, for `Study.run`; None without a scheduler.

    The machines of the cluster need this package and the images. If a machine stops, its trainings run on another one.

    Args:
        scheduler: address such as "tcp://10.0.0.1:8786", as `dask scheduler` prints it.

    Raises:
        ImportError: if dask.distributed is missing; the message has the command that installs it.
        ConnectionError: if there is no scheduler at the address.
    """
    if scheduler is None:
        yield None
        return
    distributed = import_optional("distributed")
    try:
        client = distributed.Client(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise ConnectionError(f"no dask scheduler at {scheduler!r}; start one with `dask scheduler`") from error
    with client:
        yield client.get_executor(pure=False)  # each training is a task of its own


def _train(run_of: Callable[[str, int], BaseRun], trainer: Callable[[Any], Trainer], name: str, seed: int) -> Record:
    return train(name, run_of(name, seed), trainer)


def _end_with_parent() -> None:
    """End this process when its parent ends for any reason, because its results would be lost."""
    parent = parent_process()
    assert parent is not None  # it was spawned

    def wait_for_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_for_parent, daemon=True).start()
