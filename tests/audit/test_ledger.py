"""The ledger against published integers, the real network, and torch's own counters."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from math import prod

import pytest
import torch
from hypothesis import given, settings
from strategies import configs, resolutions
from torch.utils.flop_counter import FlopCounterMode

from efficientformer_edu.audit import Costs, count
from efficientformer_edu.audit.counters import fvcore_analysis
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.model import EfficientFormer, fold

TINY = EfficientFormerConfig(
    depths=(1, 1, 2, 2), embed_dims=(4, 6, 8, 10), num_classes=5, num_heads=2, key_dim=3, attn_ratio=2.0
)


def images(costs: Costs) -> torch.Tensor:
    return torch.zeros(1, costs.config.in_channels, *costs.resolution)


def millions(costs: Costs, *kinds: str, where: str = "") -> float:
    rows = [row for row in costs.rows if row.kind in kinds and where in f"{row.stage} {row.block} {row.name}"]
    return round(sum(row.macs for row in rows) / 1e6, 3)


def elements(costs: Costs, kind: str, where: str = "") -> float:
    rows = [row for row in costs.rows if row.kind == kind and where in f"{row.block} {row.name}"]
    return round(sum(prod(row.output_shape) for row in rows) / 1e6, 3)


@pytest.mark.parametrize(
    ("name", "params", "single_head", "macs"),
    [
        ("l1", 12_289_928, 11_840_928, 1_291_284_736),
        ("l3", 31_406_000, 30_893_000, 3_906_573_312),
        ("l7", 82_229_328, 81_460_328, 10_119_325_696),
    ],
)
def test_published_networks(name: str, params: int, single_head: int, macs: int) -> None:
    costs = count(name)
    assert (costs.params, costs.macs) == (params, macs)
    assert count(PRESETS[name].replace(distillation=False)).params == single_head


@pytest.mark.parametrize(
    ("name", "stem", "embedding", "conv_mlp", "linears", "products", "head"),
    [
        ("l1", 40.643, 114.702, 997.097, (33.718, 22.479, 78.676), (0.615, 2.459), 0.448),
        ("l3", 68.641, 202.310, 2954.363, (154.141, 102.760, 411.042), (2.459, 9.834), 0.512),
        ("l7", 146.313, 390.169, 6936.330, (462.422, 308.281, 1849.688), (4.917, 19.669), 0.768),
    ],
)
def test_classes_of_operations(
    name: str,
    stem: float,
    embedding: float,
    conv_mlp: float,
    linears: tuple[float, ...],
    products: tuple[float, ...],
    head: float,
) -> None:
    costs = count(name)
    assert millions(costs, "convolution", where="stem") == stem
    assert millions(costs, "convolution", where="embedding") == embedding
    assert millions(costs, "convolution", where="MB4D") == conv_mlp
    assert tuple(millions(costs, "linear", where=part) for part in (".qkv", ".proj", ".mlp")) == linears
    assert tuple(millions(costs, "attention product", where=part) for part in (".scores", ".values")) == products
    assert millions(costs, "linear", where="head_dist") == head
    assert millions(costs, "linear", where="head") == 2 * head


@pytest.mark.parametrize(
    ("name", "batch_norm", "gelu_4d", "gelu_3d", "pool", "layer_norm", "softmax"),
    [
        ("l1", 5.250, 3.726, 0.088, 0.931, 0.066, 0.019),
        ("l3", 10.825, 8.028, 0.401, 2.007, 0.226, 0.077),
        ("l7", 21.488, 16.257, 1.204, 4.064, 0.640, 0.154),
    ],
)
def test_elements_of_operations_without_macs(
    name: str, batch_norm: float, gelu_4d: float, gelu_3d: float, pool: float, layer_norm: float, softmax: float
) -> None:
    costs = count(name)
    assert elements(costs, "batch norm") == batch_norm
    assert elements(costs, "activation", where="MB4D") == gelu_4d
    assert elements(costs, "activation", where="MB3D") == gelu_3d
    assert elements(costs, "pool") == pool
    assert elements(costs, "layer norm") == layer_norm
    assert elements(costs, "softmax") == softmax
    counted = {"convolution", "linear", "attention product"}
    assert all((row.macs > 0) == (row.kind in counted) for row in costs.rows)


PRODUCTS = ("conv", "linear", "addmm", "matmul")  # as fvcore names them; the others it counts are norms and resizing


@pytest.mark.parametrize(
    ("name", "core", "with_products", "linear_bias"),
    [("l1", 1288.211, 1291.285, 0.209), ("l3", 3894.280, 3906.573, 0.905), ("l7", 10094.739, 10119.326, 2.410)],
)
def test_the_core_and_what_biases_add(name: str, core: float, with_products: float, linear_bias: float) -> None:
    costs = count(name)
    assert millions(costs, "convolution", "linear") == core
    assert millions(costs, "convolution", "linear", "attention product") == with_products
    assert elements(costs, "convolution bias") == elements(costs, "batch norm")
    assert elements(costs, "linear bias") == linear_bias


@pytest.mark.slow
@settings(max_examples=500)
@given(config=configs(), resolution=resolutions)
def test_equals_the_real_network(config: EfficientFormerConfig, resolution: tuple[int, int]) -> None:
    costs = count(config, resolution)
    model, image = EfficientFormer(config).eval(), images(costs)
    assert costs.params == sum(p.numel() for p in model.parameters())
    assert costs.sums.weight_bytes == sum(4 * t.numel() for t in model.state_dict().values() if t.is_floating_point())
    operators = fvcore_analysis(model, image).by_operator()
    assert costs.macs == sum(operators[product] for product in PRODUCTS)
    resized = sum(row.elements for row in costs.rows if row.kind == "resize")
    assert operators["upsample_bilinear2d"] == 4 * resized  # fvcore counts 4 per element of the result
    # Meta tensors have shapes but no values, so that a network runs in no time.
    with FlopCounterMode(display=False) as counter:
        model.to("meta")(image.to("meta"))
    assert 2 * costs.macs == counter.get_total_flops()


@pytest.mark.slow
@settings(max_examples=40)
@given(config=configs(), resolution=resolutions)
def test_the_folded_form_equals_the_result_of_fold(config: EfficientFormerConfig, resolution: tuple[int, int]) -> None:
    costs = count(config, resolution, form="folded")
    model = fold(EfficientFormer(config).eval(), resolution)
    assert costs.params == sum(p.numel() for p in model.parameters())
    assert costs.sums.weight_bytes == sum(4 * t.numel() for t in model.state_dict().values())
    assert {row.name for row in costs.rows if row.params + row.buffers} == owners(model, costs)
    with FlopCounterMode(display=False) as counter:
        model.to("meta")(images(costs).to("meta"))
    assert 2 * costs.macs == counter.get_total_flops()


@pytest.mark.slow
@settings(max_examples=15)
@given(config=configs(), resolution=resolutions)
def test_shapes_of_the_folded_network(config: EfficientFormerConfig, resolution: tuple[int, int]) -> None:
    costs = count(config, resolution, form="folded")
    model = fold(EfficientFormer(config).eval(), resolution)
    rows = {row.name: row.output_shape for row in costs.rows}
    ran: dict[str, tuple[int, ...]] = {}
    for name, module in model.named_modules():
        if name in rows:
            module.register_forward_hook(lambda *call, name=name: ran.update({name: tuple(call[-1].shape[1:])}))
    with torch.inference_mode():
        model(images(costs))
    assert ran == {name: rows[name] for name in rows if name in ran}
    computing = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.LayerNorm, torch.nn.AvgPool2d, torch.nn.Softmax)
    assert {name for name, module in model.named_modules() if isinstance(module, computing)} <= set(ran)


def owners(model: EfficientFormer, costs: Costs) -> set[str]:
    """The rows that a network's tensors belong to: those of their own name, or of their module."""
    rows = {row.name for row in costs.rows}
    floats = [name for name, tensor in model.state_dict().items() if tensor.is_floating_point()]
    return {name if name in rows else name.rpartition(".")[0] for name in floats}


