"""Load and save weights in any of the layouts, and check names and shapes before they reach a network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from efficientformer_edu.config import EfficientFormerConfig, get_config
from efficientformer_edu.model import EfficientFormer, unwrap
from efficientformer_edu.weights import files
from efficientformer_edu.weights.conversion import (
    Tensors,
    detect,
    from_layout,
    index_name,
    infer,
    merge_heads,
    select_network,
    to_layout,
    with_index,
)
from efficientformer_edu.weights.layouts import BIASES, INDEX, get_layout

# Fields that can be inferred from shapes, for the error message if the file contains a different network.
INFERRED = (
    "depths",
    "embed_dims",
    "vits",
    "num_classes",
    "in_channels",
    "mlp_ratio",
    "num_heads",
    "key_dim",
    "attn_ratio",
)

FLOAT = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGER = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def load(
    path: str | Path,
    *,
    config: str | EfficientFormerConfig | None = None,
    head: bool = True,
    use_ema: bool | None = None,
) -> dict[str, Tensor]:
    """The weights in a file, in our names: `model.load_state_dict(load(path))`.

    The file is a safetensors or torch file in any of the five published layouts or our own, which is detected from its
    content. Torch files are read without executing code from them. From a training checkpoint only the weights are
    loaded, and the prefixes of wrapped networks are removed (`conversion.select_network`). Tensors keep the file's
    dtype. If a file stores the index of attention offsets in a different order than ours, the table of biases is
    reordered, so that the function stays the same.

    The index, or the metadata of a safetensors file that `save` wrote without an index, states the token grid of the
    attention biases, and another `bias_grid` is an error. Torch files in our layout and files of a published layout
    whose index was removed do not state it. Then only the number of offsets is checked, so the biases of a grid of 2×3
    are loaded for one of 3×2 as well; pass the `config` of the network that was trained.

    Args:
        path: the file.
        config: configuration or name of the network; names and shapes are checked against it. Without it they are
            checked against the configuration inferred from the file. For a network with one head, two heads in the file
            are merged into their mean, which gives the same logits.
        head: False omits the heads, for a different number of classes; then
            `model.load_state_dict(state, strict=False)` keeps those of the model.
        use_ema: for a checkpoint with raw and averaged weights, True loads the average and False the raw weights. None
            loads the average, like timm, with a warning. The released code evaluates the raw weights.

    Returns:
        Our names to tensors on the CPU, in the order of our `state_dict`.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: for an unknown layout, missing or unexpected names, wrong shapes, NaN or infinity, a damaged or
            empty file, or objects that could run code. The message names the file, the problem and what to do.
    """
    path = Path(path)
    try:
        return convert_state_dict(read(path, use_ema), None if config is None else get_config(config), head)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def save(
    model: nn.Module | Mapping[str, Tensor],
    path: str | Path,
    *,
    layout: str = "timm",
    class_names: Sequence[str] | None = None,
    config: EfficientFormerConfig | None = None,
) -> None:
    """Write weights in a layout: safetensors for the suffix `.safetensors`, else a torch file like the project's own.

    A torch file contains the tensors under `model` in the official layout, under `state_dict` in mmpretrain's, and at
    the top level in the others. NetsPresso's layout has one head, so two heads are merged into their mean. timm's class
    always has two heads: a network with one head is written with one, which can be loaded here but not in timm. The
    file is written atomically.

    Args:
        model: the network, or its `state_dict` in our names; wrapped or pruned models are handled by `model.unwrap`.
        path: path of the file; an existing file is replaced.
        layout: `"official"`, `"timm"`, `"hf"`, `"mmpretrain"`, `"netspresso"`, or `"native"` for our own names.
        class_names: names of the classes by label, stored with the weights; by default those of the network. A torch
            file with only tensors, in the other three layouts, cannot store them.
        config: configuration of the network, if `model` is a `state_dict`; by default it is inferred, with a square
            token grid.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if the number of names differs from the number of classes, the layout is unknown or does not support
            the network, the network is folded, or the `state_dict` is incomplete.
    """
    wrapper, grid_is_known = get_layout(layout).wrapper, config is not None or isinstance(model, nn.Module)
    if isinstance(model, nn.Module):
        model = unwrap(model)
        if model.input_size is not None:
            raise ValueError("a folded network has no batch norms to save; save it unfolded, and fold it after loading")
        config, state = model.config, model.state_dict()
    else:
        state = select_network(model)
        if (layout_of_state := detect(state)) != "native":
            raise ValueError(
                f"the tensors already have the names of the {layout_of_state} layout; pass them with our names"
            )
        config = config or infer(state, "native")
        check(state, config, "native", head=True)
    names = class_names or getattr(model, "class_names", None)
    if names is not None and len(names) != config.num_classes:
        raise ValueError(
            f"{len(names)} class names for a network with {config.num_classes} classes; give one per class"
        )
    try:
        tensors = to_layout(state, config, layout)
    except KeyError as error:
        raise ValueError(f"the network is not a complete EfficientFormer: it has no tensor {error}") from error
    states_grid = grid_is_known and not get_layout(layout).index and any(config.vits)
    metadata = {files.BIAS_GRID: json.dumps(config.bias_grid)} if states_grid else {}
    files.write(tensors, Path(path), wrapper, class_names=names, metadata=metadata)


def read(path: Path, use_ema: bool | None = None) -> dict[str, Tensor]:
    """The tensors of the network in a file, in the file's layout; arguments and errors as for `load`."""
    tensors = select_network(files.read(path), use_ema)
    grid = files.read_bias_grid(path)
    return tensors if grid is None else with_index(tensors, grid)


