"""The paper's networks with synthetic tables: in one, time is MACs; in others, some parts are more expensive."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientformer_edu.audit import count
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.latency import Conditions
from efficientformer_edu.latency.lookup import WIDTHS, groups
from efficientformer_edu.latency.lookup_table import Entry, Lookup, Part, macs, parts
from efficientformer_edu.slimming.paper_scale import NEAR, kendall, ledger, neighbours, order, scale

pytestmark = pytest.mark.slow

SIZE = (224, 224)
L1 = PRESETS["l1"].replace(distillation=False)
TICK = 1e-11  # seconds per MAC
SUPERNET = PRESETS["l3"].replace(num_vit=(0, 0, 12, 6))


def table(
    times: Callable[[Part], float] = lambda part: 1, engine: str = "folded", size: tuple[int, int] = SIZE
) -> Lookup:
    """A table in which a part takes a tick per MAC, times a factor."""
    table_parts = [part for group in groups(L1, size, WIDTHS) for part in group]
    seconds = {part: TICK * times(part) * macs(part, L1, size) for part in table_parts}

    def lookup(reference: float) -> Lookup:
        entries = tuple(Entry(part, time, reference) for part, time in seconds.items())
        return Lookup(engine, size, PRESETS["l1"], Conditions(), entries)

    parted = lookup(1.0)
    return lookup(sum(number * parted.part(part) for part, number in parts(L1, size).items()))  # the same as L1


@pytest.mark.parametrize("model", PRESETS)
def test_a_ledger_has_every_mac_and_millisecond(model: str) -> None:
    lookup, config = table(), PRESETS[model]
    result = ledger(model, lookup)
    costs = count(model, SIZE, "folded")
    assert sum(share.macs for share in result.shares) == costs.macs
    assert sum(share.seconds for share in result.shares) == pytest.approx(lookup.predict(model))
    for share in result.shares:
        assert share.seconds == pytest.approx(TICK * share.macs)
    numbers = {(share.stage, share.kind): share.number for share in result.shares}
    assert numbers["stem", ""] == numbers["head", ""] == numbers["stage 3", "embedding"] == 1
    assert numbers.get(("stage 4", "MB4D"), 0) == config.depths[3] - config.vits[3]
    assert numbers["stage 4", "MB3D"] == config.vits[3]
    *lines, total = result.table().rows
    assert sum(line[2] for line in lines) == total[2] == sum(config.depths) + 5
    assert sum(line[-1] for line in lines) == pytest.approx(1) == total[-1]
    assert [line[5] for line in (*lines, total)] == pytest.approx([10.0] * len(result.table().rows))  # ms per GMAC


def test_a_ledger_of_an_engine_that_folds_nothing_has_both_heads() -> None:
    folded, trained = (
        {share.stage: share.macs for share in ledger("l1", table(engine=name)).shares} for name in ("folded", "eager")
    )
    assert trained["head"] == 2 * folded["head"] == 2 * 448 * 1000


def test_neighbours_of_equal_macs() -> None:
    result = neighbours(table(), 0.02)
    assert len(result.matches) + len(result.left_out) == 6 * 3
    for pair in result.matches:
        start, target = PRESETS[pair.start], count(pair.target, SIZE).macs
        assert pair.config == scale(start, pair.scaled, pair.factor)
        assert pair.macs == count(pair.config, SIZE).macs / target
        assert abs(pair.macs - 1) <= NEAR
        assert pair.latency == pytest.approx(pair.macs, rel=0.01)  # except for the heads, time is MACs here
        assert (pair.config.embed_dims == start.embed_dims) == (pair.scaled == "depths")
        assert (pair.config.depths == start.depths) == (pair.scaled == "widths")
    assert {pair.target for pair in result.matches} == set(PRESETS)
    assert any("l1 to l7, widths × 2." in text and "outside of the table" in text for text in result.left_out)
    assert any("times the MACs" in text for text in result.left_out)
    rows = result.table().rows
    assert len(rows) == len(result.matches)
    for row, pair in zip(rows, result.matches, strict=True):
        expected = "inconclusive" if abs(pair.latency - 1) < 0.02 else "slower" if pair.latency > 1 else "faster"
        assert row[-1] == result.verdict(pair) == expected
        assert row[1:4] == (pair.start, pair.scaled, pair.factor)
        assert row[7:10] == (pair.macs, 1e3 * pair.seconds, pair.latency)
    assert len({row[-1] for row in rows}) > 1


def test_no_factor_comes_nearer() -> None:
    """Compared with the result of bisection: all factors in small steps."""
    pair = next(
        pair
        for pair in neighbours(table(), 0).matches
        if (pair.start, pair.target, pair.scaled) == ("l3", "l1", "both")
    )
    target = count("l1", SIZE).macs
    tried = {scale(PRESETS["l3"], "both", hundredth / 100) for hundredth in range(1, 150)}
    nearest = min(abs(count(config, SIZE).macs / target - 1) for config in tried)
    assert abs(pair.macs - 1) <= nearest


@given(factor=st.floats(0, 4))
def test_scaling_stays_in_the_search_space(factor: float) -> None:
    for scaled in ("widths", "depths", "both"):
        config = scale(PRESETS["l3"], scaled, factor)
        assert all(width % 16 == 0 for width in config.embed_dims)
        assert config.replace(depths=(4, 4, 12, 6), embed_dims=(64, 128, 320, 512), num_vit=4) == PRESETS["l3"]
    assert scale(PRESETS["l3"], "both", 1.0) == PRESETS["l3"].replace(num_vit=(0, 0, 0, 4))


def test_where_time_is_macs_every_order_is_that_of_macs() -> None:
    start = SUPERNET.replace(embed_dims=(64, 112, 320, 512))  # with L3's, MB4D of stages 1 and 2 have the same MACs
    result = order(start, {"quick": table(), "slow": table(lambda part: 3)}, {"quick": 0, "slow": 0})
    assert len(result.changes) == 2 * 2 + 2 * 3  # an MB4D and a width; or an MB3D, its swap and a width
    for change in result.changes:
        quick, slow = change.seconds
        assert slow == pytest.approx(3 * quick)
        assert quick == pytest.approx(TICK * change.macs, rel=0.01)
    assert [row[2:4] for row in result.agreement().rows] == [(10, 1.0)] * 3
    assert [row[3] for row in result.table().rows] == list(range(1, 11))


def test_an_expensive_part_comes_first() -> None:
    """Attention ten times as expensive: removing or narrowing an MB3D is best, by the table alone."""
    tables = {"plain": table(), "attention dear": table(lambda part: 10 if part.kind == "MB3D" else 1)}
    start = PRESETS["l3"]
    result = order(start, tables, dict.fromkeys(tables, 0))
    first = max(result.changes, key=lambda change: change.seconds[1])
    assert first.description == "an MB3D of stage 4"
    ranks = {row[0]: (row[3], row[5]) for row in result.table().rows}
    assert ranks["an MB3D of stage 4"][1] == 1 < ranks["an MB3D of stage 4"][0]
    swapped = next(change for change in result.changes if change.description == "MB4D for an MB3D of stage 4")
    smaller = start.replace(num_vit=3)
    assert swapped.macs == count(start).macs - count(smaller).macs
    assert swapped.seconds == tuple(lookup.gain(start, smaller) for lookup in tables.values())
    per_mac = result.gains(per_mac=True)["attention dear"]
    assert per_mac[result.changes.index(swapped)] == swapped.seconds[1] / swapped.macs
    assert float(result.agreement().rows[-1][3]) < 1


def test_steps_out_of_the_table_or_the_search_space_are_left_out() -> None:
    least = PRESETS["l1"].replace(embed_dims=(32, 64, 128, 256), depths=(1, 1, 1, 2), num_vit=2)
    result = order(least, {"plain": table()}, {"plain": 0})
    assert [change.description for change in result.changes] == ["an MB3D of stage 4", "MB4D for an MB3D of stage 4"]
    with pytest.raises(ValueError, match="tables at one resolution"):
        order(least, {"plain": table(), "small": table(size=(64, 96))}, {"plain": 0, "small": 0})
    with pytest.raises(ValueError, match="outside of the table"):
        order(EfficientFormerConfig(embed_dims=(16, 96, 224, 448)), {"plain": table()}, {"plain": 0})


def test_savings_below_the_error_of_a_table_are_inconclusive() -> None:
    """At 2 % of the latency some steps save less. In one table a stage has a negative saving of this size."""
    exact, tables = order(SUPERNET, {"one": table()}, {"one": 0}), {"one": table(), "other": table(lambda part: 3)}
    before = tables["one"].predict(SUPERNET)
    result = order(SUPERNET, tables, {"one": 0.02, "other": 0.0})
    small = {change.description for change in exact.changes if abs(change.seconds[0]) < 0.02 * before}
    assert 0 < len(small) < len(exact.changes)
    rows = {str(row[0]): row for row in result.table().rows}
    assert {text for text, row in rows.items() if row[2] is None} == small
    columns = result.table().columns
    assert columns[2:] == ("one, ms", "one, rank", "other, ms", "other, rank")
    assert [tuple(row) for row in json.loads(result.table().to_json())] == [columns] * len(rows)
    assert sum(row[2] == "inconclusive" for row in result.table().formatted()) == len(small)
    assert {text for text, row in rows.items() if row[3] is None} == small
    assert [row[3] for row in result.table().rows][: -len(small)] == list(range(1, len(rows) - len(small) + 1))
    assert all(row[4] is not None and row[5] is not None for row in rows.values())
    gains = result.gains()
    assert [gain is None for gain in gains["one"]] == [change.description in small for change in result.changes]
    assert None not in gains["other"]
    counts = {row[:2]: row[2] for row in result.agreement().rows}
    compared = len(rows) - len(small)
    assert counts == {("MACs", "one"): compared, ("MACs", "other"): len(rows), ("one", "other"): compared}
    with pytest.raises(ValueError, match="no error of the table 'other'"):
        order(SUPERNET, tables, {"one": 0.02})


def test_a_small_negative_saving_is_inconclusive_and_a_large_saving_is_not() -> None:
    """Narrow MB4D of stage 1 are as slow as wide blocks, and slightly slower."""

    def slower(share: float) -> Callable[[Part], float]:
        wide = Part("MB4D", (56, 56), (64,))
        return lambda part: (
            (1 + share) * macs(wide, L1, SIZE) / macs(part, L1, SIZE)
            if part.kind == "MB4D" and part.grid == (56, 56) and part.widths[0] < 64
            else 1
        )

    text = "16 channels off stage 1"
    for share, conclusive in ((0.01, False), (2.0, True)):
        result = order(SUPERNET, {"one": table(slower(share))}, {"one": 0.02})
        (number,) = (i for i, change in enumerate(result.changes) if change.description == text)
        assert (result.gains()["one"][number] is not None) == conclusive
        assert (next(row for row in result.table().rows if row[0] == text)[2] is not None) == conclusive


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=8))
def test_kendall_counts_pairs(pairs: list[tuple[int, int]]) -> None:
    score = 0
    for (a, b), (c, d) in combinations(pairs, 2):
        score += (a - c) * (b - d) > 0
        score -= (a - c) * (b - d) < 0
    first, second = zip(*pairs, strict=True)
    assert kendall(first, second) == score / (len(pairs) * (len(pairs) - 1) / 2)


def test_kendall_by_hand() -> None:
    assert kendall((1, 2, 3), (10, 20, 30)) == 1
    assert kendall((1, 2, 3), (3, 2, 1)) == -1
    assert kendall((1, 2, 3, 4), (1, 2, 4, 3)) == pytest.approx(4 / 6)


def test_torch_is_not_needed() -> None:
    program = "import sys, efficientformer_edu.slimming.paper_scale; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
