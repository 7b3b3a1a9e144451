"""Width pruning: which channels are removed, which weights remain, and what is not changed."""

from __future__ import annotations

import pytest
import torch
from slimming_runs import TINY, pictures, supernet
from torch import nn

from efficientformer_edu.slimming.subnet import Subnet
from efficientformer_edu.slimming.supernet import Supernet, brought_to, narrowed

MAPS = Subnet(TINY.embed_dims, (("MB4D",), ("MB4D", "MB4D"), ("MB4D", "MB4D"), ("MB4D", "MB4D")))
GONE = torch.arange(1, 32, 2)  # every second of 32 channels
LEFT = torch.arange(0, 32, 2)


def writers(network: Supernet, stage: int) -> list[nn.Module]:
    """The layers whose outputs are the channels of a stage."""
    layers = [path.blocks["MB4D"].mlp.fc2 for path in network.paths(stage)]
    if stage > 1:
        layers += [path.blocks["MB3D"].mlp.fc2 for path in network.paths(stage)]
        layers += [path.blocks["MB3D"].token_mixer.proj for path in network.paths(stage)]
    return [*layers, network.stem.conv2 if stage == 0 else network.stages[stage].downsample.conv]


def mlps(network: Supernet, stage: int) -> list[nn.Module]:
    return [block.mlp for path in network.paths(stage) for block in path.blocks.values()]


@torch.no_grad()
def silence(network: Supernet, stage: int, channels: torch.Tensor) -> None:
    """Set everything that writes these channels of a stage to 0, from the embedding to the end of the stage."""
    for layer in writers(network, stage):
        layer.weight[channels] = 0
        layer.bias[channels] = 0
    norms = [path.blocks["MB4D"].mlp.norm2 for path in network.paths(stage)]
    norms.append(network.stem.norm2 if stage == 0 else network.stages[stage].downsample.norm)
    for norm in norms:
        norm.running_mean[channels] = 0
        norm.bias[channels] = 0


@torch.no_grad()
def deafen(network: Supernet, stage: int, hidden: torch.Tensor) -> None:
    """Set the weights that read these hidden channels of a stage's MLPs to 0."""
    for mlp in mlps(network, stage):
        mlp.fc2.weight[:, hidden] = 0


HIDDEN = torch.arange(3, 128, 2)[:48]
HIDDEN_GONE = torch.cat([HIDDEN, torch.arange(0, 32, 2)])  # 64 of 128


def planted(stage: int) -> Supernet:
    """A supernet in which 16 channels of a stage, and the corresponding hidden channels, are useless."""
    network = supernet()
    silence(network, stage, GONE)
    deafen(network, stage, HIDDEN_GONE)
    if stage == 0:
        with torch.no_grad():
            network.stem.conv2.weight[:, ::2] = 0  # 8 of the 16 channels within the stem
    network.choose(MAPS)
    return network


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_useless_channels_go_and_nothing_changes(stage: int) -> None:
    """Maps only: the LayerNorm of an MB3D takes its mean over the useless channels as well."""
    network = planted(stage)
    smaller, images = narrowed(network, stage), pictures().double()
    dims = tuple(width - 16 * (j == stage) for j, width in enumerate(TINY.embed_dims))
    assert smaller.config == TINY.replace(embed_dims=dims)
    with torch.no_grad():
        expected, actual = network.double()(images), smaller.double()(images)
    assert expected.abs().max() > 1e-3
    assert torch.allclose(actual, expected, rtol=1e-9, atol=1e-11)


def test_useful_channels_do_not_go_unnoticed() -> None:
    network, images = supernet(), pictures()
    network.choose(MAPS)
    with torch.no_grad():
        assert not torch.allclose(narrowed(network, 2)(images), network(images), rtol=1e-2)


def slices(name: str, stage: int, config: object = TINY) -> dict[int, str]:
    """Which axes of a parameter run over the stage's channels, its MLPs' hidden channels or those within the stem.

    From the network's plan, not from sizes: several stages are equally wide.
    """
    own, following = f"stages.{stage}.", f"stages.{stage + 1}.downsample.conv.weight"
    if name.endswith(("alpha_in_units", "num_batches_tracked", "attention_biases")):
        return {}
    if name == following or (stage == 3 and name in ("head.weight", "head_dist.weight")):
        return {1: "C"}
    if stage == 3 and name.startswith("norm."):
        return {0: "C"}
    if stage == 0 and name.startswith("stem."):
        inner = {0: "stem"} if ("conv1" in name or "norm1" in name) else {0: "C"}
        return {0: "C", 1: "stem"} if name == "stem.conv2.weight" else inner
    if not name.startswith(own):
        return {}
    if name.endswith("qkv.weight"):
        return {1: "C"}
    if name.endswith("qkv.bias"):
        return {}
    if name.endswith("mlp.fc1.weight"):
        return {0: "hidden", 1: "C"}
    if name.endswith("mlp.fc2.weight"):
        return {0: "C", 1: "hidden"}
    if name.endswith("mlp.fc1.bias") or "mlp.norm1." in name:
        return {0: "hidden"}
    return {0: "C"}


