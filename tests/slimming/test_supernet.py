"""The supernet: its mixtures, the networks extracted from it, and the channels that a width reduction keeps."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slimming_runs import SIZE, TINY, pictures, subnets, supernet
from torch import nn

from efficientformer_edu import EfficientFormer, count, fold
from efficientformer_edu.slimming.subnet import Candidate, Noise, Subnet
from efficientformer_edu.slimming.supernet import (
    UNIT,
    MetaPath,
    Supernet,
    extract_subnet,
    gumbel,
    mixture,
    prune_to,
    prune_width,
    uniform,
)

SUPERNET = supernet()
IMAGES = pictures()
SOME = Subnet(TINY.embed_dims, (("MB4D",), ("I", "MB4D"), ("MB4D", "MB3D"), ("I", "MB3D")))


def logits(network: torch.nn.Module, images: torch.Tensor = IMAGES) -> torch.Tensor:
    with torch.no_grad():
        return network(images)


def test_every_metapath_has_the_candidates_of_its_stage() -> None:
    early, late = ("MB4D", "I"), ("MB4D", "MB3D", "I")
    candidates = [[path.candidates for path in SUPERNET.paths(stage)] for stage in range(4)]
    assert candidates == [[early], [early] * 2, [late] * 2, [late] * 2]
    assert [path.candidates for path in SUPERNET.all_paths()] == [early] * 3 + [late] * 4


def test_stem_embeddings_and_heads_are_those_of_the_network() -> None:
    network = EfficientFormer(TINY.replace(distillation=True))
    state = Supernet(TINY.replace(distillation=True)).state_dict()
    for name, value in network.state_dict().items():
        if "mb4d" not in name and "mb3d" not in name:
            assert state[name].shape == value.shape, name


@settings(max_examples=25)
@given(subnet=subnets())
def test_the_extracted_network_is_the_selected_subnet(subnet: Subnet) -> None:
    """Bitwise, in evaluation; and nothing remains of the other candidates."""
    SUPERNET.choose(subnet)
    network = extract_subnet(SUPERNET)
    assert SUPERNET.subnet == subnet
    assert network.config == subnet.config(TINY)
    assert torch.equal(logits(network), logits(SUPERNET))
    assert sum(tensor.numel() for tensor in network.parameters()) == count(network.config, SIZE).params
    network.load_state_dict(EfficientFormer(network.config).state_dict())  # the names of any such network


def test_it_has_the_mode_of_the_supernet() -> None:
    parent = supernet()
    parent.choose(SOME)
    assert not extract_subnet(parent).training
    network = extract_subnet(parent.train())
    assert all(module.training for module in network.modules())


def test_it_can_be_folded() -> None:
    SUPERNET.choose(SOME)
    network = extract_subnet(SUPERNET)
    folded = fold(network, SIZE)
    assert torch.allclose(logits(folded), logits(network), rtol=1e-5, atol=1e-5)


def test_it_has_weights_of_its_own() -> None:
    parent = supernet()
    parent.choose(SOME)
    network, before = extract_subnet(parent), logits(parent)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(logits(parent), before)
    again = extract_subnet(parent)
    with torch.no_grad():
        for parameter in parent.parameters():
            parameter.zero_()
    assert torch.equal(logits(again), before)


def test_both_heads_are_taken_along() -> None:
    network = supernet(TINY.replace(distillation=True))
    network.choose(SOME)
    actual, expected = extract_subnet(network).forward_heads(IMAGES), network.forward_heads(IMAGES)
    assert torch.equal(actual.cls, expected.cls)
    assert actual.dist is not None and expected.dist is not None
    assert torch.equal(actual.dist, expected.dist)


@settings(max_examples=10)
@given(subnet=subnets())
def test_with_a_dominant_alpha_the_mixture_is_the_choice(subnet: Subnet) -> None:
    network = supernet()
    names = [name for stage in subnet.choices for name in stage]
    with torch.no_grad():
        for path, name in zip(network.all_paths(), names, strict=True):
            path.alpha_in_units[path.candidates.index(name)] = 1.0  # α = 30: the others have e⁻³⁰
    mixed = logits(network)
    network.choose(subnet)
    assert torch.allclose(mixed, logits(network), rtol=1e-4, atol=1e-4)


def test_a_map_can_follow_tokens_in_the_supernet_but_not_in_a_subnet() -> None:
    """The mixture reshapes tokens to a map again. A network would have to change the dimension twice."""
    network = supernet()
    maps = network.features(IMAGES)
    shapes = [(2, 32, 16, 16), (2, 32, 8, 8), (2, 32, 4, 4), (2, 48, 2, 2)]
    assert [tuple(tensor.shape) for tensor in maps] == shapes  # every mixture has MB3D, followed by MB4D
    order: tuple[Candidate, ...] = ("MB4D", "MB4D", "MB4D", "MB3D", "MB4D", "MB3D", "MB4D")
    for path, name in zip(network.all_paths(), order, strict=True):
        path.choice = name
    assert [tuple(tensor.shape) for tensor in network.features(IMAGES)] == shapes
    with pytest.raises(ValueError, match="an MB4D follows an MB3D"):
        _ = network.subnet
    with pytest.raises(ValueError, match="an MB4D follows an MB3D"):
        extract_subnet(network)


@pytest.mark.parametrize(
    "subnet",
    [
        Subnet((32, 32, 32, 32), SOME.choices),
        Subnet(SOME.embed_dims, (("MB4D", "I"), *SOME.choices[1:])),
        Subnet(SOME.embed_dims, (*SOME.choices[:3], ("MB3D",))),
    ],
    ids=["widths", "more", "fewer"],
)
def test_a_subnet_of_another_supernet_is_refused(subnet: Subnet) -> None:
    network = supernet()
    with pytest.raises(ValueError, match=r"does not belong to a supernet of \(32, 32, 32, 48\), \(1, 2, 2, 2\)"):
        network.choose(subnet)
    assert all(path.choice is None for path in network.all_paths())


def test_there_is_no_subnet_before_a_choice() -> None:
    network = supernet()
    for query in (lambda: network.subnet, lambda: extract_subnet(network)):
        with pytest.raises(ValueError, match="no candidates are selected"):
            query()
    network.choose(SOME)
    network.paths(2)[1].choice = None
    with pytest.raises(ValueError, match="no candidates are selected"):
        extract_subnet(network)


def test_weights_and_alpha_are_stored_and_loaded() -> None:
    network = supernet()
    with torch.no_grad():
        for number, path in enumerate(network.all_paths()):
            path.alpha_in_units.copy_(torch.arange(len(path.candidates)) / (30 + number))
    other = supernet(seed=5)
    assert not torch.equal(logits(other), logits(network))
    other.load_state_dict(network.state_dict())
    assert torch.equal(logits(other), logits(network))
    assert other.importances() == network.importances()


def test_the_temperature_is_that_of_all_mixtures() -> None:
    network = supernet()
    before = logits(network)
    with torch.no_grad():
        network.paths(1)[0].alpha_in_units[0] = 1 / UNIT
    network.set_temperature(0.25)
    assert {path.tau for path in network.all_paths()} == {0.25}
    assert not torch.allclose(logits(network), before)


def test_importances_are_read_at_temperature_1_and_without_noise() -> None:
    network = supernet().train()
    with torch.no_grad():
        network.paths(1)[1].alpha_in_units.copy_(torch.tensor([math.log(6), 0.0]) / UNIT)
        network.paths(3)[0].alpha_in_units.copy_(torch.tensor([math.log(2), math.log(5), math.log(3)]) / UNIT)
    network.set_temperature(0.1)
    assert network.mixtures()[3][0] == pytest.approx({"MB4D": 2 / 10, "MB3D": 5 / 10, "I": 3 / 10})
    importances = network.importances()
    assert importances == network.importances()
    expected = ((1.0,), (1.0, 6.0), (2.0, 2.0), (7 / 3, 2.0))
    assert [len(stage) for stage in importances] == [1, 2, 2, 2]
    for stage_importances, hand in zip(importances, expected, strict=True):
        assert stage_importances == pytest.approx(hand, rel=1e-5)


@pytest.mark.parametrize("noise", ["uniform", "gumbel"])
def test_every_metapath_has_the_noise_of_the_supernet(noise: str) -> None:
    assert {path.noise for path in Supernet(TINY, noise).all_paths()} == {noise}  # type: ignore[arg-type]


def test_another_noise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"noise='normal' is not possible; allowed: 'uniform', 'gumbel'"):
        Supernet(TINY, "normal")  # type: ignore[arg-type]


def test_every_width_needs_an_embedding() -> None:
    with pytest.raises(ValueError, match="a width needs an embedding before it"):
        Supernet(TINY.replace(downsamples=(False, True, True, False), embed_dims=(32, 32, 48, 48)))


def test_stochastic_depth_grows_over_the_metapaths() -> None:
    network = Supernet(TINY.replace(drop_path_rate=0.6))
    rates = [path.blocks["MB4D"].drop_path.rate for path in network.all_paths()]
    assert rates == pytest.approx([0.1 * number for number in range(7)])


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
    smaller, images = prune_width(network, stage), pictures().double()
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
        assert not torch.allclose(prune_width(network, 2)(images), network(images), rtol=1e-2)


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
    state, after = network.state_dict(), prune_width(network, stage).state_dict()
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
    kept = prune_width(network, 1).paths(1)[0].blocks["MB4D"].mlp.fc2.weight
    assert (kept == 1.0).all()


def test_choices_temperature_noise_and_mode_stay() -> None:
    network = Supernet(TINY, noise="gumbel")
    network.set_temperature(0.3)
    network.choose(MAPS)
    network.paths(3)[1].choice = None
    for training in (True, False):
        smaller = prune_width(network.train(training), 3)
        assert all(module.training is training for module in smaller.modules())
        assert [path.choice for path in smaller.all_paths()] == ["MB4D"] * 6 + [None]
        assert {(path.tau, path.noise) for path in smaller.all_paths()} == {(0.3, "gumbel")}


@pytest.mark.parametrize("stage", [0, 3])
def test_the_supernet_and_the_global_random_state_do_not_change(stage: int) -> None:
    network = supernet()
    before, dice = {name: value.clone() for name, value in network.state_dict().items()}, torch.get_rng_state()
    smaller = prune_width(network, stage)
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
    assert prune_width(network, 2).importances() == network.importances()


def test_the_last_16_channels_stay() -> None:
    network = supernet(TINY.replace(embed_dims=(32, 16, 32, 32)))
    with pytest.raises(ValueError, match="stage 2 has 16 channels"):
        prune_width(network, 1)


def test_a_stage_is_narrowed_step_by_step() -> None:
    """48 to 32 to 16 channels; the modules after it get maps of the new width."""
    network = prune_width(prune_width(supernet(), 3), 3)
    assert network.config.embed_dims == (32, 32, 32, 16)
    assert network.features(pictures())[-1].shape == (2, 16, 2, 2)
    with torch.no_grad():
        assert network(pictures()).isfinite().all()


def test_a_supernet_is_brought_to_any_subnet_of_its_own() -> None:
    network, target = supernet(), Subnet((16, 32, 16, 16), MAPS.choices)
    narrow = prune_to(network, target)
    assert narrow.subnet == target and network.config == TINY and network.paths(0)[0].choice is None
    by_hand = prune_width(prune_width(prune_width(prune_width(network, 0), 2), 3), 3).state_dict()
    assert all(torch.equal(value, by_hand[name]) for name, value in narrow.state_dict().items())
    with pytest.raises(ValueError, match="does not belong to a supernet"):
        prune_to(network, Subnet((48, 32, 32, 48), MAPS.choices))


LOG3 = math.log(3)


class Times(nn.Module):
    """Replaces a block: multiplies the map by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor, *grid: object) -> torch.Tensor:
        return self.factor * x


