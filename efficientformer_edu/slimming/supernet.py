"""The supernet: the network of Fig. 3 with MetaPaths instead of blocks, from which smaller networks are extracted.

Paper: section 4.2, steps 1 and 3, and Eq. 7. It does not say which channels a width reduction keeps. Here the most
important ones are kept, measured by the norm of the weights that produce them.

A stage's channels pass through all its blocks, so the same channels are kept in the entire stage: in the layers that
produce them and in those that consume them, up to the next embedding or the heads. When the width C shrinks, so do the
4C hidden channels of each MLP of the stage, and the C₁/2 channels inside the stem; these are selected independently.

A MetaPath computes a mixture of its candidates with importance α,

    X_{i+1} = Σₙ e^{(αⁿ + εⁿ)/τ} / Σₙ e^{(αⁿ + εⁿ)/τ} · MPⁿ(X_i),

with ε ~ U(0, 1) and a temperature τ. The paper calls this Gumbel softmax, whose noise is −log(−log u) instead: only
with that noise does candidate n have the largest α + ε with probability softmax(α)ₙ. Both are implemented here. The
authors never released this part of their code.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model import EfficientFormer, Embedding
from efficientformer_edu.model.blocks import MB3D, MB4D
from efficientformer_edu.slimming.subnet import CANDIDATES, Candidate, Noise, Subnet, importance

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
        raise ValueError(f"tau={tau} is not possible; allowed: a temperature above 0")
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


class SuperStage(nn.Module):
    """An embedding, then MetaPaths. Input and output are feature maps. Arguments as for `model.backbone.Stage`."""

    def __init__(self, config: EfficientFormerConfig, stage: int) -> None:
        super().__init__()
        first, dims = sum(config.depths[:stage]), config.embed_dims
        self.downsample = Embedding(dims[stage - 1], dims[stage]) if config.downsamples[stage] else nn.Identity()
        rates = config.drop_path_rates[first : first + config.depths[stage]]
        self.paths = nn.ModuleList(MetaPath(config, stage, rate) for rate in rates)

    def forward(self, x: Float[Tensor, "B in_dim H W"]) -> Float[Tensor, "B C h w"]:
        x = self.downsample(x)
        for path in self.paths:
            x = path(x)
        return x


class Supernet(EfficientFormer):
    """EfficientFormer with a MetaPath for every block.

    Args:
        config: the depths are numbers of MetaPaths; `num_vit` is ignored.
        noise: ε of the mixtures, "uniform" as in the paper, or "gumbel".

    Raises:
        ValueError: if the configuration does not downsample before the last three stages, or the noise is unknown.
    """

    def __init__(self, config: EfficientFormerConfig, noise: Noise = "uniform") -> None:
        if config.downsamples != (False, True, True, True):
            raise ValueError(f"downsamples={config.downsamples} is not possible; a width needs an embedding before it")
        if noise not in ("uniform", "gumbel"):
            raise ValueError(f"noise={noise!r} is not possible; allowed: 'uniform', 'gumbel'")
        super().__init__(config.replace(num_vit=0))
        self.stages = nn.ModuleList(SuperStage(config, stage) for stage in range(4))
        for path in self.all_paths():
            path.noise = noise

    def paths(self, stage: int) -> list[MetaPath]:
        """The MetaPaths of stage 0, 1, 2 or 3."""
        return list(self.stages[stage].get_submodule("paths").children())  # type: ignore[arg-type]

    def all_paths(self) -> Iterator[MetaPath]:
        """The MetaPaths from the first to the last."""
        for stage in range(4):
            yield from self.paths(stage)

    def set_temperature(self, tau: float) -> None:
        """Set the temperature of all mixtures."""
        for path in self.all_paths():
            path.tau = tau

    def mixtures(self) -> list[list[dict[Candidate, float]]]:
        """For each stage and MetaPath the weights e^α / Σ e^α of its candidates, without noise and at τ = 1."""
        return [
            [
                dict(zip(path.candidates, mixture(path.alpha.detach(), 0.0, 1.0).tolist(), strict=True))
                for path in self.paths(stage)
            ]
            for stage in range(4)
        ]

    def importances(self) -> tuple[tuple[float, ...], ...]:
        """Importance of each stage's MetaPaths."""
        return tuple(tuple(importance(list(weights.values())) for weights in stage) for stage in self.mixtures())

    def choose(self, subnet: Subnet) -> None:
        """Select one candidate for each MetaPath. Raises ValueError if the subnet belongs to another supernet."""
        if subnet.embed_dims != self.config.embed_dims or tuple(map(len, subnet.choices)) != self.config.depths:
            raise ValueError(
                f"{subnet} does not belong to a supernet of {self.config.embed_dims}, {self.config.depths}"
            )
        for stage, kinds in enumerate(subnet.choices):
            for path, name in zip(self.paths(stage), kinds, strict=True):
                path.choice = name

    @property
    def subnet(self) -> Subnet:
        """The selected subnet. Raises ValueError before `choose` was called."""
        choices = [tuple(path.choice for path in self.paths(stage)) for stage in range(4)]
        if any(name is None for kinds in choices for name in kinds):
            raise ValueError("no candidates are selected; call choose(Subnet.largest(config)) first")
        return Subnet(self.config.embed_dims, tuple(choices))  # type: ignore[arg-type]


