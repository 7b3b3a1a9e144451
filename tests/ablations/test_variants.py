"""Each variant changes what it documents, and nothing else."""

from __future__ import annotations

import pickle
from dataclasses import asdict

import pytest
import torch
from ablation_runs import QUICK, TINY
from torch import nn

from efficientformer_edu import paper
from efficientformer_edu.ablations.study import ABLATED, PROTOCOLS, run_of
from efficientformer_edu.ablations.variants import BASE, REPORTED, VARIANTS, get_variants, variant_table
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.model.mixers import Attention
from efficientformer_edu.paper.report import rows
from efficientformer_edu.training.loading import TrainBatches
from efficientformer_edu.training.small import LEAST_GRID
from efficientformer_edu.utils.rng import derive_seed

CONFIG = {
    "late-attention": {"num_vit": [0, 0, 1, 2]},
    "mb3d-none": {"num_vit": 0},
    "mb3d-half": {"num_vit": 1},
    "mb3d-all": {"num_vit": 2},
    "relu": {"act": "relu"},
    "hard-swish": {"act": "hard_swish"},
    "no-scale": {"layer_scale_init": None},
    "scale-1e-5": {"layer_scale_init": 1e-5},
    "scale-1": {"layer_scale_init": 1.0},
}
RECIPE = {
    "soft": {"distillation": "soft", "tau": 3.0},
    "hard": {"distillation": "hard"},
    "longer": {"epochs": 2 * QUICK.recipe.epochs},
}
NEW = {  # prefixes of the parameters that a change adds or reinitializes
    "patches": ("stem.",),
    "depthwise": tuple(f"stages.{stage}.mb4d.0.token_mixer." for stage in range(4)),
    "group-norm": (),
    "layer-norm": (),
}


def network(name: str, config=TINY) -> EfficientFormer:
    variant = VARIANTS[name]
    torch.manual_seed(derive_seed(3))
    return variant.network(config.replace(**variant.fields(config)))


@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_but_the_named_change_differs(name: str) -> None:
    """Compare two runs: configuration, recipe, images, seed, every batch as the network receives it."""
    base, changed = (run_of(variant, 3, protocol=QUICK, variants=VARIANTS) for variant in (BASE, name))
    config = {**base.config.to_dict(), **CONFIG.get(name, {})}
    recipe = {**asdict(base.recipe), **RECIPE.get(name, {})}
    description = base.described()
    assert changed.described() == {
        **description,
        "config": config,
        "recipe": recipe,
        "teacher": changed.teacher_description,
        "variant": f"{name}: {VARIANTS[name].description}",
    }
    assert bool(changed.teacher_description) == (changed.teacher is not None) == (name in ("soft", "hard"))
    assert changed.train is base.train and changed.test is base.test
    for epoch in range(base.recipe.epochs):
        base_batches, changed_batches = (
            TrainBatches(run.train, run.recipe, run.size, run.config.in_channels, seed=run.seed, epoch=epoch)
            for run in (base, changed)
        )
        assert len(base_batches) == len(changed_batches) == 20
        for number in (0, 1, 19):
            assert all(torch.equal(a, b) for a, b in zip(base_batches[number], changed_batches[number], strict=True))


@pytest.mark.parametrize("name", sorted(set(VARIANTS) - {"late-attention", "mb3d-none", "mb3d-half", "mb3d-all"}))
def test_unchanged_modules_have_the_same_initial_weights(name: str) -> None:
    base, changed = (network(variant).state_dict() for variant in (BASE, name))
    new = NEW.get(name, ())
    scales = ("gamma",) if "scale" in name else ()
    for key, value in changed.items():
        if not (new and key.startswith(new)) and not (scales and key.endswith(scales)):
            assert torch.equal(base[key], value), key


@pytest.mark.parametrize("name", ["late-attention", "mb3d-none", "mb3d-half", "mb3d-all"])
def test_blocks_before_the_first_change_have_the_same_initial_weights(name: str) -> None:
    base, changed = (network(variant).state_dict() for variant in (BASE, name))
    same = [key for key in base if key.startswith(("stem.", "stages.0.", "stages.1."))]
    assert len(same) > 30 and all(torch.equal(base[key], changed[key]) for key in same)


def kinds(network: nn.Module) -> dict[str, int]:
    count: dict[str, int] = {}
    for module in network.modules():
        count[type(module).__name__] = count.get(type(module).__name__, 0) + 1
    return count


