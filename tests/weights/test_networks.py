"""A network by name or only from a file, and predictions for an image."""

from __future__ import annotations

import hashlib
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import efficientformer_edu as ef
from efficientformer_edu.weights import LAYOUTS, class_names, files, from_weights

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


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
        ({"num_clases": 3}, "'num_clases'.*'num_classes'"),
        ({"depths": 3}, "depths=3 is not possible"),
    ],
)
def test_get_model_with_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        ef.get_model("l1", **fields)


def test_get_model_with_an_unknown_name():
    with pytest.raises(ValueError, match="Unknown model 'l9'"):
        ef.get_model("l9")


def test_get_model_with_weights(network, tmp_path):
    ef.save(network, path := tmp_path / "weights.safetensors")
    for source in (path, str(path)):
        made = ef.get_model(network.config, pretrained=source)
        assert not made.training
        images = torch.ones(1, 3, 64, 64)
        assert torch.equal(made(images), network(images))
    single_head = ef.get_model(network.config, pretrained=path, distillation=False)
    torch.testing.assert_close(single_head(images), network(images))


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


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_from_weights(network, tmp_path, layout, suffix):
    ef.save(network, path := tmp_path / f"weights{suffix}", layout=layout)
    for file in (path, str(path)):
        made = from_weights(file)
        assert made.config == network.config.replace(distillation=layout != "netspresso")
        assert not made.training
        torch.testing.assert_close(made(IMAGES), network(IMAGES))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_from_weights_is_float32(make_network, network, tmp_path, dtype):
    ef.save(make_network(network.config).to(dtype), path := tmp_path / "weights.safetensors")
    made = from_weights(path)
    assert {parameter.dtype for parameter in made.parameters()} == {torch.float32}
    torch.testing.assert_close(made(IMAGES), network(IMAGES), rtol=0.02, atol=0.02)


def test_from_weights_keeps_what_shapes_tell(make_network, tmp_path):
    config = ef.EfficientFormerConfig(
        depths=(1, 2, 1, 2),
        embed_dims=(4, 4, 6, 8),
        downsamples=(True, False, True, True),
        num_vit=(0, 1, 0, 2),
        num_classes=3,
        distillation=False,
        in_channels=2,
        mlp_ratio=1.5,
        num_heads=3,
        key_dim=5,
        attn_ratio=2,
        bias_grid=4,
        layer_scale_init=None,
        act="prelu",
    )
    ef.save(make_network(config), path := tmp_path / "weights.safetensors", layout="native")
    assert from_weights(path).config == config


