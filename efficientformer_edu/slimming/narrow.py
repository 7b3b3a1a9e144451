"""Width reduction: 16 channels less in one stage, and the weights of those that stay.

Paper: section 4.2, step 3. It does not say which channels stay. Here they are the most important ones, by the size of
the weights that write them.

A stage's channels run through all its blocks, so one choice holds for the stage: for the layers that write the channels
and for those that read them, up to the next embedding or the heads. With the width C shrink the 4C hidden channels of
each of its MLPs, and the C₁/2 within the stem; each of these makes a choice of its own.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor

from efficientformer_edu.audit.growth import STEP
from efficientformer_edu.slimming.subnet import Subnet
from efficientformer_edu.slimming.supernet import Supernet

WRITERS = ("downsample.conv.weight", "fc2.weight", "proj.weight")  # what adds to the channels of a stage


@torch.no_grad()
def narrowed(supernet: Supernet, stage: int) -> Supernet:
    """The supernet with 16 channels less in a stage: another module, with copies of the weights that stay.

    Choices, temperature, noise and mode are those that it has.

    Args:
        supernet: is left as it is.
        stage: 0, 1, 2 or 3.

    Raises:
        ValueError: if the stage has no more than 16 channels.
    """
    config = supernet.config
    if config.embed_dims[stage] <= STEP:
        raise ValueError(f"stage {stage + 1} has {config.embed_dims[stage]} channels; wanted: more than {STEP}")
    dims = tuple(width - STEP * (j == stage) for j, width in enumerate(config.embed_dims))
    before, kept = supernet.state_dict(), _Kept(supernet, stage)
    with torch.random.fork_rng():  # the weights that it starts with are of no use, and the caller's dice not ours
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
    """A copy of the supernet that is a subnet, with the weights that it inherits.

    Raises:
        ValueError: if the subnet is wider, or has other MetaPaths.
    """
    after = copy.deepcopy(supernet)
    for stage, (has, wanted) in enumerate(zip(supernet.config.embed_dims, subnet.embed_dims, strict=True)):
        for _ in range(wanted, has, STEP):
            after = narrowed(after, stage)
    after.choose(subnet)
    return after


class _Kept:
    """Which channels stay, for each group of them."""

    def __init__(self, supernet: Supernet, stage: int) -> None:
        self.state, self.stage, self.config = supernet.state_dict(), stage, supernet.config

    def __call__(self, name: str, size: int, left: int) -> Int[Tensor, " left"]:
        """For an axis of `size` of the parameter of this name: its `left` most important places, in their order."""
        if size == self.config.embed_dims[self.stage]:
            scores = self._channels()
        elif name.startswith("stem."):
            scores = _products(self.state["stem.conv1.weight"], self.state["stem.conv2.weight"])
        else:
            mlp = name[: name.index("mlp.")] + "mlp."
            scores = _products(self.state[mlp + "fc1.weight"], self.state[mlp + "fc2.weight"])
        return scores.topk(left).indices.sort().values

    def _channels(self) -> Float[Tensor, " C"]:
        """Of each channel of the stage: the sizes of the weights that write it, each layer's over the layer's mean."""
        prefix = f"stages.{self.stage}."
        names = [name for name in self.state if name.startswith(prefix) and name.endswith(WRITERS)]
        if self.stage == 0:
            names.append("stem.conv2.weight")
        sizes = [self.state[name].flatten(1).norm(dim=1) for name in names]  # (C,) each
        return torch.stack([size / size.mean().clamp_min(1e-12) for size in sizes]).sum(0)


def _products(before: Tensor, behind: Tensor) -> Float[Tensor, " hidden"]:
    """Of each hidden channel: the size of the weights that write it times that of the weights that read it."""
    return before.flatten(1).norm(dim=1) * behind.transpose(0, 1).flatten(1).norm(dim=1)