def test_the_parts_are_exchanged_everywhere() -> None:
    base = kinds(network(BASE))
    assert base["BatchNorm2d"] == 11 and base["Pooling"] == 4 and base["Attention"] == 1
    for name, part in (("group-norm", "GroupNorm"), ("layer-norm", "ChannelNorm"), ("no-norm", "Identity")):
        block_kinds = kinds(network(name))
        assert "BatchNorm2d" not in block_kinds and block_kinds[part] >= 11
        assert block_kinds["LayerNorm"] == base["LayerNorm"]  # norms of tokens are unchanged
    for name, part in (("no-mixer", "NoMixer"), ("depthwise", "DepthwiseMixer")):
        block_kinds = kinds(network(name))
        assert "Pooling" not in block_kinds and block_kinds[part] == 4
    assert kinds(network("patches"))["PatchEmbedding"] == 1 and "Stem" not in kinds(network("patches"))
    assert "LayerScale" not in kinds(network("no-scale"))
    for name, mb3d in (("mb3d-none", 0), ("mb3d-half", 1), ("mb3d-all", 2), ("late-attention", 3)):
        assert kinds(network(name)).get("MB3D", 0) == mb3d


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_trained_network_has_tokens_to_mix(name: str, protocol: str) -> None:
    config, size = PROTOCOLS[protocol].config, PROTOCOLS[protocol].size
    assert config is ABLATED
    changed = VARIANTS[name].network(config.replace(**VARIANTS[name].fields(config)))
    maps = changed.features(torch.zeros(2, 1, size, size))
    assert min(maps[-1].shape[2:]) >= LEAST_GRID
    base = EfficientFormer(config).features(torch.zeros(2, 1, size, size))
    assert [map.shape for map in maps] == [map.shape for map in base]


def test_replaced_modules_compute_the_documented_function() -> None:
    x = torch.randn(2, 8, 5, 5)
    mixer = network("depthwise").stages[0].mb4d[0].token_mixer.eval()
    value = mixer[0].weight[3, 0].mul(x[1, 3, 1:4, 2:5]).sum() + mixer[0].bias[3]
    assert mixer(x)[1, 3, 2, 3].isclose(value / (1 + 1e-5) ** 0.5, atol=1e-6)  # a new norm divides by √(1 + ε)
    assert not network("no-mixer").stages[0].mb4d[0].token_mixer(x).any()
    stem = network("patches").stem.eval()
    images = torch.randn(2, 1, 34, 32)
    patch = (stem.proj.weight[5, 0] * images[1, 0, 4:8, 8:12]).sum() + stem.proj.bias[5]
    assert stem(images).shape == (2, 8, 9, 8)  # as large as the stem's
    assert stem(images)[1, 5, 1, 2].isclose(patch / (1 + 1e-5) ** 0.5, atol=1e-6)


def test_attention_without_bias_ignores_token_positions() -> None:
    (mixer,) = (module for module in network("no-bias").modules() if isinstance(module, Attention))
    assert not any("bias" in name and "attention" in name for name, _ in mixer.named_parameters())
    tokens, order = torch.randn(2, 16, 16), torch.randperm(16)
    assert torch.allclose(mixer(tokens, (4, 4))[:, order], mixer(tokens[:, order], (4, 4)), atol=1e-6)
    (known,) = (module for module in network(BASE).modules() if isinstance(module, Attention))
    assert torch.equal(known(tokens, (4, 4)), mixer(tokens, (4, 4)))  # a new table is 0
    nn.init.normal_(known.attention_biases)
    assert not torch.allclose(known(tokens, (4, 4))[:, order], known(tokens[:, order], (4, 4)), atol=1e-3)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_go_to_other_processes(name: str) -> None:
    again = pickle.loads(pickle.dumps(VARIANTS[name]))
    torch.manual_seed(0)
    before = VARIANTS[name].network(TINY).state_dict()
    torch.manual_seed(0)
    after = again.network(TINY).state_dict()
    assert again.fields(TINY) == VARIANTS[name].fields(TINY)
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert again.recipe(QUICK.recipe) == VARIANTS[name].recipe(QUICK.recipe)


def test_reported_values_have_a_source_and_a_row() -> None:
    report = {row.name: row for row in rows()}
    for name, claim in REPORTED.items():
        assert name in VARIANTS
        assert "(reported, " in claim.quote()
        record = report[claim.row].record
        printed = record.text if isinstance(record, paper.Statement) else f"{record.printed} {record.unit}"
        assert printed in claim.quote()


def test_at_least_twelve_rows_and_the_base_first() -> None:
    assert len(VARIANTS) > 12 and next(iter(VARIANTS)) == BASE
    assert len({variant.description for variant in VARIANTS.values()}) == len(VARIANTS)
    assert all(name == name.lower() and "_" not in name and "," not in name for name in VARIANTS)


def test_some_by_name() -> None:
    assert list(get_variants(["relu", "patches"])) == [BASE, "patches", "relu"]
    assert list(get_variants()) == list(VARIANTS)
    with pytest.raises(ValueError, match="'gelu'.*base, patches"):
        get_variants(["gelu"])


def test_the_list() -> None:
    table = variant_table()
    assert [row[0] for row in table.rows] == list(VARIANTS)
    shown = table.to_text()
    assert "79.3 % (reported, NOTE)" in shown and "issues 15 and 31" in shown
