"""The computed verdicts: their content for the published networks, and that each can fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from efficientformer_edu import model, paper
from efficientformer_edu.audit.published import derivations
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.paper import Reported, report
from efficientformer_edu.paper.report import Row, design, recipe, rows, slimming, table1
from efficientformer_edu.paper.report import table1 as counted
from efficientformer_edu.paper.report.table1 import follows_from_cells
from efficientformer_edu.paper.tables import compare

ROWS = {row.name: row for row in rows()}


def wrong(preset: str, **fields: Any) -> dict[str, Row]:
    """The rows for a set of networks in which one differs from the published network."""
    return {row.name: row for row in rows(PRESETS | {preset: PRESETS[preset].replace(**fields)})}


@pytest.mark.parametrize(
    ("item", "status", "ours"),
    [
        ("EfficientFormer-L1, parameters", "exact", "12,289,928"),
        ("EfficientFormer-L3, parameters", "disagrees", "31,406,000; by the rule of toolbox.py 31,330,131"),
        ("EfficientFormer-L7, parameters", "disagrees", "82,229,328; by the rule of toolbox.py 82,106,483"),
        ("EfficientFormer-L1, multiply-adds", "exact", "1,291,284,736"),
        ("EfficientFormer-L3, multiply-adds", "exact", "3,906,573,312"),
        ("EfficientFormer-L7, multiply-adds", "disagrees", "10,119,325,696; by the rule of toolbox.py 10,159,032,832"),
    ],
)
def test_table_1(item: str, status: str, ours: str) -> None:
    row = ROWS[f"Table 1: {item}"]
    assert (row.status, row.result, row.kind) == (status, ours, "computed")
    explained = "Explained. The repository's counter, toolbox.py, gives our count "
    assert row.why.startswith(explained) if status == "disagrees" else row.why == ""


@pytest.mark.parametrize(
    ("name", "status", "ours", "why"),
    [
        (
            "mmpretrain, table of models: EfficientFormer-L1, Params",
            "disagrees",
            "12,289,928; without the stem 12,278,696",
            "Explained. All parameters that a training changes: the stem's 11,232 were frozen.",
        ),
        (
            "mmpretrain, table of models: EfficientFormer-L3, Flops",
            "disagrees",
            "3,906,573,312; by the rule of mmpretrain with num_vit=1 3,737,045,760",
            "Counted on 1 MB3D block instead of 4: a network of 27,475,736 parameters, not 31,406,000.",
        ),
        ("mmpretrain, metafile: EfficientFormer-L3, Parameters", "exact", "31,406,000", ""),
        (
            "timm, benchmark results: EfficientFormer-L7, infer_gmacs",
            "disagrees",
            "10,119,325,696; by the rule of fvcore 10,165,500,160",
            "Explained. fvcore gives our count + 2 × each element of batch norm + 5 × each element of layer norm.",
        ),
        ("NetsPresso, table of models: EfficientFormer-L1, Params", "exact", "11,840,928", ""),
        (
            "NetsPresso, table of models: EfficientFormer-L1, FLOPs",
            "disagrees",
            "2,581,673,472; by the rule of fvcore 2,603,330,688",
            "Explained. Two for each MAC that fvcore counts of the network with one head, 1,301,665,344:",
        ),
        ("Table 1: DeiT-S, parameters", "disagrees", "22,436,432", "Not explained. DeiT-S has 22,050,664 parameters"),
        ("Table 1: DeiT-S, multiply-adds", "disagrees", "4,598,882,304", "so the number is one of MACs."),
    ],
)
def test_counts_of_others(name: str, status: str, ours: str, why: str) -> None:
    row = ROWS[name]
    assert (row.status, row.result, row.kind) == (status, ours, "computed")
    assert why in row.why and bool(row.why) == (status == "disagrees")


def test_every_count_of_other_projects_is_exact_or_explained() -> None:
    rows = [row for row in ROWS.values() if row.part == counted.PART]
    assert len(rows) == sum(len(row.cells) for table in paper.external_counts() for row in table.rows) == 20
    assert all(row.status == "exact" or row.why.startswith("Explained. ") for row in rows)
    assert sum(row.status == "exact" for row in rows) == 8


def test_an_unexplained_count_is_reported() -> None:
    for derivation in derivations(PRESETS | {"l1": PRESETS["l3"]}):
        if derivation.model == "l1":
            verdict = counted.counted(derivation)
            assert verdict.status == "disagrees" and verdict.why.startswith("Not explained. ")


@pytest.mark.parametrize("preset", ["l3", "l7"])
def test_table_6_as_printed_would_have_other_parameters(preset: str) -> None:
    slip = next(architecture.printed for architecture in paper.architectures() if architecture.preset == preset)
    assert slip
    row = next(row for row in ROWS.values() if row.record == slip)
    assert row.status == "follows the code"
    as_printed = int(row.result.partition("as printed ")[2].partition(" ")[0].replace(",", ""))
    assert round(as_printed / 1e6, 1) == slip.params.value != paper.table1()[preset, "params"].value


def test_a_network_as_printed_is_called_so() -> None:
    rows = wrong("l3", num_vit=3)
    assert rows["Table 6: EfficientFormer-L3, stage 4 as printed"].status == "exact"


@pytest.mark.parametrize(
    ("preset", "fields", "names"),
    [
        (
            "l1",
            {"depths": (3, 2, 6, 5)},
            ["Table 1: EfficientFormer-L1, parameters", "released code: EfficientFormer-L1"],
        ),
        (
            "l1",
            {"depths": (3, 3, 12, 4)},
            [
                "Table 1: EfficientFormer-L1, multiply-adds",
                "difference 7: number of parameters",
                "timm, benchmark results: EfficientFormer-L1, param_count",
            ],
        ),
        ("l3", {"num_vit": (0, 0, 1, 4)}, ["released code: EfficientFormer-L3", "difference 4: stages with MB3D"]),
        ("l3", {"num_vit": 5}, ["released code: EfficientFormer-L3"]),
        (
            "l3",
            {"depths": (4, 4, 14, 7)},
            ["difference 5: stage 4 of L3", "Table 6: EfficientFormer-L3, stage 4 as printed"],
        ),
        ("l7", {"depths": (6, 6, 17, 8)}, ["difference 6: stage 3 of L7"]),
        ("l7", {"stem_act": "gelu"}, ["difference 3: activation of the stem"]),
        (
            "l1",
            {"key_dim": 16, "attn_ratio": 8.0},
            ["released code: key dimension", "difference 2: scale of the attention scores"],
        ),
        ("l1", {"attn_ratio": 2.0}, ["released code: value dimension"]),
        ("l7", {"num_heads": 4}, ["released code: attention heads"]),
        ("l7", {"pool_size": 5}, ["released code: pooling window"]),
        ("l7", {"mlp_ratio": 3.0}, ["released code: MLP expansion"]),
        ("l7", {"downsamples": (True, True, True, True)}, ["released code: map sizes"]),
    ],
)
def test_a_wrong_network_disagrees(preset: str, fields: dict[str, Any], names: list[str]) -> None:
    rows = wrong(preset, **fields)
    for name in names:
        assert ROWS[name].status != "disagrees" and rows[name].status == "disagrees", name


def test_another_crop_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    from efficientformer_edu.weights import RULES

    name = "difference 9: evaluation crop"
    assert ROWS[name].status == "follows the code"
    monkeypatch.setitem(RULES, "timm", RULES["official"])
    assert next(row for row in rows() if row.name == name).status == "disagrees"


EQUATIONS = {
    "network": "exact",
    "metablock": "exact",
    "stem": "exact",
    "mb4d": "follows the code",
    "mb3d": "follows the code",
    "mhsa": "follows the code",
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_an_equation(name: str) -> None:
    assert report.check(name).status == EQUATIONS[name]


def after(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A forward pass whose result is modified."""

    def patched(forward: Any) -> Any:
        return lambda self, *inputs: change(forward(self, *inputs))

    return patched


