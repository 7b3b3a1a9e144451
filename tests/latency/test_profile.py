"""Profiles: the class of every operator on tiny networks, and sums of times on synthetic events."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from strategies import SMALL
from torch import Tensor, nn

from efficientformer_edu.latency.profile import (
    BRANCH,
    CLASSES,
    SPATIAL,
    Operator,
    Profile,
    class_times,
    classify,
    findings,
    load_profiles,
    module_names,
    profile,
    profiler_overhead,
    record_events,
    save_profiles,
    scaled_medians,
    trace_operators,
)
from efficientformer_edu.latency.records import Conditions
from efficientformer_edu.model import EfficientFormer, fold
from efficientformer_edu.utils.records import from_dict, stored, to_dict
from efficientformer_edu.utils.statistics import MIN_SAMPLES

pytestmark = pytest.mark.filterwarnings("ignore:the machine is busy", "ignore:.*interval is wide")
IMAGES = torch.rand(1, 3, 64, 64)
CLASSIFIED = """
conv2d | /stem:Stem > conv1:Conv2d 3×3 | patch embedding
batch_norm | /stem:Stem > norm1:BatchNorm2d | norm
relu | /stem:Stem > act1:ReLU | activation
conv2d | /stages:ModuleList > 1:Stage > downsample:Embedding > conv:Conv2d 3×3 | patch embedding
conv2d | /patch_embed:PatchEmbed > proj:Conv2d 16×16 | patch embedding
conv2d | /conv1:Conv2d 7×7 | patch embedding
conv2d | /conv_stem:Conv2d 3×3 | patch embedding
conv2d | /layer2:Sequential > 0:Bottleneck > downsample:Sequential > 0:Conv2d 1×1 | patch embedding
linear | /stages:ModuleList > 3:Stage > 0:MB3D > token_mixer:Attention > qkv:Linear | attention
matmul | /stages:ModuleList > 3:Stage > 0:MB3D > token_mixer:Attention | attention
softmax | /blocks:Sequential > 0:Block > attn:Attention | attention
linear | /stages:S > 1:LevitStage > downsample:LevitDownsample > attn_downsample:A > kv:L | attention
linear | /stages:S > 1:LevitStage > downsample:LevitDownsample > mlp:LevitMlp > ln1:LinearNorm | MLP
hardswish | /stages:S > 0:LevitBlock > attn:Attention > proj:Sequential > act:Hardswish | activation
conv2d | /stages:S > 0:MB4D > mlp:ConvMlp > fc1:Conv2d 1×1 | MLP
gelu | /stages:S > 0:MB4D > mlp:ConvMlp > act:GELU | activation
conv2d | /blocks:Sequential > 1:InvertedResidual > conv_pw:Conv2d 1×1 | MLP
conv2d | /blocks:Sequential > 1:InvertedResidual > conv_dw:Conv2d 3×3 | spatial
conv2d | /conv_head:Conv2d 1×1 | MLP
hardtanh_ | /bn1:BatchNormAct2d > act:ReLU6 | activation
avg_pool2d | /stages:S > 0:MB4D > token_mixer:Pooling > pool:AvgPool2d | spatial
sub | /stages:S > 0:MB4D > token_mixer:Pooling | spatial
max_pool2d | /maxpool:MaxPool2d | spatial
group_norm | /stages:S > 0:MetaFormerBlock > norm1:GroupNorm1 | norm
mul | /stages:S > 0:MB4D > norm:LayerNorm2d | norm
add_ | /stages:S > 0:MB4D | branch
mul | /stages:S > 0:MB4D > layer_scale_1:LayerScale | branch
view | /stages:S > 0:MB4D > layer_scale_1:LayerScale | reshape
transpose | /patch_embed:PatchEmbed | reshape
_to_copy | /stages:S > 0:MB3D > token_mixer:Attention | reshape
cat | | reshape
linear | /head:Linear | other
linear | /head:Sequential > fc:Linear | other
batch_norm | /head:NormLinear > bn:BatchNorm1d | norm
add | /head:NormLinear | other
mean | | other
linear | /blocks:Sequential > 0:Mystery > wide:Linear | other
matmul | /blocks:Sequential > 0:Block | other
exp | /stages:S > 0:MB4D > layer_scale_1:LayerScale | other
"""  # operator, enclosing modules, class


class ViTBlock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = x + self.attention(normed, normed, normed)[0]
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, dim: int = 64) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, 8, 8)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.Sequential(*(ViTBlock(dim) for _ in range(4)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 10)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patch_embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.class_token, tokens), dim=1)
        return self.head(self.norm(self.blocks(tokens))[:, 0])


class Residual(nn.Module):
    """A bottleneck as in ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv1(self.conv2(x).relu())


def operators_of(network: nn.Module) -> list[tuple[str, str]]:
    with torch.inference_mode():
        return [(name.removeprefix("aten::"), kind) for name, kind in trace_operators(network.eval(), IMAGES)]


def small(mb3d: int = 1) -> EfficientFormer:
    return EfficientFormer(SMALL.replace(num_vit=mb3d)).eval()


