"""A study: networks trained with some seeds, in as many processes as there are cores, and nothing lost by a kill.

Runs of the same seed see the same images in the same order, moved alike: all that is random is a function of seed,
epoch and step. Each run has one thread, so that its result does not depend on how many run beside it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from datetime import date
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from efficientformer_edu.files import whole
from efficientformer_edu.machine import accelerator, cores, threads, versions
from efficientformer_edu.training.checkpoints import differences
from efficientformer_edu.training.guard import NotFiniteError
from efficientformer_edu.training.loop import Loop
from efficientformer_edu.training.records import Record, load_records
from efficientformer_edu.training.run import Run

PLAN = "plan.json"  # in the folder of a study: the number of seeds that were planned when it was first run


def train(variant: str, run: Run) -> Record:
    """Train one network, on one thread of the processor, or on the GPU if there is one.

    A run whose numbers explode has a record as well.

    Args:
        variant: name of the network in its study.
        run: everything that the result depends on.
    """
    started = time.perf_counter()
    with threads(1):
        loop, stopped = Loop(run), ""
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
    """Networks and seeds, and the folder that holds a record of each.

    Args:
        folder: of the records.
        run_of: the run of a network, by its name, with a seed. It goes to other processes, so it can be pickled.
        names: of the networks.
        seeds: how many; they are 0, 1, 2 and so on.
        resume: go on with the study in the folder.

    Attributes:
        missing: names and seeds that have no record yet, name by name.
        planned: number of seeds that were planned when the study was first run. Records of later seeds are marked.
            For a folder without this information, all seeds that it has count as planned.

    Raises:
        ValueError: if a record in the folder belongs to another study, naming what differs.
        FileExistsError: if the folder holds a study and `resume` is False.
        FileNotFoundError: if it holds none and `resume` is True.
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
        wanted = [(name, seed) for name in names for seed in range(seeds)]
        for one in wanted:
            if one in stored:
                self._check(stored[one])
        self.missing = tuple(one for one in wanted if one not in stored)
        self.planned = (_load_plan(folder) or 1 + max(seed for _, seed in stored)) if stored else seeds
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, processes: int | None = None) -> Iterator[Record]:
        """Train what is missing.

        Args:
            processes: that train at once; as many as there are cores if None, and one trains in this process.

        Yields:
            Each record once it is stored, in the order in which they are done.

        Raises:
            OSError: if a record cannot be written; those before stay.
        """
        if _load_plan(self.folder) != self.planned:
            with whole(self.folder / PLAN) as partial:
                partial.write_text(json.dumps({"seeds": self.planned}) + "\n", encoding="utf-8")
        count = min(processes or cores(), len(self.missing))
        if count <= 1:
            for one in self.missing:
                yield _stored(self.folder, self.run_of, self.planned, *one)
            return
        with ProcessPoolExecutor(count, get_context("spawn"), _end_with_parent) as pool:
            waiting = [pool.submit(_stored, self.folder, self.run_of, self.planned, *one) for one in self.missing]
            try:
                for done in as_completed(waiting):
                    yield done.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _check(self, record: Record) -> None:
        if found := differences(record.run, as_stored(self.run_of(record.variant, record.seed))):
            what = "; ".join(found.values())
            raise ValueError(f"{self.folder}: {record.variant}, seed {record.seed}: {what}; take another folder")


def as_stored(run: Run) -> dict[str, Any]:
    """What a run depends on, as a JSON file gives it back."""
    described: dict[str, Any] = json.loads(json.dumps(run.described()))
    return described


def _load_plan(folder: Path) -> int | None:
    """The number of planned seeds, or None without such a file. Raises ValueError if the file holds something else."""
    path = folder / PLAN
    if not path.exists():
        return None
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["seeds"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not hold the planned seeds of a study: {error}") from error


def _stored(folder: Path, run_of: Callable[[str, int], Run], planned: int, name: str, seed: int) -> Record:
    record = replace(train(name, run_of(name, seed)), planned=seed < planned)
    record.save(folder)
    return record


def _end_with_parent() -> None:
    """Let this process end when the one that started it does, however that ends: nobody would read its results."""
    parent = parent_process()
    assert parent is not None  # it was spawned

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