@pytest.mark.parametrize(
    ("name", "module", "change"),
    [
        ("network", "EfficientFormer", lambda maps: [*maps[:3], maps[3].flip(2)]),
        ("metablock", "MB4D", lambda x: x * 1.001),
        ("metablock", "MB3D", lambda x: x + 1e-9),
        ("stem", "Stem", lambda x: x[..., 1:]),
        ("mb4d", "Pooling", lambda x: -x),
        ("mb4d", "ConvMlp", lambda x: x.relu()),
        ("mb3d", "Mlp", lambda x: x.relu()),
        ("mb3d", "MB3D", lambda x: x.flip(1)),
        ("mhsa", "Attention", lambda x: x.flip(1)),
    ],
)
def test_a_module_that_computes_something_else_disagrees(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, change: Callable[[Any], Any]
) -> None:
    patched = getattr(model, module)
    method = "features" if module == "EfficientFormer" else "forward"
    monkeypatch.setattr(patched, method, after(change)(getattr(patched, method)))
    assert report.check(name).status == "disagrees"


def test_the_equation_as_printed_would_be_called_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    mixer = model.Attention.__init__

    def by_width(self: Any, dim: int, *args: Any) -> None:
        mixer(self, dim, *args)
        self.scale = dim**-0.5

    monkeypatch.setattr(model.Attention, "__init__", by_width)
    assert report.check("mhsa").status == "exact"


