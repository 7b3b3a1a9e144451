"""From our tensors to those of a published layout and back: what changes besides the names.

Three things do. NetsPresso splits the linear map qkv of the attention into three and has one head. The five published
code bases store the index that says where each pair of tokens finds its bias; ours computes it from the grid. Released
code: `Attention` in `models/efficientformer.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model import offset_index
from efficientformer_edu.weights.layouts import INDEX, get_layout, names

Tensors = Mapping[str, Tensor]


def to_layout(state: Tensors, config: EfficientFormerConfig, layout: str) -> dict[str, Tensor]:
    """The tensors of a network as a file of that layout holds them.

    Args:
        state: our `state_dict`, complete.
        config: the network it belongs to.
        layout: one of `LAYOUTS`.

    Raises:
        ValueError: if the layout is unknown or has no place for this network.
    """
    theirs = names(config, layout)
    tensors = dict(state)
    if config.distillation and len(get_layout(layout).heads) == 1:
        tensors = merge_heads(tensors)
    for mixer in _token_mixers(theirs):
        if f"{mixer}.{INDEX}" in theirs:
            tensors[f"{mixer}.{INDEX}"] = offset_index(config.bias_grid)
        if f"{mixer}.query.weight" in theirs:
            for kind in ("weight", "bias"):
                parts = split_qkv(tensors[f"{mixer}.qkv.{kind}"], config)
                tensors |= {f"{mixer}.{name}.{kind}": part for name, part in parts.items()}
    return {name: tensors[ours] for ours, name in theirs.items()}


def from_layout(tensors: Tensors, config: EfficientFormerConfig, layout: str) -> dict[str, Tensor]:
    """The tensors of a file of that layout as our `state_dict` holds them.

    Args:
        tensors: what the file holds, with the names and shapes of the layout. Heads and index may be missing.
        config: the network in the file.
        layout: one of `LAYOUTS`.

    Raises:
        ValueError: if an index of offsets in the file describes no bias by offsets on `config.bias_grid`.
    """
    theirs = names(config, layout)
    state = {ours: tensors[name] for ours, name in theirs.items() if name in tensors}
    for mixer in _token_mixers(theirs):
        if f"{mixer}.query.weight" in theirs:
            for kind in ("weight", "bias"):
                state[f"{mixer}.qkv.{kind}"] = join_qkv({n: state[f"{mixer}.{n}.{kind}"] for n in _QKV}, config)
        if f"{mixer}.{INDEX}" in state:
            order = table_order(state[f"{mixer}.{INDEX}"], config.bias_grid)
            if order is None:
                raise ValueError(
                    f"{theirs[f'{mixer}.{INDEX}']} gives pairs of tokens with the same offset on a grid of "
                    f"{config.bias_grid[0]}×{config.bias_grid[1]} different biases; give the config with its bias_grid"
                )
            state[f"{mixer}.attention_biases"] = state[f"{mixer}.attention_biases"][:, order]  # (heads, h·w)
    return {name: state[name] for name in names(config, "native") if name in state}


_QKV = ("query", "key", "value")


def split_qkv(qkv: Tensor, config: EfficientFormerConfig) -> dict[str, Tensor]:
    """Query, key and value rows of the attention's linear map, which holds them head by head: (q k v)(q k v)."""
    heads = qkv.unflatten(0, (config.num_heads, -1))  # (heads, 32 + 32 + 128, …)
    parts = heads.split([config.key_dim, config.key_dim, config.value_dim], dim=1)
    return {name: part.flatten(0, 1) for name, part in zip(_QKV, parts, strict=True)}  # (heads · 32, …)


def join_qkv(parts: Tensors, config: EfficientFormerConfig) -> Tensor:
    """The inverse of `split_qkv`."""
    return torch.cat([parts[name].unflatten(0, (config.num_heads, -1)) for name in _QKV], dim=1).flatten(0, 1)


def merge_heads(state: Tensors) -> dict[str, Tensor]:
    """Two heads as one that gives the mean of their logits."""
    merged = {name: value for name, value in state.items() if not name.startswith("head_dist.")}
    for kind in ("weight", "bias"):
        merged[f"head.{kind}"] = (state[f"head.{kind}"] + state[f"head_dist.{kind}"]) / 2
    return merged


def table_order(index: Tensor, grid: tuple[int, int]) -> Tensor | None:
    """Where a file's index finds the bias of each of our offsets.

    Args:
        index: (N, N), for each pair of tokens a column of the file's table.
        grid: height h and width w of the token grid, h·w = N.

    Returns:
        (N,), for each offset in our row-major order the column of the file's table, so that `table[:, order]` with our
        index is the same function. None if pairs with one offset have different columns, or a column does not exist.
    """
    ours, index = offset_index(grid), index.long()  # (N, N)
    order = torch.empty(len(index), dtype=torch.long)
    order[ours.flatten()] = index.flatten()
    exist = bool(((index >= 0) & (index < len(index))).all())
    return order if exist and torch.equal(order[ours], index) else None


def _token_mixers(theirs: Mapping[str, str]) -> list[str]:
    return [name.removesuffix(".attention_biases") for name in theirs if name.endswith(".attention_biases")]
