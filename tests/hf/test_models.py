"""Hugging Face's three classes: outputs, options, losses."""

from __future__ import annotations

import copy
import math
import subprocess
import sys

import pytest
import torch
from golden_weights import golden_images, golden_state
from huggingface_small import CLASSES, CONFIG, IMAGES, filled

from efficientformer_edu import EfficientFormer, hf
from efficientformer_edu.config import PRESETS
from efficientformer_edu.hf.models import classification_loss

pytestmark = pytest.mark.slow


@pytest.fixture(params=CLASSES)
def model(request, make_network):
    return filled(request.param(CONFIG), make_network)


def test_no_head_a_single_head_two_heads(make_network):
    base, single, two = (filled(kind(CONFIG), make_network) for kind in CLASSES)
    network = make_network(CONFIG.network(distillation=True))
    heads = network.forward_heads(IMAGES)
    assert torch.equal(single(IMAGES).logits, heads.cls)  # as in transformers: not the mean
    assert torch.equal(two(IMAGES).logits, network(IMAGES))
    assert torch.equal(two(IMAGES).cls_logits, heads.cls)
    assert torch.equal(two(IMAGES).distillation_logits, heads.dist)
    assert torch.equal(base(IMAGES).last_hidden_state.mean(1), network.extract_feat(IMAGES)[0])
    head = 24 * 5 + 5
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (base, single, two)]
    assert counts == [counts[2] - 2 * head, counts[2] - head, sum(p.numel() for p in network.parameters())]


def test_golden_logits_of_l1():
    network = EfficientFormer(PRESETS["l1"])
    network.load_state_dict({name: value.float() for name, value in golden_state(PRESETS["l1"]).items()})
    model = hf.EfficientFormerForImageClassificationWithTeacher(PRESETS["l1"])
    model.network.load_state_dict(network.state_dict())
    images = golden_images(1).float()
    with torch.no_grad():
        output, maps = model.eval()(images, output_hidden_states=True), network.eval().features(images)
        assert torch.equal(output.logits, network(images))
    assert [tuple(state.shape) for state in output.hidden_states] == [
        (1, 48, 56, 56),
        (1, 48, 56, 56),
        (1, 96, 28, 28),
        (1, 96, 28, 28),
        (1, 224, 14, 14),
        (1, 224, 14, 14),
        (1, 448, 7, 7),
        (1, 49, 448),
    ]
    for state, expected in zip(output.hidden_states[1:6:2], maps, strict=False):
        assert torch.equal(state, expected)
    assert torch.equal(output.hidden_states[7], maps[3].flatten(2).transpose(1, 2))


def test_requested_outputs_are_returned(model):
    outputs = model(IMAGES)
    assert "hidden_states" not in outputs
    assert outputs.hidden_states is outputs.attentions is None
    full = model(pixel_values=IMAGES, output_hidden_states=True, output_attentions=True)
    assert list(full)[:-2] == list(outputs)
    assert list(full)[-2:] == ["hidden_states", "attentions"]
    assert torch.equal(full[0], outputs[0])
    assert len(full.hidden_states) == 8
    assert [tuple(a.shape) for a in full.attentions] == [(2, 2, 6, 6)] * 2
    for own, returned in zip(model.network.attention_maps(IMAGES), full.attentions, strict=True):
        assert torch.equal(own, returned)
    if model.heads == 0:
        assert torch.equal(model.network.norm(full.hidden_states[-1]), full.last_hidden_state)


def test_a_tuple_instead(model):
    full = model(IMAGES, output_hidden_states=True, output_attentions=True)
    values = model(IMAGES, output_hidden_states=True, output_attentions=True, return_dict=False)
    assert type(values) is tuple
    assert len(values) == len(full)
    assert torch.equal(values[0], full[0])
    assert type(model(IMAGES, return_dict=False)) is tuple


def test_the_configuration_decides_where_a_call_does_not_say():
    config = CONFIG.replace(output_hidden_states=True, output_attentions=True, return_dict=False)
    model = hf.EfficientFormerModel(config).eval()
    last, hidden, attentions = model(IMAGES)
    assert (tuple(last.shape), len(hidden), len(attentions)) == ((2, 6, 24), 8, 2)
    assert list(model(IMAGES, output_attentions=False, output_hidden_states=False, return_dict=True)) == [
        "last_hidden_state"
    ]


def test_an_output_is_read_by_name_key_and_index(model):
    output = model(IMAGES, output_hidden_states=True)
    first = next(iter(output))
    assert getattr(output, first) is output[first] is output[0] is output.to_tuple()[0] is output[:1][0]
    assert list(output.keys()) == [name for name, _ in output.items()]
    assert output.get("attentions") is None
    with pytest.raises(KeyError):
        output["attentions"]
    with pytest.raises(IndexError):
        output[9]


