"""Convert tensors between our names and those of a published layout, and inspect a file: layout and configuration.

Besides the names, three things change. NetsPresso splits the attention's linear layer qkv into three, and has one head.
The five published code bases store the index of the bias of each pair of tokens; ours computes it from the grid.
Released code: `Attention` in `models/efficientformer.py`.

The configuration is inferred from the tensor shapes as far as possible. Pool size, dropouts, the kind of activation and
the initial value of the layer scale cannot be inferred; they have the defaults of `EfficientFormerConfig`.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from itertools import count

import torch
from torch import Tensor

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model import offset_index
from efficientformer_edu.weights.layouts import BIASES, INDEX, LAYOUTS, Layout, block_name, get_layout, key_map

Tensors = Mapping[str, Tensor]

QKV = ("query", "key", "value")

# Every layout has exactly one such tensor. The prefix of its name is the prefix of all names.
FIRST_TENSORS = tuple(f"{layout.stem[0]}.weight" for layout in LAYOUTS.values())

# Name components that torch.compile, FSDP and activation checkpointing add, also for modules inside the network.
WRAPPER = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
AVERAGE = re.compile(r"(?<![^._])ema[._]")  # `ema.`, `model_ema.`, `ema_model.module.`
COUNTERS = ("n_averaged", "steps")  # counters of updates in torch's AveragedModel and mmengine


def to_layout(state: Tensors, config: EfficientFormerConfig, layout: str) -> dict[str, Tensor]:
    """Convert the tensors of a network to a published layout.

    Args:
        state: our complete `state_dict`.
        config: configuration of the network.
        layout: one of `LAYOUTS`.

    Raises:
        ValueError: if the layout is unknown or does not support this network.
    """
    names = key_map(config, layout)
    tensors = dict(state)
    if config.distillation and len(get_layout(layout).heads) == 1:
        tensors = merge_heads(tensors)
    for mixer in _token_mixers(names):
        if f"{mixer}.{INDEX}" in names:
            tensors[f"{mixer}.{INDEX}"] = offset_index(config.bias_grid)
        if f"{mixer}.query.weight" in names:
            for kind in ("weight", "bias"):
                parts = split_qkv(tensors[f"{mixer}.qkv.{kind}"], config)
                tensors |= {f"{mixer}.{name}.{kind}": part for name, part in parts.items()}
    return {name: tensors[key] for key, name in names.items()}


def from_layout(tensors: Tensors, config: EfficientFormerConfig, layout: str) -> dict[str, Tensor]:
    """Convert the tensors of a published layout to our `state_dict`.

    Args:
        tensors: tensors of the file, with the names and shapes of the layout. Heads and index may be missing. Any
            layout may have an index, see `with_index`.
        config: configuration of the network in the file.
        layout: one of `LAYOUTS`.

    Raises:
        ValueError: if an index in the file does not describe a bias by offsets on `config.bias_grid`.
    """
    names = key_map(config, layout)
    state = {key: tensors[name] for key, name in names.items() if name in tensors}
    for mixer in _token_mixers(names):
        if f"{mixer}.query.weight" in names:
            for kind in ("weight", "bias"):
                state[f"{mixer}.qkv.{kind}"] = join_qkv({n: state[f"{mixer}.{n}.{kind}"] for n in QKV}, config)
        biases = names[f"{mixer}.{BIASES}"]
        if (index := tensors.get(index_name(biases))) is not None:
            order = table_order(index, config.bias_grid)
            if order is None:
                raise ValueError(
                    f"{biases} belongs to another token grid: pairs of tokens with the same offset on a grid of "
                    f"{config.bias_grid[0]}×{config.bias_grid[1]} have different biases; "
                    "pass the config with its bias_grid"
                )
            state[f"{mixer}.{BIASES}"] = state[f"{mixer}.{BIASES}"][:, order]  # (heads, h·w)
    return {name: state[name] for name in key_map(config, "native") if name in state}


def with_index(tensors: Tensors, grid: tuple[int, int]) -> dict[str, Tensor]:
    """Add the index of offsets on a token grid next to each table of biases, as files of the published layouts have it.

    Raises:
        ValueError: if a table has a different number of offsets than the grid.
    """
    tables = {name: value for name, value in tensors.items() if name.endswith(f".{BIASES}")}
    for name, value in tables.items():
        if value.shape[-1:] != (grid[0] * grid[1],):
            raise ValueError(f"{name} {tuple(value.shape)} does not fit the file's bias_grid of {grid[0]}×{grid[1]}")
    return {**dict.fromkeys(map(index_name, tables), offset_index(grid)), **tensors}


def split_qkv(qkv: Tensor, config: EfficientFormerConfig) -> dict[str, Tensor]:
    """Query, key and value rows of the attention's linear layer, which stores them head by head: (q k v)(q k v)."""
    heads = qkv.unflatten(0, (config.num_heads, -1))  # (heads, 32 + 32 + 128, …)
    parts = heads.split([config.key_dim, config.key_dim, config.value_dim], dim=1)
    return {name: part.flatten(0, 1) for name, part in zip(QKV, parts, strict=True)}  # (heads · 32, …)


