"""torch.fx and torch.export on complete networks, for every valid pair."""

from __future__ import annotations

import pytest
import torch
from dense_networks import ALLOWED, dense_network, images

from efficientformer_edu.dense.detection.priors import anchors_at

pytestmark = pytest.mark.slow


def assert_equal(output, expected):
    assert type(output) is type(expected)
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pair", ALLOWED, ids=" ".join)
@torch.no_grad()
def test_an_fx_trace_takes_any_size(pair):
    network = dense_network(pair)
    traced = torch.fx.symbolic_trace(network)
    for batch, height, width in ((1, 64, 64), (2, 65, 65), (2, 96, 128), (1, 100, 67)):
        inputs = images(batch, height, width)
        assert_equal(traced(inputs), network(inputs))
    with pytest.raises(ValueError, match="^images are 16×64 pixels"):
        traced(images(1, 16, 64))


def test_anchors_are_a_single_node_of_an_fx_trace():
    traced = torch.fx.symbolic_trace(dense_network(("fpn", "anchor_decoupled_head")))
    targets = [node.target for node in traced.graph.nodes]
    assert targets.count(anchors_at) == 1 and torch.arange not in targets


@pytest.mark.parametrize("pair", ALLOWED, ids=" ".join)
def test_an_fx_trace_trains(pair):
    network = dense_network(pair).train()
    outputs = torch.fx.symbolic_trace(network)(images(2, 65, 96))
    floats = [outputs] if isinstance(outputs, torch.Tensor) else [x for x in outputs if x.requires_grad]
    sum(x.sum() for x in floats).backward()
    assert network.backbone.stem.conv1.weight.grad is not None


@pytest.mark.parametrize("pair", ALLOWED, ids=" ".join)
@torch.no_grad()
def test_export_with_a_dynamic_batch(pair):
    network = dense_network(pair)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(network, (images(2, 65, 64),), dynamic_shapes=({0: batch},)).module()
    for size in (1, 3):
        inputs = images(size, 65, 64)
        assert_equal(program(inputs), network(inputs))


@torch.no_grad()
def test_export_with_a_dynamic_size():
    """For images whose last map is higher than the grid of the attention's table, here two rows.

    On that grid the table is used directly, on any other it is resized: an exported program has one of the two.
    """
    network = dense_network(("fpn", "anchor_decoupled_head"))
    dims = {0: torch.export.Dim("batch", max=64)}
    dims |= {2: torch.export.Dim("height", min=65, max=1024), 3: torch.export.Dim("width", min=65, max=1024)}
    program = torch.export.export(network, (images(2, 160, 128),), dynamic_shapes=(dims,)).module()
    for batch, height, width in ((2, 160, 128), (1, 65, 65), (3, 100, 67)):
        inputs = images(batch, height, width)
        assert_equal(program(inputs), network(inputs))
    with pytest.raises((AssertionError, RuntimeError), match="65"):
        program(images(1, 64, 128))