@settings(max_examples=15)
@given(config=configs(), resolution=resolutions)
def test_rows_match_the_real_network(config: EfficientFormerConfig, resolution: tuple[int, int]) -> None:
    costs = count(config, resolution)
    model = EfficientFormer(config).eval()
    rows = {row.name: row for row in costs.rows}
    assert len(rows) == len(costs.rows)
    modules = {name: module for name, module in model.named_modules() if name in rows}
    ran: dict[str, tuple[int, ...]] = {}  # in the order in which they run
    for name, module in modules.items():
        module.register_forward_hook(lambda *call, name=name: ran.update({name: tuple(call[-1].shape[1:])}))
    with torch.inference_mode():
        model(images(costs))

    assert ran == {name: rows[name].output_shape for name in modules}
    assert list(ran) == [row.name for row in costs.rows if row.name in modules]
    for name, module in modules.items():
        biases = rows[f"{name}.bias"].params if f"{name}.bias" in rows else 0
        assert sum(p.numel() for p in module.parameters()) == rows[name].params + biases, name
    # Every module that computes something has a row, and so has every parameter.
    leaves = {name for name, module in model.named_modules() if name and not list(module.children())}
    idle = (torch.nn.Dropout, torch.nn.Identity, torch.nn.ModuleList)
    drop_paths = {name for name in leaves if name.endswith("drop_path")}
    assert leaves - drop_paths - set(rows) == {n for n in leaves if isinstance(model.get_submodule(n), idle)}
    assert owners(model, costs) == {row.name for row in costs.rows if row.params > 0}
    # Anything that is not a module is one of the known operations between modules, or the bias of one.
    free = {"attention product", "attention bias", "residual", "arithmetic", "resize", "token mean"}
    free |= {"convolution bias", "linear bias"}
    assert {row.kind for row in costs.rows if row.name not in modules} <= free


