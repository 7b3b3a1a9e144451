"""A network by name and what it sees, against the network called by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import efficientformer_edu as ef
from efficientformer_edu.weights import class_names

PICTURE = Image.effect_noise((260, 300), 80)


@pytest.mark.parametrize("name", ["l1", "efficientformer_l1", "efficientformer-l1_3rdparty_8xb128_in1k"])
def test_get_model_by_name(name):
    network = ef.get_model(name)
    assert network.config == ef.EfficientFormerConfig()
    assert network.training


def test_get_model_by_configuration_and_fields(network):
    made = ef.get_model(network.config, num_classes=7, distillation=False)
    assert made.config == network.config.replace(num_classes=7, distillation=False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_clases": 3}, "'num_clases' is no field; did you mean 'num_classes'"),
        ({"depths": 3}, "depths=3 is not possible"),
    ],
)
def test_get_model_with_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        ef.get_model("l1", **fields)


def test_get_model_with_an_unknown_name():
    with pytest.raises(ValueError, match="model='l9' is unknown"):
        ef.get_model("l9")


def test_nothing_is_downloaded():
    with pytest.raises(
        ValueError, match="nothing is downloaded here; fetch a file by hand.*pretrained='model.safetensors'"
    ):
        ef.get_model("l1", pretrained=True)


def test_get_model_with_weights(network, tmp_path):
    ef.save(network, path := tmp_path / "weights.safetensors")
    for source in (path, str(path)):
        made = ef.get_model(network.config, pretrained=source).eval()
        images = torch.ones(1, 3, 64, 64)
        assert torch.equal(made(images), network(images))
    one_head = ef.get_model(network.config, pretrained=path, distillation=False).eval()
    torch.testing.assert_close(one_head(images), network(images))


def test_get_model_with_other_classes(network, tmp_path):
    ef.save(network, path := tmp_path / "weights.safetensors")
    made = ef.get_model(network.config, pretrained=path, num_classes=9)
    assert made.head.out_features == made.head_dist.out_features == 9
    assert torch.equal(made.norm.weight, network.norm.weight)


def test_get_model_with_weights_that_do_not_fit(network, tmp_path):
    ef.save(network, path := tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="weights.safetensors: .*The file describes depths="):
        ef.get_model("l1", pretrained=path)
    with pytest.raises(FileNotFoundError):
        ef.get_model("l1", pretrained=tmp_path / "nothing.pth")


@pytest.mark.parametrize("training", [True, False])
def test_prediction(make_network, training):
    network = make_network(ef.EfficientFormerConfig(depths=(1, 1, 1, 1), embed_dims=(8, 8, 8, 8), drop_rate=0.5))
    network.train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prediction = ef.inference_model(network, PICTURE)
    assert network.training == training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    with torch.no_grad():
        expected = network.eval()(ef.preprocess(PICTURE)).softmax(-1)[0].numpy()
    assert set(prediction) == {"pred_label", "pred_score", "pred_scores", "pred_class"}
    np.testing.assert_array_equal(prediction["pred_scores"], expected)
    assert prediction["pred_scores"].dtype == np.float32 and prediction["pred_scores"].shape == (1000,)
    assert prediction["pred_label"] == int(expected.argmax()) and type(prediction["pred_label"]) is int
    assert prediction["pred_score"] == expected.max() and type(prediction["pred_score"]) is float
    assert prediction["pred_class"] == class_names()[prediction["pred_label"]]


def test_prediction_from_file_image_and_array(network, tmp_path):
    PICTURE.save(tmp_path / "photo.png")
    expected = ef.inference_model(network, PICTURE)["pred_scores"]
    for picture in (tmp_path / "photo.png", str(tmp_path / "photo.png"), np.asarray(PICTURE)):
        np.testing.assert_array_equal(ef.inference_model(network, picture)["pred_scores"], expected)


def test_other_classes_have_no_names(network):
    assert ef.inference_model(network, PICTURE)["pred_class"] is None


def test_prediction_in_half_precision(network):
    scores = ef.inference_model(network.bfloat16(), PICTURE)["pred_scores"]
    assert scores.dtype == np.float32 and scores.sum() == pytest.approx(1)


def test_folded_networks_see_their_own_size(network):
    folded = ef.fold(network, resolution=96)
    expected = network(ef.preprocess(PICTURE, 96)).softmax(-1)[0].detach().numpy()
    np.testing.assert_allclose(ef.inference_model(folded, PICTURE)["pred_scores"], expected, atol=1e-5)
    with pytest.raises(ValueError, match="folded for 64×96; photographs are cropped to squares"):
        ef.inference_model(ef.fold(network, resolution=(64, 96)), PICTURE)


def test_random_weights_warn():
    with pytest.warns(UserWarning, match="'l1' has random weights, so its prediction means nothing; .*pretrained="):
        prediction = ef.inference_model("l1", PICTURE)
    assert prediction["pred_class"] in class_names()