@torch.no_grad()
def extract_subnet(supernet: Supernet) -> EfficientFormer:
    """The selected network as an ordinary EfficientFormer with a copy of the weights, in the same mode.

    Raises:
        ValueError: if nothing has been selected.
    """
    subnet = supernet.subnet
    network = EfficientFormer(subnet.config(supernet.config))
    for name in ("stem", "norm", "head", "head_dist"):
        setattr(network, name, copy.deepcopy(getattr(supernet, name)))
    for stage in range(4):
        target, source = network.stages[stage], supernet.stages[stage]
        target.downsample = copy.deepcopy(source.downsample)
        paths = [(path.choice, path) for path in supernet.paths(stage)]
        for kind, name in (("MB4D", "mb4d"), ("MB3D", "mb3d")):
            blocks = [copy.deepcopy(path.blocks[kind]) for choice, path in paths if choice == kind]
            setattr(target, name, nn.ModuleList(blocks))
    return network.train(supernet.training)


WRITERS = ("downsample.conv.weight", "fc2.weight", "proj.weight")  # the layers that produce the channels of a stage


@torch.no_grad()
def prune_width(supernet: Supernet, stage: int) -> Supernet:
    """A copy of the supernet with 16 channels fewer in one stage and the weights of the remaining channels.

    Choices, temperature, noise and training mode are kept.

    Args:
        supernet: the supernet; it is not changed.
        stage: 0, 1, 2 or 3.

    Raises:
        ValueError: if the stage has no more than 16 channels.
    """
    config = supernet.config
    if config.embed_dims[stage] <= STEP:
        raise ValueError(f"stage {stage + 1} has {config.embed_dims[stage]} channels; more than {STEP} are required")
    dims = tuple(width - STEP * (j == stage) for j, width in enumerate(config.embed_dims))
    before, kept = supernet.state_dict(), _Kept(supernet, stage)
    with torch.random.fork_rng():  # the initial weights are overwritten, and the caller's random state must not change
        after = Supernet(config.replace(embed_dims=dims))
    state = {}
    for name, value in after.state_dict().items():
        old = before[name]
        for axis, (size, left) in enumerate(zip(old.shape, value.shape, strict=True)):
            if size != left:
                old = old.index_select(axis, kept(name, size, left))
        state[name] = old.clone()
    after.load_state_dict(state)
    for path, same in zip(after.all_paths(), supernet.all_paths(), strict=True):
        path.choice, path.tau, path.noise = same.choice, same.tau, same.noise
    return after.train(supernet.training)


def prune_to(supernet: Supernet, subnet: Subnet) -> Supernet:
    """A copy of the supernet reduced to a subnet, which inherits its weights.

    Raises:
        ValueError: if the subnet is wider, or has other MetaPaths.
    """
    after = copy.deepcopy(supernet)
    for stage, (current, target) in enumerate(zip(supernet.config.embed_dims, subnet.embed_dims, strict=True)):
        for _ in range(target, current, STEP):
            after = prune_width(after, stage)
    after.choose(subnet)
    return after


class _Kept:
    """Indices of the channels to keep, for each group of channels."""

    def __init__(self, supernet: Supernet, stage: int) -> None:
        self.state, self.stage, self.config = supernet.state_dict(), stage, supernet.config

    def __call__(self, name: str, size: int, left: int) -> Int[Tensor, " left"]:
        """Indices of the `left` most important channels, ascending, on an axis of length `size` of a parameter."""
        if size == self.config.embed_dims[self.stage]:
            scores = self._channels()
        elif name.startswith("stem."):
            scores = _products(self.state["stem.conv1.weight"], self.state["stem.conv2.weight"])
        else:
            mlp = name[: name.index("mlp.")] + "mlp."
            scores = _products(self.state[mlp + "fc1.weight"], self.state[mlp + "fc2.weight"])
        return scores.topk(left).indices.sort().values

    def _channels(self) -> Float[Tensor, " C"]:
        """Importance of each channel: norm of the weights that produce it over the layer's mean, summed over layers."""
        prefix = f"stages.{self.stage}."
        names = [name for name in self.state if name.startswith(prefix) and name.endswith(WRITERS)]
        if self.stage == 0:
            names.append("stem.conv2.weight")
        sizes = [self.state[name].flatten(1).norm(dim=1) for name in names]  # (C,) each
        return torch.stack([size / size.mean().clamp_min(1e-12) for size in sizes]).sum(0)


def _products(before: Tensor, after: Tensor) -> Float[Tensor, " hidden"]:
    """Importance of each hidden channel: norm of its incoming weights times norm of its outgoing weights."""
    return before.flatten(1).norm(dim=1) * after.transpose(0, 1).flatten(1).norm(dim=1)