def test_attention_shapes_of_the_real_network() -> None:
    costs = count(TINY, (64, 96))
    maps = EfficientFormer(TINY).eval().attention_maps(images(costs))
    softmax = [row for row in costs.rows if row.kind == "softmax"]
    assert [tuple(attention.shape[1:]) for attention in maps] == [row.output_shape for row in softmax] == [(2, 6, 6)]


def test_hand_worked_attention() -> None:
    # 2×3 tokens of 10 channels, 2 heads of 3 + 3 + 6 channels.
    rows = {row.name.removeprefix("stages.3.mb3d.0.token_mixer."): row for row in count(TINY, (64, 96)).rows}
    assert (rows["qkv"].params, rows["qkv"].macs) == (10 * 24, 6 * 10 * 24)
    assert rows["qkv.bias"].params == 24
    assert rows["scores"].macs == 2 * 6 * 6 * 3
    assert rows["values"].macs == 2 * 6 * 6 * 6
    assert (rows["proj"].params, rows["proj"].macs) == (12 * 10, 6 * 12 * 10)
    assert rows["attention_biases"].params == 2 * 49


@pytest.mark.parametrize("level", ["op", "block", "stage", "kind"])
def test_sums_by_every_level(level: str) -> None:
    costs = count("l1")
    sums = costs.by(level)
    assert sum(cost.params for cost in sums.values()) == costs.params
    assert sum(cost.macs for cost in sums.values()) == costs.macs
    table = costs.to_markdown(level).splitlines()
    assert len(table) == len(sums) + 3
    assert table[-1].startswith("| **total** | **12,289,928** | **1,291,284,736** |")


def test_labels_follow_the_network() -> None:
    costs = count("l1")
    assert list(costs.by("stage")) == ["stem", "stage 1", "stage 2", "stage 3", "stage 4", "head"]
    blocks = list(costs.by("block"))
    assert blocks[:4] == ["stem", "stage 1, MB4D 1", "stage 1, MB4D 2", "stage 1, MB4D 3"]
    assert blocks[4] == "stage 2, embedding"
    assert blocks[-2:] == ["stage 4, MB3D 1", "head"]
    assert len(costs.by("op")) == len(costs.rows)


