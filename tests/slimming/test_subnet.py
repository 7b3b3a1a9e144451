"""The search space: what Eq. 7 allows, the effect of every action, and the possible actions."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slimming_runs import TINY

from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.slimming.subnet import CANDIDATES, Action, Subnet, actions, importance

WIDE = TINY.replace(depths=(2, 3, 3, 3), embed_dims=(32, 48, 64, 96))
START = Subnet.largest(WIDE)
SOME = Subnet((32, 48, 64, 96), (("MB4D", "I"), ("I", "MB4D", "MB4D"), ("MB4D", "I", "MB3D"), ("MB3D", "I", "MB3D")))
EVEN = ((1.0,) * 2, (1.0,) * 3, (1.0,) * 3, (1.0,) * 3)
LEAST = (16, 16, 16, 16)


def test_a_metapath_can_be_what_eq_7_lists() -> None:
    assert CANDIDATES == (("MB4D", "I"), ("MB4D", "I"), ("MB4D", "MB3D", "I"), ("MB4D", "MB3D", "I"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({0: ("MB3D",)}, "stage 1 has MB3D; Eq. 7 allows MB4D, I"),
        ({1: ("MB4D", "MB3D", "I")}, "stage 2 has MB3D; Eq. 7 allows MB4D, I"),
        ({3: ("MB5D",)}, "stage 4 has MB5D; Eq. 7 allows MB4D, MB3D, I"),
        ({1: ("I", "I")}, "stage 2 has no block left"),
        ({2: ()}, "stage 3 has no block left"),
        ({2: ("MB3D", "I", "MB4D")}, "an MB4D follows an MB3D"),
        ({2: ("MB4D", "MB3D"), 3: ("I", "MB4D")}, "an MB4D follows an MB3D"),
    ],
)
def test_other_choices_are_refused(changed: dict[int, tuple[str, ...]], message: str) -> None:
    choices = tuple(changed.get(stage, default) for stage, default in enumerate(SOME.choices))
    with pytest.raises(ValueError, match=message):
        Subnet(SOME.embed_dims, choices)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [0, 8, 40, -16])
def test_a_width_is_a_multiple_of_16(width: int) -> None:
    with pytest.raises(ValueError, match=r"embed_dims=.* is not in the search space.*16"):
        Subnet((32, width, 64, 96), SOME.choices)


def test_a_subnet_has_four_stages() -> None:
    with pytest.raises(ValueError):
        Subnet(SOME.embed_dims, SOME.choices[:3])


def test_the_slimming_starts_with_every_block_and_the_largest_kind() -> None:
    assert Subnet.largest(TINY) == Subnet(
        (32, 32, 32, 48), (("MB4D",), ("MB4D", "MB4D"), ("MB3D", "MB3D"), ("MB3D", "MB3D"))
    )


def test_a_subnet_is_an_ordinary_configuration() -> None:
    assert SOME.config(WIDE) == WIDE.replace(depths=(1, 2, 2, 2), num_vit=(0, 0, 1, 2))
    assert START.config(WIDE) == WIDE.replace(num_vit=(0, 0, 3, 3))


def test_if_only_the_last_stage_has_mb3d_num_vit_is_an_integer() -> None:
    last = Subnet(SOME.embed_dims, (*SOME.choices[:2], ("MB4D", "I", "I"), ("MB4D", "MB3D", "MB3D")))
    assert last.config(WIDE).num_vit == 2
    none = Subnet(SOME.embed_dims, (*SOME.choices[:2], ("MB4D",) * 3, ("I", "MB4D", "I")))
    assert none.config(WIDE).num_vit == 0


@pytest.mark.parametrize("name", PRESETS)
def test_the_published_networks_are_in_the_space(name: str) -> None:
    """As in Eq. 7: the MB3D are at the end of the last stage, the widths are multiples of 16."""
    config = PRESETS[name]
    *early, depth = config.depths
    last = ("MB4D",) * (depth - config.vits[3]) + ("MB3D",) * config.vits[3]
    subnet = Subnet(config.embed_dims, (*(("MB4D",) * depth for depth in early), last))  # type: ignore[arg-type]
    assert subnet.config(config) == config


@pytest.mark.parametrize(
    ("action", "description", "fields"),
    [
        (Action("depth", 1, 2), "I for MetaPath 3 of stage 2", {"depths": (1, 1, 2, 2)}),
        (Action("depth", 3, 0), "I for MetaPath 1 of stage 4", {"depths": (1, 2, 2, 1), "num_vit": (0, 0, 1, 1)}),
        (Action("MB3D", 2, 2), "MB4D for MB3D at MetaPath 3 of stage 3", {"num_vit": 2}),
        (Action("width", 0), "16 channels off stage 1", {"embed_dims": (16, 48, 64, 96)}),
        (Action("width", 3), "16 channels off stage 4", {"embed_dims": (32, 48, 64, 80)}),
    ],
)
def test_what_every_action_does_to_the_configuration(
    action: Action, description: str, fields: dict[str, object]
) -> None:
    before = SOME.config(WIDE)
    assert SOME.after(action).config(WIDE) == before.replace(**fields)
    assert str(action) == description
    assert SOME.config(WIDE) == before


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (Action("depth", 1, 0), "I for MetaPath 1 of stage 2 is not possible: the MetaPath is I"),
        (Action("MB3D", 2, 1), "MB4D for MB3D at MetaPath 2 of stage 3 is not possible: the MetaPath is I"),
        (Action("MB3D", 2, 0), "MB3D at MetaPath 1 of stage 3 is not possible: the MetaPath is MB4D"),
        (Action("MB3D", 3, 2), "an MB4D follows an MB3D"),  # not the first
        (Action("depth", 0, 0), "stage 1 has no block left"),
    ],
)
def test_what_cannot_be_done(action: Action, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SOME.after(action)


def test_no_stage_loses_its_last_channels() -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        Subnet((16, 48, 64, 96), SOME.choices).after(Action("width", 0))


def kinds(possible: tuple[Action, ...]) -> dict[str, Action]:
    assert len({action.kind for action in possible}) == len(possible)
    return {action.kind: action for action in possible}


def test_depth_takes_the_least_important_metapath() -> None:
    worth = ((3.0, 0.1), (0.2, 5.0, 4.0), (2.0, 0.1, 2.5), (3.0, 0.1, 2.1))
    # In SOME the MetaPaths of importance 0.1 and 0.2 are already I. Stage 1 has one block left.
    assert kinds(actions(SOME, worth, LEAST))["depth"] == Action("depth", 2, 0)


def test_depth_spares_the_last_block_of_a_stage() -> None:
    worth = ((0.001, 9.0), *EVEN[1:])
    assert kinds(actions(SOME, worth, LEAST))["depth"].stage != 0
    shallow = Subnet(SOME.embed_dims, (("MB4D", "I"), *((("I", "MB4D", "I"),) * 3)))
    assert "depth" not in kinds(actions(shallow, worth, LEAST))


def test_mb3d_reduction_takes_the_first_regardless_of_its_importance() -> None:
    worth = ((1.0,) * 2, (1.0,) * 3, (1.0, 1.0, 99.0), (0.1, 0.1, 0.1))
    assert kinds(actions(SOME, worth, LEAST))["MB3D"] == Action("MB3D", 2, 2)
    later = SOME.after(Action("MB3D", 2, 2))
    assert kinds(actions(later, worth, LEAST))["MB3D"] == Action("MB3D", 3, 0)
    without = later.after(Action("MB3D", 3, 0)).after(Action("MB3D", 3, 2))
    assert "MB3D" not in kinds(actions(without, worth, LEAST))


def test_width_takes_the_stage_whose_blocks_are_worth_least() -> None:
    """I is not counted: with its 90, stage 2 would have 96."""
    worth = ((7.0, 1.0), (90.0, 3.0, 3.0), (4.0, 1.0, 4.0), (4.0, 1.0, 5.0))
    assert kinds(actions(SOME, worth, LEAST))["width"] == Action("width", 1)
    assert kinds(actions(SOME, worth, (16, 48, 16, 16)))["width"] == Action("width", 0)
    assert kinds(actions(SOME, worth, (32, 48, 64, 80)))["width"] == Action("width", 3)


def test_width_stops_at_the_narrowest() -> None:
    assert "width" not in kinds(actions(SOME, EVEN, SOME.embed_dims))
    narrow = Subnet((16, 16, 16, 16), SOME.choices)
    assert "width" not in kinds(actions(narrow, EVEN, (0, 0, 0, 0)))


def test_the_smallest_network_has_no_action() -> None:
    smallest = Subnet((16, 32, 16, 48), (("I", "MB4D"), *((("I", "MB4D", "I"),) * 3)))
    assert actions(smallest, EVEN, smallest.embed_dims) == ()


WORTH = st.floats(0.01, 100)


@given(data=st.data(), depths=st.tuples(*[st.integers(1, 3)] * 4), widths=st.tuples(*[st.integers(1, 3)] * 4))
def test_any_sequence_of_actions_leaves_a_network(
    data: st.DataObject, depths: tuple[int, ...], widths: tuple[int, ...]
) -> None:
    """Any of the possible actions, until there are none: one block per stage, all MB4D, as narrow as allowed."""
    config: EfficientFormerConfig = TINY.replace(depths=depths, embed_dims=tuple(16 * width for width in widths))
    worth = [data.draw(st.lists(WORTH, min_size=depth, max_size=depth)) for depth in depths]
    subnet, narrowest, steps = Subnet.largest(config), tuple(16 * data.draw(st.integers(1, w)) for w in widths), 0
    while possible := actions(subnet, worth, narrowest):
        taken = data.draw(st.sampled_from(possible))
        before, subnet = subnet.config(config), subnet.after(taken)
        after = subnet.config(config)
        assert sum(after.depths) == sum(before.depths) - (taken.kind == "depth")
        assert sum(after.embed_dims) == sum(before.embed_dims) - 16 * (taken.kind == "width")
        assert sum(after.vits) - sum(before.vits) in {"depth": (0, -1), "MB3D": (-1,), "width": (0,)}[taken.kind]
        steps += 1
    assert steps <= sum(depths) + sum(depths[2:]) + sum(widths)
    assert subnet.config(config) == config.replace(depths=(1, 1, 1, 1), embed_dims=narrowest, num_vit=0)


def weights(alpha: tuple[float, ...]) -> list[float]:
    """The mixture's weights without noise, at τ = 1."""
    powers = [math.exp(value) for value in alpha]
    return [power / sum(powers) for power in powers]


