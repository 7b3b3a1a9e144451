"""Load from and save to the Hugging Face hub, or a folder with the structure of its repositories.

A repository contains `config.json` and the weights. `huggingface_hub` downloads, caches, verifies and uploads the
files; their contents are read and written here, with the same readers as all other weight files.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import (
    ModelHubMixin,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    split_torch_state_dict_into_shards,
)
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled
from torch import Tensor, nn

from efficientformer_edu import _validation as values
from efficientformer_edu.config import EfficientFormerConfig as NetworkConfig
from efficientformer_edu.hf.config import EfficientFormerConfig
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.utils.files import atomic_write
from efficientformer_edu.weights import files
from efficientformer_edu.weights.conversion import detect, select_network, to_layout
from efficientformer_edu.weights.layouts import LAYOUTS, get_layout
from efficientformer_edu.weights.store import convert_state_dict, read

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that exists
PREFIX = "efficientformer."  # of all names but those of the heads; files of the model without heads do not have it
TIMEOUT = 10  # seconds for the hub's first response; huggingface_hub itself would retry for minutes


class HubModel(
    nn.Module,
    ModelHubMixin,
    library_name="efficientformer_edu",
    tags=["efficientformer"],
    pipeline_tag="image-classification",
    paper_url="https://arxiv.org/abs/2206.01191",
):
    """`from_pretrained`, `save_pretrained` and `push_to_hub`, with the arguments of huggingface_hub's `ModelHubMixin`.

    `from_pretrained` takes the name of a repository or a folder and, in addition to the mixin's arguments, those of
    `adapt`: `config`, `dtype`, `ignore_mismatched_sizes`, and fields of the configuration to change. The model is
    returned in evaluation mode. `save_pretrained` writes `config.json` and `model.safetensors` in Hugging Face's
    layout, which transformers up to 4.57 reads, and a model card if there is none.

    Attributes:
        heads: number of heads of this class: 0, 1 or 2.
    """

    heads: ClassVar[int]
    config: EfficientFormerConfig
    network: EfficientFormer

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.parameters()).dtype

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **arguments: Any) -> Self:
        """A model from a repository of the hub or a folder; see the class for the arguments.

        Warns:
            UserWarning: if the hub does not respond within 10 seconds; then only the cache is used.
        """
        arguments = with_reachable_hub(pretrained_model_name_or_path, arguments)
        model: Self = super().from_pretrained(pretrained_model_name_or_path, **arguments)
        return model

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **arguments: Any) -> Self:
        names = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        path = find_file(model_id, WEIGHTS, **{name: arguments.pop(name) for name in names})
        for name in ("proxies", "resume_download"):  # huggingface_hub passes these before 1.0
            arguments.pop(name, None)
        if "config" not in arguments:
            raise ValueError(f"{model_id} has no config.json; add it, or pass config=EfficientFormerConfig(...)")
        try:
            return cls.adapt(read(path), **arguments)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def adapt(
        cls,
        tensors: Mapping[str, Tensor],
        *,
        config: EfficientFormerConfig | NetworkConfig | Mapping[str, Any],
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        ignore_mismatched_sizes: bool = False,
        **fields: Any,
    ) -> Self:
        """A model of this class from the tensors of a file.

        Heads that only the file has are ignored. Heads that only the class has are random, for fine-tuning. Both cases
        raise a warning.

        Args:
            tensors: the tensors, in any published layout.
            config: the configuration, or the contents of `config.json`.
            dtype: dtype of the weights, as a torch.dtype or its name; "auto" for the file's. None for float32.
            torch_dtype: older name of `dtype`.
            ignore_mismatched_sizes: whether a head with a different number of labels is initialized randomly instead of
                raising an error.
            **fields: fields of the configuration to change, for example `num_labels`.

        Raises:
            ValueError: for an invalid field, or tensors that do not fit.
        """
        if isinstance(config, NetworkConfig):
            config = EfficientFormerConfig.from_network(config)
        if not isinstance(config, EfficientFormerConfig):
            config = EfficientFormerConfig.from_dict(config)
        model = cls(config.replace(**fields))
        tensors = with_prefix(tensors)
        heads = [name for name in get_layout(detect(tensors)).heads if f"{name}.weight" in tensors]
        mismatched = [name for name in heads if len(tensors[f"{name}.weight"]) != model.config.num_labels]
        loaded = [name for name in heads[: cls.heads] if not (ignore_mismatched_sizes and name in mismatched)]
        unused = [name for name in heads if name not in loaded]
        if len(loaded) < cls.heads:
            summary = f"the file gives {len(loaded)} of {cls.heads} heads"
            warnings.warn(f"{summary}; missing heads are random: train them before use", stacklevel=2)
        elif unused and cls.heads:
            warnings.warn(
                f"{cls.__name__} has one head, so {unused[0]} is not loaded; the published logits are the mean of two: "
                "use EfficientFormerForImageClassificationWithTeacher",
                stacklevel=2,
            )
        kept = {name: value for name, value in tensors.items() if name.rpartition(".")[0] not in unused}
        network = model.network.config.replace(distillation=len(loaded) == 2)
        model.network.load_state_dict(
            convert_state_dict(kept, network, head=bool(loaded)), strict=len(loaded) == cls.heads
        )
        dtype = torch_dtype if dtype is None else dtype
        if dtype == "auto":
            dtype = next(value.dtype for value in tensors.values() if value.is_floating_point())
        torch_type = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype or torch.float32
        if not isinstance(torch_type, torch.dtype):
            raise values.invalid_value("dtype", dtype, "a torch.dtype, its name, 'auto' or None")
        return model.to(torch_type).eval()

    def save_pretrained(  # type: ignore[override]  # the mixin's `config` is not used here
        self,
        save_directory: str | Path,
        *,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        push_to_hub: bool = False,
        max_shard_size: int | str = "5GB",
        safe_serialization: bool = True,
        variant: str | None = None,
        config: None = None,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_arguments: Any,
    ) -> str | None:
        """Write `config.json`, `model.safetensors` and, if there is none, a model card.

        Args:
            save_directory: the folder, which is created if it does not exist.
            is_main_process: if False, no files are written, for the other processes of a distributed run.
            state_dict: tensors to write instead of the model's, for example a moving average, with the names of
                `model.state_dict()` or of a published layout.
            push_to_hub: whether to upload the files as well.
            max_shard_size: at least the size of the weights, because only one file is written.
            safe_serialization: True; only safetensors are written.
            variant: None; the name of the file is always the same.
            config: None; `model.config` is written.
            model_card_kwargs: arguments for the template of the model card.
            **push_arguments: with `push_to_hub`, arguments of `ModelHubMixin.push_to_hub`; `repo_id` defaults to the
                name of the folder.

        Returns:
            The URL of the commit with `push_to_hub`, else None.

        Raises:
            ValueError: for an unknown argument, a value that is not supported, or tensors that do not fit. Nothing is
                written in this case.
        """
        for_hub = set(inspect.signature(self.push_to_hub).parameters)
        for name in push_arguments:
            if name not in for_hub:
                own = set(inspect.signature(self.save_pretrained).parameters) - {"push_arguments"}
                raise values.unknown_name(name, sorted(own | for_hub), "argument", push_arguments)
            if not push_to_hub:
                raise ValueError(f"{name} is for uploads; give push_to_hub=True as well, or leave it out")
        if not values.boolean("safe_serialization", safe_serialization):
            raise values.invalid_value("safe_serialization", False, "True, because only safetensors are written")
        if variant is not None:
            raise values.invalid_value("variant", variant, f"None, because the file is always called {WEIGHTS[0]}")
        if config is not None:
            raise values.invalid_value("config", config, "None, because the configuration of the model is written")
        if push_to_hub and state_dict is not None:
            raise ValueError("push_to_hub uploads the model's own weights; load the state_dict into the model first")
        tensors = self.hub_tensors(state_dict)
        if split_torch_state_dict_into_shards(tensors, max_shard_size=max_shard_size).is_sharded:
            size = sum(value.nbytes for value in tensors.values())
            raise values.invalid_value(
                "max_shard_size", max_shard_size, f"at least {size} bytes, because one file is written"
            )
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        if not is_main_process:
            return None
        files.write(tensors, folder / WEIGHTS[0], wrapper=None)
        about = {"architectures": [type(self).__name__], "distillation": self.heads == 2}
        write_json(self.config.to_dict() | about, folder / "config.json")
        if not (folder / "README.md").exists():
            self.generate_model_card(**(model_card_kwargs or {})).save(folder / "README.md")
        if not push_to_hub:
            return None
        push_arguments.setdefault("repo_id", folder.name)
        return self.push_to_hub(model_card_kwargs=model_card_kwargs, **push_arguments)

    def hub_tensors(self, state_dict: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Tensors with Hugging Face's names: the model's, or those of `state_dict`. Raises ValueError like `load`."""
        state, config = self.network.state_dict(), self.network.config
        if state_dict is not None:
            state = convert_state_dict(select_network(with_prefix(state_dict)), config, head=self.heads > 0)
        if self.heads:
            return to_layout(state, config, "hf")
        no_head = {f"head.{kind}": torch.empty(0) for kind in ("weight", "bias")}
        tensors = to_layout(state | no_head, config, "hf")
        return {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}


