"""One MetaPath of the supernet: its candidates, their importance α, and the mixture that it computes.

Paper: section 4.2, Eq. 7 and step 1 of the slimming,

    X_{i+1} = Σₙ e^{(αⁿ + εⁿ)/τ} / Σₙ e^{(αⁿ + εⁿ)/τ} · MPⁿ(X_i),

with ε ~ U(0, 1) and a temperature τ. The paper calls this Gumbel softmax, whose noise is −log(−log u) instead: only
with that noise does candidate n have the largest α + ε with probability softmax(α)ₙ. Both are implemented here. The
authors never released this part of their code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model.blocks import MB3D, MB4D
from efficientformer_edu.slimming.subnet import CANDIDATES, Candidate

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