def path(stage: int = 0, alpha: tuple[float, ...] = (), factors: tuple[float, ...] = (3.0, 5.0)) -> MetaPath:
    """A MetaPath with scalar blocks: MB4D is 3x, MB3D 5x."""
    made = MetaPath(TINY, stage, 0.0)
    for name, factor in zip(made.blocks, factors, strict=False):
        made.blocks[name] = Times(factor)
    if alpha:
        with torch.no_grad():
            made.alpha_in_units.copy_(torch.tensor(alpha) / UNIT)
    return made


X = torch.tensor([1.0, -2.0, 0.5, 4.0]).view(1, 1, 2, 2)


@pytest.mark.parametrize(
    ("alpha", "noise", "tau", "expected"),
    [
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0, (1 / 3, 1 / 3, 1 / 3)),
        ((0.0, math.log(2), math.log(5)), (0.0, 0.0, 0.0), 1.0, (1 / 8, 2 / 8, 5 / 8)),
        ((0.0, math.log(2), math.log(5)), (0.0, 0.0, 0.0), 0.5, (1 / 30, 4 / 30, 25 / 30)),  # squares
        ((0.0, math.log(4), math.log(9)), (0.0, 0.0, 0.0), 2.0, (1 / 6, 2 / 6, 3 / 6)),  # roots
        ((0.0, 0.0), (LOG3, 0.0), 1.0, (3 / 4, 1 / 4)),
        ((LOG3, 0.0), (0.0, LOG3), 0.1, (1 / 2, 1 / 2)),
        ((math.log(2), 0.0), (0.0, math.log(4)), 0.5, (4 / 20, 16 / 20)),
    ],
)
def test_the_mixture_by_hand(
    alpha: tuple[float, ...], noise: tuple[float, ...], tau: float, expected: tuple[float, ...]
) -> None:
    assert mixture(torch.tensor(alpha), torch.tensor(noise), tau).tolist() == pytest.approx(expected, abs=1e-6)


