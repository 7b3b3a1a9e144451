"""Load and save weights in any of the layouts, and refuse what does not fit before it reaches a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from efficientformer_edu.config import EfficientFormerConfig, get_config
from efficientformer_edu.model import EfficientFormer, unwrap
from efficientformer_edu.weights import files
from efficientformer_edu.weights.convert import Tensors, from_layout, merge_heads, to_layout
from efficientformer_edu.weights.infer import detect, infer, select_network
from efficientformer_edu.weights.layouts import INDEX, get_layout

# What the shapes in a file tell about its network, for the message when it is another network than expected.
TOLD = ("depths", "embed_dims", "vits", "num_classes", "in_channels", "mlp_ratio", "num_heads", "key_dim", "attn_ratio")

FLOAT = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def load(
    path: str | Path,
    *,
    config: str | EfficientFormerConfig | None = None,
    head: bool = True,
    use_ema: bool | None = None,
) -> dict[str, Tensor]:
    """The weights in a file, in our names: `model.load_state_dict(load(path))`.

    The file is safetensors or torch, in any of the five published layouts or our own; its content decides which. Torch
    files are read without running code from them. Of a training checkpoint only the weights are loaded, and the
    prefixes of wrapped networks are removed, as `infer.select_network` describes. Tensors keep the file's dtype. If a
    file stores the index of attention offsets in another order than ours, the table of biases is put into our order, so
    that the function stays the same.

    Args:
        path: the file.
        config: the network that the weights are for, or its name; names and shapes are checked against it. Without it
            they are checked against the network that the file itself describes. For a network with one head, two heads
            in the file are merged into their mean: the same logits.
        head: False leaves the heads out, for another number of classes; then
            `model.load_state_dict(state, strict=False)` keeps those of the model.
        use_ema: of a checkpoint with raw and averaged weights, True loads the average and False the raw weights. None
            loads the average, as timm does, and warns. The released code evaluates the raw weights.

    Returns:
        Our names to tensors on the CPU, in the order of our `state_dict`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, what is wrong in it and what to do: an unknown layout, names missing or left over,
            wrong shapes, NaN or infinity, a damaged or empty file, objects that could run code.
    """
    path = Path(path)
    try:
        return adopt(read(path, use_ema), None if config is None else get_config(config), head)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def save(
    model: nn.Module | Mapping[str, Tensor],
    path: str | Path,
    *,
    layout: str = "timm",
    class_names: Sequence[str] | None = None,
) -> None:
    """Write weights in a layout: safetensors for the suffix `.safetensors`, else a torch file as the project writes it.

    A torch file holds the tensors under `model` in the official layout, under `state_dict` in mmpretrain's, and alone
    in the others. NetsPresso's layout has one head, so two become their mean. timm's own class always has two heads: a
    network with one is written with one, which loads here but not there. The file is written whole or not at all.

    Args:
        model: the network, wrapped or pruned as `model.unwrap` takes it, or its `state_dict` in our names.
        path: where to write; a file that is there is replaced.
        layout: `"official"`, `"timm"`, `"hf"`, `"mmpretrain"`, `"netspresso"`, or `"native"` for our own names.
        class_names: names of the classes by label, stored with the weights; by default those of the network. A torch
            file that holds only tensors, in the other three layouts, has no place for them.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: for names that are not as many as the classes, an unknown layout, a network that has no place in it,
            a folded network, or a `state_dict` that is not complete.
    """
    wrapper = get_layout(layout).wrapper
    if isinstance(model, nn.Module):
        model = unwrap(model)
        if model.input_size is not None:
            raise ValueError("a folded network has no batch norms to save; save the network and fold it after loading")
        config, state = model.config, model.state_dict()
    else:
        state = select_network(model)
        if (found := detect(state)) != "native":
            raise ValueError(f"the tensors already have the names of the {found} layout; give them in our names")
        check(state, config := infer(state, "native"), "native", head=True)
    names = class_names or getattr(model, "class_names", None)
    if names is not None and len(names) != config.num_classes:
        raise ValueError(
            f"{len(names)} class names for a network with {config.num_classes} classes; give one per class"
        )
    try:
        tensors = to_layout(state, config, layout)
    except KeyError as error:
        raise ValueError(f"the network is not a complete EfficientFormer: it has no tensor {error}") from error
    files.write(tensors, Path(path), wrapper, class_names=names)


def read(path: Path, use_ema: bool | None = None) -> dict[str, Tensor]:
    """The tensors of the network in a file, in the file's layout; arguments and errors as for `load`."""
    return select_network(files.read(path), use_ema)