def with_prefix(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Add the prefix that names of the class without heads lack, if it is missing."""
    if f"{LAYOUTS['hf'].stem[0]}.weight".removeprefix(PREFIX) not in tensors:
        return tensors
    return {PREFIX + name: value for name, value in tensors.items()}


def with_reachable_hub(model_id: str | Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments for `hf_hub_download`, restricted to the cache, with a warning, if the hub does not respond."""
    if arguments.get("local_files_only") or Path(model_id).is_dir():
        return arguments
    url = hf_hub_url(str(model_id), "config.json", revision=arguments.get("revision"))
    try:
        get_hf_file_metadata(url, token=arguments.get("token"), timeout=TIMEOUT)
    except (HfHubHTTPError, OfflineModeIsEnabled):
        pass  # it responded, or offline mode is on: hf_hub_download handles both
    except Exception as error:  # the error type depends on the version of huggingface_hub
        warnings.warn(f"the Hugging Face hub cannot be reached ({error}); only its cache is searched", stacklevel=3)
        return arguments | {"local_files_only": True}
    return arguments


def find_file(model_id: str, names: tuple[str, ...], **arguments: Any) -> Path:
    """Find the first of several files in a folder or a repository of the hub.

    Args:
        model_id: the folder, or the name of the repository.
        names: file names in order of preference.
        **arguments: arguments of `huggingface_hub.hf_hub_download`.

    Raises:
        FileNotFoundError: if the folder has none of them.
        huggingface_hub.errors.EntryNotFoundError: if the repository has none of them.
    """
    if Path(model_id).is_dir():
        match = next((path for name in names if (path := Path(model_id) / name).is_file()), None)
        if match is None:
            raise FileNotFoundError(f"{model_id}: the folder has no {' or '.join(names)}")
        return match
    for name in names[:-1]:
        try:
            return Path(hf_hub_download(model_id, name, **arguments))
        except EntryNotFoundError:
            continue
    return Path(hf_hub_download(model_id, names[-1], **arguments))


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file. Raises ValueError that names the file if it contains none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: it holds {type(content).__name__}, not a mapping of fields to values")
    return content


def write_json(fields: Mapping[str, Any], path: Path) -> None:
    """Write a mapping as JSON, atomically."""
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
