"""Architectures, differences, equations and the recipe against closed forms and the package's own presets."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import pytest

from efficientformer_edu import paper
from efficientformer_edu.config import PRESETS
from efficientformer_edu.paper import Architecture, Reported, Statement

ARCHITECTURES = {architecture.preset: architecture for architecture in paper.architectures()}
DIFFERENCES = {difference.number: difference for difference in paper.differences()}


@dataclass
class Parameters:
    """Parameters of a network by hand: convolutions and linears with bias, and what toolbox.py skips."""

    weights: int = 0
    norms: int = 0
    scales: int = 0
    offsets: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.norms + self.scales + self.offsets


def parameters(network: Architecture) -> Parameters:
    half, first, last = network.widths[0] // 2, network.widths[0], network.widths[-1]
    stem = Parameters(weights=27 * half + half + 9 * half * first + first, norms=2 * half + 2 * first)
    for before, after in zip(network.widths, network.widths[1:], strict=False):
        stem.weights += 9 * before * after + after
        stem.norms += 2 * after
    for stage, (width, depth) in enumerate(zip(network.widths, network.depths, strict=True)):
        attentive = network.mb3d if stage == 3 else 0
        stem.weights += depth * (2 * 4 * width * width + 4 * width + width)
        stem.scales += depth * 2 * width
        stem.norms += (depth - attentive) * (2 * 4 * width + 2 * width)
        stem.weights += attentive * (width * 1536 + 1536 + 1024 * width + width + 2 * 2 * width)  # LayerNorm is counted
        stem.offsets += attentive * 8 * 49
    stem.weights += 2 * last + 2 * (1000 * last + 1000)
    return stem


def as_printed(network: Architecture) -> Architecture:
    assert network.printed is not None
    depths = list(network.depths)
    depths[network.printed.stage - 1] = network.printed.mb4d + network.printed.mb3d
    mb3d = network.printed.mb3d if network.printed.stage == 4 else network.mb3d
    return replace(network, depths=tuple(depths), mb3d=mb3d)


def text(side: Statement | None) -> str:
    assert side is not None
    return side.text


@pytest.mark.parametrize("preset", PRESETS)
def test_released_networks_are_the_presets(preset: str) -> None:
    config, released = PRESETS[preset], ARCHITECTURES[preset]
    assert (released.widths, released.depths) == (config.embed_dims, config.depths)
    assert config.vits == (0, 0, 0, released.mb3d)


@pytest.mark.parametrize(("preset", "total"), [("l1", 12_289_928), ("l3", 31_406_000), ("l7", 82_229_328)])
def test_table_1_counts_parameters_as_toolbox_does(preset: str, total: int) -> None:
    """Norms, scales and offsets are skipped, and a convolution's bias counts its inputs: last width - 3 in all."""
    counts = parameters(ARCHITECTURES[preset])
    assert counts.total == total
    counted = counts.weights - (ARCHITECTURES[preset].widths[-1] - 3)
    assert round(counted / 1e6, 1) == paper.table1()[preset, "params"].value
    assert f"{total / 1e6:.2f}" in text(DIFFERENCES[7].code)
    assert str(paper.table1()[preset, "params"].value) in text(DIFFERENCES[7].paper)


@pytest.mark.parametrize(("number", "preset"), [(5, "l3"), (6, "l7")])
def test_table_6_as_printed_cannot_be_right(number: int, preset: str) -> None:
    network = ARCHITECTURES[preset]
    assert network.printed is not None
    claimed = network.printed.params.value
    assert round(parameters(as_printed(network)).total / 1e6, 1) == claimed
    assert f"{claimed} M" in text(DIFFERENCES[number].consequence)
    assert f"{paper.table1()[preset, 'params'].value} M" in text(DIFFERENCES[number].consequence)
    assert f"stage {network.printed.stage} of {preset.upper()}" == DIFFERENCES[number].topic


def test_l1_is_printed_as_released() -> None:
    assert ARCHITECTURES["l1"].printed is None


def test_shared_settings_are_those_of_the_presets() -> None:
    shared = {
        setting.name: setting.code.value
        for setting in paper.settings("architecture")
        if isinstance(setting.code, Reported)
    }
    for config in PRESETS.values():
        assert shared["pooling window"] == config.pool_size
        assert shared["MLP expansion"] == config.mlp_ratio
        assert shared["attention heads"] == config.num_heads
        assert shared["key dimension"] == config.key_dim
        assert shared["value dimension"] == config.value_dim


def test_nine_differences() -> None:
    assert list(DIFFERENCES) == list(range(1, 10))
    scales = [f"{1 / math.sqrt(width):.3f}" for width in (ARCHITECTURES["l1"].widths[-1], 32)]
    assert all(scale in text(DIFFERENCES[2].consequence) for scale in scales)
    top1 = paper.table1()["l1", "top1"]
    assert f"{top1.value} % after 300 epochs, {top1.also[0].value} % after 1000" == text(DIFFERENCES[8].paper)
    assert DIFFERENCES[9].paper is None


def test_equations_are_complete() -> None:
    numbers = [equation.number for equation in paper.equations() if equation.number is not None]
    assert numbers == [4, 5, 6, 7]
    for equation in paper.equations():
        assert equation.latex.count("{") == equation.latex.count("}")
        assert equation.latex.count(r"\left") == equation.latex.count(r"\right")
        assert re.findall(r"\\begin\{(\w+)\}", equation.latex) == re.findall(r"\\end\{(\w+)\}", equation.latex)
        assert "$" not in equation.latex
    assert paper.equation("MHSA").number == 6


def test_observations_compare_models_of_table_1() -> None:
    known = {row.name for row in paper.table1().rows} | {"EfficientFormer"}
    assert [observation.number for observation in paper.observations()] == [1, 2, 3, 4]
    for observation in paper.observations():
        assert set(observation.compared) <= known
        assert observation.share is None or observation.share.low < observation.share.high
    assert set(paper.figure2().models) <= known


def test_algorithm_1_has_three_steps_and_three_actions() -> None:
    assert [step.number for step in paper.algorithm1()] == [1, 2, 3]
    assert [action.number for action in paper.slimming_actions()] == [1, 2, 3]


def test_the_run_follows_the_rule_of_the_text() -> None:
    recipe = {setting.name: setting for setting in paper.settings("recipe")}
    rate, batch = recipe["learning rate"], recipe["batch"].run
    assert isinstance(rate.paper, Statement)
    assert isinstance(rate.run, Reported)
    assert isinstance(batch, Reported)
    assert rate.paper.text == "1e-3 × batch / 1024"
    assert rate.run.value == pytest.approx(1e-3 * batch.value / 1024)
    assert batch.value == 128 * 24


@pytest.mark.parametrize("topic", ["recipe", "table1", "table2", "architecture"])
def test_a_setting_has_at_least_a_paper_or_a_code_value(topic: str) -> None:
    assert all(setting.paper or setting.code or setting.run for setting in paper.settings(topic))
