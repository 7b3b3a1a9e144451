"""To and from the Hugging Face hub, or a folder laid out as its repositories are: `config.json` and the weights.

`huggingface_hub` fetches, keeps and checks the files and sends them; what is in them is read and written here, by the
same readers as every other file of weights.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import ModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from torch import Tensor, nn

from efficientformer_edu import config_values as values
from efficientformer_edu.config import EfficientFormerConfig as NetworkConfig
from efficientformer_edu.files import whole
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.weights import files
from efficientformer_edu.weights.convert import to_layout
from efficientformer_edu.weights.hf_config import EfficientFormerConfig
from efficientformer_edu.weights.infer import detect
from efficientformer_edu.weights.layouts import LAYOUTS, get_layout
from efficientformer_edu.weights.store import adopt

WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there
PREFIX = "efficientformer."  # before every name but the heads'; a file of the model without heads has none


class HubModel(
    nn.Module,
    ModelHubMixin,
    library_name="efficientformer_edu",
    tags=["efficientformer"],
    pipeline_tag="image-classification",
    paper_url="https://arxiv.org/abs/2206.01191",
):
    """`from_pretrained`, `save_pretrained` and `push_to_hub`, with the arguments of huggingface_hub's `ModelHubMixin`.

    `from_pretrained` takes the name of a repository or a folder, and besides the mixin's arguments those of `adapt`:
    `config`, `dtype`, `ignore_mismatched_sizes`, and fields of the configuration that shall differ. The model comes in
    evaluation mode. `save_pretrained` writes `config.json` and `model.safetensors` in Hugging Face's layout, which
    transformers up to 4.57 reads, and a model card where there is none.

    Attributes:
        heads: of this class: 0, 1 or 2.
    """

    heads: ClassVar[int]
    config: EfficientFormerConfig
    network: EfficientFormer

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **arguments: Any) -> Self:
        names = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        path = find_file(model_id, WEIGHTS, **{name: arguments.pop(name) for name in names})
        for name in ("proxies", "resume_download"):  # huggingface_hub passes these before 1.0
            arguments.pop(name, None)
        if "config" not in arguments:
            raise ValueError(f"{model_id} has no config.json; add it, or give config=EfficientFormerConfig(...)")
        try:
            return cls.adapt(files.read(path), **arguments)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def adapt(
        cls,
        tensors: Mapping[str, Tensor],
        *,
        config: EfficientFormerConfig | NetworkConfig | Mapping[str, Any],
        dtype: str | torch.dtype | None = None,
        ignore_mismatched_sizes: bool = False,
        **fields: Any,
    ) -> Self:
        """A model of this class from the tensors of a file.

        Heads of the file that the class does not have are left out. Heads that the file does not have are random, for
        fine-tuning. Both warn.

        Args:
            tensors: the tensors, in any published layout.
            config: the configuration, or what `config.json` holds.
            dtype: of the weights, as torch's or by its name; "auto" for the file's. None for float32.
            ignore_mismatched_sizes: whether a head with another number of labels is random instead of an error.
            **fields: fields of the configuration that shall differ, say `num_labels`.

        Raises:
            ValueError: for a wrong field, or tensors that do not fit.
        """
        if isinstance(config, NetworkConfig):
            config = EfficientFormerConfig.from_network(config)
        if not isinstance(config, EfficientFormerConfig):
            config = EfficientFormerConfig.from_dict(config)
        model = cls(config.replace(**fields))
        if f"{LAYOUTS['hf'].stem[0]}.weight".removeprefix(PREFIX) in tensors:
            tensors = {PREFIX + name: value for name, value in tensors.items()}
        found = [name for name in get_layout(detect(tensors)).heads if f"{name}.weight" in tensors]
        wrong = [name for name in found if len(tensors[f"{name}.weight"]) != model.config.num_labels]
        taken = [name for name in found[: cls.heads] if not (ignore_mismatched_sizes and name in wrong)]
        left = [name for name in found if name not in taken]
        if len(taken) < cls.heads:
            given = f"the file gives {len(taken)} of {cls.heads} heads"
            warnings.warn(f"{given}; the rest is random: train it before use", stacklevel=2)
        elif left and cls.heads:
            warnings.warn(
                f"{cls.__name__} has one head, so {left[0]} is left out; the published logits are the mean of two: "
                "take EfficientFormerForImageClassificationWithTeacher",
                stacklevel=2,
            )
        kept = {name: value for name, value in tensors.items() if name.rpartition(".")[0] not in left}
        network = model.network.config.replace(distillation=len(taken) == 2)
        model.network.load_state_dict(adopt(kept, network, head=bool(taken)), strict=len(taken) == cls.heads)
        if dtype == "auto":
            dtype = next(value.dtype for value in tensors.values() if value.is_floating_point())
        plain = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype or torch.float32
        if not isinstance(plain, torch.dtype):
            raise values.wrong("dtype", dtype, "a torch.dtype, its name, 'auto' or None")
        return model.to(plain).eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        files.write(self.hub_tensors(), save_directory / WEIGHTS[0], wrapper=None)
        about = {"architectures": [type(self).__name__], "distillation": self.heads == 2}
        write_json(self.config.to_dict() | about, save_directory / "config.json")

    def hub_tensors(self) -> dict[str, Tensor]:
        """The tensors as Hugging Face's class has them. Raises ValueError if it has no place for one."""
        state, config = self.network.state_dict(), self.network.config
        if self.heads:
            return to_layout(state, config, "hf")
        nothing = {f"head.{kind}": torch.empty(0) for kind in ("weight", "bias")}
        tensors = to_layout(state | nothing, config, "hf")
        return {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}


def find_file(model_id: str, names: tuple[str, ...], **arguments: Any) -> Path:
    """The first of these files that a folder or a repository of the hub has.

    Args:
        model_id: the folder, or the name of the repository.
        names: of files, in the order of preference.
        **arguments: of `huggingface_hub.hf_hub_download`.

    Raises:
        FileNotFoundError: if the folder has none of them.
        huggingface_hub.errors.EntryNotFoundError: if the repository has none of them.
    """
    if Path(model_id).is_dir():
        found = next((path for name in names if (path := Path(model_id) / name).is_file()), None)
        if found is None:
            raise FileNotFoundError(f"{model_id}: the folder has no {' or '.join(names)}")
        return found
    for name in names[:-1]:
        try:
            return Path(hf_hub_download(model_id, name, **arguments))
        except EntryNotFoundError:
            continue
    return Path(hf_hub_download(model_id, names[-1], **arguments))


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file. Raises ValueError, naming the file, if there is none in it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: this is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: it holds {type(content).__name__}, not a mapping of fields to values")
    return content


def write_json(fields: Mapping[str, Any], path: Path) -> None:
    """Write a mapping as JSON, whole or not at all."""
    with whole(path) as partial:
        partial.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
