"""The tables against arithmetic: parameters, ratios, and the rules on which source supports which statement."""

from __future__ import annotations

import pytest

from efficientformer_edu.config import PRESETS
from efficientformer_edu.paper import (
    Table,
    appendix_b,
    external_accuracies,
    external_counts,
    external_latencies,
    ratios,
    table1,
    table2,
)
from efficientformer_edu.paper.tables import UNITS, compare

TABLES = {table.title: table for table in (table1(), table2(), appendix_b(), *external_latencies(), *external_counts())}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_rows_and_columns(table: Table) -> None:
    names = [row.name for row in table.rows]
    assert len(set(names)) == len(names)
    assert all(row.cells for row in table.rows)
    for row in table.rows:
        assert row.preset in ("", *PRESETS)
        assert bool(row.preset) == row.name.startswith("EfficientFormer")
    for column in table.columns:
        cells = [table.cell(name, column.name) for name in names]
        assert any(cells), f"the column {column.name} is empty"
        assert all((cell.unit, cell.protocol) == (column.unit, column.protocol) for cell in cells if cell)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_values_are_possible(table: Table) -> None:
    for row in table.rows:
        for cell in row.cells:
            for value in (cell, *cell.also):
                assert 0 < value.value <= (100 if value.unit == "%" else float("inf"))
            assert all(other.note for other in cell.also), "a second value needs its condition"
            assert cell.value not in [other.value for other in cell.also]


def test_the_three_networks() -> None:
    table = table1()
    columns = ("params", "macs", "epochs", "top1", "npu")
    assert [table["l1", name].value for name in columns] == [12.3, 1.3, 300, 79.2, 1.6]
    assert [table["l3", name].value for name in columns] == [31.3, 3.9, 300, 82.4, 3.0]
    assert [table["l7", name].value for name in columns] == [82.1, 10.2, 300, 83.3, 7.0]
    assert table["l1", "cpu"].value == 11.5
    assert [other.value for other in table["l1", "top1"].also] == [80.2]
    assert str(table["l1", "top1"]) == "79.2 % (reported, V, CP)"
    assert table["efficientformer_l1", "npu"] == table["EfficientFormer-L1", "npu"] == table["l1", "npu"]


def test_a_drawing_of_accuracy_over_latency_vouches_for_nothing_else() -> None:
    for row in table1().rows:
        for cell in row.cells:
            assert "FIG" not in cell.tags or cell.quantity in ("top1", "npu")


def test_the_same_model_from_another_source_has_another_protocol() -> None:
    protocols = [column.protocol for table in (table1(), *external_latencies()) for column in table.columns[-1:]]
    assert len(set(protocols)) == len(protocols) == 4
    assert [[cell.value for row in table.rows for cell in row.cells] for table in external_latencies()] == [
        [1.4, 2.7, 6.6],
        [1.1, 2.0],
        [1.09, 69.7],
    ]


def test_counts_of_other_projects() -> None:
    printed = {table.title: [[cell.printed for cell in row.cells] for row in table.rows] for table in external_counts()}
    assert printed == {
        "mmpretrain, table of models": [["12.28", "1.30"], ["31.41", "3.74"], ["82.23", "10.16"]],
        "mmpretrain, metafile": [
            ["12,278,696", "1,304,601,088"],
            ["31,406,000", "3,737,045,760"],
            ["82,229,328", "10,163,951,616"],
        ],
        "timm, benchmark results": [["12.29", "1.30"], ["31.41", "3.93"], ["82.23", "10.17"]],
        "NetsPresso, table of models": [["11.84", "2.60"]],
    }


def test_accuracies_of_other_projects() -> None:
    printed = {
        table.title: [[cell.printed for cell in row.cells] for row in table.rows] for table in external_accuracies()
    }
    assert printed == {
        "mmpretrain, accuracies": [["80.46", "94.99"], ["82.45", "96.18"], ["83.40", "96.60"]],
        "timm, accuracies": [["80.502", "94.992"], ["82.562", "96.250"], ["83.396", "96.532"]],
    }


def test_a_table_rounds_the_metafile_next_to_it() -> None:
    rounded, exact = external_counts()[:2]
    for row in rounded.rows:
        for cell, scale in zip(row.cells, (1e6, 1e9), strict=True):
            assert cell.stands_for(exact[row.name, cell.quantity].value / scale)


def test_average_precision_falls_with_the_threshold() -> None:
    table = table2()
    for row in table.rows:
        for what in ("box", "mask"):
            low, mean, high = (table.cell(row.name, f"{name}_{what}") for name in ("ap50", "ap", "ap75"))
            if low and mean and high:
                assert low.value > high.value
                assert low.value > mean.value