def test_csv_has_every_operation() -> None:
    costs = count("l1", form="folded")
    lines = list(csv.DictReader(io.StringIO(costs.to_csv())))
    assert [line["name"] for line in lines] == [row.name for row in costs.rows]
    for column, total in costs.sums._asdict().items():
        assert sum(int(line[column]) for line in lines) == total
    assert lines[0]["output_shape"] == "24×112×112"


def test_sizes_of_a_single_operation() -> None:
    rows = {row.name: row for row in count("l1").rows}
    conv, bias, norm = rows["stem.conv1"], rows["stem.conv1.bias"], rows["stem.norm1"]
    assert (conv.elements, conv.activation_bytes, conv.weight_bytes) == (24 * 112 * 112, 4 * 24 * 112 * 112, 4 * 648)
    assert (bias.elements, bias.activation_bytes, bias.weight_bytes) == (24 * 112 * 112, 0, 4 * 24)
    assert (norm.params, norm.buffers, norm.weight_bytes) == (2 * 24, 2 * 24, 4 * 4 * 24)
    assert (conv.window, rows["stages.0.mb4d.0.token_mixer.pool"].window, rows["pooled"].window) == (9, 9, 49)


def test_the_table_is_resized_only_on_another_grid() -> None:
    assert "resize" not in count("l1", 224).by("kind")
    rows = [row for row in count("l3", (256, 320)).rows if row.kind == "resize"]
    assert [row.output_shape for row in rows] == [(8, 8, 10)] * 4
    assert "resize" not in count("l3", (256, 320), form="folded").by("kind")


@pytest.mark.parametrize(
    ("bias_grid", "num_vit", "resized"),
    [
        ((2, 3), 1, []),
        ((3, 2), 1, [(2, 3)]),  # as many tokens, in another shape
        ((1, 6), 1, [(2, 3)]),
        ((6, 1), 1, [(2, 3)]),
        ((2, 2), 1, [(2, 3)]),  # one side is the same
        ((1, 1), 1, [(2, 3)]),
        ((4, 6), (0, 0, 1, 1), [(2, 3)]),  # only the last stage has another grid
        ((2, 3), (0, 0, 1, 1), [(4, 6)]),
        ((6, 4), (0, 0, 1, 2), [(4, 6), (2, 3), (2, 3)]),
    ],
)
def test_the_table_is_resized_for_a_grid_of_another_shape(bias_grid, num_vit, resized) -> None:
    config = TINY.replace(bias_grid=bias_grid, num_vit=num_vit)
    costs = count(config, (64, 96))
    assert [row.output_shape for row in costs.rows if row.kind == "resize"] == [(2, *grid) for grid in resized]
    operators = fvcore_analysis(EfficientFormer(config).eval(), images(costs)).by_operator()
    assert operators["upsample_bilinear2d"] == 4 * 2 * sum(map(prod, resized))


def test_json_holds_everything() -> None:
    costs = count("l1", (384, 640))
    loaded = json.loads(costs.to_json())
    assert EfficientFormerConfig.from_dict(loaded["config"]) == costs.config
    assert (loaded["resolution"], loaded["params"], loaded["macs"]) == ([384, 640], costs.params, costs.macs)
    assert sum(row["macs"] for row in loaded["rows"]) == costs.macs


def test_repr_is_a_single_line() -> None:
    assert repr(count("l1")).startswith("Costs(12,289,928 params, 1,291,284,736 MACs at 224×224, ")


def test_parameters_do_not_depend_on_the_input_size() -> None:
    assert count("l3", 384).params == count("l3", (33, 500)).params == count("l3").params


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: count("l2"), "Unknown model 'l2'"),
        (lambda: count("l1", 31), "resolution=31"),
        (lambda: count("l1", (224, 0)), "resolution"),
        (lambda: count("l1", form="fused"), "form='fused' is not possible; allowed: trained, folded"),
        (lambda: count("l1").by("layer"), "level='layer'"),
    ],
)
def test_errors_name_the_field(call, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        call()


def test_needs_neither_torch_nor_numpy() -> None:
    code = "import sys; from efficientformer_edu.audit import count; count('l1'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "efficientformer_edu.audit.ledger" in loaded
    assert not {"torch", "numpy"} & set(loaded)