@pytest.mark.parametrize("case", CLASSIFIED.strip().splitlines())
def test_the_class_of_an_operator(case: str) -> None:
    operator, modules, kind = (text.strip() for text in case.split("|"))
    expected = {"spatial": SPATIAL, "branch": BRANCH}.get(kind, kind)
    assert classify(f"aten::{operator}", modules.split(" > ") if modules else ()) == expected


def test_a_location_names_the_parent_modules_and_a_convolution_s_kernel() -> None:
    network = small()
    assert module_names(network, "") == ()
    assert module_names(network, "stem.conv1") == ("/stem:Stem", "conv1:Conv2d 3×3")
    assert module_names(network, "stages.0.mb4d.0.mlp.fc2")[-3:] == ("0:MB4D", "mlp:ConvMlp", "fc2:Conv2d 1×1")


def test_only_the_head_is_other_in_efficientformer() -> None:
    for network in (small(), fold(small(), 64)):
        other = [name for name, kind in operators_of(network) if kind == "other"]
        assert {"mean", "linear"} <= set(other) <= {"mean", "linear", "dropout", "add", "div"}
        assert other.count("linear") == 1 + (network.head_dist is not None)


def test_nothing_but_the_head_is_other_in_a_vision_transformer() -> None:
    assert [name for name, kind in operators_of(ViT()) if kind == "other"] == ["linear"]


@pytest.mark.parametrize("network", [small(), ViT()], ids=["small", "ViT"])
def test_other_is_at_most_a_twentieth(network: nn.Module) -> None:
    result = operators_of(network)  # every operator gets the same duration, so the result does not depend on a clock
    events = [event(name, at, at + 1) for at, (name, _) in enumerate(result)]
    parts = class_times(events, [Operator(f"aten::{name}", kind) for name, kind in result])
    assert 0 < parts["other"] / sum(parts.values()) <= 0.05


def test_a_branch_s_end_belongs_to_the_branch() -> None:
    result = operators_of(small())
    kinds = {kind for name, kind in result if name == "mul"}  # the layer scales
    assert kinds == {SPATIAL, "MLP", "attention"}
    assert {kind for name, kind in result if name == "add"} >= kinds
    assert {kind for name, kind in operators_of(fold(small(), 64)) if name == "lerp"} == {SPATIAL}


def test_a_convolutional_block_mixes_neighbours_and_channels() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(Residual()))
    assert operators_of(network) == [
        ("conv2d", "patch embedding"),
        ("conv2d", SPATIAL),
        ("relu", "activation"),
        ("conv2d", "MLP"),
        ("add", "MLP"),
    ]


@pytest.mark.parametrize(
    ("network", "absent"),
    [(small(), set()), (small(mb3d=0), {"attention"}), (ViT(), {SPATIAL})],
    ids=["small", "without attention", "ViT"],
)
def test_a_profile_has_the_classes_that_the_network_has(network: nn.Module, absent: set[str]) -> None:
    result = profile(network.eval(), IMAGES, name="tiny", num_threads=1, rounds=5, command="make it")
    assert tuple(result.parts) == CLASSES
    assert {kind for kind, ms in result.parts.items() if ms == 0} == absent
    assert sum(result.shares.values()) == pytest.approx(1)
    assert (result.name, result.conditions.command, result.conditions.threads) == ("tiny", "make it", 1)
    assert result.rounds == 5
    assert (result.conditions.batch, result.conditions.resolution) == (1, (64, 64))
    assert from_dict(Profile, json.loads(json.dumps(to_dict(result)))) == result


def test_the_parts_are_the_span_of_the_call() -> None:
    network = small()
    with torch.inference_mode():
        network(IMAGES)
        known = trace_operators(network, IMAGES)
        events = record_events(network, IMAGES)
    start = min(event.time_range.start for event in events)
    end = max(event.time_range.end for event in events)
    assert sum(class_times(events, known).values()) == pytest.approx((end - start) / 1e3)


def event(name: str, start: float, end: float, *children: Any) -> Any:
    """An operator from start to end in microseconds, with the operators that it calls."""
    inside = sum(child.time_range.end - child.time_range.start for child in children)
    made = SimpleNamespace(
        name=f"aten::{name}",
        time_range=SimpleNamespace(start=start, end=end),
        self_cpu_time_total=end - start - inside,
        cpu_children=list(children),
        cpu_parent=None,
    )
    for child in children:
        child.cpu_parent = made
    return made


def test_times_are_booked_where_they_belong() -> None:
    copy = event("clone", 1150, 1350, event("copy_", 1200, 1300))
    events = [
        event("conv2d", 1000, 1100),
        event("linear", 1110, 1500, copy, event("addmm", 1360, 1490, event("copy_", 1370, 1380))),
        event("gelu", 1530, 1600),
    ]
    known = [Operator("aten::conv2d", SPATIAL), Operator("aten::linear", "MLP"), Operator("aten::gelu", "activation")]
    result = {kind: ms for kind, ms in class_times(list(reversed(events)), known).items() if ms}
    assert result == pytest.approx(
        {
            SPATIAL: 0.1,
            "MLP": 0.01 + 0.39 - 0.2,  # with the gap before it, without the copy for the memory layout
            "reshape": 0.2,
            "activation": 0.03 + 0.07,
        }
    )