def test_an_equation_without_a_check_is_rejected() -> None:
    with pytest.raises(
        ValueError, match="'supernet' has no check; there are network, metablock, stem, mb4d, mb3d, mhsa"
    ):
        report.check("supernet")


def test_the_reasons_name_the_right_differences() -> None:
    topics = {difference.number: difference.topic for difference in paper.differences()}
    assert "difference 1" in design.WHY["mb4d"] and topics[1] == "token mixer of MB4D"
    assert "difference 2" in design.WHY["mhsa"] and topics[2] == "scale of the attention scores"


def test_a_check_leaves_the_random_numbers_as_they_were() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    report.check("network")
    assert torch.equal(torch.rand(4), expected)


def test_ratios_follow_from_their_cells_or_have_none() -> None:
    rows = [row for row in ROWS.values() if isinstance(row.record, paper.Ratio)]
    assert {row.status for row in rows} == {"consistent", "not reproducible here"}
    for row in rows:
        exact = row.record.from_cells(paper.table1())
        assert (row.status == "consistent") == (exact is not None)
        assert row.kind == ("reported" if exact is not None else None)
        assert exact is None or float(row.result.split()[0]) == pytest.approx(exact, abs=0.005)


@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_ratio_that_the_cells_do_not_give_disagrees(factor: float) -> None:
    for ratio in paper.ratios():
        if ratio.from_cells(paper.table1()) is not None:
            stated = replace(ratio.stated, value=ratio.stated.value * factor)
            assert table1.compared(replace(ratio, stated=stated), paper.table1()).status == "disagrees"


@given(
    st.sampled_from(["points", "times", "percent"]),
    st.integers(10, 999),
    st.integers(10, 999),
    st.floats(-0.49, 0.49),
    st.floats(-0.49, 0.49),
    st.integers(0, 2),
)
def test_a_ratio_of_numbers_that_round_to_the_cells_follows(
    relation: str, mine: int, other: int, a: float, b: float, places: int
) -> None:
    cells = [Reported("npu", tenths / 10, "ms", ("V",)) for tenths in (mine, other)]
    models = tuple(paper.Row(name, (cell,)) for name, cell in zip(("A", "B"), cells, strict=True))
    table = paper.Table("Table", (paper.Column("npu", "latency", "ms"),), models)
    exact = compare(relation, (mine + a) / 10, (other + b) / 10)
    value = round(exact, places) if places else round(exact)
    ratio = paper.Ratio("A", "B", relation, Reported("npu", value, "", ("V",)))
    assert follows_from_cells(ratio, table)
    beyond = replace(ratio, stated=replace(ratio.stated, value=value + 10.0 ** (3 + abs(len(str(value))))))
    assert not follows_from_cells(beyond, table)


def test_more_than_is_no_upper_bound() -> None:
    ratio = next(
        bound for bound in paper.ratios() if bound.relation == "times" and bound.from_cells(paper.table1()) is not None
    )
    half = replace(ratio, stated=replace(ratio.stated, value=ratio.stated.value / 2))
    assert not follows_from_cells(half, paper.table1())
    assert follows_from_cells(replace(half, at_least=True), paper.table1())
    twice = replace(ratio, stated=replace(ratio.stated, value=ratio.stated.value * 2), at_least=True)
    assert not follows_from_cells(twice, paper.table1())


def test_every_claim_among_the_remarks_is_a_single_remark() -> None:
    remarks = [remark for topic in ("slimming", "appendix_b", "recipe") for remark in paper.remarks(topic)]
    for claim in recipe.CLAIMS:
        assert sum(remark.text.startswith(claim) for remark in remarks) == 1, claim
    assert not set(slimming.MEASURED) - set(report.MEANINGS)


def test_no_configuration_is_changed_by_a_report() -> None:
    assert PRESETS["l1"] == EfficientFormerConfig()