@given(
    alpha=st.lists(st.integers(-20, 20), min_size=2, max_size=3, unique=True),
    noise=st.lists(st.floats(0, 0.4), min_size=3, max_size=3),
)
def test_with_a_small_temperature_the_largest_gets_all(alpha: list[int], noise: list[float]) -> None:
    summed = torch.tensor(alpha, dtype=torch.float64) + torch.tensor(noise[: len(alpha)], dtype=torch.float64)
    mixed = mixture(summed, 0.0, 0.01)
    assert mixed.argmax() == summed.argmax()
    assert mixed.max() > 1 - 1e-9
    assert mixed.sum() == pytest.approx(1)


@pytest.mark.parametrize("tau", [0.0, -1.0])
def test_a_temperature_is_above_0(tau: float) -> None:
    with pytest.raises(ValueError, match=r"tau="):
        mixture(torch.zeros(2), 0.0, tau)


DRAWS = 100_000


def sampled(noise: object, *alpha: float) -> torch.Tensor:
    """α + ε, sampled repeatedly."""
    torch.manual_seed(0)
    like = torch.empty(DRAWS, len(alpha), dtype=torch.float64)
    return torch.tensor(alpha, dtype=torch.float64) + noise(like)  # type: ignore[operator]


def test_the_papers_noise_lies_between_0_and_1() -> None:
    noise = sampled(uniform, 0.0)
    assert 0 <= noise.min() < 0.001 and 0.999 < noise.max() <= 1
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(noise.var()) == pytest.approx(1 / 12, rel=0.02)


