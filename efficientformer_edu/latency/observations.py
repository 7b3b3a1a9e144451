"""The four observations of section 3, measured on this machine.

The paper made them on a single phone. Each function times small subjects in turns; `claims` states the claims of the
paper and computes the verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from efficientformer_edu.config import PRESETS
from efficientformer_edu.latency import subjects
from efficientformer_edu.latency import subjects as subjects_norms
from efficientformer_edu.latency.claims import ALONE, INSIDE, NETWORKS, Claim, Observation, load_observation
from efficientformer_edu.latency.engines import ENGINES, prepare
from efficientformer_edu.latency.records import Conditions, Measurement
from efficientformer_edu.latency.subjects import Subject
from efficientformer_edu.latency.timer import measure, timing_device

__all__ = [
    "Claim",
    "Observation",
    "load_observation",
    "observe",
    "observe_activations",
    "observe_mixers",
    "observe_norms",
    "observe_stem",
]

EAGER = ("eager",)
COMPILERS = ("eager", "onnxruntime", "openvino")  # the default engines of observation 4
IMAGE, NO_IMAGE = (224, 224), (0, 0)


@dataclass(frozen=True)
class Session:
    """How the subjects of one observation are timed.

    Attributes:
        number: number of the observation.
        rounds: timed calls of each subject.
        num_threads: threads of torch and of the engines; None for the current setting.
        progress: show a progress bar on the terminal.
        device: as `measure` takes it.
        engines: keys of `engines.ENGINES`.

    Raises:
        ValueError: for a device that cannot be timed.
    """

    number: int
    rounds: int
    num_threads: int | None
    progress: bool
    device: str
    engines: tuple[str, ...] = EAGER

    def __post_init__(self) -> None:
        timing_device(self.device)

    @property
    def command(self) -> str:
        """The command that repeats the measurement."""
        options: dict[str, object] = {"rounds": self.rounds, "threads": self.num_threads}
        if self.device != "cpu":
            options["device"] = self.device
        if self.number == 4:
            options["engine"] = ",".join(self.engines)
        flags = "".join(f" --{name} {value}" for name, value in options.items() if value is not None)
        return f"efficientformer-edu observe {self.number}{flags}"

    def time(self, timed: Mapping[str, Subject], resolution: tuple[int, int], engine: str = "eager") -> Measurement:
        """Time subjects in one engine, in turns."""
        calls = {name: self._prepared(subject.on(self.device), engine) for name, subject in timed.items()}
        with torch.inference_mode():
            return measure(
                calls,
                Conditions(command=self.command, resolution=resolution),
                rounds=self.rounds,
                num_threads=self.num_threads,
                device=self.device,
                progress=self.progress,
            )

    def _prepared(self, subject: Subject, engine: str) -> Callable[[], object]:
        if engine == "eager":
            return subject
        return prepare(engine, subject.network, subject.inputs, self.num_threads)


def observe(
    number: int,
    rounds: int = 30,
    num_threads: int | None = None,
    progress: bool = False,
    engines: Sequence[str] | None = None,
    device: str = "cpu",
) -> Observation:
    """Measure one of the four observations.

    Args:
        number: 1 stem, 2 token mixers, 3 normalization, 4 activations.
        rounds: timed calls of each subject. A verdict needs 5; that of observation 4 needs 9, because half of
            the rounds select the claims.
        num_threads: threads of torch and of the engines; None for the current setting.
        progress: show a progress bar on the terminal.
        engines: keys of `engines.ENGINES` for observation 4; None for those of `COMPILERS` that are installed.
        device: as `measure` takes it.

    Raises:
        ValueError: for an unknown number, a device that cannot be timed, or engines for observations 1 to 3.
    """
    if number == 4:
        return observe_activations(rounds, num_threads, progress, engines, device)
    others = {1: observe_stem, 2: observe_mixers, 3: observe_norms}
    if number not in others:
        raise ValueError(f"there is no observation {number}; the paper has 1, 2, 3 and 4")
    if engines and tuple(engines) != EAGER:
        raise ValueError(f"observation {number} runs in eager mode only; engines are for observation 4")
    return others[number](rounds, num_threads, progress, device)


def observe_stem(
    rounds: int = 30, num_threads: int | None = None, progress: bool = False, device: str = "cpu"
) -> Observation:
    """Observation 1: patch embeddings with a large kernel and stems of 3×3 convolutions. Arguments as for `observe`."""
    session = Session(1, rounds, num_threads, progress, device)
    timed = {"to 14×14": subjects.embeddings_to_a_sixteenth(), "to 56×56": subjects.embeddings_to_a_quarter()}
    records = {name: session.time(group, IMAGE) for name, group in timed.items()}
    return Observation(1, records, _macs(timed))


def observe_mixers(
    rounds: int = 30, num_threads: int | None = None, progress: bool = False, device: str = "cpu"
) -> Observation:
    """Observation 2: pooling, attention on tokens, attention on maps with reshapes. Arguments as for `observe`."""
    session = Session(2, rounds, num_threads, progress, device)
    shapes = [_channels_and_grid(stage) for stage in (2, 3)]
    timed = {f"{dim} channels, {h}×{w}": subjects.mixers(dim, (h, w)) for dim, (h, w) in shapes}
    records = {name: session.time(group, NO_IMAGE) for name, group in timed.items()}
    return Observation(2, records, _macs(timed))


def observe_norms(
    rounds: int = 30, num_threads: int | None = None, progress: bool = False, device: str = "cpu"
) -> Observation:
    """Observation 3: Conv-BN and other pairs of layer and norm; the norms of a network. Arguments as for `observe`."""
    session = Session(3, rounds, num_threads, progress, device)
    dim, (height, width) = _channels_and_grid(2)
    layers = session.time(subjects_norms.norms(dim, (height, width)), NO_IMAGE)
    networks = session.time(subjects_norms.networks_and_norms(), IMAGE)
    return Observation(3, {f"{dim} channels, {height}×{width}": layers, NETWORKS: networks})


def observe_activations(
    rounds: int = 30,
    num_threads: int | None = None,
    progress: bool = False,
    engines: Sequence[str] | None = None,
    device: str = "cpu",
) -> Observation:
    """Observation 4: activations alone and inside L1, in each engine. Arguments as for `observe`.

    Raises:
        ValueError: for an unknown engine, or one that cannot run L1.
        ImportError: if an engine's library is missing, with the command that installs it.
    """
    if engines is None:
        engines = [engine for engine in COMPILERS if not ENGINES[engine].missing]
    session = Session(4, rounds, num_threads, progress, device, tuple(dict.fromkeys(engines)))
    if unknown := set(session.engines) - set(ENGINES):
        raise ValueError(f"engine {min(unknown)!r} is unknown; there are {', '.join(ENGINES)}")
    alone = [engine for engine in session.engines if not ENGINES[engine].ours]  # an activation alone cannot be folded
    lone = {ALONE + engine: session.time(subjects_norms.activations(), NO_IMAGE, engine) for engine in alone}
    inside = {
        INSIDE + engine: session.time(subjects_norms.networks_and_activations(), IMAGE, engine)
        for engine in session.engines
    }
    return Observation(4, lone | inside)


def _channels_and_grid(stage: int) -> tuple[int, tuple[int, int]]:
    """Channels, and height and width of the feature map, of a stage of L1 for 224×224 pixels."""
    config = PRESETS["l1"]
    return config.embed_dims[stage], config.grids(IMAGE)[stage]


def _macs(timed: Mapping[str, Mapping[str, Subject]]) -> dict[str, dict[str, int]]:
    return {record: {name: subject.macs for name, subject in group.items()} for record, group in timed.items()}
