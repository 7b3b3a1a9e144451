"""How the subjects of one observation are timed, and what is to be kept in mind about each observation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from efficientformer_edu.latency.claims import Claim, Observation
from efficientformer_edu.latency.engines import prepare
from efficientformer_edu.latency.records import Conditions, Measurement
from efficientformer_edu.latency.subjects import Subject
from efficientformer_edu.latency.timer import measure

EAGER = ("eager",)
IMAGE, NO_IMAGE = (224, 224), (0, 0)

WHY = {
    1: "The paper's reason is the phone's compiler, which has no good code for large kernels. A library for processors "
    "or GPUs runs a patch embedding as one product of matrices. 'MAC for MAC' asks for less than the paper claims.",
    2: "To call the reshapes a bottleneck is to say that they take longer than what they are for. Each copies the map "
    "here, as it must where maps and tokens have another order in memory. Where the channels of a place lie side by "
    "side, as in the folded network, a map is tokens already, and nothing is copied.",
    3: "A layer and its norm run one after the other here. 'Linear alone' shows how much of LN-Linear is the other "
    "product. The share of LN is the time that goes away with the norms of DeiT-S, which is built in plain torch.",
    4: "The phone's factor is that of another network, LeViT-256; a trap is a factor as large as that. "
    "With several engines, the pair whose order changes most is sought in the first half of the rounds, and its two "
    "claims are tested on the second half.",
}


@dataclass(frozen=True)
class Session:
    """How the subjects of one observation are timed.

    Attributes:
        number: of the observation.
        rounds: how often each subject is timed.
        num_threads: of torch and of the engines; None for what is set.
        progress: show a bar on the terminal.
        device: "cpu" or a CUDA device.
        engines: keys of `engines.ENGINES`.
    """

    number: int
    rounds: int
    num_threads: int | None
    progress: bool
    device: str
    engines: tuple[str, ...] = EAGER

    @property
    def command(self) -> str:
        """What measures it again."""
        options: dict[str, object] = {"rounds": self.rounds, "threads": self.num_threads}
        if self.device != "cpu":
            options["device"] = self.device
        if self.engines != EAGER:
            options["engine"] = ",".join(self.engines)
        given = "".join(f" --{name} {value}" for name, value in options.items() if value is not None)
        return f"efficientformer-edu observe {self.number}{given}"

    def time(self, found: Mapping[str, Subject], resolution: tuple[int, int], engine: str = "eager") -> Measurement:
        """Time the subjects in one engine, side by side."""
        calls = {name: self._prepared(one.on(self.device), engine) for name, one in found.items()}
        with torch.inference_mode():
            return measure(
                calls,
                Conditions(command=self.command, resolution=resolution),
                rounds=self.rounds,
                num_threads=self.num_threads,
                device=self.device,
                progress=self.progress,
            )

    def observation(
        self,
        claims: Sequence[Claim],
        records: Mapping[str, Measurement],
        macs: Mapping[str, Mapping[str, int]] | None = None,
    ) -> Observation:
        """What was found."""
        return Observation(self.number, tuple(claims), records, macs or {}, WHY[self.number])

    def _prepared(self, subject: Subject, engine: str) -> Callable[[], object]:
        if engine == "eager":
            return subject
        return prepare(engine, subject.network, subject.inputs, self.num_threads)
