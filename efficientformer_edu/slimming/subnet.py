"""The search space: the choice at each MetaPath of the supernet and the width of each stage.

Paper: section 4.2, Eq. 7, and step 3 of the slimming in Algorithm 1. Eq. 7 lets a MetaPath of the first two stages be
MB4D or the identity I, and one of the last two MB4D, MB3D or I. Early stages have no MB3D: attention is quadratic in
the number of tokens, which is large there, and early features are local.

A network is dimension-consistent: feature maps first, then tokens from the first MB3D to the end. So no MB4D may follow
an MB3D, not even in the next stage, although its embedding takes a feature map.

No torch is needed: a search can be replayed without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.config import EfficientFormerConfig

Candidate = Literal["MB4D", "MB3D", "I"]
Kind = Literal["depth", "MB3D", "width"]
Noise = Literal["uniform", "gumbel"]

EARLY: tuple[Candidate, ...] = ("MB4D", "I")
LATE: tuple[Candidate, ...] = ("MB4D", "MB3D", "I")
CANDIDATES = (EARLY, EARLY, LATE, LATE)
"""Eq. 7: candidates of a MetaPath in each stage."""


@dataclass(frozen=True)
class Action:
    """One step of the slimming.

    Attributes:
        kind: "depth" replaces a MetaPath by I, "MB3D" an MB3D by an MB4D, "width" removes 16 channels of a stage.
        stage: 0, 1, 2 or 3.
        block: index of the MetaPath in the stage; None for a width, which applies to the entire stage.
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
        choices: for each stage, the candidates at its MetaPaths from the first to the last.

    Raises:
        ValueError: for a choice that Eq. 7 does not allow, a stage without a block, an MB4D after an MB3D, or a width
            that is not a multiple of 16.
    """

    embed_dims: tuple[int, ...]
    choices: tuple[tuple[Candidate, ...], ...]

    def __post_init__(self) -> None:
        for stage, (allowed, kinds) in enumerate(zip(CANDIDATES, self.choices, strict=True), start=1):
            if invalid := set(kinds) - set(allowed):
                raise ValueError(f"stage {stage} has {', '.join(invalid)}; Eq. 7 allows {', '.join(allowed)}")
            if not set(kinds) - {"I"}:
                raise ValueError(f"stage {stage} has no block left; at least one is required")
        blocks = [kind for kinds in self.choices for kind in kinds if kind != "I"]
        if "MB3D" in blocks and "MB4D" in blocks[blocks.index("MB3D") :]:
            raise ValueError(f"an MB4D follows an MB3D, after which all blocks are MB3D: {', '.join(blocks)}")
        if any(width < STEP or width % STEP for width in self.embed_dims):
            raise ValueError(f"embed_dims={self.embed_dims} is not in the search space; allowed: multiples of {STEP}")

    @classmethod
    def largest(cls, supernet: EfficientFormerConfig) -> Subnet:
        """The start of the slimming: every MetaPath is a block, in the last two stages an MB3D."""
        kinds: tuple[Candidate, ...] = ("MB4D", "MB4D", "MB3D", "MB3D")
        return cls(
            supernet.embed_dims, tuple((kind,) * depth for kind, depth in zip(kinds, supernet.depths, strict=True))
        )

    def config(self, supernet: EfficientFormerConfig) -> EfficientFormerConfig:
        """The configuration of this subnet; all other fields are those of the supernet."""
        depths = tuple(len(kinds) - kinds.count("I") for kinds in self.choices)
        vits = tuple(kinds.count("MB3D") for kinds in self.choices)
        num_vit = vits if any(vits[:3]) else vits[3]
        return supernet.replace(embed_dims=self.embed_dims, depths=depths, num_vit=num_vit)

    def after(self, action: Action) -> Subnet:
        """The subnet after one step. Raises ValueError if the step is not possible here."""
        if action.kind == "width":
            dims = tuple(width - STEP * (stage == action.stage) for stage, width in enumerate(self.embed_dims))
            return replace(self, embed_dims=dims)
        assert action.block is not None
        kinds = list(self.choices[action.stage])
        before = kinds[action.block]
        if before == "I" or (action.kind == "MB3D" and before != "MB3D"):
            raise ValueError(f"{action} is not possible: the MetaPath is {before}")
        kinds[action.block] = "I" if action.kind == "depth" else "MB4D"
        choices = [tuple(kinds) if stage == action.stage else old for stage, old in enumerate(self.choices)]
        return replace(self, choices=tuple(choices))


def importance(weights: Sequence[float]) -> float:
    """Importance of a MetaPath: the weight of its blocks over the weight of I, α⁴ᴰ/αᴵ or (α³ᴰ + α⁴ᴰ)/αᴵ.

    Args:
        weights: weights of the candidates in the mixture, without noise; the weight of I is last.

    The paper writes α. In its own mixture α is an exponent, so adding a constant to all of them has no effect on the
    mixture. A ratio of α would change, and could be negative. So the ratio is taken of the mixture's weights, e^α.
    """
    *blocks, identity = weights
    return sum(blocks) / identity


def actions(subnet: Subnet, importances: Sequence[Sequence[float]], narrowest: Sequence[int]) -> tuple[Action, ...]:
    """The possible steps, at most one of each kind, selected as in the paper.

    Depth reduction takes the least important MetaPath that is not its stage's last block. MB3D reduction takes the
    first MB3D. Width reduction takes the least important stage that can lose 16 channels; the importance of a
    stage is the sum over its remaining MetaPaths.

    Args:
        subnet: the current subnet.
        importances: importance of each stage's MetaPaths.
        narrowest: fewest channels of each stage.
    """
    blocks = [[i for i, kind in enumerate(kinds) if kind != "I"] for kinds in subnet.choices]
    result = []
    if removable := [(importances[j][i], j, i) for j in range(4) for i in blocks[j] if len(blocks[j]) > 1]:
        result.append(Action("depth", *min(removable)[1:]))
    if mb3d := [(j, i) for j in range(4) for i in blocks[j] if subnet.choices[j][i] == "MB3D"]:
        result.append(Action("MB3D", *mb3d[0]))
    wide = [j for j in range(4) if subnet.embed_dims[j] - STEP >= max(narrowest[j], STEP)]
    if wide:
        result.append(Action("width", min(wide, key=lambda j: sum(importances[j][i] for i in blocks[j]))))
    return tuple(result)