def adopt(tensors: Tensors, config: EfficientFormerConfig | None, head: bool) -> dict[str, Tensor]:
    """Tensors of any layout in our names, checked; arguments and errors as for `load`."""
    layout = detect(tensors)
    heads = [name for name in get_layout(layout).heads if f"{name}.weight" in tensors]
    wanted = config or infer(tensors, layout)
    if head and wanted.distillation and len(heads) == 1:
        raise ValueError(
            "the file has one head and the network two; give the network's configuration distillation=False, "
            "or load with head=False to take everything but the heads"
        )
    stored = wanted.replace(distillation=len(heads) == 2)
    if not head:
        tensors = {name: value for name, value in tensors.items() if name.rpartition(".")[0] not in heads}
    check(tensors, stored, layout, head)
    state = from_layout(tensors, stored, layout)
    return merge_heads(state) if head and stored.distillation and not wanted.distillation else state


def check(tensors: Tensors, config: EfficientFormerConfig, layout: str, head: bool) -> None:
    """Raise ValueError, with all that is wrong, unless these are the tensors of that network in that layout."""
    with torch.device("meta"):  # shapes without memory
        expected = to_layout(EfficientFormer(config).state_dict(), config, layout)
    if not head:
        heads = get_layout(layout).heads
        expected = {name: value for name, value in expected.items() if name.rpartition(".")[0] not in heads}
    shared = [name for name in expected if name in tensors]
    wrong_shape = [name for name in shared if tensors[name].shape != expected[name].shape]
    plain = [
        name for name in shared if _is_plain(tensors[name], FLOAT if expected[name].is_floating_point() else WHOLE)
    ]
    problems = {
        "missing": [name for name in expected if name not in tensors and not name.endswith(INDEX)],
        "left over": [name for name in tensors if name not in expected],
        "of another shape": [
            f"{name} {tuple(tensors[name].shape)} instead of {tuple(expected[name].shape)}" for name in wrong_shape
        ],
        "of another kind": [_kind(name, tensors[name]) for name in shared if name not in plain],
        "with NaN or infinity": [name for name in plain if not bool(torch.isfinite(tensors[name]).all())],
    }
    found = [f"tensors {what} ({len(which)}): {_some(which)}" for what, which in problems.items() if which]
    if found:
        raise ValueError(f"in the {layout} layout, {'; '.join(found)}{_difference(tensors, layout, config)}")


def _is_plain(value: Tensor, dtypes: tuple[torch.dtype, ...]) -> bool:
    return value.dtype in dtypes and value.layout == torch.strided and not value.is_meta


def _kind(name: str, value: Tensor) -> str:
    return f"{name} ({value.dtype}, {value.layout}, {value.device})"


def _some(which: list[str], most: int = 4) -> str:
    return ", ".join(which[:most]) + (f" and {len(which) - most} more" if len(which) > most else "")


def _difference(tensors: Tensors, layout: str, config: EfficientFormerConfig) -> str:
    try:
        found = infer(tensors, layout)
    except ValueError:
        return ""
    fields = [name for name in TOLD if getattr(found, name) != getattr(config, name)]
    there = ", ".join(f"{name}={getattr(found, name)}" for name in fields)
    here = ", ".join(f"{name}={getattr(config, name)}" for name in fields)
    return f". The file describes {there}; expected was {here}" if fields else ""
