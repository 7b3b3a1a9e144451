"""The claim of the title and the steps of folding, for known times and networks. Nothing is timed here."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from strategies import SMALL
from torch import nn

from efficientformer_edu.latency import Conditions, Measurement, Timing, load, save
from efficientformer_edu.latency.speed import BASELINE, L1, folding_steps, largest_ratio, title_claims
from efficientformer_edu.model import EfficientFormer, LayerScale, fold
from efficientformer_edu.paper import table1

PAIR = "l1", "timm:mobilenetv2_140"


def record(**seconds: float) -> Measurement:
    """Subjects "network engine" from keywords like `l1_eager`, five rounds each, with slowly increasing times."""
    named = {"l1": PAIR[0], "baseline": PAIR[1], "other": "timm:resnet50"}
    timings = []
    for key, value in seconds.items():
        network, engine = key.split("_", 1)
        rounds = tuple(value * (1 + 0.01 * index) for index in range(5))
        timings.append(Timing(f"{named[network]} {engine}", rounds))
    return Measurement(Conditions(), tuple(timings))


def test_the_bound_is_the_largest_ratio_that_table_1_can_mean() -> None:
    l1, baseline = (Fraction(table1()[name, "npu"].printed) for name in (L1, BASELINE))
    assert largest_ratio() == pytest.approx(float((l1 + Fraction(1, 20)) / (baseline - Fraction(1, 20))))
    assert largest_ratio() == pytest.approx(1.65 / 1.55)


def test_a_claim_per_record_and_engine_that_ran_both() -> None:
    records = {
        "one thread": record(l1_eager=2.0, baseline_eager=1.0, l1_folded=1.0, baseline_folded=1.0),
        "two threads": record(l1_eager=1.5, baseline_eager=1.0, l1_openvino=1.0, other_openvino=1.0),
    }
    claims = title_claims(records)
    assert [claim.text for claim in claims] == ["eager, one thread", "folded, one thread", "eager, two threads"]
    assert [claim.ratio[:3] for claim in claims] == [
        pytest.approx((ratio,) * 3) for ratio in (2.0, 1.0, 1.5)
    ]  # all rounds drift together, so the ratios do not change
    assert {(claim.side, claim.bound) for claim in claims} == {("below", largest_ratio())}
    assert [claim.verdict for claim in claims] == ["contradicted", "supported", "contradicted"]


def test_another_pair_by_its_names() -> None:
    (claim,) = title_claims({"here": record(l1_eager=1.0, other_eager=4.0)}, baseline="timm:resnet50")
    assert claim.ratio.value == pytest.approx(0.25)


def test_without_an_engine_that_ran_both_there_is_nothing_to_claim() -> None:
    with pytest.raises(ValueError, match=r"no engine ran both l1 and timm:mobilenetv2_140 in here$"):
        title_claims({"here": record(l1_eager=1.0, baseline_folded=1.0)})
    with pytest.raises(ValueError, match="in no record$"):
        title_claims({})


def test_the_part_of_a_single_engine() -> None:
    full = record(l1_eager=1.0, baseline_eager=2.0, l1_openvino=3.0)
    assert full.engines == ("eager", "openvino")
    part = full.in_engine("eager")
    assert [timing.name for timing in part.timings] == list(PAIR)
    assert [timing.seconds for timing in part.timings] == [timing.seconds for timing in full.timings[:2]]
    assert part.conditions is full.conditions
    with pytest.raises(ValueError, match="'folded'.*eager, openvino"):
        full.in_engine("folded")


def test_an_engine_is_not_mistaken_for_another_with_the_same_suffix() -> None:
    full = record(**{"l1_openvino-folded": 1.0, "l1_folded": 2.0})
    assert full.engines == ("openvino-folded", "folded")
    (timing,) = full.in_engine("folded").timings
    assert (timing.name, timing.seconds[0]) == ("l1", 2.0)


def test_claims_survive_the_file(tmp_path: Path) -> None:
    before = {"bench": record(l1_eager=2.0, baseline_eager=1.0)}
    save(before, tmp_path / "speed.json")
    assert title_claims(load(tmp_path / "speed.json")) == title_claims(before)


def random_model() -> EfficientFormer:
    """A small network in double precision in which no norm and no layer scale is trivial."""
    model = EfficientFormer(SMALL.replace(drop_path_rate=0.5, proj_drop_rate=0.5)).double()
    generator = torch.Generator().manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5, generator=generator)
    return model


def count(model: nn.Module, *kinds: type[nn.Module]) -> int:
    return sum(isinstance(module, kinds) for module in model.modules())


@torch.no_grad()
def test_every_step_of_folding_keeps_the_logits() -> None:
    model, images = random_model(), torch.randn(2, 3, 64, 96, dtype=torch.float64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    steps = folding_steps(model, (64, 96))
    expected = model.eval()(images)
    for network in steps.values():
        torch.testing.assert_close(network(images), expected, rtol=1e-9, atol=1e-9)
        assert not network.training
    first, *_, last = steps.values()
    assert torch.equal(first(images), expected)
    torch.testing.assert_close(last(images), fold(model, (64, 96))(images), rtol=1e-12, atol=1e-12)
    after = model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(value, after[name]) for name, value in before.items())
    assert len({id(parameter) for network in steps.values() for parameter in network.parameters()}) == sum(
        len(list(network.parameters())) for network in steps.values()
    )  # no weights are shared


def test_every_step_does_what_it_says_and_no_more() -> None:
    trained, norms, scales, attention, heads, last = folding_steps(random_model(), 64).values()
    assert count(trained, nn.BatchNorm2d) > 0 and count(norms, nn.BatchNorm2d) == 0
    assert count(norms, LayerScale) == count(trained, LayerScale)
    on_maps = sum(SMALL.depths) - sum(SMALL.vits)
    assert count(scales, LayerScale) == on_maps  # γ₁ of each MB4D
    assert scales.input_size is None and attention.input_size == (64, 64)
    assert attention.head_dist is not None and heads.head_dist is None
    assert count(heads, LayerScale) == on_maps and count(last, LayerScale) == 0  # a part of the lerp
    assert count(heads, nn.Conv2d) > count(last, nn.Conv2d)  # 1×1 convolutions became linear


def test_what_cannot_be_folded_has_no_steps() -> None:
    with pytest.raises(ValueError, match="folded already"):
        folding_steps(fold(EfficientFormer(SMALL), 64), 64)
    with pytest.raises(ValueError, match="31"):
        folding_steps(EfficientFormer(SMALL), 31)
