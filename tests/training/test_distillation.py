"""The loss against hand-computed cases, and teachers of both kinds."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from strategies import SMALL
from torch import Tensor, nn
from torch.nn import functional as F

from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.model.network import Heads
from efficientformer_edu.training.distillation import DistillationLoss, StoredLogits, network_teacher

LN3 = math.log(3)

# Probabilities: 3/4 and 1/4 for the first image, 1/2 and 1/2 for the second.
CLS = torch.tensor([[LN3, 0.0], [0.0, 0.0]], dtype=torch.float64)
DIST = torch.tensor([[0.0, LN3], [0.0, 0.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 1])
MIXED = torch.tensor([[0.8, 0.2], [0.5, 0.5]], dtype=torch.float64)
TEACHER = torch.tensor([[2 * LN3, 0.0], [-1.0, 5.0]], dtype=torch.float64)  # it predicts class 0, then class 1


def logits(seed: int, count: int = 4, classes: int = 5) -> Tensor:
    return torch.randn(count, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_hard_distillation_with_labels() -> None:
    # cls: −ln 3/4 for the first image, −ln 1/2 for the second. dist: the teacher's classes have 1/4 and 1/2.
    expected = 0.5 * (math.log(4 / 3) + math.log(2)) / 2 + 0.5 * (math.log(4) + math.log(2)) / 2
    loss = DistillationLoss("hard", 0.5, 1.0)(Heads(CLS, DIST), LABELS, TEACHER)
    assert float(loss) == pytest.approx(expected, rel=1e-12)


def test_hard_distillation_with_mixed_targets() -> None:
    first = 0.8 * math.log(4 / 3) + 0.2 * math.log(4)
    expected = 0.75 * (first + math.log(2)) / 2 + 0.25 * (math.log(4) + math.log(2)) / 2
    loss = DistillationLoss("hard", 0.25)(Heads(CLS, DIST), MIXED, TEACHER)
    assert float(loss) == pytest.approx(expected, rel=1e-12)


def test_soft_distillation_divides_by_the_classes() -> None:
    # At τ = 2 the teacher's 2 ln 3 becomes ln 3: probabilities 3/4 and 1/4. The student's are 1/2 and 1/2.
    heads = Heads(torch.zeros(1, 2), torch.zeros(1, 2))
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    expected = 0.5 * math.log(2) + 0.5 * 2**2 * divergence / 2
    loss = DistillationLoss("soft", 0.5, 2.0)(heads, torch.tensor([1]), TEACHER[:1].float())
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_without_a_teacher_both_heads_learn_from_the_labels() -> None:
    loss = DistillationLoss(None)
    first = (math.log(4 / 3) + math.log(2)) / 2
    second = (math.log(4) + math.log(2)) / 2
    assert float(loss(Heads(CLS, DIST), LABELS)) == pytest.approx((first + second) / 2, rel=1e-12)
    assert float(loss(Heads(CLS, None), LABELS)) == pytest.approx(first, rel=1e-12)


@given(st.integers(0, 1000))
def test_no_teacher_is_a_teacher_that_knows_the_labels(seed: int) -> None:
    heads = Heads(logits(seed), logits(seed + 1))
    labels = logits(seed + 2).argmax(1)
    knowing = F.one_hot(labels, 5).double()
    none = DistillationLoss(None)(heads, labels)
    torch.testing.assert_close(none, DistillationLoss("hard", 0.5)(heads, labels, knowing))
    torch.testing.assert_close(none, DistillationLoss(None)(heads, knowing))


@given(st.integers(0, 1000), st.floats(0, 1), st.sampled_from(["hard", "soft"]), st.floats(0.5, 5))
def test_alpha_weighs_labels_against_teacher(seed: int, alpha: float, kind, tau: float) -> None:
    heads, labels, teacher = Heads(logits(seed), logits(seed + 1)), logits(seed + 2).argmax(1), logits(seed + 3)
    labels_alone, mixed, teacher_alone = (DistillationLoss(kind, a, tau)(heads, labels, teacher) for a in (0, alpha, 1))
    torch.testing.assert_close(labels_alone, F.cross_entropy(heads.cls, labels))
    torch.testing.assert_close(mixed, (1 - alpha) * labels_alone + alpha * teacher_alone)
    probabilities = [(x / tau).softmax(1) for x in (heads.dist, teacher)]
    divergence = (probabilities[1] * (probabilities[1] / probabilities[0]).log()).sum(1).mean()
    expected = F.cross_entropy(heads.dist, teacher.argmax(1)) if kind == "hard" else divergence * tau**2 / 5
    torch.testing.assert_close(teacher_alone, expected)


def test_a_learner_that_agrees_has_nothing_to_learn_from_a_soft_teacher() -> None:
    dist = logits(0).requires_grad_()
    loss = DistillationLoss("soft", 1.0, 3.0)(Heads(logits(1), dist), torch.zeros(4, dtype=torch.long), logits(0) + 7)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(dist.grad, torch.zeros_like(dist))


def test_every_head_learns_from_its_own_source() -> None:
    cls, dist, targets, teacher = logits(0), logits(1), logits(2).softmax(1), logits(3)
    heads = Heads(cls.requires_grad_(), dist.requires_grad_())
    DistillationLoss("hard", 0.25)(heads, targets, teacher).backward()
    torch.testing.assert_close(cls.grad, 0.75 * (cls.detach().softmax(1) - targets) / 4)
    one_hot = F.one_hot(teacher.argmax(1), 5)
    torch.testing.assert_close(dist.grad, 0.25 * (dist.detach().softmax(1) - one_hot) / 4)


@pytest.mark.parametrize(
    ("kind", "heads", "targets", "teacher", "expected_message"),
    [
        ("hard", Heads(CLS, None), LABELS, TEACHER, "one head cannot learn from a teacher; set distillation=True"),
        ("hard", Heads(CLS, DIST), LABELS, None, "hard distillation needs the teacher's logits"),
        ("soft", Heads(CLS, DIST), LABELS, torch.zeros(2, 3), r"teacher logits have the shape \(2, 3\); .* \(2, 2\)"),
        ("hard", Heads(CLS, DIST), LABELS, torch.zeros(1, 2), r"teacher logits have the shape \(1, 2\); .* \(2, 2\)"),
        ("hard", Heads(CLS, DIST), torch.zeros(2, 3), TEACHER, r"targets have the shape \(2, 3\); .* \(2, 2\)"),
        (None, Heads(CLS, DIST), torch.zeros(3).long(), None, r"targets have the shape \(3,\); .* \(2,\)"),
        (None, Heads(CLS, DIST), LABELS, TEACHER, "teacher logits, but no distillation; set it to 'hard' or 'soft'"),
    ],
)
def test_what_does_not_fit_is_refused(
    kind, heads: Heads, targets: Tensor, teacher: Tensor | None, expected_message: str
) -> None:
    with pytest.raises(ValueError, match=expected_message):
        DistillationLoss(kind)(heads, targets, teacher)


@pytest.mark.parametrize(
    ("wrong", "expected_message"),
    [
        ({"kind": "warm"}, "distillation='warm' is not possible; allowed: None, 'hard', 'soft'"),
        ({"alpha": 1.5}, "alpha=1.5 is not possible; allowed: a number from 0 to 1"),
        ({"tau": 0}, "tau=0 is not possible; allowed: a finite number above 0"),
    ],
)
def test_a_loss_that_cannot_be_is_refused(wrong: dict, expected_message: str) -> None:
    with pytest.raises(ValueError, match=expected_message):
        DistillationLoss(**wrong)


IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> EfficientFormer:
    torch.manual_seed(0)
    return EfficientFormer(SMALL.replace(drop_path_rate=0.5)).train()


def test_a_teacher_is_in_evaluation_mode(network: EfficientFormer) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    teacher = network_teacher(network)
    first, second = teacher(IMAGES, torch.arange(6)), teacher(IMAGES, torch.arange(6))
    assert first.shape == (6, 5)
    assert torch.equal(first, second)  # no drop path, no batch statistics
    assert not first.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_network_learns_from_another_and_leaves_it_as_it_is(network: EfficientFormer, kind) -> None:
    teacher, learner = network_teacher(network), EfficientFormer(SMALL)
    answers = teacher(IMAGES, torch.arange(6))
    DistillationLoss(kind)(learner.forward_heads(IMAGES), torch.arange(6) % 5, answers).backward()
    assert all(parameter.grad is not None for parameter in learner.parameters())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_any_module_teaches() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))
    assert torch.equal(network_teacher(linear)(IMAGES, []), linear(IMAGES))


def test_stored_logits_are_those_of_the_teacher(network: EfficientFormer, tmp_path) -> None:
    teacher = network_teacher(network)
    stored = StoredLogits.collect(teacher, IMAGES.split(4))  # the last batch is smaller
    torch.testing.assert_close(stored.logits, teacher(IMAGES, torch.arange(6)))
    stored.save(tmp_path / "teacher.safetensors")
    again = StoredLogits.load(tmp_path / "teacher.safetensors", images=6, num_classes=5)
    for order in (torch.tensor([5, 0, 0]), [5, 0, 0]):
        assert torch.equal(again(IMAGES[order], order), stored.logits[[5, 0, 0]])


def test_collecting_tells_the_teacher_which_images_they_are() -> None:
    calls: list[int] = []

    def teacher(images: Tensor, indices: Tensor) -> Tensor:
        calls.extend(indices.tolist())
        return images.mean((2, 3))

    stored = StoredLogits.collect(teacher, IMAGES.split(4))
    assert calls == list(range(6))
    assert torch.equal(stored.logits, IMAGES.mean((2, 3)))


@pytest.mark.parametrize(
    "wrong", [torch.zeros(6), torch.zeros(6, 5, dtype=torch.long), torch.full((6, 5), float("nan"))]
)
def test_logits_must_be_finite_floats(wrong: Tensor) -> None:
    with pytest.raises(ValueError, match=r"finite floats, \(images, num_classes\)"):
        StoredLogits(wrong)


def test_files_of_another_data_set_or_none_at_all_are_refused(tmp_path) -> None:
    StoredLogits(torch.zeros(6, 5)).save(path := tmp_path / "teacher.safetensors")
    for images, num_classes in ((7, 5), (6, 10)):
        message = rf"teacher.safetensors: .* \(6, 5\); expected \({images}, {num_classes}\) for {images} images"
        with pytest.raises(ValueError, match=message):
            StoredLogits.load(path, images, num_classes)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="teacher.safetensors: "):
        StoredLogits.load(path, 6, 5)
    save_file({"weight": torch.zeros(6, 5)}, path)
    with pytest.raises(ValueError, match="teacher.safetensors: holds weight"):
        StoredLogits.load(path, 6, 5)
    save_file({"logits": torch.zeros(6, 5, dtype=torch.long)}, path)
    with pytest.raises(ValueError, match="teacher.safetensors: logits are torch.int64"):
        StoredLogits.load(path, 6, 5)
    with pytest.raises(FileNotFoundError):
        StoredLogits.load(tmp_path / "missing.safetensors", 6, 5)
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        StoredLogits(torch.zeros(6, 5)).save(tmp_path / "missing" / "teacher.safetensors")