def test_gelu_in_appendix_b_is_l3_of_table_1() -> None:
    for column in ("top1", "npu"):
        assert appendix_b()["GeLU", column].value == table1()["l3", column].value


def test_an_empty_cell_is_not_sourced() -> None:
    assert table1().cell("l3", "cpu") is None
    with pytest.raises(ValueError, match="'cpu' of 'l3' in Table 1, ImageNet-1K is not sourced"):
        table1()["l3", "cpu"]


def test_an_unknown_cell_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown row of Table 1, ImageNet-1K: 'l2'; available: 'MobileNetV2×1.0', "):
        table1()["l2", "top1"]
    with pytest.raises(ValueError, match=r"unknown row of .*: 'DeiT-Small'; .*'DeiT-S'"):
        table1().cell("DeiT-Small", "top1")
    with pytest.raises(ValueError, match=r"unknown column of .*: 'top5'; did you mean 'top1'"):
        table1()["l1", "top5"]


def test_markdown_has_a_cell_per_column() -> None:
    for table in TABLES.values():
        lines = table.to_markdown().splitlines()
        assert len(lines) == 2 + len(table.rows)
        assert {line.count("|") for line in lines} == {len(table.columns) + 2}
        assert lines[0].startswith("| reported |")
    assert "| EfficientFormer-L3 | 31.3 (V, CP) | 3.9 (V, CP) | 300 (V, CP) | 82.4 (V, CP) | 3.0 (V, CP) |  |" in (
        table1().to_markdown()
    )
    assert "79.2 (V, CP); 80.2 (1000 epochs, V)" in table1().to_markdown()


def last_digit(value: float) -> float:
    return 1.0 if isinstance(value, int) else 10.0 ** -len(str(value).partition(".")[2])


def test_the_stated_ratios_follow_from_the_cells() -> None:
    """Each cell may be rounded by half its last digit, and so may the ratio."""
    table, checked = table1(), []
    for ratio in ratios():
        exact = ratio.from_cells(table)
        if exact is None:
            continue
        quantity, stated = ratio.stated.quantity, ratio.stated.value
        mine, other = table[ratio.model, quantity].value, table[ratio.against, quantity].value
        corners = [
            compare(ratio.relation, mine + a * last_digit(mine) / 2, other + b * last_digit(other) / 2)
            for a in (-1, 1)
            for b in (-1, 1)
        ]
        slack = last_digit(stated) / 2
        assert min(corners) - slack <= stated <= max(corners) + slack, str(ratio)
        assert min(corners) <= exact <= max(corners)
        checked.append((ratio.against, quantity, round(exact, 2)))
    assert checked == [
        ("MobileNetV2×1.4", "npu", 1.0),  # 1.6 / 1.6
        ("MobileNetV2×1.4", "top1", 4.5),  # 79.2 - 74.7
        ("EfficientNet-B0", "npu", 40.74),  # 1 - 1.6 / 2.7; 2.7 / 1.6 would be 69 % faster
        ("EfficientNet-B0", "top1", 2.1),  # 79.2 - 77.1
        ("PoolFormer-S36", "top1", 1.0),  # 82.4 - 81.4
        ("PoolFormer-S36", "npu", 2.23),  # 6.7 / 3.0
        ("DeiT-S", "npu", 3.93),  # 11.8 / 3.0
        ("MobileViT-XS", "top1", 4.4),  # 79.2 - 74.8
        ("MobileViT-XS", "npu", 4.5),  # 7.2 / 1.6
    ]


def test_ratios_without_cells_stay_without_arithmetic() -> None:
    unchecked = {(ratio.against, ratio.stated.quantity) for ratio in ratios() if ratio.from_cells(table1()) is None}
    assert unchecked == {
        ("PoolFormer-S36", "a100"),
        ("PoolFormer-S36", "cpu"),
        ("EfficientNet-B5", "npu"),
        ("EfficientNet-B5", "a100"),
        ("MobileViT-XS", "a100"),
        ("MobileViT-XS", "cpu"),
    }


def test_ratios_name_models_protocols_and_relations() -> None:
    names = {row.name for row in table1().rows}
    for ratio in ratios():
        assert {ratio.model, ratio.against} - names <= {"EfficientNet-B5"}  # no cell of its row is sourced
        assert ratio.stated.protocol
        assert ratio.stated.unit == UNITS[ratio.relation]
    assert [str(ratio) for ratio in ratios() if ratio.at_least] == [
        "EfficientFormer-L7 against EfficientNet-B5, npu: more than 3 times as fast (reported, TR)"
    ]


def test_an_unknown_relation_is_rejected() -> None:
    with pytest.raises(ValueError, match="relation='half' is not possible; allowed: points, times, percent"):
        compare("half", 1, 2)