def convert_state_dict(tensors: Tensors, config: EfficientFormerConfig | None, head: bool) -> dict[str, Tensor]:
    """Check tensors of any layout and convert them to our names; arguments and errors as for `load`."""
    layout = detect(tensors)
    heads = [name for name in get_layout(layout).heads if f"{name}.weight" in tensors]
    target = config or infer(tensors, layout)
    if head and target.distillation and len(heads) == 1:
        raise ValueError(
            "the file has one head and the network two; set distillation=False in the network's "
            "configuration, or load without heads with head=False"
        )
    stored = target.replace(distillation=len(heads) == 2)
    if not head:
        tensors = {name: value for name, value in tensors.items() if name.rpartition(".")[0] not in heads}
    check(tensors, stored, layout, head)
    state = from_layout(tensors, stored, layout)
    return merge_heads(state) if head and stored.distillation and not target.distillation else state


def check(tensors: Tensors, config: EfficientFormerConfig, layout: str, head: bool) -> None:
    """Raise ValueError that lists all problems, unless these are the tensors of the network in the layout."""
    with torch.device("meta"):  # shapes without memory
        expected = to_layout(EfficientFormer(config).state_dict(), config, layout)
    if not head:
        heads = get_layout(layout).heads
        expected = {name: value for name, value in expected.items() if name.rpartition(".")[0] not in heads}
    indices = {index_name(name) for name in expected if name.endswith(f".{BIASES}")}
    shared = [name for name in expected if name in tensors]
    wrong_shape = [name for name in shared if tensors[name].shape != expected[name].shape]
    regular = [
        name for name in shared if _is_regular(tensors[name], FLOAT if expected[name].is_floating_point() else INTEGER)
    ]
    problems = {
        "missing": [name for name in expected if name not in tensors and not name.endswith(INDEX)],
        "unexpected": [name for name in tensors if name not in expected and name not in indices],
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(expected[name].shape)}" for name in wrong_shape
        ],
        "of another kind": [_describe(name, tensors[name]) for name in shared if name not in regular],
        "with NaN or infinity": [name for name in regular if not bool(torch.isfinite(tensors[name]).all())],
    }
    messages = [f"tensors {what} ({len(which)}): {_shorten(which)}" for what, which in problems.items() if which]
    if messages:
        raise ValueError(f"in the {layout} layout, {'; '.join(messages)}{_config_difference(tensors, layout, config)}")


def _is_regular(value: Tensor, dtypes: tuple[torch.dtype, ...]) -> bool:
    return value.dtype in dtypes and value.layout == torch.strided and not value.is_meta


def _describe(name: str, value: Tensor) -> str:
    return f"{name} ({value.dtype}, {value.layout}, {value.device})"


def _shorten(which: list[str], most: int = 4) -> str:
    return ", ".join(which[:most]) + (f" and {len(which) - most} more" if len(which) > most else "")


def _config_difference(tensors: Tensors, layout: str, config: EfficientFormerConfig) -> str:
    try:
        inferred = infer(tensors, layout)
    except ValueError:
        return ""
    fields = [name for name in INFERRED if getattr(inferred, name) != getattr(config, name)]
    in_file = ", ".join(f"{name}={getattr(inferred, name)}" for name in fields)
    expected = ", ".join(f"{name}={getattr(config, name)}" for name in fields)
    return f". The file describes {in_file}; expected was {expected}" if fields else ""