def test_gumbels_noise_has_gumbels_moments() -> None:
    noise = sampled(gumbel, 0.0)
    assert float(noise.mean()) == pytest.approx(0.5772, abs=0.02)  # the Euler–Mascheroni constant
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, rel=0.02)
    below = float((noise < 1).double().mean())
    assert below == pytest.approx(math.exp(-math.exp(-1)), abs=0.005)


def frequencies(noise: object, *alpha: float) -> list[float]:
    """How often each candidate is the largest."""
    return (sampled(noise, *alpha).argmax(1).bincount(minlength=len(alpha)) / DRAWS).tolist()


@pytest.mark.parametrize("alpha", [(0.0, 1.0, 2.0), (0.0, -3.0), (0.5, 0.5, 0.0)])
def test_with_gumbels_noise_the_largest_has_the_frequency_of_the_softmax(alpha: tuple[float, ...]) -> None:
    powers = [math.exp(value) for value in alpha]
    expected = [power / sum(powers) for power in powers]
    assert frequencies(gumbel, *alpha) == pytest.approx(expected, abs=0.006)


def test_with_uniform_noise_it_does_not() -> None:
    """For two α that differ by d the smaller wins if u₁ − u₂ > d: the area (1 − d)²/2 of the unit square."""
    for d in (0.0, 0.3, 0.5, 0.9):
        assert frequencies(uniform, 0.0, d)[0] == pytest.approx((1 - d) ** 2 / 2, abs=0.006)
    assert frequencies(uniform, 0.0, 1.01)[0] == 0
    assert frequencies(gumbel, 0.0, 1.01)[0] == pytest.approx(1 / (1 + math.exp(1.01)), abs=0.006)


def test_alpha_is_stored_in_units() -> None:
    made = path(alpha=(UNIT, -15.0))
    assert made.alpha.tolist() == pytest.approx([30.0, -15.0])
    assert made.alpha_in_units.tolist() == pytest.approx([1.0, -0.5])


@pytest.mark.parametrize(
    ("stage", "alpha", "tau", "factor"),
    [
        (0, (LOG3, 0.0), 1.0, 3 / 4 * 3 + 1 / 4),
        (1, (LOG3, 0.0), 0.5, 9 / 10 * 3 + 1 / 10),
        (2, (math.log(2), math.log(5), 0.0), 1.0, 2 / 8 * 3 + 5 / 8 * 5 + 1 / 8),
        (3, (0.0, 0.0, 0.0), 0.1, (3 + 5 + 1) / 3),
    ],
)
def test_a_metapath_weighs_its_candidates(stage: int, alpha: tuple[float, ...], tau: float, factor: float) -> None:
    """In evaluation, without noise: blocks of 3x and 5x next to x."""
    made = path(stage, alpha).eval()
    made.tau = tau
    assert torch.allclose(made(X), factor * X, rtol=1e-5)


