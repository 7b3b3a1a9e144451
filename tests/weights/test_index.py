"""A stored index of offsets in another order: the table is reordered and the function stays the same."""

from __future__ import annotations

import pytest
import torch

from efficientformer_edu import EfficientFormer
from efficientformer_edu.weights.conversion import table_order, to_layout
from efficientformer_edu.weights.store import convert_state_dict

IMAGES = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def parts(tensors, name):
    return [key for key in tensors if key.endswith(name)]


def load_into_new(tensors, config):
    network = EfficientFormer(config).eval()
    network.load_state_dict(convert_state_dict(tensors, config, head=True))
    return network


def test_a_permuted_table(network):
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    tensors = to_layout(network.state_dict(), network.config, "official")
    for table in parts(tensors, "attention_biases"):
        permuted = torch.empty_like(tensors[table])
        permuted[:, order] = tensors[table]
        tensors[table] = permuted
    for index in parts(tensors, "attention_bias_idxs"):
        tensors[index] = order[tensors[index]]
    loaded = load_into_new(tensors, network.config)
    assert torch.equal(loaded(IMAGES), network(IMAGES))


def test_all_pairs_on_a_single_bias(network):
    """NetsPresso's networks trained from scratch: their index is all ones, and no offset has its own bias."""
    state = network.state_dict()
    tensors = to_layout(state, network.config, "netspresso")
    for index in parts(tensors, "attention_bias_idxs"):
        tensors[index] = torch.ones_like(tensors[index])
    loaded = load_into_new(tensors, network.config.replace(distillation=False))
    for name in parts(state, "attention_biases"):
        assert torch.equal(loaded.state_dict()[name], state[name][:, 1:2].expand(-1, 9))


def test_order_by_hand():
    # A line of three tokens: our offsets are 0, 1, 2; the file counts them in reverse.
    assert table_order(torch.tensor([[2, 1, 0], [1, 2, 1], [0, 1, 2]]), (1, 3)).tolist() == [2, 1, 0]
    assert table_order(torch.tensor([[2, 1, 0], [1, 2, 0], [0, 1, 2]], dtype=torch.int32), (1, 3)) is None
    assert table_order(torch.tensor([[3, 1, 0], [1, 3, 1], [0, 1, 3]]), (1, 3)) is None  # there is no fourth column
    assert table_order(torch.tensor([[-1]]), (1, 1)) is None


@pytest.mark.parametrize("broken", [lambda index: index.roll(1), lambda index: index + 1])
def test_an_index_that_is_none(network, broken):
    tensors = to_layout(network.state_dict(), network.config, "timm")
    name = parts(tensors, "attention_bias_idxs")[1]
    tensors[name] = broken(tensors[name])
    with pytest.raises(ValueError, match=f"{name} .* on a grid of 3×3 .* pass the config with its bias_grid"):
        convert_state_dict(tensors, None, head=True)


def test_the_index_of_another_grid(network):
    config = network.config.replace(bias_grid=(1, 9))
    tensors = to_layout(network.state_dict(), network.config, "timm")
    with pytest.raises(ValueError, match="on a grid of 1×9"):
        convert_state_dict(tensors, config, head=True)