def join_qkv(parts: Tensors, config: EfficientFormerConfig) -> Tensor:
    """The inverse of `split_qkv`."""
    return torch.cat([parts[name].unflatten(0, (config.num_heads, -1)) for name in QKV], dim=1).flatten(0, 1)


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


def index_name(biases: str) -> str:
    """The name of the index that belongs to a table of biases."""
    return f"{biases.removesuffix(BIASES)}{INDEX}"


def _token_mixers(names: Mapping[str, str]) -> list[str]:
    return [name.removesuffix(f".{BIASES}") for name in names if name.endswith(f".{BIASES}")]


def select_network(tensors: Tensors, use_ema: bool | None = None) -> dict[str, Tensor]:
    """The tensors of the network, without the prefixes of wrappers around it.

    Prefixes are those of DataParallel and DistributedDataParallel (`module.`), torch.compile (`_orig_mod.`),
    AveragedModel, Lightning and others (`model.`, `net.`), alone and combined: the part before the name of the
    first convolution. Tensors of an unknown layout are returned unchanged.

    Args:
        tensors: tensors of a file, or a `state_dict`.
        use_ema: which weights to use if there are raw weights and a moving average: True for the average, False for
            the raw weights. None uses the average, with a warning.

    Raises:
        ValueError: if there are several networks, or the weights requested by `use_ema` are missing.

    Warns:
        UserWarning: if `use_ema` is None and there are two sets, and for tensors outside the network.
    """
    tensors = {WRAPPER.sub("", name): value for name, value in tensors.items()}
    prefixes = {name.removesuffix(first) for name in tensors for first in FIRST_TENSORS if name.endswith(first)}
    prefixes = {prefix for prefix in prefixes if prefix == "" or prefix.endswith(".")}
    if not prefixes:
        return tensors
    averages = {p for p in prefixes if AVERAGE.search(p) or f"{p.removesuffix('module.')}n_averaged" in tensors}
    candidates = averages if use_ema or (use_ema is None and averages) else prefixes - averages
    if not candidates:
        kind, option = ("averaged", "--use-ema") if use_ema else ("raw", "--no-use-ema")
        raise ValueError(f"there are no {kind} weights; leave use_ema={use_ema} ({option}) out")
    if len(candidates) > 1:
        raise ValueError(f"there are several networks: {', '.join(sorted(candidates))}; save one of them")
    (prefix,) = candidates
    if use_ema is None and averages and averages != prefixes:
        warnings.warn(
            "the file has raw weights and their moving average; the average is loaded, as timm does. "
            "use_ema=False (--no-use-ema) loads the raw weights, use_ema=True (--use-ema) the average without this "
            "warning",
            stacklevel=4,
        )
    inner = [other for other in prefixes if other != prefix and other.startswith(prefix)]
    network = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix) and not name.startswith(tuple(inner))
    }
    outside = [name for name in tensors if not name.startswith(tuple(prefixes)) and not name.endswith(COUNTERS)]
    if outside:
        some = ", ".join(outside[:3]) + (", …" if len(outside) > 3 else "")
        warnings.warn(f"tensors outside the network under {prefix!r} are ignored: {some}", stacklevel=4)
    return network


def detect(tensors: Tensors) -> str:
    """Detect the layout from the names of the stem and of a block.

    Raises:
        ValueError: if the layout is unknown, or the network was folded and has no batch norms.
    """
    for name, layout in LAYOUTS.items():
        if f"{layout.stem[0]}.weight" in tensors and any(sum(_blocks(tensors, layout, stage)) for stage in range(4)):
            if f"{layout.stem[1]}.weight" not in tensors:
                raise ValueError("the batch norms are missing: the network was folded; use its weights before folding")
            return name
    first = ", ".join(sorted(tensors)[:3])
    raise ValueError(f"the names do not match any layout ({', '.join(LAYOUTS)}); they start with {first}")