def test_importance_by_hand() -> None:
    assert importance((0.75, 0.25)) == 3.0
    assert importance((0.5, 0.3, 0.2)) == pytest.approx(4.0)
    assert importance(weights((math.log(2), math.log(5), math.log(0.5)))) == pytest.approx((2 + 5) / 0.5)
    assert importance(weights((-1.0, 1.0))) == pytest.approx(math.exp(-2))  # α itself would give −1


@given(alpha=st.tuples(*[st.floats(-5, 5)] * 3), constant=st.floats(-20, 20))
def test_importance_is_what_the_mixture_sees(alpha: tuple[float, ...], constant: float) -> None:
    """Adding a constant to all α changes no output, so it changes no importance."""
    mb4d, mb3d, identity = alpha
    expected = (math.exp(mb4d) + math.exp(mb3d)) / math.exp(identity)
    assert importance(weights(alpha)) == pytest.approx(expected)
    moved = (mb4d + constant, mb3d + constant, identity + constant)
    assert importance(weights(moved)) == pytest.approx(expected)


@pytest.mark.parametrize("module", ["subnet", "records"])
def test_a_search_is_replayed_without_torch(module: str) -> None:
    code = f"import sys, efficientformer_edu.slimming.{module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert f"efficientformer_edu.slimming.{module}" in loaded
    assert not {"torch", "numpy"} & set(loaded)