def test_without_mb3d_there_are_no_attentions():
    model = hf.EfficientFormerModel(CONFIG.replace(num_meta3d_blocks=0)).eval()
    output = model(IMAGES, output_attentions=True, output_hidden_states=True)
    assert output.attentions == ()
    assert output.last_hidden_state.shape == output.hidden_states[-1].shape == (2, 6, 24)


def test_a_call_leaves_no_state(model):
    before = model(IMAGES)[0]
    model(IMAGES, output_hidden_states=True, output_attentions=True)
    assert not any(module._forward_hooks for module in model.modules())
    with pytest.raises(ValueError, match="images are"):
        model(IMAGES[0], output_hidden_states=True, output_attentions=True)
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(model(IMAGES)[0], before)
    assert model.eval() is model.train() is model
    assert torch.equal(copy.deepcopy(model).eval()(IMAGES)[0], before)


def test_without_images(model):
    with pytest.raises(ValueError, match="pixel_values is missing"):
        model()


def test_a_config_of_this_package_is_accepted_too():
    model = hf.EfficientFormerModel(CONFIG.network(distillation=True))
    assert model.config == CONFIG
    assert model.network.config == CONFIG.network(distillation=False)


def test_a_single_label_per_image(make_network):
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0]])
    expected = (math.log(4 / 3) + math.log(5)) / 2  # of softmax (1/4, 3/4) the second, of (4/5, 1/5) the second
    for labels in (torch.tensor([1, 1]), torch.tensor([1, 1], dtype=torch.int32), torch.tensor([[1], [1]])):
        assert classification_loss(logits, labels).item() == pytest.approx(expected)
    assert classification_loss(logits, torch.tensor([1, -100])).item() == pytest.approx(math.log(4 / 3))
    model = filled(hf.EfficientFormerForImageClassification(CONFIG), make_network)
    output = model(IMAGES, torch.tensor([3, 0]))
    assert list(output) == ["loss", "logits"]
    assert output.loss.item() == pytest.approx(-output.logits.log_softmax(1)[[0, 1], [3, 0]].mean().item())
    assert torch.equal(model(IMAGES, labels=torch.tensor([3, 0]), return_dict=False)[0], output.loss)
    output.loss.backward()
    assert model.network.head.weight.grad.abs().sum() > 0


def test_several_labels_per_image():
    logits = torch.tensor([[0.0, math.log(3.0)]])  # sigmoids 1/2 and 3/4
    expected = (math.log(2) + math.log(4)) / 2
    for labels in (torch.tensor([[1.0, 0.0]]), torch.tensor([[True, False]])):
        assert classification_loss(logits, labels).item() == pytest.approx(expected)
    target = torch.tensor([[1, 0]])
    assert classification_loss(logits, target, "multi_label_classification").item() == pytest.approx(expected)


def test_regression():
    for labels in (torch.tensor([3.0, 1.0]), torch.tensor([[3.0], [1.0]]), torch.tensor([3, 1])):
        assert classification_loss(torch.tensor([[1.0], [4.0]]), labels).item() == 6.5  # (4 + 9) / 2
    two = torch.tensor([[1.0, 2.0]])
    assert classification_loss(two, torch.tensor([[2.0, 4.0]]), "regression").item() == 2.5


def test_the_configuration_names_the_loss(make_network):
    labels = torch.rand(2, 5, generator=torch.Generator().manual_seed(0))
    losses = {}
    for kind in ("regression", "multi_label_classification", None):
        model = filled(hf.EfficientFormerForImageClassification(CONFIG.replace(problem_type=kind)), make_network)
        losses[kind] = model(IMAGES, labels).loss
        assert model.config.problem_type == kind  # a call changes no configuration
    assert torch.equal(losses[None], losses["multi_label_classification"])
    assert torch.equal(losses["regression"], ((model(IMAGES).logits - labels) ** 2).mean())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 2]), r"labels have the shape \(3,\); allowed: \(2,\)"),
        (torch.zeros(2, 4), r"labels have the shape \(2, 4\); allowed: \(2, 5\)"),
    ],
)
def test_labels_of_another_shape(labels, message):
    with pytest.raises(ValueError, match=message):
        hf.EfficientFormerForImageClassification(CONFIG)(IMAGES, labels)


def test_two_heads_have_no_loss():
    with pytest.raises(TypeError, match="labels"):
        hf.EfficientFormerForImageClassificationWithTeacher(CONFIG)(IMAGES, labels=torch.tensor([0, 1]))


def test_the_hub_is_imported_only_with_these_classes():
    code = "import sys, efficientformer_edu.weights; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
