"""What a file of weights is: which of its tensors are the network, whose names they have, what network they describe.

Everything that the shapes tell is read off them. Pool size, dropouts, the kind of activation and the first value of the
layer scale leave no trace in the tensors; they keep the values of `EfficientFormerConfig`.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from itertools import count

from torch import Tensor

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.weights.convert import Tensors, table_order
from efficientformer_edu.weights.layouts import INDEX, LAYOUTS, Layout, block_name, names

# Every layout has one such tensor. What comes before its name comes before all names.
FIRST_TENSORS = tuple(f"{layout.stem[0]}.weight" for layout in LAYOUTS.values())

# What torch.compile, FSDP and activation checkpointing add to names, also of a module within the network.
WRAPPER = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
AVERAGE = re.compile(r"(?<![^._])ema[._]")  # `ema.`, `model_ema.`, `ema_model.module.`
COUNTERS = ("n_averaged", "steps")  # torch's AveragedModel and mmengine count their updates in one


def select_network(tensors: Tensors, use_ema: bool | None = None) -> dict[str, Tensor]:
    """The tensors of the network, without the prefixes of wrappers around it.

    Prefixes are those of DataParallel and DistributedDataParallel (`module.`), torch.compile (`_orig_mod.`),
    AveragedModel, Lightning and others (`model.`, `net.`), alone and combined: whatever comes before the name of the
    first convolution. Tensors of no known layout are returned as they are.

    Args:
        tensors: of a file, or a `state_dict`.
        use_ema: which weights to take if there are two sets, the raw ones and their moving average: True for the
            average, False for the raw ones. None takes the average, with a warning.

    Raises:
        ValueError: if there are several networks, or not the weights that `use_ema` asks for.

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
        raise ValueError(f"there are no {'averaged' if use_ema else 'raw'} weights; leave use_ema={use_ema} out")
    if len(candidates) > 1:
        raise ValueError(f"there are several networks: {', '.join(sorted(candidates))}; save one of them alone")
    (prefix,) = candidates
    if use_ema is None and averages and averages != prefixes:
        warnings.warn(
            "the file has raw weights and their moving average; the average is loaded, as timm does. "
            "use_ema=False loads the raw weights, use_ema=True the average without this warning",
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
    """The layout whose names these tensors have, told by the stem and by the name of a block.

    Raises:
        ValueError: if it is none of `LAYOUTS`, or if the network was folded and has no batch norms.
    """
    for name, layout in LAYOUTS.items():
        if f"{layout.stem[0]}.weight" in tensors and any(sum(_blocks(tensors, layout, stage)) for stage in range(4)):
            if f"{layout.stem[1]}.weight" not in tensors:
                raise ValueError("the batch norms are missing: it was folded; take the weights from before folding")
            return name
    first = ", ".join(sorted(tensors)[:3])
    raise ValueError(f"the names are of no known layout ({', '.join(LAYOUTS)}); they start with {first}")


def infer(tensors: Tensors, layout: str) -> EfficientFormerConfig:
    """The network that tensors of that layout describe.

    The token grid follows from the stored index of offsets; without one it is taken to be square.

    Raises:
        ValueError: if a tensor that tells is missing or has too few dimensions, or if they describe no EfficientFormer.
    """
    theirs, native = LAYOUTS[layout], layout == "native"
    blocks = [_blocks(tensors, theirs, stage) for stage in range(4)]
    for stage, found in enumerate(blocks):
        if sum(found) == 0:
            raise ValueError(f"no block of stage {stage} is there")
    depths, vits = tuple(map(sum, blocks)), tuple(vit for _, vit in blocks)
    kinds = ["mb4d" if mb4d else "mb3d" for mb4d, _ in blocks]
    skeleton = EfficientFormerConfig(
        depths=depths,
        num_vit=vits if any(vits[:3]) else vits[3],
        downsamples=_downsamples(tensors) if native else EfficientFormerConfig.downsamples,
        embed_dims=(2, 2, 2, 2),  # not known yet; the names do not depend on widths
        distillation=len(theirs.heads) == 2 and f"{theirs.heads[1]}.weight" in tensors,
        act="prelu" if native and f"stages.0.{kinds[0]}.0.mlp.act.weight" in tensors else "gelu",
        stem_act="prelu" if native and "stem.act1.weight" in tensors else "relu",
    )
    shape = _Shapes(tensors, names(skeleton, layout))
    mlps = [shape(f"stages.{stage}.{kind}.0.mlp.fc1.weight") for stage, kind in enumerate(kinds)]
    dims = tuple(dim for _, dim, *_ in mlps)
    fields = {"num_classes": shape("head.weight")[0]} if f"{theirs.heads[0]}.weight" in tensors else {}
    has_scale = shape.has(f"stages.0.{kinds[0]}.0.layer_scale_1.gamma")
    return skeleton.replace(
        embed_dims=dims,
        in_channels=shape("stem.conv1.weight")[1],
        mlp_ratio=_ratio([hidden for hidden, *_ in mlps], dims),
        layer_scale_init=skeleton.layer_scale_init if has_scale else None,
        **fields,
        **_attention(tensors, shape),
    )


class _Shapes:
    """Shapes of a file's tensors by our names."""

    def __init__(self, tensors: Tensors, theirs: Mapping[str, str]) -> None:
        self.tensors, self.theirs = tensors, theirs

    def has(self, ours: str) -> bool:
        return self.theirs[ours] in self.tensors

    def tensor(self, ours: str) -> Tensor:
        if not self.has(ours):
            raise ValueError(f"{self.theirs[ours]} is missing")
        return self.tensors[self.theirs[ours]]

    def __call__(self, ours: str) -> tuple[int, ...]:
        shape = tuple(self.tensor(ours).shape)
        if len(shape) < 2 or 0 in shape:
            raise ValueError(f"{self.theirs[ours]} has the impossible shape {shape}")
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


def _attention(tensors: Tensors, shape: _Shapes) -> dict[str, object]:
    """Heads and their widths from the first MB3D; nothing where there is none."""
    tables = [name for name in shape.theirs if name.endswith(".attention_biases")]
    if not tables:
        return {}
    mixer = tables[0].removesuffix(".attention_biases")
    heads, offsets = shape(tables[0])
    value_dim = shape(f"{mixer}.proj.weight")[1] // heads
    if f"{mixer}.query.weight" in shape.theirs:
        key_dim = shape(f"{mixer}.query.weight")[0] // heads
    else:
        key_dim = (shape(f"{mixer}.qkv.weight")[0] // heads - value_dim) // 2
    index = shape.tensor(f"{mixer}.{INDEX}") if shape.theirs.get(f"{mixer}.{INDEX}") in tensors else None
    return {
        "num_heads": heads,
        "key_dim": key_dim,
        "attn_ratio": _ratio([value_dim], (key_dim,)),
        "bias_grid": _grid(offsets, index),
    }


def _grid(offsets: int, index: Tensor | None) -> tuple[int, int]:
    """The token grid: the squarest one on which the index is a function of the offset; without index, the square."""
    grids = [(h, offsets // h) for h in range(1, offsets + 1) if offsets % h == 0]
    grids.sort(key=lambda grid: abs(grid[0] - grid[1]))
    if index is None or tuple(index.shape) != (offsets, offsets) or index.is_floating_point():
        grids = [grid for grid in grids if grid[0] == grid[1]]
    else:
        grids = [grid for grid in grids if table_order(index, grid) is not None]
    if not grids:
        raise ValueError(
            f"which token grid has its {offsets} offsets cannot be told; give the config with its bias_grid"
        )
    return grids[0]


def _ratio(products: list[int], bases: tuple[int, ...]) -> float:
    """The smallest number that gives every product as int(ratio · base)."""
    ratio = max(product / max(base, 1) for product, base in zip(products, bases, strict=True))
    if any(int(ratio * base) < product for product, base in zip(products, bases, strict=True)):
        ratio = math.nextafter(ratio, math.inf)  # the quotient was rounded down
    return ratio
