"""Knowledge distillation: the loss of the two heads, and the teachers.

Paper: section 5.1, hard distillation. Released code: `DistillationLoss` in `util/losses.py`, which comes from DeiT
(Touvron et al. 2021). The first head learns from the labels, the second from the teacher. At inference the network
returns the mean of both logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from efficientformer_edu.model.network import Heads
from efficientformer_edu.training.recipe import CHECKS, Kind
from efficientformer_edu.utils.files import atomic_write, fingerprint_tensors

Indices = Int[Tensor, " B"] | list[int]

Teacher = Callable[[Tensor, Indices], Tensor]
"""Maps preprocessed images (B, C, H, W) and their indices in the data set to logits (B, num_classes)."""


@dataclass(frozen=True)
class DistillationLoss:
    """The loss of a network with two heads, averaged over the batch.

    * `"hard"`, as in the paper: (1 − α) · CE(cls, targets) + α · CE(dist, the teacher's most likely class).
    * `"soft"`: the second term is α · τ² / num_classes · KL(teacher's probabilities ‖ probabilities of dist), with both
      logits divided by τ before the softmax. DeiT's paper does not divide by the number of classes; its code and the
      released code do.
    * None, no teacher: the mean of both heads' cross entropies, or the cross entropy of a single head. This equals hard
      distillation with α = 1/2 by a teacher that predicts the targets. The cross entropy of the mean logits would give
      both heads the same gradient, so the second head would learn nothing of its own.

    Args:
        kind: `"hard"`, `"soft"` or None.
        alpha: weight of the teacher's term, 0 to 1.
        tau: temperature of soft distillation, above 0.

    Raises:
        ValueError: if an argument is out of range.
    """

    kind: Kind | None = "hard"
    alpha: float = 0.5
    tau: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("distillation", self.kind), ("alpha", self.alpha), ("tau", self.tau)):
            CHECKS[name](name, value)

    def __call__(
        self,
        heads: Heads,
        targets: Float[Tensor, "B num_classes"] | Int[Tensor, " B"],
        teacher_logits: Float[Tensor, "B num_classes"] | None = None,
    ) -> Float[Tensor, ""]:
        """The loss of a batch.

        Args:
            heads: the logits of both heads.
            targets: class probabilities, mixed and smoothed according to the recipe, or one label per image.
            teacher_logits: the teacher's logits for the same images; None without a teacher.

        Raises:
            ValueError: if the number of classes of the targets or the teacher differs from the network's, if there is a
                teacher but the network has only one head, if the teacher's logits are missing, or if they are given and
                `kind` is None.
        """
        _check_targets(heads.cls, targets)
        label_loss = F.cross_entropy(heads.cls, targets)
        if self.kind is None:
            if teacher_logits is not None:
                raise ValueError("there are teacher logits, but no distillation; set it to 'hard' or 'soft'")
            return label_loss if heads.dist is None else (label_loss + F.cross_entropy(heads.dist, targets)) / 2
        if heads.dist is None:
            raise ValueError("a network with one head cannot learn from a teacher; set distillation=True")
        if teacher_logits is None:
            raise ValueError(f"{self.kind} distillation needs the teacher's logits")
        if teacher_logits.shape != heads.dist.shape:
            raise ValueError(f"teacher logits {_against(teacher_logits, heads.dist)}")
        return (1 - self.alpha) * label_loss + self.alpha * self._teacher_loss(heads.dist, teacher_logits)

    def _teacher_loss(self, logits: Float[Tensor, "B K"], teacher_logits: Float[Tensor, "B K"]) -> Float[Tensor, ""]:
        if self.kind == "hard":
            return F.cross_entropy(logits, teacher_logits.argmax(1))
        student, teacher = ((x / self.tau).log_softmax(1) for x in (logits, teacher_logits))  # (B, K)
        divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return divergence * self.tau**2 / logits.shape[1]


class NetworkTeacher:
    """A network as a teacher; created by `network_teacher`."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval().requires_grad_(False)

    def __call__(self, images: Tensor, indices: Indices) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.network.to(images.device)(images)
        return logits

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights, used to verify the teacher of a resumed run."""
        return fingerprint_tensors(self.network.state_dict())


def network_teacher(network: nn.Module) -> NetworkTeacher:
    """Make a teacher from any network that maps images to logits, for example an EfficientFormer or a timm model.

    The teacher gets the same input as the student: the same size, normalization, crops and mixing.

    Args:
        network: the teacher network. It is set to evaluation mode, and its gradients are disabled.
    """
    return NetworkTeacher(network)


class StoredLogits:
    """Precomputed logits of a teacher for all images of a data set.

    The logits belong to the original images, without later crops or mixing. The paper's teacher sees those.

    Args:
        logits: one row per image, in the order of the data set.

    Raises:
        ValueError: if `logits` is not a finite float tensor with two dimensions.
    """

    def __init__(self, logits: Float[Tensor, "images num_classes"]) -> None:
        if logits.ndim != 2 or not logits.is_floating_point() or not logits.isfinite().all():
            actual = f"{logits.dtype} of shape {tuple(logits.shape)}"
            raise ValueError(f"logits are {actual}; expected finite floats, (images, num_classes)")
        self.logits = logits

    @classmethod
    def collect(cls, teacher: Teacher, batches: Iterable[Float[Tensor, "B C H W"]]) -> StoredLogits:
        """Compute a teacher's logits for all images, batch by batch in the order of the data set."""
        logits: list[Tensor] = []
        for images in batches:
            start = sum(map(len, logits))
            logits.append(teacher(images, torch.arange(start, start + len(images))).cpu())
        return cls(torch.cat(logits))

    def __call__(self, images: Tensor, indices: Indices) -> Float[Tensor, "B num_classes"]:
        return self.logits[indices].to(images.device)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the logits, used to verify the teacher of a resumed run."""
        return fingerprint_tensors({"logits": self.logits})

    def save(self, path: str | Path) -> None:
        """Write the logits as safetensors, atomically. Raises OSError if writing fails."""
        with atomic_write(Path(path)) as partial:
            partial.write_bytes(safetensors.torch.save({"logits": self.logits.contiguous()}))

    @classmethod
    def load(cls, path: str | Path, images: int, num_classes: int) -> StoredLogits:
        """Read logits written by `save`.

        Args:
            path: the file.
            images: number of images in the data set.
            num_classes: number of classes in the data set.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: if the file is damaged, contains something else, or belongs to another data set; the message
                names the file.
        """
        try:
            tensors = safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path}: not a safetensors file, or a damaged one ({error}); store it again") from error
        if set(tensors) != {"logits"}:
            raise ValueError(f"{path}: holds {', '.join(sorted(tensors)) or 'nothing'}; expected only logits")
        logits = tensors["logits"]
        if tuple(logits.shape) != (images, num_classes):
            expected = f"{(images, num_classes)} for {images} images of {num_classes} classes"
            raise ValueError(f"{path}: logits have the shape {tuple(logits.shape)}; expected {expected}")
        try:
            return cls(logits)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _check_targets(logits: Tensor, targets: Tensor) -> None:
    expected = logits if targets.is_floating_point() else logits[:, 0]
    if targets.shape != expected.shape:
        raise ValueError(f"targets {_against(targets, expected)}")


def _against(actual: Tensor, expected: Tensor) -> str:
    return f"have the shape {tuple(actual.shape)}; the network's logits need {tuple(expected.shape)}"