def test_the_cost_of_the_profiler_is_subtracted_from_every_event() -> None:
    events = [event("conv2d", 0, 100), event("linear", 110, 500, event("addmm", 200, 400))]
    known = [Operator("aten::conv2d", SPATIAL), Operator("aten::linear", "MLP")]
    result = class_times(events, known, overhead=0.002)
    assert (result[SPATIAL], result["MLP"]) == pytest.approx((0.1 - 0.002, 0.01 + 0.39 - 2 * 0.002))


def test_the_profiler_costs_little_and_not_nothing() -> None:
    assert 0 <= profiler_overhead() < 0.05


def test_disturbances_of_single_classes_neither_move_the_shares_nor_shrink_the_sum() -> None:
    quiet = {**dict.fromkeys(CLASSES, 0.0), "MLP": 6.0, "norm": 3.0, SPATIAL: 3.0}
    passes = [{**quiet, name: quiet[name] + 2} for name in ("MLP", "norm", SPATIAL)]
    result = scaled_medians(passes)
    assert sum(result.values()) == pytest.approx(14)
    assert result == pytest.approx({name: ms * 14 / 12 for name, ms in quiet.items()})


def test_a_network_that_changes_its_mind_is_refused() -> None:
    with pytest.raises(ValueError, match="same operators each time"):
        class_times([event("conv2d", 0, 1)], [Operator("aten::linear", "MLP")])


def test_what_cannot_be_profiled_is_refused() -> None:
    with pytest.raises(ValueError, match="a network in training mode on cpu; allowed: evaluation mode on cpu"):
        profile(small().train(), IMAGES)
    with pytest.raises(ValueError, match="evaluation mode on meta; allowed"):
        profile(small(), IMAGES.to("meta"))


def test_a_reader_s_own_classes() -> None:
    result = profile(ViT().eval(), IMAGES, lambda operator, around: "other", rounds=2)
    assert result.name == "ViT"
    assert {kind for kind, ms in result.parts.items() if ms and kind != "reshape"} == {"other"}


def test_the_profiler_is_silent_and_leaves_no_hook(capfd: pytest.CaptureFixture[str]) -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 5))
    with pytest.raises(RuntimeError, match="shapes"):
        trace_operators(network, torch.rand(1, 4))
    trace_operators(network[:1], torch.rand(1, 4))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert capfd.readouterr() == ("", "")


def test_both_totals_are_reported() -> None:
    made_up = Profile("net", 10.0, {**dict.fromkeys(CLASSES, 0.0), "MLP": 6.0, "norm": 3.0}, 5, Conditions())
    assert (made_up.profiled_ms, made_up.ratio) == (9.0, 0.9)
    assert made_up.shares["norm"] == pytest.approx(1 / 3)
    rows = made_up.table().rows
    assert [row[0] for row in rows] == [*CLASSES, "profiled", "timed"]
    assert (rows[-2][1], rows[-1][1]) == (9.0, 10.0)


def test_stored_profiles_come_back(tmp_path: Path) -> None:
    known = Conditions(machine="a laptop, 2 cores", threads=1, versions={"torch": "2.13.0"})
    profiles = [
        Profile("one", 10.0, dict.fromkeys(CLASSES, 1.0), 5, known),
        Profile("two", 8.0, {"MLP": 8.0}, 5, known),
    ]
    save_profiles(profiles, tmp_path / "profiles.json")
    assert load_profiles(tmp_path / "profiles.json") == profiles
    (tmp_path / "other.json").write_text('{"profiles": [{}]}', encoding="utf-8")
    with pytest.raises(ValueError, match="other.json.*profiles"):
        load_profiles(tmp_path / "other.json")


def test_the_profiles_of_this_checkout_account_for_the_time() -> None:
    for stored_profile in load_profiles(stored("profiles.json")):
        assert tuple(stored_profile.parts) == CLASSES
        assert abs(stored_profile.ratio - 1) <= 0.05
        assert stored_profile.shares["other"] <= 0.05


@pytest.mark.parametrize(
    ("levit", "other", "status"), [(3.0, 2.0, "same trend"), (2.0, 3.0, "disagrees"), (None, 2.0, None)]
)
def test_the_findings_on_figure_2_in_the_report(levit: float | None, other: float, status: str | None) -> None:
    times = {"LeViT-256": levit, "DeiT-S": other}
    profiles = [
        Profile(name, 10.0, {"reshape": ms, "other": 10.0 - ms}, MIN_SAMPLES, Conditions())
        for name, ms in times.items()
        if ms is not None
    ]
    records = findings(profiles)
    assert [item["status"] for item in records] == ([status] if status else [])
    assert findings([replace(item, rounds=MIN_SAMPLES - 1) for item in profiles]) == []
    if status:
        assert (
            records[0]["ours"]
            == f"reshapes take {levit / 10:.0%} of LeViT-256's time, and {other / 10:.0%} of DeiT-S's"
        )
