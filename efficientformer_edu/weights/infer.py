"""What a file of weights is: whose names it has, and which network they describe.

Everything that the shapes tell is read off them. Pool size, dropouts, the kind of activation and the first value of the
layer scale leave no trace in the tensors; they keep the values of `EfficientFormerConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import count

from torch import Tensor

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.weights.convert import Tensors, table_order
from efficientformer_edu.weights.layouts import INDEX, LAYOUTS, Layout, block_name, names


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
