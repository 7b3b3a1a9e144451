"""Width reduction: remove 16 channels from one stage and keep the weights of the remaining ones.

Paper: section 4.2, step 3. It does not say which channels to keep. Here the most important ones are kept, measured by
the norm of the weights that produce them.

A stage's channels pass through all its blocks, so the same channels are kept in the entire stage: in the layers that
produce them and in those that consume them, up to the next embedding or the heads. When the width C shrinks, so do the
4C hidden channels of each MLP of the stage, and the C₁/2 channels inside the stem; these are selected independently.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor

from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.slimming.subnet import Subnet
from efficientformer_edu.slimming.supernet import Supernet

WRITERS = ("downsample.conv.weight", "fc2.weight", "proj.weight")  # the layers that produce the channels of a stage


@torch.no_grad()
def narrowed(supernet: Supernet, stage: int) -> Supernet:
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
        raise ValueError(f"stage {stage + 1} has {config.embed_dims[stage]} channels; wanted: more than {STEP}")
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


def brought_to(supernet: Supernet, subnet: Subnet) -> Supernet:
    """A copy of the supernet reduced to a subnet, which inherits its weights.

    Raises:
        ValueError: if the subnet is wider, or has other MetaPaths.
    """
    after = copy.deepcopy(supernet)
    for stage, (current, target) in enumerate(zip(supernet.config.embed_dims, subnet.embed_dims, strict=True)):
        for _ in range(target, current, STEP):
            after = narrowed(after, stage)
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