def infer(tensors: Tensors, layout: str) -> EfficientFormerConfig:
    """Infer the configuration of a network from its tensors in a layout.

    The token grid is inferred from the stored index of offsets. Without an index it is assumed to be square, which the
    number of offsets alone does not tell: a grid of 4×9 has as many as one of 6×6.

    Raises:
        ValueError: if a required tensor is missing or has too few dimensions, or they do not form an EfficientFormer.
    """
    file_layout, native = LAYOUTS[layout], layout == "native"
    blocks = [_blocks(tensors, file_layout, stage) for stage in range(4)]
    for stage, counts in enumerate(blocks):
        if sum(counts) == 0:
            raise ValueError(f"stage {stage} has no blocks")
    depths, vits = tuple(map(sum, blocks)), tuple(vit for _, vit in blocks)
    kinds = ["mb4d" if mb4d else "mb3d" for mb4d, _ in blocks]
    skeleton = EfficientFormerConfig(
        depths=depths,
        num_vit=vits if any(vits[:3]) else vits[3],
        downsamples=_downsamples(tensors) if native else EfficientFormerConfig.downsamples,
        embed_dims=(2, 2, 2, 2),  # not known yet; the names do not depend on widths
        distillation=len(file_layout.heads) == 2 and f"{file_layout.heads[1]}.weight" in tensors,
        act="prelu" if native and f"stages.0.{kinds[0]}.0.mlp.act.weight" in tensors else "gelu",
        stem_act="prelu" if native and "stem.act1.weight" in tensors else "relu",
    )
    shapes = _Shapes(tensors, key_map(skeleton, layout))
    mlps = [shapes(f"stages.{stage}.{kind}.0.mlp.fc1.weight") for stage, kind in enumerate(kinds)]
    dims = tuple(dim for _, dim, *_ in mlps)
    fields = {"num_classes": shapes("head.weight")[0]} if f"{file_layout.heads[0]}.weight" in tensors else {}
    has_scale = shapes.has(f"stages.0.{kinds[0]}.0.layer_scale_1.gamma")
    return skeleton.replace(
        embed_dims=dims,
        in_channels=shapes("stem.conv1.weight")[1],
        mlp_ratio=_ratio([hidden for hidden, *_ in mlps], dims),
        layer_scale_init=skeleton.layer_scale_init if has_scale else None,
        **fields,
        **_attention(tensors, shapes),
    )


class _Shapes:
    """Shapes of a file's tensors by our names."""

    def __init__(self, tensors: Tensors, names: Mapping[str, str]) -> None:
        self.tensors, self.names = tensors, names

    def has(self, key: str) -> bool:
        return self.names[key] in self.tensors

    def tensor(self, key: str) -> Tensor:
        if not self.has(key):
            raise ValueError(f"{self.names[key]} is missing")
        return self.tensors[self.names[key]]

    def __call__(self, key: str) -> tuple[int, ...]:
        shape = tuple(self.tensor(key).shape)
        if len(shape) < 2 or 0 in shape:
            raise ValueError(f"{self.names[key]} has the invalid shape {shape}")
        return shape


def _blocks(tensors: Tensors, layout: Layout, stage: int) -> tuple[int, int]:
    """MB4D and MB3D blocks of a stage, counted until the next name does not exist."""

    def consecutive(template: str, first: int = 0) -> int:
        return next(b for b in count() if not _holds(tensors, block_name(template, stage, b, first)))

    mb4d = consecutive(layout.mb4d[stage == 3])
    published = layout is not LAYOUTS["native"]  # these have MB3D blocks in the last stage only
    return mb4d, 0 if published and stage < 3 else consecutive(layout.mb3d, first=mb4d + 1)


def _downsamples(tensors: Tensors) -> tuple[bool, ...]:
    return tuple(_holds(tensors, f"stages.{stage}.downsample") for stage in range(4))


def _holds(tensors: Tensors, module: str) -> bool:
    return any(name.startswith(f"{module}.") for name in tensors)


def _attention(tensors: Tensors, shapes: _Shapes) -> dict[str, object]:
    """Heads and their widths from the first MB3D; empty if there is none."""
    tables = [name for name in shapes.names if name.endswith(f".{BIASES}")]
    if not tables:
        return {}
    mixer = tables[0].removesuffix(f".{BIASES}")
    heads, offsets = shapes(tables[0])
    value_dim = shapes(f"{mixer}.proj.weight")[1] // heads
    if f"{mixer}.query.weight" in shapes.names:
        key_dim = shapes(f"{mixer}.query.weight")[0] // heads
    else:
        key_dim = (shapes(f"{mixer}.qkv.weight")[0] // heads - value_dim) // 2
    index = tensors.get(index_name(shapes.names[tables[0]]))
    return {
        "num_heads": heads,
        "key_dim": key_dim,
        "attn_ratio": _ratio([value_dim], (key_dim,)),
        "bias_grid": _grid(offsets, index),
    }


def _grid(offsets: int, index: Tensor | None) -> tuple[int, int]:
    """The most nearly square token grid for which the index is a function of the offset; a square without index."""
    grids = [(h, offsets // h) for h in range(1, offsets + 1) if offsets % h == 0]
    grids.sort(key=lambda grid: abs(grid[0] - grid[1]))
    if index is None or tuple(index.shape) != (offsets, offsets) or index.is_floating_point():
        grids = [grid for grid in grids if grid[0] == grid[1]]
    else:
        grids = [grid for grid in grids if table_order(index, grid) is not None]
    if not grids:
        raise ValueError(
            f"the token grid cannot be inferred from {offsets} offsets; pass the config with its bias_grid"
        )
    return grids[0]


def _ratio(products: list[int], bases: tuple[int, ...]) -> float:
    """The smallest ratio with int(ratio · base) equal to each product."""
    ratio = max(product / max(base, 1) for product, base in zip(products, bases, strict=True))
    if any(int(ratio * base) < product for product, base in zip(products, bases, strict=True)):
        ratio = math.nextafter(ratio, math.inf)  # the division was rounded down
    return ratio
