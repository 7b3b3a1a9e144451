"""The search space: the choice at each MetaPath of the supernet and the width of each stage.

Paper: section 4.2, Eq. 7, and step 3 of the slimming in Algorithm 1. Eq. 7 lets a MetaPath of the first two stages be
MB4D or the identity I, and one of the last two MB4D, MB3D or I. Early stages have no MB3D: attention is quadratic in
the number of tokens, which is large there, and early features are local.

A network is dimension-consistent: feature maps first, then tokens from the first MB3D to the end. So no MB4D may follow
an MB3D, not even in the next stage, although its embedding takes a feature map.

Standard library only: a search can be replayed without torch.

One MetaPath of the supernet: its candidates, their importance α, and the mixture that it computes.

Paper: section 4.2, Eq. 7 and step 1 of the slimming,

    X_{i+1} = Σₙ e^{(αⁿ + εⁿ)/τ} / Σₙ e^{(αⁿ + εⁿ)/τ} · MPⁿ(X_i),

with ε ~ U(0, 1) and a temperature τ. The paper calls this Gumbel softmax, whose noise is −log(−log u) instead: only
with that noise does candidate n have the largest α + ε with probability softmax(α)ₙ. Both are implemented here. The
authors never released this part of their code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model.blocks import MB3D, MB4D

Candidate = Literal["MB4D", "MB3D", "I"]
Kind = Literal["depth", "MB3D", "width"]

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
            if wrong := set(kinds) - set(allowed):
                raise ValueError(f"stage {stage} has {', '.join(wrong)}; Eq. 7 allows {', '.join(allowed)}")
            if not set(kinds) - {"I"}:
                raise ValueError(f"stage {stage} has no block left; wanted: at least one")
        blocks = [kind for kinds in self.choices for kind in kinds if kind != "I"]
        if "MB3D" in blocks and "MB4D" in blocks[blocks.index("MB3D") :]:
            raise ValueError(f"an MB4D stands behind an MB3D: {', '.join(blocks)}; tokens stay tokens to the end")
        if any(width < STEP or width % STEP for width in self.embed_dims):
            raise ValueError(f"embed_dims={self.embed_dims} is not in the search space; wanted: multiples of {STEP}")

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
            raise ValueError(f"{action}: {before} stands there")
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


Noise = Literal["uniform", "gumbel"]
UNIT = 30.0


def uniform(like: Tensor) -> Tensor:
    """ε as in the paper, uniform between 0 and 1."""
    return torch.rand_like(like)


def gumbel(like: Tensor) -> Tensor:
    """ε of the Gumbel softmax, −log(−log u): mean 0.58, standard deviation 1.28, unbounded."""
    return -torch.empty_like(like).exponential_().log()  # −log u is distributed exponentially


NOISES: Mapping[Noise, Callable[[Tensor], Tensor]] = {"uniform": uniform, "gumbel": gumbel}


def mixture(alpha: Float[Tensor, " n"], noise: Float[Tensor, " n"] | float, tau: float) -> Float[Tensor, " n"]:
    """The weights of the candidates, which sum to 1. For τ → 0 the candidate with the largest α + ε gets weight 1.

    Raises:
        ValueError: for a temperature that is not above 0.
    """
    if tau <= 0:
        raise ValueError(f"tau={tau} is not possible; wanted: a temperature above 0")
    return ((alpha + noise) / tau).softmax(0)


class MetaPath(nn.Module):
    """MB4D, MB3D and the identity in parallel, as allowed by Eq. 7 in the stage. Input and output are feature maps.

    For an MB3D the feature map is converted to tokens and its output back to a feature map, which only reorders the
    values, so that the outputs of the candidates can be added. This sum does not depend on the order of MB4D and MB3D
    blocks; a network extracted from the supernet has its MB3D blocks at the end (`Subnet`).

    Args:
        config: configuration of the supernet.
        stage: 0, 1, 2 or 3; it determines the candidates and the width.
        drop_path: stochastic depth of the blocks.

    Attributes:
        candidates: names of the candidates.
        choice: the only candidate that runs; None for the mixture of all candidates.
        tau: temperature of the mixture.
        noise: kind of ε in training; in evaluation the noise is 0.
    """

    def __init__(self, config: EfficientFormerConfig, stage: int, drop_path: float) -> None:
        super().__init__()
        self.candidates = CANDIDATES[stage]
        self.blocks = nn.ModuleDict({"MB4D": MB4D(config, stage, drop_path)})
        if "MB3D" in self.candidates:
            self.blocks["MB3D"] = MB3D(config, stage, drop_path)
        # AdamW changes each value by about the learning rate, independently of the gradient's size. α has to exceed the
        # noise, whose scale is 1, within a few hundred steps; so it is stored in larger units.
        self.alpha_in_units = nn.Parameter(torch.zeros(len(self.candidates)))
        self.choice: Candidate | None = None
        self.tau = 1.0
        self.noise: Noise = "uniform"

    @property
    def alpha(self) -> Float[Tensor, " n"]:
        """Importance of the candidates."""
        return UNIT * self.alpha_in_units

    def forward(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        if self.choice is not None:
            return self.candidate(self.choice, x)
        alpha = self.alpha
        weights = mixture(alpha, NOISES[self.noise](alpha.detach()) if self.training else 0.0, self.tau)
        outputs = [weight * self.candidate(name, x) for weight, name in zip(weights, self.candidates, strict=True)]
        return torch.stack(outputs).sum(0)  # (B, C, h, w)

    def candidate(self, name: Candidate, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Output of one candidate for a feature map."""
        if name == "I":
            return x
        if name == "MB4D":
            return self.blocks["MB4D"](x)
        grid = (x.shape[2], x.shape[3])
        tokens = self.blocks["MB3D"](x.permute(0, 2, 3, 1).flatten(1, 2), grid)  # (B, N, C)
        return tokens.transpose(1, 2).unflatten(2, grid)  # (B, C, h, w)

    def extra_repr(self) -> str:
        return f"{self.choice or ', '.join(self.candidates)}, tau={self.tau:g}, {self.noise} noise"
