"""Conversion between our tensors and those of a published layout: everything that changes besides the names.

There are three such changes. NetsPresso splits the attention's linear layer qkv into three, and has one head. The five
published code bases store the index of the bias of each pair of tokens; ours computes it from the grid. Released
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
    """Convert the tensors of a network to a published layout.

    Args:
        state: our complete `state_dict`.
        config: configuration of the network.
        layout: one of `LAYOUTS`.

    Raises:
        ValueError: if the layout is unknown or does not support this network.
    """
    key_map = names(config, layout)
    tensors = dict(state)
    if config.distillation and len(get_layout(layout).heads) == 1:
        tensors = merge_heads(tensors)
    for mixer in _token_mixers(key_map):
        if f"{mixer}.{INDEX}" in key_map:
            tensors[f"{mixer}.{INDEX}"] = offset_index(config.bias_grid)
        if f"{mixer}.query.weight" in key_map:
            for kind in ("weight", "bias"):
                parts = split_qkv(tensors[f"{mixer}.qkv.{kind}"], config)
                tensors |= {f"{mixer}.{name}.{kind}": part for name, part in parts.items()}
    return {name: tensors[key] for key, name in key_map.items()}


def from_layout(tensors: Tensors, config: EfficientFormerConfig, layout: str) -> dict[str, Tensor]:
    """Convert the tensors of a published layout to our `state_dict`.

    Args:
        tensors: tensors of the file, with the names and shapes of the layout. Heads and index may be missing.
        config: configuration of the network in the file.
        layout: one of `LAYOUTS`.

    Raises:
        ValueError: if an index in the file does not describe a bias by offsets on `config.bias_grid`.
    """
    key_map = names(config, layout)
    state = {key: tensors[name] for key, name in key_map.items() if name in tensors}
    for mixer in _token_mixers(key_map):
        if f"{mixer}.query.weight" in key_map:
            for kind in ("weight", "bias"):
                state[f"{mixer}.qkv.{kind}"] = join_qkv({n: state[f"{mixer}.{n}.{kind}"] for n in _QKV}, config)
        if f"{mixer}.{INDEX}" in state:
            order = table_order(state[f"{mixer}.{INDEX}"], config.bias_grid)
            if order is None:
                raise ValueError(
                    f"{key_map[f'{mixer}.{INDEX}']} gives pairs of tokens with the same offset on a grid of "
                    f"{config.bias_grid[0]}×{config.bias_grid[1]} different biases; give the config with its bias_grid"
                )
            state[f"{mixer}.attention_biases"] = state[f"{mixer}.attention_biases"][:, order]  # (heads, h·w)
    return {name: state[name] for name in names(config, "native") if name in state}


_QKV = ("query", "key", "value")


def split_qkv(qkv: Tensor, config: EfficientFormerConfig) -> dict[str, Tensor]:
    """Query, key and value rows of the attention's linear layer, which stores them head by head: (q k v)(q k v)."""
    heads = qkv.unflatten(0, (config.num_heads, -1))  # (heads, 32 + 32 + 128, …)
    parts = heads.split([config.key_dim, config.key_dim, config.value_dim], dim=1)
    return {name: part.flatten(0, 1) for name, part in zip(_QKV, parts, strict=True)}  # (heads · 32, …)


def join_qkv(parts: Tensors, config: EfficientFormerConfig) -> Tensor:
    """The inverse of `split_qkv`."""
    return torch.cat([parts[name].unflatten(0, (config.num_heads, -1)) for name in _QKV], dim=1).flatten(0, 1)


def merge_heads(state: Tensors) -> dict[str, Tensor]:
    """Merge two heads into one that computes the mean of their logits."""
    merged = {name: value for name, value in state.items() if not name.startswith("head_dist.")}
    for kind in ("weight", "bias"):
        merged[f"head.{kind}"] = (state[f"head.{kind}"] + state[f"head_dist.{kind}"]) / 2
    return merged


def table_order(index: Tensor, grid: tuple[int, int]) -> Tensor | None:
    """Map our offsets to the columns of a file's table of biases.

    Args:
        index: (N, N), for each pair of tokens the column in the file's table.
        grid: height h and width w of the token grid, h·w = N.

    Returns:
        (N,), for each offset in our row-major order the column in the file's table, so that `table[:, order]` with our
        index is the same function. None if pairs with the same offset have different columns, or a column does not
        exist.
    """
    offsets, index = offset_index(grid), index.long()  # (N, N)
    order = torch.empty(len(index), dtype=torch.long)
    order[offsets.flatten()] = index.flatten()
    exist = bool(((index >= 0) & (index < len(index))).all())
    return order if exist and torch.equal(order[offsets], index) else None


def _token_mixers(key_map: Mapping[str, str]) -> list[str]:
    return [name.removesuffix(".attention_biases") for name in key_map if name.endswith(".attention_biases")]