def largest(scores: torch.Tensor, count: int) -> list[int]:
    return sorted(sorted(range(len(scores)), key=lambda index: -float(scores[index]))[:count])


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_what_stays_are_the_most_important_channels_of_every_parameter(stage: int) -> None:
    """The selection in every group follows from the rule: what writes a channel, or writes and reads it."""
    network = supernet()
    width = TINY.embed_dims[stage]
    scores = torch.zeros(width)
    for layer in writers(network, stage):
        norms = torch.tensor([float(row.square().sum().sqrt()) for row in layer.weight.detach()])
        scores += norms / norms.mean()
    kept = {"C": largest(scores, width - 16)}
    inside = network.stem.conv1.weight.square().sum((1, 2, 3)) * network.stem.conv2.weight.square().sum((0, 2, 3))
    kept["stem"] = largest(inside.detach(), (width - 16) // 2)
    state, after = network.state_dict(), narrowed(network, stage).state_dict()
    assert list(state) == list(after)
    touched = set()
    for name, value in after.items():
        expected = state[name]
        for axis, group in slices(name, stage).items():
            if group == "hidden":
                mlp = name[: name.index("mlp.") + 4]
                fc1, fc2 = state[f"{mlp}fc1.weight"].flatten(1), state[f"{mlp}fc2.weight"].flatten(1)
                indices = largest(fc1.square().sum(1) * fc2.square().sum(0), 4 * (width - 16))
            else:
                indices = kept[group]
            expected = expected.index_select(axis, torch.tensor(indices))
            touched.add(name)
        assert torch.equal(value, expected), name
    assert len(touched) >= 20


def test_every_layer_has_the_same_weight_regardless_of_its_scale() -> None:
    """The embedding's weights ×1000 do not outweigh the blocks: 16 channels that only they write are removed."""
    network = supernet()
    with torch.no_grad():
        network.stages[1].downsample.conv.weight.copy_(1000 * torch.ones(32, 32, 3, 3))
        for layer in writers(network, 1)[:-1]:
            layer.weight[LEFT] = 1.0
            layer.weight[GONE] = 0.5
    kept = narrowed(network, 1).paths(1)[0].blocks["MB4D"].mlp.fc2.weight
    assert (kept == 1.0).all()


def test_choices_temperature_noise_and_mode_stay() -> None:
    network = Supernet(TINY, noise="gumbel")
    network.set_temperature(0.3)
    network.choose(MAPS)
    network.paths(3)[1].choice = None
    for training in (True, False):
        smaller = narrowed(network.train(training), 3)
        assert all(module.training is training for module in smaller.modules())
        assert [path.choice for path in smaller.all_paths()] == ["MB4D"] * 6 + [None]
        assert {(path.tau, path.noise) for path in smaller.all_paths()} == {(0.3, "gumbel")}


@pytest.mark.parametrize("stage", [0, 3])
def test_the_supernet_and_the_global_random_state_do_not_change(stage: int) -> None:
    network = supernet()
    before, dice = {name: value.clone() for name, value in network.state_dict().items()}, torch.get_rng_state()
    smaller = narrowed(network, stage)
    assert torch.equal(torch.get_rng_state(), dice)
    with torch.no_grad():
        for value in (*smaller.parameters(), *smaller.buffers()):
            value.zero_()
    assert network.config == TINY
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_importances_do_not_change() -> None:
    network = supernet()
    with torch.no_grad():
        for path in network.all_paths():
            path.alpha_in_units.normal_(std=0.05)
    assert narrowed(network, 2).importances() == network.importances()


def test_the_last_16_channels_stay() -> None:
    network = supernet(TINY.replace(embed_dims=(32, 16, 32, 32)))
    with pytest.raises(ValueError, match="stage 2 has 16 channels; wanted: more than 16"):
        narrowed(network, 1)


def test_a_stage_is_narrowed_step_by_step() -> None:
    """48 to 32 to 16 channels; the modules after it get maps of the new width."""
    network = narrowed(narrowed(supernet(), 3), 3)
    assert network.config.embed_dims == (32, 32, 32, 16)
    assert network.features(pictures())[-1].shape == (2, 16, 2, 2)
    with torch.no_grad():
        assert network(pictures()).isfinite().all()


def test_a_supernet_is_brought_to_any_subnet_of_its_own() -> None:
    network, target = supernet(), Subnet((16, 32, 16, 16), MAPS.choices)
    narrow = brought_to(network, target)
    assert narrow.subnet == target and network.config == TINY and network.paths(0)[0].choice is None
    by_hand = narrowed(narrowed(narrowed(narrowed(network, 0), 2), 3), 3).state_dict()
    assert all(torch.equal(value, by_hand[name]) for name, value in narrow.state_dict().items())
    with pytest.raises(ValueError, match="does not belong to a supernet"):
        brought_to(network, Subnet((48, 32, 32, 48), MAPS.choices))
