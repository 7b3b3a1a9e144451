"""The network against reference vectors from the released code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_weights import golden_images, golden_state

from efficientformer_edu import EfficientFormer
from efficientformer_edu.config import PRESETS

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module", params=list(PRESETS))
def golden(request):
    """Vectors and the network, in float64 and evaluation mode, with the weights of the vectors."""
    config = PRESETS[request.param]
    model = EfficientFormer(config).double().eval()
    model.load_state_dict(golden_state(config))
    return np.load(GOLDEN / f"{request.param}_seed0.npz"), model


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
@torch.no_grad()
def test_outputs_equal_the_released_code(golden, dtype, tolerance):
    vectors, model = golden
    model = model.to(dtype)
    images = golden_images(batch=len(vectors["logits"])).to(dtype)
    heads = model.forward_heads(images)
    for name, output in (("logits", model(images)), ("head", heads.cls), ("dist_head", heads.dist)):
        np.testing.assert_allclose(output.double().numpy(), vectors[name], rtol=0, atol=tolerance, err_msg=name)

    stages = [model.stem(images), *model.features(images)]
    for name, output in zip(("stem", "stage0", "stage1", "stage2", "stage3"), stages, strict=True):
        if name == "stage3":  # the released code leaves the last stage as tokens
            output = output.flatten(2).transpose(1, 2)
        output = output.double().numpy()
        assert output.shape == tuple(vectors[f"{name}_shape"])
        sample = output.reshape(-1)[vectors[f"{name}_sample_index"]]
        np.testing.assert_allclose(sample, vectors[f"{name}_sample"], rtol=0, atol=tolerance, err_msg=name)
        np.testing.assert_allclose([output.mean(), output.std()], vectors[f"{name}_mean_std"], rtol=0, atol=tolerance)
    model.double()


@torch.no_grad()
def test_the_vectors_see_every_kind_of_weight():
    """A control: if any tensor is changed by a percent, the logits of L1 leave the tolerance."""
    vectors = np.load(GOLDEN / "l1_seed0.npz")
    model = EfficientFormer(PRESETS["l1"]).double().eval()
    model.load_state_dict(golden_state(PRESETS["l1"]))
    images = golden_images(batch=2)[:1]
    kinds = {
        tuple(name.split(".")[-2:]): value for name, value in model.state_dict().items() if value.is_floating_point()
    }
    assert len(kinds) > 20
    for kind, value in kinds.items():
        before = value.clone()
        value *= 1.01
        assert np.abs(model(images).numpy()[0] - vectors["logits"][0]).max() > 1e-8, kind
        value.copy_(before)
    np.testing.assert_allclose(model(images).numpy()[0], vectors["logits"][0], rtol=0, atol=1e-10)
