"""The supernet: its structure, and that an extracted network is the selected subnet."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from slimming_runs import SIZE, TINY, pictures, subnets, supernet

from efficientformer_edu import EfficientFormer, count, fold
from efficientformer_edu.slimming.subnet import UNIT, Candidate, Subnet
from efficientformer_edu.slimming.supernet import Supernet, taken_out

pytestmark = pytest.mark.slow

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
    network = taken_out(SUPERNET)
    assert SUPERNET.subnet == subnet
    assert network.config == subnet.config(TINY)
    assert torch.equal(logits(network), logits(SUPERNET))
    assert sum(tensor.numel() for tensor in network.parameters()) == count(network.config, SIZE).params
    network.load_state_dict(EfficientFormer(network.config).state_dict())  # the names of any such network


def test_it_has_the_mode_of_the_supernet() -> None:
    parent = supernet()
    parent.choose(SOME)
    assert not taken_out(parent).training
    network = taken_out(parent.train())
    assert all(module.training for module in network.modules())


def test_it_can_be_folded() -> None:
    SUPERNET.choose(SOME)
    network = taken_out(SUPERNET)
    folded = fold(network, SIZE)
    assert torch.allclose(logits(folded), logits(network), rtol=1e-5, atol=1e-5)


def test_it_has_weights_of_its_own() -> None:
    parent = supernet()
    parent.choose(SOME)
    network, before = taken_out(parent), logits(parent)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(logits(parent), before)
    again = taken_out(parent)
    with torch.no_grad():
        for parameter in parent.parameters():
            parameter.zero_()
    assert torch.equal(logits(again), before)


def test_both_heads_are_taken_along() -> None:
    network = supernet(TINY.replace(distillation=True))
    network.choose(SOME)
    actual, expected = taken_out(network).forward_heads(IMAGES), network.forward_heads(IMAGES)
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
    with pytest.raises(ValueError, match="an MB4D stands behind an MB3D.* tokens stay tokens to the end"):
        _ = network.subnet
    with pytest.raises(ValueError, match="tokens stay tokens"):
        taken_out(network)


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
    for query in (lambda: network.subnet, lambda: taken_out(network)):
        with pytest.raises(ValueError, match="nothing has been chosen yet"):
            query()
    network.choose(SOME)
    network.paths(2)[1].choice = None
    with pytest.raises(ValueError, match="nothing has been chosen yet"):
        taken_out(network)


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
