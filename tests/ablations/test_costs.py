"""The cost of a change: counts against arithmetic by hand, and every form computes the same function."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

import pytest
import torch
from ablation_runs import TINY
from torch import nn

from efficientformer_edu.ablations.costs import EAGER, FOLDED, Costs, folds, load_costs, measure_costs
from efficientformer_edu.ablations.variants import VARIANTS, get_variants
from efficientformer_edu.latency import Conditions, Measurement, Timing, save
from efficientformer_edu.model.folding import folded_maps

SIZE = 64


@pytest.fixture(scope="module")
def costs() -> Costs:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a busy machine, and wide intervals
        return measure_costs(VARIANTS, TINY, SIZE, rounds=1)


def test_parameters_and_macs_against_arithmetic(costs: Costs) -> None:
    """TINY at 64 pixels: feature maps of 16×16, then 8×8 positions; widths 8, 16, 16, 16."""
    params, macs = costs.params, costs.macs
    stem = 9 * 1 * 4 + 4 + 2 * 4 + 9 * 4 * 8 + 8 + 2 * 8
    patches = 16 * 1 * 8 + 8 + 2 * 8
    assert params["base"] - params["patches"] == stem - patches
    assert macs["base"] - macs["patches"] == 32 * 32 * 9 * 4 + 16 * 16 * 9 * 4 * 8 - 16 * 16 * 16 * 8
    mixers = [(8, 256), (16, 64), (16, 64), (16, 64)]  # width and positions of the four MB4D
    assert params["depthwise"] - params["base"] == sum(width * (9 + 1 + 2) for width, _ in mixers)
    assert macs["depthwise"] - macs["base"] == sum(9 * width * positions for width, positions in mixers)
    assert params["no-mixer"] == params["base"] and macs["no-mixer"] == macs["base"]
    assert params["base"] - params["no-bias"] == 2 * 16
    norms = 4 + 8 + 16 + sum(5 * width for width, _ in mixers)
    assert params["base"] - params["no-norm"] == 2 * norms
    scales = 2 * (8 + 16 + 16 + 2 * 16)
    assert params["base"] - params["no-scale"] == scales
    for name in ("relu", "hard-swish", "scale-1", "soft", "hard", "longer", "group-norm", "layer-norm"):
        assert (params[name], macs[name]) == (params["base"], macs["base"])
    assert macs["mb3d-none"] < macs["base"] == macs["mb3d-half"] < macs["mb3d-all"] < macs["late-attention"]


def test_every_network_is_timed_and_foldable_networks_twice(costs: Costs) -> None:
    for name in VARIANTS:
        same = name in ("soft", "hard", "longer")  # as the base
        for form, timed in ((EAGER, not same), (FOLDED, not same and name not in ("group-norm", "layer-norm"))):
            assert (costs.milliseconds(name, form) is not None) == (costs.ratio(name, form) is not None) == timed
    conditions = costs.measurement.conditions
    assert (conditions.batch, conditions.resolution, conditions.threads) == (1, (SIZE, SIZE), 1)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_folded_form_is_the_same_function(name: str) -> None:
    """With weights that make every module count: trained norms, layer scales near 1, a bias table that is not 0."""
    variant = VARIANTS[name]
    network = variant.network(TINY.replace(**variant.fields(TINY))).eval()
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, generator=generator)
            module.running_var = 0.5 + torch.rand(module.num_features, generator=generator)
    for key, parameter in network.named_parameters():
        if key.endswith(("gamma", "attention_biases")):
            nn.init.normal_(parameter, 1.0, 0.3, generator=generator)
    images = torch.randn(2, 1, SIZE, SIZE, generator=generator)
    if name in ("group-norm", "layer-norm"):
        assert not folds(network)
        return
    folded = folded_maps(network, SIZE)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert torch.allclose(folded(images), network(images), atol=1e-5)


def costs_of(**seconds: tuple[float, ...]) -> Costs:
    timings = tuple(Timing(name.replace("_", " "), samples) for name, samples in seconds.items())
    return Costs(Measurement(Conditions(), timings), {}, {})


def test_ratios_are_paired_by_round() -> None:
    """The machine alternates between two speeds, and in every round the variant takes 2 % less than the base."""
    speeds = (1.0, 1.0, 1.0, 1.0, 1.2, 1.2, 1.2)
    base = tuple(0.04 * speed for speed in speeds)
    variant = tuple(0.98 * seconds for seconds in base)
    costs = costs_of(base_folded=base, shuffled_folded=variant[::-1], relu_folded=variant)
    ratio = costs.ratio("relu", FOLDED)
    assert ratio is not None and ratio[:3] == pytest.approx((0.98, 0.98, 0.98))
    assert ratio.verdict(1, higher_is_better=False) == "better"
    other = costs.ratio("shuffled", FOLDED)  # the same samples in other rounds: too noisy for a verdict
    assert other is not None and other.verdict(1, higher_is_better=False) == "inconclusive"
    assert costs.milliseconds("relu", FOLDED) == costs.milliseconds("shuffled", FOLDED)
    assert costs.ratio("relu", EAGER) is None and costs.milliseconds("relu", EAGER) is None


@pytest.mark.parametrize("rounds", [1, 4])
def test_fewer_than_five_rounds_give_no_verdict(rounds: int) -> None:
    costs = costs_of(base_eager=(0.04,) * rounds, relu_eager=(0.02,) * rounds)
    ratio = costs.ratio("relu", EAGER)
    assert ratio is not None and ratio.verdict(1, higher_is_better=False) == "too few"
    assert "too few" in str(costs.milliseconds("relu", EAGER))


def test_at_least_thirty_rounds_are_timed_by_default() -> None:
    assert inspect.signature(measure_costs).parameters["rounds"].default >= 30


def test_a_file_and_back(costs: Costs, tmp_path: Path) -> None:
    costs.save(tmp_path / "costs.json")
    loaded = load_costs(tmp_path / "costs.json")
    assert (loaded.params, loaded.macs) == (costs.params, costs.macs)
    assert loaded.milliseconds("relu", EAGER) == pytest.approx(costs.milliseconds("relu", EAGER), abs=1e-5)
    assert loaded.ratio("relu", EAGER) == pytest.approx(costs.ratio("relu", EAGER), abs=1e-3)
    save({"other": Measurement(Conditions(), (Timing("a", (1.0,)),))}, tmp_path / "other.json")
    with pytest.raises(ValueError, match="other.json"):
        load_costs(tmp_path / "other.json")
    assert set(get_variants()) == set(loaded.params)
