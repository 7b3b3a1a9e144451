"""The search space: what stands at each MetaPath of the supernet, and how wide each stage is.

Paper: section 4.2, Eq. 7, and step 3 of the slimming in Algorithm 1. Eq. 7 lets a MetaPath of the first two stages be
MB4D or the identity I, and one of the last two MB4D, MB3D or I. Early stages have no MB3D: attention is quadratic in
the tokens, of which there are many, and what is seen there is local.

A network keeps one dimension: maps first, and from the first MB3D on tokens to the end. So where there is a choice, no
MB4D follows an MB3D; not in the next stage either, although its embedding takes a map.

Standard library only: a search can be replayed without torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.config import EfficientFormerConfig

Candidate = Literal["MB4D", "MB3D", "I"]
Kind = Literal["depth", "MB3D", "width"]

EARLY: tuple[Candidate, ...] = ("MB4D", "I")
LATE: tuple[Candidate, ...] = ("MB4D", "MB3D", "I")
CANDIDATES = (EARLY, EARLY, LATE, LATE)
"""Eq. 7: what a MetaPath of each stage can be."""


@dataclass(frozen=True)
class Action:
    """One step of the slimming.

    Attributes:
        kind: "depth" puts I at a MetaPath, "MB3D" turns an MB3D into an MB4D, "width" takes 16 channels off a stage.
        stage: 0, 1, 2 or 3.
        block: which MetaPath of the stage; None for a width, which is the whole stage's.
    """

    kind: Kind
    stage: int
    block: int | None = None

    def __str__(self) -> str:
        if self.kind == "width":
            return f"{STEP} channels off stage {self.stage + 1}"
        change = "I for" if self.kind == "depth" else "MB4D for MB3D at"
        return f"{change} MetaPath {(self.block or 0) + 1} of stage {self.stage + 1}"


@dataclass(frozen=True)
class Subnet:
    """A choice for every MetaPath, and the widths.

    Attributes:
        embed_dims: channels of each stage, multiples of 16.
        choices: for each stage what stands at its MetaPaths, from the first to the last.

    Raises:
        ValueError: for a choice that Eq. 7 does not allow, a stage without a block, an MB4D behind an MB3D, or a width
            that is no multiple of 16.
    """

    embed_dims: tuple[int, ...]
    choices: tuple[tuple[Candidate, ...], ...]

    def __post_init__(self) -> None:
        for stage, (allowed, chosen) in enumerate(zip(CANDIDATES, self.choices, strict=True), start=1):
            if wrong := set(chosen) - set(allowed):
                raise ValueError(f"stage {stage} has {', '.join(wrong)}; Eq. 7 allows {', '.join(allowed)}")
            if not set(chosen) - {"I"}:
                raise ValueError(f"stage {stage} has no block left; wanted: at least one")
        blocks = [kind for chosen in self.choices for kind in chosen if kind != "I"]
        if "MB3D" in blocks and "MB4D" in blocks[blocks.index("MB3D") :]:
            raise ValueError(f"an MB4D stands behind an MB3D: {', '.join(blocks)}; tokens stay tokens to the end")
        if any(width < STEP or width % STEP for width in self.embed_dims):
            raise ValueError(f"embed_dims={self.embed_dims} is not in the search space; wanted: multiples of {STEP}")

    @classmethod
    def largest(cls, supernet: EfficientFormerConfig) -> Subnet:
        """Where the slimming starts: every MetaPath is a block, in the last two stages an MB3D."""
        kinds: tuple[Candidate, ...] = ("MB4D", "MB4D", "MB3D", "MB3D")
        return cls(
            supernet.embed_dims, tuple((kind,) * depth for kind, depth in zip(kinds, supernet.depths, strict=True))
        )

    def config(self, supernet: EfficientFormerConfig) -> EfficientFormerConfig:
        """The network that is left: an ordinary configuration, its other fields those of the supernet."""
        depths = tuple(len(chosen) - chosen.count("I") for chosen in self.choices)
        vits = tuple(chosen.count("MB3D") for chosen in self.choices)
        num_vit = vits if any(vits[:3]) else vits[3]
        return supernet.replace(embed_dims=self.embed_dims, depths=depths, num_vit=num_vit)

    def after(self, action: Action) -> Subnet:
        """The subnet after one step. Raises ValueError if the step is not possible here."""
        if action.kind == "width":
            dims = tuple(width - STEP * (stage == action.stage) for stage, width in enumerate(self.embed_dims))
            return replace(self, embed_dims=dims)
        assert action.block is not None
        chosen = list(self.choices[action.stage])
        before = chosen[action.block]
        if before == "I" or (action.kind == "MB3D" and before != "MB3D"):
            raise ValueError(f"{action}: {before} stands there")
        chosen[action.block] = "I" if action.kind == "depth" else "MB4D"
        choices = [tuple(chosen) if stage == action.stage else old for stage, old in enumerate(self.choices)]
        return replace(self, choices=tuple(choices))


def importance(weights: Sequence[float]) -> float:
    """How much a MetaPath is worth: what its blocks weigh over what I weighs, α⁴ᴰ/αᴵ or (α³ᴰ + α⁴ᴰ)/αᴵ.

    Args:
        weights: of the candidates in the mixture, without noise, that of I last.

    The paper writes α. In its own mixture α stands in an exponent, where a number that is added to all of them changes
    nothing; a quotient of them would change, and could be negative. So these are the mixture's weights, e^α.
    """
    *blocks, identity = weights
    return sum(blocks) / identity


def actions(subnet: Subnet, importances: Sequence[Sequence[float]], narrowest: Sequence[int]) -> tuple[Action, ...]:
    """The steps that are possible, at most one of each kind, as the paper chooses them.

    Depth reduction takes the least important MetaPath that is not its stage's last block. MB3D reduction takes the
    first MB3D. Width reduction takes the least important stage that can lose 16 channels; a stage is worth the sum of
    its MetaPaths that are left.

    Args:
        subnet: where the slimming is.
        importances: of each stage's MetaPaths.
        narrowest: fewest channels of each stage.
    """
    left = [[i for i, kind in enumerate(chosen) if kind != "I"] for chosen in subnet.choices]
    found = []
    if removable := [(importances[j][i], j, i) for j in range(4) for i in left[j] if len(left[j]) > 1]:
        found.append(Action("depth", *min(removable)[1:]))
    if mb3d := [(j, i) for j in range(4) for i in left[j] if subnet.choices[j][i] == "MB3D"]:
        found.append(Action("MB3D", *mb3d[0]))
    wide = [j for j in range(4) if subnet.embed_dims[j] - STEP >= max(narrowest[j], STEP)]
    if wide:
        found.append(Action("width", min(wide, key=lambda j: sum(importances[j][i] for i in left[j]))))
    return tuple(found)
