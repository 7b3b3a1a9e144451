"""Learning from labels and from a teacher: the loss of the two heads, and what can be a teacher.

Paper: section 5.1, hard distillation. Released code: `DistillationLoss` in `util/losses.py`, which comes from DeiT
(Touvron et al. 2021). The first head learns from the labels, the second from the teacher; a network in use answers with
the mean of both.
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

from efficientformer_edu.files import whole
from efficientformer_edu.model.network import Heads
from efficientformer_edu.training.checkpoints import fingerprint_tensors
from efficientformer_edu.training.recipe import CHECKS, Kind

Indices = Int[Tensor, " B"] | list[int]

Teacher = Callable[[Tensor, Indices], Tensor]
"""Images (B, C, H, W) as the network sees them, and their numbers in the data set, to logits (B, num_classes)."""


@dataclass(frozen=True)
class DistillationLoss:
    """The loss of a network with two heads, a mean over the batch.

    * `"hard"`, the paper's: (1 − α) · CE(cls, targets) + α · CE(dist, the teacher's most likely class).
    * `"soft"`: in place of the second term, α · τ² / num_classes · KL(teacher's probabilities ‖ those of dist), with
      both logits divided by τ before the softmax. DeiT's paper does not divide by the number of classes; its code and
      the released one do.
    * None, no teacher: the mean of both heads' cross entropies, or that of the only head. It is hard distillation by a
      teacher that knows the targets, with α = 1/2. The cross entropy of the mean logits would give both heads the same
      gradient, and the second head nothing of its own to learn.

    Args:
        kind: `"hard"`, `"soft"` or None.
        alpha: weight of the teacher's term, 0 to 1.
        tau: temperature of soft distillation, above 0.

    Raises:
        ValueError: for values that these cannot have.
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
            targets: a probability for each class, mixed and smoothed as the recipe says, or a label for each image.
            teacher_logits: the teacher's answers to the same images; None where there is no teacher.

        Raises:
            ValueError: if targets or teacher do not have the network's classes, if there is a teacher but the network
                has one head, if the teacher's answers are missing, or come where `kind` is None.
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
            raise ValueError(f"{self.kind} distillation needs the teacher's logits, and none came")
        if teacher_logits.shape != heads.dist.shape:
            raise ValueError(f"teacher logits {_against(teacher_logits, heads.dist)}")
        return (1 - self.alpha) * label_loss + self.alpha * self._teacher_loss(heads.dist, teacher_logits)

    def _teacher_loss(self, logits: Float[Tensor, "B K"], teacher_logits: Float[Tensor, "B K"]) -> Float[Tensor, ""]:
        if self.kind == "hard":
            return F.cross_entropy(logits, teacher_logits.argmax(1))
        ours, theirs = ((x / self.tau).log_softmax(1) for x in (logits, teacher_logits))  # (B, K) each
        divergence = F.kl_div(ours, theirs, reduction="batchmean", log_target=True)
        return divergence * self.tau**2 / logits.shape[1]


class NetworkTeacher:
    """A teacher that is a network, as `network_teacher` makes it."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval().requires_grad_(False)

    def __call__(self, images: Tensor, indices: Indices) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.network.to(images.device)(images)
        return logits

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the weights, by which a resumed run knows its teacher."""
        return fingerprint_tensors(self.network.state_dict())


def network_teacher(network: nn.Module) -> NetworkTeacher:
    """A teacher from any network that maps images to logits: an EfficientFormer, one of timm's, or another.

    It sees what the student sees: the same size, normalization, crops and mixtures.

    Args:
        network: from now on in evaluation mode and without gradients.
    """
    return NetworkTeacher(network)


class StoredLogits:
    """A teacher that has answered once, for each image of a data set, and is not needed any more.

    Its answers are to the images as they are: it does not see how they are cropped or mixed later. The paper's does.

    Args:
        logits: one row for each image, in the order of the data set.

    Raises:
        ValueError: if that is no finite float tensor with two dimensions.
    """

    def __init__(self, logits: Float[Tensor, "images num_classes"]) -> None:
        if logits.ndim != 2 or not logits.is_floating_point() or not logits.isfinite().all():
            found = f"{logits.dtype} of shape {tuple(logits.shape)}"
            raise ValueError(f"logits are {found}; wanted: finite floats, (images, num_classes)")
        self.logits = logits

    @classmethod
    def collect(cls, teacher: Teacher, batches: Iterable[Float[Tensor, "B C H W"]]) -> StoredLogits:
        """Ask a teacher about every image, batch by batch in the order of the data set."""
        answers: list[Tensor] = []
        for images in batches:
            first = sum(map(len, answers))
            answers.append(teacher(images, torch.arange(first, first + len(images))).cpu())
        return cls(torch.cat(answers))

    def __call__(self, images: Tensor, indices: Indices) -> Float[Tensor, "B num_classes"]:
        return self.logits[indices].to(images.device)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the logits, by which a resumed run knows its teacher."""
        return fingerprint_tensors({"logits": self.logits})

    def save(self, path: str | Path) -> None:
        """Write the logits as safetensors, whole or not at all. Raises OSError if that fails."""
        with whole(Path(path)) as partial:
            partial.write_bytes(safetensors.torch.save({"logits": self.logits.contiguous()}))

    @classmethod
    def load(cls, path: str | Path, images: int, num_classes: int) -> StoredLogits:
        """Read what `save` wrote.

        Args:
            path: the file.
            images: how many the data set has.
            num_classes: how many classes it has.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: naming the file, if it is damaged, holds something else, or belongs to another data set.
        """
        try:
            tensors = safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path}: no safetensors file, damaged or cut short ({error}); store it again") from error
        if set(tensors) != {"logits"}:
            raise ValueError(f"{path}: holds {', '.join(sorted(tensors)) or 'nothing'}; wanted: logits alone")
        logits = tensors["logits"]
        if tuple(logits.shape) != (images, num_classes):
            wanted = f"{(images, num_classes)} for {images} images of {num_classes} classes"
            raise ValueError(f"{path}: logits have the shape {tuple(logits.shape)}; wanted: {wanted}")
        try:
            return cls(logits)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _check_targets(logits: Tensor, targets: Tensor) -> None:
    wanted = logits if targets.is_floating_point() else logits[:, 0]
    if targets.shape != wanted.shape:
        raise ValueError(f"targets {_against(targets, wanted)}")


def _against(found: Tensor, wanted: Tensor) -> str:
    return f"have the shape {tuple(found.shape)}; the network's logits ask for {tuple(wanted.shape)}"
