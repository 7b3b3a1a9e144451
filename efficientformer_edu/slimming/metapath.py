"""One MetaPath of the supernet: its candidates, their importance α, and the mixture that it computes.

Paper: section 4.2, Eq. 7 and step 1 of the slimming,

    X_{i+1} = Σₙ e^{(αⁿ + εⁿ)/τ} / Σₙ e^{(αⁿ + εⁿ)/τ} · MPⁿ(X_i),

with ε ~ U(0, 1) and a temperature τ. The paper calls this Gumbel softmax, whose noise is −log(−log u) instead: only
with that noise is the largest α + ε that of candidate n with probability softmax(α)ₙ. Both are here. The authors never
released this part of their code.
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
    """ε as the paper writes it, between 0 and 1."""
    return torch.rand_like(like)


def gumbel(like: Tensor) -> Tensor:
    """ε of the Gumbel softmax, −log(−log u): mean 0.58, deviation 1.28, without bounds."""
    return -torch.empty_like(like).exponential_().log()  # −log u is distributed exponentially


NOISES: Mapping[Noise, Callable[[Tensor], Tensor]] = {"uniform": uniform, "gumbel": gumbel}


def mixture(alpha: Float[Tensor, " n"], noise: Float[Tensor, " n"] | float, tau: float) -> Float[Tensor, " n"]:
    """The weights of the candidates, which sum to 1. With τ → 0 the largest α + ε gets all.

    Raises:
        ValueError: for a temperature that is not above 0.
    """
    if tau <= 0:
        raise ValueError(f"tau={tau} is not possible; wanted: a temperature above 0")
    return ((alpha + noise) / tau).softmax(0)


class MetaPath(nn.Module):
    """MB4D, MB3D and the identity side by side, as Eq. 7 allows them in its stage. Maps come and go.

    An MB3D takes the tokens of the map and its result is laid out as a map again: the same numbers in another order, so
    that candidates can be added. Whether tokens come before or behind is nothing to the sum; a network that is taken
    out of the supernet has its MB3D at the end (`Subnet`).

    Args:
        config: of the supernet.
        stage: 0, 1, 2 or 3; it gives candidates and width.
        drop_path: stochastic depth of the blocks.

    Attributes:
        candidates: their names.
        choice: the candidate that runs alone; None for the mixture of all.
        tau: temperature of the mixture.
        noise: which ε there is in training; in evaluation there is none.
    """

    def __init__(self, config: EfficientFormerConfig, stage: int, drop_path: float) -> None:
        super().__init__()
        self.candidates = CANDIDATES[stage]
        self.blocks = nn.ModuleDict({"MB4D": MB4D(config, stage, drop_path)})
        if "MB3D" in self.candidates:
            self.blocks["MB3D"] = MB3D(config, stage, drop_path)
        # AdamW moves each number by about the learning rate, whatever its gradient. α has to cross the noise, whose
        # size is 1, in some hundred steps; so it is stored in larger units.
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
        """What one candidate makes of the map."""
        if name == "I":
            return x
        if name == "MB4D":
            return self.blocks["MB4D"](x)
        grid = (x.shape[2], x.shape[3])
        tokens = self.blocks["MB3D"](x.permute(0, 2, 3, 1).flatten(1, 2), grid)  # (B, N, C)
        return tokens.transpose(1, 2).unflatten(2, grid)  # (B, C, h, w)

    def extra_repr(self) -> str:
        return f"{self.choice or ', '.join(self.candidates)}, tau={self.tau:g}, {self.noise} noise"
