"""The counters themselves, run on real networks: their rules explain every operation."""

from __future__ import annotations

import copy
import sys
from importlib.metadata import version

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SMALL, configs, resolutions

from efficientformer_edu.audit import COUNTERS, count, explain
from efficientformer_edu.audit.counters import RUNNERS, build, run
from efficientformer_edu.config import EfficientFormerConfig, Resolution

MODELS = [
    (SMALL, 64),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in [("l1", 224), ("l3", 224), ("l7", 224), ("l1", (256, 200))]
    ),
]


def assert_explained(counter: str, model: str | EfficientFormerConfig, resolution: Resolution, form: str) -> None:
    printed = run(counter, *build(count(model, resolution, form)))
    assert explain(counter, model, resolution, form).remainder(printed.macs) == 0, (counter, form)
    if printed.params is not None:
        assert explain(counter, model, resolution, form, "params").remainder(printed.params) == 0, (counter, form)


@pytest.mark.parametrize("form", ["trained", "folded"])
@pytest.mark.parametrize(("model", "resolution"), MODELS)
@pytest.mark.parametrize("counter", RUNNERS)
def test_the_rules_explain_what_is_printed(
    counter: str, model: str | EfficientFormerConfig, resolution: Resolution, form: str
) -> None:
    assert_explained(counter, model, resolution, form)


@pytest.mark.slow
@settings(max_examples=80)
@given(config=configs(), resolution=resolutions, form=st.sampled_from(["trained", "folded"]))
def test_any_configuration(config: EfficientFormerConfig, resolution: tuple[int, int], form: str) -> None:
    for counter in RUNNERS:
        assert_explained(counter, config, resolution, form)


def test_the_rules_are_of_the_versions_that_are_installed() -> None:
    for tool in ("fvcore", "torchinfo", "ptflops", "thop"):
        stated = COUNTERS[tool].tool.split()[1].rstrip(",")
        assert version(tool).startswith(stated), tool


def test_runnable_counters_match_the_rules() -> None:
    assert {name for name, rule in COUNTERS.items() if rule.runs} == set(RUNNERS)


@pytest.mark.parametrize("counter", RUNNERS)
def test_the_network_stays_as_it_was(counter: str) -> None:
    network, images = build(count(SMALL, 64))
    network.train()
    before = copy.deepcopy(network.state_dict())
    attributes = {name: set(vars(part)) for name, part in network.named_modules()}
    run(counter, network, images)
    assert network.training
    assert {name: set(vars(part)) for name, part in network.named_modules()} == attributes
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_counter_that_is_only_derived() -> None:
    with pytest.raises(ValueError, match="toolbox is derived from its code, not run; counters that run: fvcore, "):
        run("toolbox", *build(count(SMALL, 64)))


def test_an_unknown_counter() -> None:
    with pytest.raises(ValueError, match="Unknown counter 'ptflop'.*'ptflops'"):
        run("ptflop", *build(count(SMALL, 64)))


def test_a_missing_tool_error_has_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "thop", None)
    with pytest.raises(ImportError, match="thop is missing: pip install"):
        run("thop", *build(count(SMALL, 64)))
