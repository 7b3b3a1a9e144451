"""Every published count is derived: the integers, and which printed number each of them rounds to."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from efficientformer_edu import paper
from efficientformer_edu.audit import count, deit, explain, published
from efficientformer_edu.audit.published import Derivation, derivations
from efficientformer_edu.config import PRESETS

ALL = derivations()
TABLE1 = "Table 1, ImageNet-1K"
MODELS = "mmpretrain, table of models"
METAFILE = "mmpretrain, metafile"
TIMM = "timm, benchmark results"
NETSPRESSO = "NetsPresso, table of models"

DERIVED = {
    (TABLE1, "params"): {"l1": 12_250_227, "l3": 31_330_131, "l7": 82_106_483},
    (TABLE1, "macs"): {"l1": 1_300_053_440, "l3": 3_925_848_064, "l7": 10_159_032_832},
    (MODELS, "params"): {"l1": 12_278_696, "l3": 31_406_000, "l7": 82_229_328},
    (MODELS, "macs"): {"l1": 1_304_601_088, "l3": 3_737_045_760, "l7": 10_163_951_616},
    (METAFILE, "params"): {"l1": 12_278_696, "l3": 31_406_000, "l7": 82_229_328},
    (METAFILE, "macs"): {"l1": 1_304_601_088, "l3": 3_737_045_760, "l7": 10_163_951_616},
    (TIMM, "params"): {"l1": 12_289_928, "l3": 31_406_000, "l7": 82_229_328},
    (TIMM, "macs"): {"l1": 1_302_113_344, "l3": 3_929_353_216, "l7": 10_165_500_160},
    (NETSPRESSO, "params"): {"l1": 11_840_928},
    (NETSPRESSO, "flops"): {"l1": 2 * (1_302_113_344 - 448_000)},
}


def derivation(where: str, model: str, quantity: str) -> Derivation:
    (derivation,) = (d for d in ALL if (d.where, d.model, d.quantity) == (where, model, quantity))
    return derivation


@pytest.mark.parametrize("cell", DERIVED, ids=" ".join)
def test_the_derived_integers(cell: tuple[str, str]) -> None:
    where, quantity = cell
    assert {d.model: d.value for d in ALL if (d.where, d.quantity) == cell and d.model in PRESETS} == DERIVED[cell]
    assert all(derivation(where, model, quantity).holds for model in DERIVED[cell])


def test_our_count_is_of_the_same_network() -> None:
    single = count(PRESETS["l1"].replace(distillation=False))
    assert (derivation(NETSPRESSO, "l1", "params").own_count, derivation(NETSPRESSO, "l1", "flops").own_count) == (
        11_840_928,
        2 * (1_291_284_736 - 448_000),
    )
    assert single.macs == 1_291_284_736 - 448_000
    for where in (TABLE1, MODELS, METAFILE, TIMM):
        for name in PRESETS:
            assert (derivation(where, name, "params").own_count, derivation(where, name, "macs").own_count) == (
                {"l1": 12_289_928, "l3": 31_406_000, "l7": 82_229_328}[name],
                {"l1": 1_291_284_736, "l3": 3_906_573_312, "l7": 10_119_325_696}[name],
            )


def test_our_counts_that_would_be_printed_differently() -> None:
    assert {(d.where, d.model, d.quantity) for d in ALL if not d.exact} == {
        *((TABLE1, "l3", "params"), (TABLE1, "l7", "params"), (TABLE1, "l7", "macs")),
        *((TABLE1, "DeiT-S", "params"), (TABLE1, "DeiT-S", "macs")),
        *((MODELS, "l1", "params"), (MODELS, "l1", "macs"), (MODELS, "l3", "macs"), (MODELS, "l7", "macs")),
        *((METAFILE, "l1", "params"), (METAFILE, "l1", "macs"), (METAFILE, "l3", "macs"), (METAFILE, "l7", "macs")),
        *((TIMM, "l1", "macs"), (TIMM, "l3", "macs"), (TIMM, "l7", "macs"), (NETSPRESSO, "l1", "flops")),
    }


def test_table_1_prints_what_the_counter_of_the_repository_gives() -> None:
    counts = {name: count(name).params for name in PRESETS}
    skipped = {"l1": 31_920 + 6_944 + 392, "l3": 58_432 + 15_360 + 1_568, "l7": 89_376 + 29_568 + 3_136}
    for name, config in PRESETS.items():
        slip = config.embed_dims[-1] - 3  # a convolution's bias counts its inputs: the widths cancel but for two
        assert counts[name] - derivation(TABLE1, name, "params").value == skipped[name] + slip
    printed = [derivation(TABLE1, name, "params").how.rpartition("printed as ")[2] for name in PRESETS]
    assert printed == ["12.3.", "31.4.", "82.2."]
    assert derivation(TABLE1, "l7", "macs").how.endswith("Ours would be printed as 10.1.")


def test_the_counting_errors_of_mmpretrain() -> None:
    assert 12_289_928 - derivation(MODELS, "l1", "params").value == 648 + 24 + 10_368 + 48 + 144
    assert round(count(PRESETS["l3"].replace(num_vit=1)).params / 1e6, 2) == 27.48
    assert explain("mmpretrain", "l3").total - derivation(MODELS, "l3", "macs").value == 3 * 63_924_224
    how = derivation(MODELS, "l3", "macs").how
    assert "a network of 27,475,736 parameters, not 31,406,000" in how and "L3 itself would be printed as 3.93." in how
    assert 'The heading says "Flops"; these are MACs.' in how


def test_table_6_as_printed() -> None:
    by_model = {d.model: d for d in ALL if d.where == "Table 6"}
    assert {model: round(d.value / 1e6, 2) for model, d in by_model.items()} == {"l3": 30.10, "l7": 70.37}
    for model, d in by_model.items():
        assert d.holds and not paper.table1()[model, "params"].stands_for(d.value / 1e6)
        assert d.how.endswith("the code is right.")


class Block(nn.Module):
    """A block of DeiT with the two products written out, so that a counter records them."""

    def __init__(self, width: int = 384, heads: int = 6) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:  # (B, N, C)
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class DeiT(nn.Module):
    """DeiT-S with one head, or with two."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 384, 16, 16)
        self.tokens = nn.Parameter(torch.zeros(1, heads, 384))
        self.positions = nn.Parameter(torch.zeros(1, 196 + heads, 384))
        self.blocks = nn.Sequential(*(Block() for _ in range(12)))
        self.norm = nn.LayerNorm(384)
        self.heads = nn.ModuleList(nn.Linear(384, 1000) for _ in range(heads))

    def forward(self, image: Tensor) -> list[Tensor]:
        x = torch.cat([self.tokens, self.embed(image).flatten(2).mT], dim=1) + self.positions  # (B, N, C)
        x = self.norm(self.blocks(x))
        return [head(x[:, i]) for i, head in enumerate(self.heads)]


