"""The default network of each task: it runs, and invalid combinations are named."""

from __future__ import annotations

import pytest
import torch
from dense_networks import images

from efficientformer_edu.config import get_config
from efficientformer_edu.dense.defaults import HEAD, PARTS, SMALL, usual
from efficientformer_edu.dense.detection.heads import AnchorDecoupledHeadConfig
from efficientformer_edu.dense.network import STRIDES, TASKS, DenseNetwork


@pytest.mark.parametrize("name", PARTS)
def test_every_head_has_a_compatible_neck(name: str) -> None:
    config = usual(SMALL, TASKS[name], 4, name)
    assert (config.names[1], config.task, config.num_classes) == (name, TASKS[name], 4)
    with torch.no_grad():
        output = DenseNetwork(config).eval()(images(1, 64, 64))
    if config.task == "segmentation":
        assert output.shape == (1, 4, 16, 16)
    else:
        assert output[0].shape[:2] == ((1, 3 * 340) if name == "anchor_decoupled_head" else (1, 9))


@pytest.mark.parametrize("task", HEAD)
def test_without_a_head_it_is_the_default_of_the_task(task: str) -> None:
    config = usual(get_config("l1"), task, 3)
    assert config.names[1] == HEAD[task]
    assert config.backbone == get_config("l1")
    assert config == usual(get_config("l1"), task, 3, HEAD[task])


def test_every_head_of_both_tasks_is_there() -> None:
    assert set(PARTS) == {head for head, task in TASKS.items() if task != "classification"}


def test_the_papers_semantic_fpn_has_256_channels() -> None:
    assert usual(get_config("l1"), "segmentation", 150, "semantic_fpn").neck.out_channels == 256  # type: ignore[union-attr]


def test_the_small_backbone_has_a_bias_per_pair_of_positions() -> None:
    """For scenes of 96×96 pixels no table is resized."""
    assert SMALL.grids(96)[-1] == SMALL.bias_grid == (3, 3)


def test_with_the_small_backbone_heads_are_narrow() -> None:
    """Most of the weights still belong to the backbone."""
    for name in ("all_mlp_decoder", "semantic_fpn", "anchor_decoupled_head"):
        network = DenseNetwork(usual(SMALL, TASKS[name], 6, name))
        total, backbone = (
            sum(parameter.numel() for parameter in part.parameters()) for part in (network, network.backbone)
        )
        assert backbone > total / 2
        wide = DenseNetwork(usual(SMALL.replace(bias_grid=(4, 4)), TASKS[name], 6, name))
        assert sum(parameter.numel() for parameter in wide.head.parameters()) > sum(
            parameter.numel() for parameter in network.head.parameters()
        )


def test_an_anchor_is_four_positions_wide_with_the_small_backbone() -> None:
    head = usual(SMALL, "detection", 5, "anchor_decoupled_head").head
    assert isinstance(head, AnchorDecoupledHeadConfig)
    assert head.anchor_sizes == tuple((4.0 * stride,) for stride in STRIDES)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"task='classification' is not possible; allowed: segmentation or detection"):
        usual(SMALL, "classification", 3)
    allowed = "allowed: all_mlp_decoder, semantic_fpn for segmentation"
    for head in ("yolo", "anchor_decoupled_head"):
        with pytest.raises(ValueError, match=rf"head='{head}' is not possible; {allowed}"):
            usual(SMALL, "segmentation", 3, head)
    with pytest.raises(ValueError, match="num_classes=0"):
        usual(SMALL, "detection", 0)
