"""A study: each variant trained with each seed, in as many processes as there are cores, and nothing lost by a kill.

Nothing but the named change differs between the runs of a seed: the images, their order and how they are moved are a
function of seed, epoch and step; recipe and evaluation are the protocol's. Each run has one thread, so that its result
does not depend on how many run beside it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import date
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from torch import Tensor

from efficientformer_edu.ablations import protocol as protocols
from efficientformer_edu.ablations.protocol import Protocol
from efficientformer_edu.ablations.records import Record, load_records
from efficientformer_edu.ablations.variants import Variant
from efficientformer_edu.latency.machine import accelerator, cores, threads, versions
from efficientformer_edu.training.distillation import Indices
from efficientformer_edu.training.guard import NotFiniteError
from efficientformer_edu.training.loop import Loop
from efficientformer_edu.training.run import Run
from efficientformer_edu.training.trained import trained_words


def run_of(protocol: Protocol, name: str, variant: Variant, seed: int, data_dir: Path | None = None) -> Run:
    """The run of a variant with a seed: the protocol's, but for the change.

    Args:
        protocol: what the runs have in common.
        name: of the variant.
        variant: what is changed.
        seed: of all that is random.
        data_dir: where the files of Fashion-MNIST lie.
    """
    train, test = protocols.images(protocol, data_dir)
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


def train(protocol: Protocol, name: str, variant: Variant, seed: int, data_dir: Path | None = None) -> Record:
    """Train one variant with one seed, on one thread of the processor, or on the GPU if there is one.

    Arguments are those of `run_of`. A run whose numbers explode has a record as well.
    """
    run, started = run_of(protocol, name, variant, seed, data_dir), time.perf_counter()
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
    return Record(name, seed, top1, stopped, seconds, run.described(), tuple(loop.log), where)


class Study:
    """Variants and seeds, and the folder that holds a record of each.

    Args:
        folder: of the records.
        protocol: what the runs have in common.
        variants: by name.
        seeds: how many; they are 0, 1, 2 and so on.
        resume: go on with the study in the folder.
        data_dir: where the files of Fashion-MNIST lie.

    Attributes:
        missing: variants and seeds that have no record yet, variant by variant.

    Raises:
        ValueError: if a record in the folder belongs to another study, naming what differs.
        FileExistsError: if the folder holds a study and `resume` is False.
        FileNotFoundError: if it holds none and `resume` is True.
    """

    def __init__(
        self,
        folder: Path,
        protocol: Protocol,
        variants: Mapping[str, Variant],
        seeds: int,
        *,
        resume: bool = False,
        data_dir: Path | None = None,
    ) -> None:
        self.folder, self.protocol, self.variants, self.data_dir = folder, protocol, variants, data_dir
        stored = {(record.variant, record.seed): record for record in load_records(folder)}
        if stored and not resume:
            raise FileExistsError(f"{folder}: there is a study already; add --resume, or take another folder")
        if resume and not stored:
            raise FileNotFoundError(f"{folder}: there is no study to resume; leave --resume out to begin one")
        wanted = [(name, seed) for name in variants for seed in range(seeds)]
        for name, seed in wanted:
            if (name, seed) in stored:
                self._check(stored[name, seed])
        self.missing = tuple(one for one in wanted if one not in stored)
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
        count = min(processes or cores(), len(self.missing))
        if count <= 1:
            for name, seed in self.missing:
                yield self._train(name, self.variants[name], seed)
            return
        with ProcessPoolExecutor(count, get_context("spawn"), _end_with_parent) as pool:
            waiting = [pool.submit(self._train, name, self.variants[name], seed) for name, seed in self.missing]
            try:
                for done in as_completed(waiting):
                    yield done.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _train(self, name: str, variant: Variant, seed: int) -> Record:
        record = train(self.protocol, name, variant, seed, self.data_dir)
        record.save(self.folder)
        return record

    def _check(self, record: Record) -> None:
        expected = run_of(self.protocol, record.variant, self.variants[record.variant], record.seed, self.data_dir)
        for name, value in as_stored(expected).items():
            if record.run.get(name) != value:
                was = f"{name} was {record.run.get(name)!r} and now is {value!r}"
                raise ValueError(f"{self.folder}: {record.variant}, seed {record.seed}: {was}; take another folder")


def as_stored(run: Run) -> dict[str, Any]:
    """What a run depends on, as a JSON file gives it back."""
    described: dict[str, Any] = json.loads(json.dumps(run.described()))
    return described


def _teach(protocol: Protocol, data_dir: Path | None, images: Tensor, indices: Indices) -> Tensor:
    return protocols.teacher_logits(protocol, data_dir)(images, indices)


def _end_with_parent() -> None:
    """Let this process end when the one that started it does, however that ends: nobody would read its results."""
    parent = parent_process()
    assert parent is not None  # it was spawned

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
