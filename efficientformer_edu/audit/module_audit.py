"""What two tools counted for some network, side by side, and the sentences that say why they differ.

Both count 1 for a multiplication with its addition in convolutions and matrix products. They part over norms, over
interpolation, and over attention in one fused call. Which of the sentences hold for a network is read off its counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

from efficientformer_edu.audit.tables import Format, Table

KINDS = {
    "convolution": {"conv", "convolution", "_convolution", "cudnn_convolution", "_slow_conv2d_forward"},
    "matrix product": {
        *("linear", "matmul", "einsum", "addmm", "bmm", "mm", "baddbmm"),
        *("_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention"),
        "_scaled_dot_product_cudnn_attention",
    },
    "norm": {"batch_norm", "layer_norm", "group_norm", "instance_norm"},
    "other": set[str](),
}
"""The operators of both tools by kind; whatever is not named here is "other"."""

PRODUCTS = {"scaled_dot_product_attention", "baddbmm", "lstm", "gru", "rnn_tanh", "rnn_relu", "mv", "addmv", "dot"}
FUSED = {
    "_scaled_dot_product_flash_attention_for_cpu",
    "_native_multi_head_attention",
    "_transformer_encoder_layer_fwd",
}
UNSEEN = PRODUCTS | FUSED | {"mkldnn_rnn_layer"}
"""What multiplies matrices or vectors, and is counted as 0 by a tool that has no rule for it."""


@dataclass(frozen=True)
class ModuleAudit:
    """What two tools count for a network and its images. All operations are MACs.

    Attributes:
        name: the network's class.
        images: shape of what it was run on.
        params: its parameters, each counted once.
        fvcore: what fvcore counts for each operator; None where it fails.
        flop_counter: what FlopCounterMode counts for each operator, halved.
        uncounted: operators for which fvcore has no rule, and how often each is called.
        unseen: operators that multiply matrices and that FlopCounterMode counts as 0, and how often each is called.
        written_out: what FlopCounterMode counts when attention is made of plain products.
        failure: why fvcore failed, or "".
    """

    name: str
    images: tuple[int, ...]
    params: int
    fvcore: Mapping[str, int] | None
    flop_counter: Mapping[str, int]
    uncounted: Mapping[str, int]
    unseen: Mapping[str, int]
    written_out: int
    failure: str = ""

    @property
    def macs(self) -> int:
        """What FlopCounterMode counts, halved."""
        return sum(self.flop_counter.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """Why the two differ here, and what both leave out: one sentence or two each."""
        return tuple(_notes(self))

    def table(self) -> Table:
        """MACs by kind of operator: fvcore's, FlopCounterMode's, and what the first counts more."""
        kinds = [kind for kind in KINDS if _of(self.fvcore or {}, kind) or _of(self.flop_counter, kind)]
        rows = [self._row(kind, _of(self.fvcore or {}, kind), _of(self.flop_counter, kind)) for kind in kinds]
        total = self._row("total", self.fvcore or {}, self.flop_counter)
        columns = ("kind", "in fvcore", "in FlopCounterMode", "fvcore", "FlopCounterMode / 2", "difference")
        return Table(columns, (*rows, (total[0], None, None, *total[3:])), total=True)

    def to(self, format: Format) -> str:
        """The table, and with it all that fits the format: sentences for people, every number in JSON."""
        if format == "json":
            return json.dumps({**asdict(self), "macs": self.macs, "notes": self.notes}, indent=2)
        text = self.table().to(format)
        if format == "csv":
            return text
        mark = "* " if format == "markdown" else ""
        lines = "\n".join(f"{mark}{note}" for note in self.notes)
        return f"{self!r}\n\n{text.rstrip()}\n\n{lines}\n"

    def to_markdown(self) -> str:
        """The table and the sentences as Markdown."""
        return self.to("markdown")

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.images))
        return f"{self.name} on {shape}: {self.params:,} parameters, {self.macs:,} MACs by FlopCounterMode / 2"

    def _row(self, label: str, ours: Mapping[str, int], torchs: Mapping[str, int]) -> tuple[str | int | None, ...]:
        mine, theirs = sum(ours.values()), sum(torchs.values())
        known = self.fvcore is not None
        numbers = (mine if known else None, theirs, mine - theirs if known else None)
        return (label, ", ".join(ours), ", ".join(torchs), *numbers)


def _notes(audit: ModuleAudit) -> Iterator[str]:
    fvcore, unseen = audit.fvcore or {}, audit.unseen
    if audit.fvcore is None:
        yield f"fvcore could not follow this network: {audit.failure}."
    if norms := _of(fvcore, "norm"):
        yield (
            f"fvcore adds {sum(norms.values()):,} for {_and(norms)}: 2 for each number of a batch norm and 5 of any "
            "other norm, 1 and 4 where no factor is learned. FlopCounterMode counts no norm."
        )
    if others := _of(fvcore, "other"):
        yield f"fvcore adds {sum(others.values()):,} for {_and(others)}, which FlopCounterMode does not count."
    for kind in ("convolution", "matrix product"):
        more = sum(_of(audit.flop_counter, kind).values()) - sum(_of(fvcore, kind).values())
        if more and audit.fvcore is not None:
            yield f"In all {kind}s FlopCounterMode counts {abs(more):,} MACs {'more' if more > 0 else 'fewer'}."
    known = {name: often for name, often in audit.uncounted.items() if name in UNSEEN}
    if known:
        yield f"fvcore counts 0 for {_calls(known)}, though it multiplies."
    if unseen:
        yield f"FlopCounterMode counts 0 for {_calls(unseen)}, though it multiplies."
    elif "scaled_dot_product_attention" in known:
        yield "FlopCounterMode counts scaled_dot_product_attention in full here: torch made plain products of it."
    if hidden := audit.written_out - audit.macs:
        yield f"With attention as plain products FlopCounterMode counts {audit.written_out:,} MACs, {hidden:,} more."
    if rest := {name: often for name, often in audit.uncounted.items() if name not in known}:
        yield f"fvcore has no rule for {_calls(rest)}; FlopCounterMode counts convolutions and matrix products alone."
    if audit.fvcore is not None and sum(fvcore.values()) == audit.macs:
        yield "The two totals agree."


def _of(counts: Mapping[str, int], kind: str) -> dict[str, int]:
    """The operators of a kind that count something."""
    return {name: macs for name, macs in counts.items() if macs and _kind(name) == kind}


def _kind(operator: str) -> str:
    return next((kind for kind, names in KINDS.items() if operator in names), "other")


def _calls(counts: Mapping[str, int]) -> str:
    return _and(f"{name} ({often:,} call{'s' * (often > 1)})" for name, often in counts.items())


def _and(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
