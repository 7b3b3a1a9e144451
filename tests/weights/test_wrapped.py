"""Weights of wrapped networks, and training checkpoints with raw and averaged weights: loaded, saved and predicted."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

import efficientformer_edu as ef
from efficientformer_edu.weights import LAYOUTS
from efficientformer_edu.weights.conversion import FIRST_TENSORS, select_network, to_layout

IMAGE = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)


def assert_same(state, expected):
    assert list(state) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in state.items())


def prefixed(tensors, prefix):
    return {prefix + name: value for name, value in tensors.items()}


def shifted(tensors):
    return {name: value + 1 if value.is_floating_point() else value for name, value in tensors.items()}


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return request.param


def tensors_in(network, layout):
    config = network.config.replace(distillation=False) if layout == "netspresso" else network.config
    return to_layout(network.state_dict(), network.config, layout), config


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "_orig_mod.",
        "_orig_mod.module.",
        "module._orig_mod.",
        "model.",
        "net.",
        "model._orig_mod.",
        "a.b.",
    ],
)
def test_any_prefix_in_any_layout(network, layout, tmp_path, prefix):
    tensors, config = tensors_in(network, layout)
    torch.save(tensors, unprefixed := tmp_path / "plain.pth")
    torch.save({"state_dict": prefixed(tensors, prefix)}, path := tmp_path / "wrapped.pth")
    assert_same(ef.load(path), ef.load(unprefixed))
    assert ef.from_weights(path).config == config


def test_no_layout_has_the_first_tensor_of_another_after_a_prefix():
    assert not [(a, b) for a in FIRST_TENSORS for b in FIRST_TENSORS if a != b and a.endswith(f".{b}")]


WRAPPERS = {
    "DataParallel": nn.DataParallel,
    "torch.compile": torch.compile,
    "AveragedModel": AveragedModel,
    "all three": lambda network: nn.DataParallel(torch.compile(AveragedModel(network))),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_network_is_saved_and_its_state_dict_loaded(network, tmp_path, wrapper):
    wrapped = WRAPPERS[wrapper](network)
    ef.save(network, unwrapped := tmp_path / "plain.safetensors")
    ef.save(wrapped, path := tmp_path / "network.safetensors")
    assert path.read_bytes() == unwrapped.read_bytes()
    ef.save(wrapped.state_dict(), path := tmp_path / "state.safetensors")
    assert path.read_bytes() == unwrapped.read_bytes()
    torch.save(wrapped.state_dict(), path := tmp_path / "state.pth")
    assert_same(ef.load(path), network.state_dict())


def test_a_network_with_a_single_compiled_stage(network, tmp_path):
    compiled = copy.deepcopy(network)
    compiled.stages[1] = torch.compile(compiled.stages[1])
    assert any("stages.1._orig_mod." in name for name in compiled.state_dict())
    torch.save(compiled.state_dict(), path := tmp_path / "weights.pth")
    assert_same(ef.load(path), network.state_dict())


def test_a_pruned_and_a_parametrized_network_are_saved_with_the_weights_that_they_use(network, tmp_path):
    prune.l1_unstructured(network.stages[0].mb4d[0].mlp.fc1, "weight", 0.5)
    parametrizations.weight_norm(network.head)
    ef.save(network, path := tmp_path / "weights.safetensors")
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(ef.from_weights(path)(images), network(images))


def test_what_cannot_be_saved(network, tmp_path):
    with pytest.raises(ValueError, match="Linear is not an EfficientFormer"):
        ef.save(nn.DataParallel(nn.Linear(2, 2)), tmp_path / "weights.pth")
    network.head = nn.Identity()
    with pytest.raises(ValueError, match=r"no tensor 'head\.weight'"):
        ef.save(network, tmp_path / "weights.pth")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_prediction_of_a_wrapped_network(network, wrapper):
    expected = ef.inference_model(network, IMAGE)
    prediction = ef.inference_model(WRAPPERS[wrapper](network).train(), IMAGE)
    np.testing.assert_array_equal(prediction["pred_scores"], expected["pred_scores"])


def test_a_prediction_of_a_pruned_network(network):
    prune.random_unstructured(network.head, "weight", 0.5)
    with torch.no_grad():
        expected = network(ef.preprocess(IMAGE)).softmax(-1)[0].numpy()
    np.testing.assert_array_equal(ef.inference_model(network, IMAGE)["pred_scores"], expected)
    with pytest.raises(ValueError, match="Linear is not an EfficientFormer"):
        ef.inference_model(nn.Linear(2, 2), IMAGE)


def checkpoints(raw, average):
    """Training checkpoints with both, as several projects write them."""
    averaged_model = prefixed(average, "module.")
    return {
        "timm": {"state_dict": raw, "state_dict_ema": average, "epoch": 3},
        "the released code": {"model": raw, "model_ema": average, "epoch": 3},
        "torchvision's references": {"model": raw, "model_ema": {"n_averaged": torch.tensor(3), **averaged_model}},
        "mmengine": {"state_dict": average, "ema_state_dict": {"steps": torch.tensor(3), **prefixed(raw, "module.")}},
        "Lightning's callback": {
            "state_dict": prefixed(average, "model."),
            "current_model_state": prefixed(raw, "model."),
            "averaging_state": {"n_averaged": torch.tensor(3)},
        },
        "a module with both": {
            "state_dict": {
                **prefixed(raw, "net."),
                **prefixed(averaged_model, "smooth."),
                "smooth.n_averaged": torch.tensor(3),
            }
        },
        "a module with both, by name": {**prefixed(raw, "model."), **prefixed(average, "model_ema.")},
        "an average in the network": {**raw, **prefixed(average, "ema.")},
    }


@pytest.mark.parametrize("project", checkpoints({}, {}))
def test_raw_and_averaged_weights(network, tmp_path, project):
    state = network.state_dict()
    raw, average = (to_layout(tensors, network.config, "timm") for tensors in (state, shifted(state)))
    torch.save(checkpoints(raw, average)[project], path := tmp_path / "checkpoint.pth")
    assert_same(ef.load(path, use_ema=False), state)
    assert_same(ef.load(path, use_ema=True), shifted(state))
    with pytest.warns(UserWarning, match="average is loaded.*use_ema=False") as caught:
        assert_same(ef.load(path), shifted(state))
    assert len(caught) == 1
    for choice, expected in ((True, shifted(state)), (False, state)):
        assert_same(ef.from_weights(path, use_ema=choice).state_dict(), expected)
        assert_same(ef.get_model(network.config, pretrained=path, use_ema=choice).state_dict(), expected)


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", "model_ema", "state_dict_ema"])
def test_a_single_set_of_weights_needs_no_choice(network, tmp_path, key):
    torch.save({key: network.state_dict(), "epoch": 1}, path := tmp_path / "checkpoint.pth")
    assert_same(ef.load(path), network.state_dict())


def test_requested_weights_that_are_missing(network, tmp_path):
    torch.save(network.state_dict(), path := tmp_path / "raw.pth")
    with pytest.raises(ValueError, match=r"raw.pth: .*averaged.*use_ema=True"):
        ef.load(path, use_ema=True)
    torch.save(AveragedModel(network).state_dict(), path := tmp_path / "average.pth")
    assert_same(ef.load(path, use_ema=True), network.state_dict())
    with pytest.raises(ValueError, match=r"average.pth: .*raw.*use_ema=False"):
        ef.load(path, use_ema=False)


def test_tensors_outside_a_wrapped_network_are_ignored_with_a_note(network):
    state = network.state_dict()
    tensors = {**prefixed(state, "model."), "criterion.weight": torch.ones(5), "metric.total": torch.ones(())}
    with pytest.warns(UserWarning, match=r"'model\.'.*: criterion.weight, metric.total$"):
        assert_same(select_network(tensors), state)
    # Without a prefix there is nothing outside: these tensors are unexpected, and `load` refuses them.
    assert set(select_network({**state, "criterion.weight": torch.ones(5)})) == {*state, "criterion.weight"}


def test_several_networks_are_refused(network):
    tensors = prefixed(network.state_dict(), "student.") | prefixed(network.state_dict(), "teacher.")
    with pytest.raises(ValueError, match=r"student\., teacher\."):
        select_network(tensors)