@pytest.mark.parametrize("distilled", [False, True])
def test_deit_in_closed_form(distilled: bool) -> None:
    network = DeiT(1 + distilled)
    assert deit.params(distilled) == sum(p.numel() for p in network.parameters())
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 224, 224))
    assert deit.macs(distilled) == counter.get_total_flops() // 2


def test_deit_prints_macs_that_no_counter_matches_exactly() -> None:
    params, macs = derivation(TABLE1, "DeiT-S", "params"), derivation(TABLE1, "DeiT-S", "macs")
    assert (params.value, macs.value) == (22_436_432, 4_598_882_304)
    assert not params.holds and not macs.holds
    assert "printed as 22.1 and 22.4. The printed number is 0.3 % above the nearer." in params.how
    assert "printed as 4.6. The printed number is 2.2 % below the nearer. FLOPs would be 9.2" in macs.how
    assert deit.block_macs() == 4_540_695_552 and macs.how.endswith("would be printed as 4.5.")


def test_every_published_count_is_derived_once() -> None:
    cells = [cell for table in paper.external_counts() for row in table.rows for cell in row.cells]
    cells += [
        cell for name in (*PRESETS, "DeiT-S") for cell in (paper.table1()[name, "params"], paper.table1()[name, "macs"])
    ]
    cells += [network.printed.params for network in paper.architectures() if network.printed]
    assert sorted(map(repr, cells)) == sorted(repr(d.printed) for d in ALL)
    assert len({(d.where, d.model, d.quantity) for d in ALL}) == len(ALL) == 30


def test_a_wrong_network_is_not_derived() -> None:
    derived = derivations(PRESETS | {"l1": PRESETS["l1"].replace(depths=(3, 2, 8, 4))})
    assert all(d.holds == (d.model in ("l3", "l7")) for d in derived)


def test_the_table_has_a_row_per_count() -> None:
    table = published.table()
    assert len(table.rows) == len(ALL)
    assert table.to_markdown().count("| yes |") == len(ALL) - 2
    assert "| mmpretrain, table of models | l1 | params | 12.28 M | 12,278,696 | yes |" in table.to_markdown()


def test_it_runs_with_the_standard_library_alone() -> None:
    probe = (
        "import sys; from efficientformer_edu.audit.published import table; table();"
        "print({'torch', 'numpy', 'yaml', 'matplotlib'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout == "set()\n"
