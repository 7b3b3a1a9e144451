"""FC: hand-computed, and with a single layer the classifier of an EfficientFormer."""

from __future__ import annotations

import pytest
import torch
from dense_networks import SMALL, assert_close, constant, images
from torch import nn

from efficientformer_edu import EfficientFormer
from efficientformer_edu.dense import FC, DenseConfig, DenseNetwork, FCConfig

POOLED = torch.tensor([[1.0, 2.0], [0.0, -4.0]], dtype=torch.float64)


@torch.no_grad()
def test_two_layers_by_hand():
    head = constant(FC(2, 3, FCConfig(num_layers=2, intermediate_channels=4, act_type="relu")), 0.5, bias=0.25)
    # ½·(1 + 2) + ¼ = 1.75 on four channels, and ½·4·1.75 + ¼; the second image is negative in between.
    assert_close(head(POOLED), torch.tensor([[3.75] * 3, [0.25] * 3], dtype=torch.float64))


@torch.no_grad()
def test_three_layers_and_their_activation_by_hand():
    head = constant(FC(2, 1, FCConfig(num_layers=3, intermediate_channels=2, act_type="hard_swish")), 0.5)

    def hard_swish(x: float) -> float:
        return x * min(max(x + 3, 0), 6) / 6

    first, second = hard_swish(0.5 * 3), hard_swish(0.5 * -4)
    expected = torch.tensor([[hard_swish(first)], [hard_swish(second)]], dtype=torch.float64)
    assert (first, second) == (1.125, -1 / 3)
    assert_close(head(POOLED), expected)


def test_netspresso_s_two_layers():
    config = FCConfig(num_layers=2, intermediate_channels=1024, act_type="hard_swish", dropout_prob=0.2)
    parts = list(FC(448, 20, config).classifier)
    assert [type(part) for part in parts] == [nn.Dropout, nn.Linear, nn.Hardswish, nn.Dropout, nn.Linear]
    assert [part.p for part in parts if isinstance(part, nn.Dropout)] == [0.2, 0.2]
    widths = [(part.in_features, part.out_features) for part in parts if isinstance(part, nn.Linear)]
    assert widths == [(448, 1024), (1024, 20)]


@torch.no_grad()
def test_a_single_layer_is_the_classifier_of_an_efficientformer():
    model = EfficientFormer(SMALL.replace(distillation=False, num_classes=7)).eval()
    network = DenseNetwork(DenseConfig(SMALL, FCConfig(), num_classes=7)).eval()
    state = {f"backbone.{name}": value for name, value in model.state_dict().items()}
    for which in ("weight", "bias"):
        state[f"head.classifier.1.{which}"] = state.pop(f"backbone.head.{which}")
    network.load_state_dict(state)  # exactly these names: there are no output norms
    batch = images(2, 65, 97)
    assert torch.equal(network(batch), model(batch))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_layers": 0}, "^num_layers=0 is not possible; allowed: a whole number, at least 1$"),
        ({"num_layers": 2, "act_type": "relu"}, "^intermediate_channels=None is not possible; allowed: a whole number"),
        ({"num_layers": 2, "intermediate_channels": 8}, "^act_type=None is not possible; allowed: gelu, relu"),
        ({"act_type": "tanh"}, "^act_type='tanh' is not possible; allowed: gelu, relu"),
        ({"intermediate_channels": -1}, "^intermediate_channels=-1 is not possible"),
        ({"dropout_prob": 1}, "^dropout_prob=1 is not possible; allowed: a number from 0 to below 1$"),
    ],
)
def test_wrong_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        FCConfig(**fields)