@pytest.mark.parametrize("name", ["uniform", "gumbel"])
def test_in_training_it_has_the_configured_noise(name: Noise) -> None:
    made = path(alpha=(0.4, 0.0)).train()
    made.noise, made.tau = name, 0.7
    torch.manual_seed(3)
    epsilon = {"uniform": uniform, "gumbel": gumbel}[name](torch.empty(2)).tolist()
    powers = [math.exp((value + noise) / 0.7) for value, noise in zip((0.4, 0.0), epsilon, strict=True)]
    torch.manual_seed(3)
    assert torch.allclose(made(X), (3 * powers[0] + powers[1]) / sum(powers) * X, rtol=1e-5)


def test_every_call_in_training_samples_new_noise_and_evaluation_samples_none() -> None:
    made = path(2).train()
    assert not torch.equal(made(X), made(X))
    made.eval()
    before = torch.get_rng_state()
    assert torch.equal(made(X), made(X))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_choice_runs_alone_and_without_noise() -> None:
    made = path(2, alpha=(0.0, 9.0, 0.0)).train()
    for name, factor in (("MB4D", 3), ("MB3D", 5), ("I", 1)):
        made.choice = name  # type: ignore[assignment]
        assert torch.equal(made(X), factor * X)


@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_the_gradient_of_alpha_by_hand(tau: float) -> None:
    """y = w·3x + (1 − w)·x has dy/dα = w(1 − w)(3x − x)/τ, and with respect to the stored value UNIT times that."""
    made = path(alpha=(0.3, 0.0)).eval()
    made.tau = tau
    made(X).sum().backward()
    weight = 1 / (1 + math.exp(-0.3 / tau))
    slope = weight * (1 - weight) * 2 * float(X.sum()) / tau
    assert made.alpha_in_units.grad is not None
    assert made.alpha_in_units.grad.tolist() == pytest.approx([UNIT * slope, -UNIT * slope], rel=1e-4)


@pytest.mark.parametrize("noise", ["uniform", "gumbel"])
def test_gradients_reach_the_alpha_of_every_metapath(noise: Noise) -> None:
    network = supernet().train()
    for metapath in network.all_paths():
        metapath.noise = noise
    network(pictures(4)).square().sum().backward()
    for metapath in network.all_paths():
        grad = metapath.alpha_in_units.grad
        assert grad is not None and grad.abs().min() > 0
        assert abs(float(grad.sum())) < 1e-3 * float(grad.norm())  # adding a constant to all changes nothing


def test_no_gradient_reaches_unselected_blocks() -> None:
    made = MetaPath(TINY, 2, 0.0).train()
    made.choice = "MB3D"
    made(torch.randn(2, 32, 4, 4)).sum().backward()
    assert made.alpha_in_units.grad is None
    assert all(parameter.grad is None for parameter in made.blocks["MB4D"].parameters())
    assert all(parameter.grad is not None for parameter in made.blocks["MB3D"].parameters())


def test_i_is_the_map_itself() -> None:
    assert path().candidate("I", X) is X


def test_mb3d_on_a_map_is_mb3d_on_its_tokens() -> None:
    """Token y·w + x is the pixel (y, x), row by row, on a grid that is not square."""
    block_path = supernet().paths(2)[0]
    x = torch.randn(2, 32, 3, 5, generator=torch.Generator().manual_seed(0))
    tokens = torch.stack([x[:, :, y, at] for y in range(3) for at in range(5)], dim=1)  # (B, 15, C)
    with torch.no_grad():
        expected, actual = block_path.blocks["MB3D"](tokens, (3, 5)), block_path.candidate("MB3D", x)
    assert actual.shape == x.shape
    for y in range(3):
        for at in range(5):
            assert torch.equal(actual[:, :, y, at], expected[:, y * 5 + at])


def test_it_says_what_it_is() -> None:
    made = MetaPath(TINY, 2, 0.0)
    assert made.extra_repr() == "MB4D, MB3D, I, tau=1, uniform noise"
    made.choice, made.tau, made.noise = "MB3D", 0.25, "gumbel"
    assert made.extra_repr() == "MB3D, tau=0.25, gumbel noise"
    assert MetaPath(TINY, 1, 0.0).candidates == ("MB4D", "I")