def test_from_weights_says_what_is_wrong(make_network, network, tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(FileNotFoundError, match="weights.safetensors"):
        from_weights(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: the file is empty"):
        from_weights(path)
    save_file({"conv1.weight": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: the names do not match any layout"):
        from_weights(path)
    save_file({name: value for name, value in network.state_dict().items() if "head" not in name}, path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: .*missing .2.: head.weight, head.bias"):
        from_weights(path)
    ef.save(make_network(network.config.replace(bias_grid=(2, 3))), torch_file := tmp_path / "w.pth", layout="native")
    with pytest.raises(ValueError, match=f"^{re.escape(str(torch_file))}: the token grid cannot be inferred from 6"):
        from_weights(torch_file)
    ef.save(network, path, layout="official")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: the safetensors file is damaged or truncated"):
        from_weights(path)


PICTURE = Image.effect_noise((260, 300), 80)


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
    assert prediction["pred_class"] is None  # a thousand classes need not be ImageNet's


def test_prediction_from_file_image_and_array(network, tmp_path):
    PICTURE.save(tmp_path / "photo.png")
    expected = ef.inference_model(network, PICTURE)["pred_scores"]
    for picture in (tmp_path / "photo.png", str(tmp_path / "photo.png"), np.asarray(PICTURE)):
        np.testing.assert_array_equal(ef.inference_model(network, picture)["pred_scores"], expected)


def test_classes_have_the_names_that_the_network_knows(network, tmp_path):
    assert ef.inference_model(network, PICTURE)["pred_class"] is None
    network.class_names = tuple(f"class {label}" for label in range(network.config.num_classes))
    label = ef.inference_model(network, PICTURE)["pred_label"]
    ef.save(network, tmp_path / "named.safetensors")
    for known in (network, ef.fold(network, resolution=224), ef.from_weights(tmp_path / "named.safetensors")):
        assert ef.inference_model(known, PICTURE)["pred_class"] == f"class {label}"


@pytest.mark.parametrize(
    ("file", "layout", "stored"),
    [
        ("named.safetensors", "timm", True),
        ("named.safetensors", "native", True),
        ("named.pth", "official", True),
        ("named.pth", "mmpretrain", True),
        ("named.pth", "timm", False),  # the file holds only tensors, so that others can load it
    ],
)
def test_class_names_are_stored_if_the_format_supports_them(network, tmp_path, file, layout, stored):
    names = tuple(f"Straße {label}" for label in range(network.config.num_classes))
    ef.save(network, tmp_path / file, layout=layout, class_names=names)
    loaded = ef.from_weights(tmp_path / file)
    assert loaded.class_names == (names if stored else None)
    assert ef.get_model(loaded.config, pretrained=tmp_path / file).class_names == (names if stored else None)
    assert ef.get_model(loaded.config, pretrained=tmp_path / file, num_classes=3).class_names is None
    with pytest.raises(ValueError, match=f"2 class names .* {len(names)} classes"):
        ef.save(network, tmp_path / "wrong.safetensors", class_names=names[:2])
    assert not (tmp_path / "wrong.safetensors").exists()


def test_a_published_file_of_any_name_has_imagenets_names(network, tmp_path, monkeypatch):
    ef.save(network, tmp_path / "mine.pth", layout="mmpretrain")
    assert ef.from_weights(tmp_path / "mine.pth").class_names is None
    digest = hashlib.sha256((tmp_path / "mine.pth").read_bytes()).hexdigest()
    monkeypatch.setitem(files.FILES, "l1", f"efficientformer-l1-{digest[:8]}.pth")
    assert ef.from_weights(tmp_path / "mine.pth").class_names == tuple(class_names())


def test_prediction_in_half_precision(network):
    scores = ef.inference_model(network.bfloat16(), PICTURE)["pred_scores"]
    assert scores.dtype == np.float32 and scores.sum() == pytest.approx(1)


def test_folded_networks_see_their_own_size(network):
    folded = ef.fold(network, resolution=96)
    expected = network(ef.preprocess(PICTURE, 96)).softmax(-1)[0].detach().numpy()
    np.testing.assert_allclose(ef.inference_model(folded, PICTURE)["pred_scores"], expected, atol=1e-5)
    with pytest.raises(ValueError, match="folded for 64×96; images are cropped to squares"):
        ef.inference_model(ef.fold(network, resolution=(64, 96)), PICTURE)


@pytest.mark.parametrize(("rule", "size"), [("mmpretrain", 224), ("hf", 224), ("netspresso", 256)])
def test_prediction_with_the_rule_of_a_port(network, rule, size):
    images = ef.preprocess(PICTURE, size, rule)
    expected = network(images).softmax(-1)[0].detach().numpy()
    np.testing.assert_array_equal(ef.inference_model(network, PICTURE, rule=rule)["pred_scores"], expected)
    folded = ef.fold(network, resolution=96)
    expected = network(ef.preprocess(PICTURE, 96, rule)).softmax(-1)[0].detach().numpy()
    np.testing.assert_allclose(ef.inference_model(folded, PICTURE, rule)["pred_scores"], expected, atol=1e-5)


def test_random_weights_warn():
    message = r"'l1' has random weights, so its prediction is meaningless; get_model\('l1', pretrained=True\) downloads"
    with pytest.warns(UserWarning, match=message):
        prediction = ef.inference_model("l1", PICTURE)
    assert prediction["pred_class"] in class_names()
