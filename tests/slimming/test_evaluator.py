"""Evaluation of a subnet: statistics of the batch norms, accuracy on held-out images, and fine-tuning."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from slimming_runs import SIZE, TINY, supernet
from torch import Tensor, nn
from training_runs import images

from efficientformer_edu.data import fashion_mnist
from efficientformer_edu.data.datasets import Images
from efficientformer_edu.slimming import protocol as evaluator_module
from efficientformer_edu.slimming.protocol import Evaluator, recalibrate_batch_norm
from efficientformer_edu.slimming.subnet import Subnet
from efficientformer_edu.slimming.supernet import Supernet
from efficientformer_edu.training.classification import ClassificationTrainer, Run
from efficientformer_edu.training.loading import TrainBatches
from efficientformer_edu.training.recipe import LAPTOP

pytestmark = pytest.mark.slow

RECIPE = LAPTOP.replace(batch=20)
EVALUATOR = Evaluator(images("train", 50), images("test", 40), RECIPE, SIZE, seed=3, finetune_steps=3)
SOME = Subnet(TINY.embed_dims, (("MB4D",), ("I", "MB4D"), ("MB4D", "MB3D"), ("I", "MB3D")))


def selected(subnet: Subnet = SOME) -> Supernet:
    network = supernet()
    network.choose(subnet)
    return network


def test_norms_hold_the_mean_of_the_batch_statistics() -> None:
    """A small batch has the same weight as a large batch. The variance is the unbiased one, as in training."""
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Identity()).eval()
    norm = network[0]
    nn.init.constant_(norm.running_mean, 77.0)
    random = torch.Generator().manual_seed(0)
    batches = [5 + 2 * torch.randn(4, 3, 6, 6, generator=random), torch.randn(2, 3, 5, 4, generator=random) - 1]
    recalibrate_batch_norm(network, batches)
    means, variances = [], []
    for batch in batches:
        values = batch.transpose(0, 1).flatten(1).double()  # (3, B·H·W)
        mean = values.sum(1) / values.shape[1]
        means.append(mean)
        variances.append(((values - mean[:, None]) ** 2).sum(1) / (values.shape[1] - 1))
    assert torch.allclose(norm.running_mean.double(), (means[0] + means[1]) / 2, atol=1e-5)
    assert torch.allclose(norm.running_var.double(), (variances[0] + variances[1]) / 2, rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_measuring_keeps_mode_momentum_and_weights(training: bool) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, momentum=0.3)).train(training)
    before = [parameter.clone() for parameter in network.parameters()]
    recalibrate_batch_norm(network, [torch.randn(2, 1, 4, 4)])
    assert network[1].momentum == 0.3
    assert all(module.training is training for module in network.modules())
    assert all(torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))


def test_the_norms_are_measured_on_images_to_learn_from() -> None:
    """The first norm sees the convolution of the first batches of an epoch; as many batches as requested."""
    network = selected()
    replace(EVALUATOR, norm_batches=1).accuracy(network)
    batch = TrainBatches(EVALUATOR.learn, RECIPE, SIZE, 1, seed=3, epoch=0)[0].images
    with torch.no_grad():
        seen = network.stem.conv1(batch).transpose(0, 1).flatten(1)
    assert torch.allclose(network.stem.norm1.running_mean, seen.mean(1), atol=1e-5)
    assert torch.allclose(network.stem.norm1.running_var, seen.var(1), rtol=1e-4)


def test_accuracy_does_not_depend_on_what_the_norms_held() -> None:
    """They belonged to another network. The evaluation changes no weights and no mode, so it is reproducible."""
    network = selected()
    first = EVALUATOR.accuracy(network)
    assert not network.training
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.fill_(5.0)
    assert EVALUATOR.accuracy(network) == first
    parameters = zip(network.parameters(), selected().parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in parameters)


def test_accuracy_does_not_depend_on_the_global_random_state() -> None:
    """Also not with stochastic depth: a resumed search evaluates again, with other random numbers."""
    network = supernet(TINY.replace(drop_path_rate=0.5))
    network.choose(SOME)
    outputs = list[Tensor]()
    for seed in (0, 1):
        torch.manual_seed(seed)
        EVALUATOR.accuracy(network)
        outputs.append(network.stages[3].downsample.norm.running_mean.clone())
    assert torch.equal(*outputs)


class Reader(nn.Module):
    """Reads the class from the brightness in the middle of an image, and predicts a wrong class for some classes."""

    config = TINY

    def __init__(self, wrong: set[int]) -> None:
        super().__init__()
        answers = [(label + 1) % 10 if label in wrong else label for label in range(10)]
        self.register_buffer("answers", nn.functional.one_hot(torch.tensor(answers), 10).float())

    def forward(self, x: Tensor) -> Tensor:
        mean, deviation = fashion_mnist.statistics()
        labels = (x[:, 0, SIZE // 2, SIZE // 2] * deviation + mean) * 255 / 20
        return self.answers[labels.round().long().clamp(max=9)]  # training images may be brighter


@pytest.mark.parametrize(("wrong", "accuracy"), [(set(), 1.0), (set(range(10)), 0.0), ({0, 4, 9}, 0.7)])
def test_accuracy_is_the_part_of_the_held_out_images_that_is_right(wrong: set[int], accuracy: float) -> None:
    labels = list(range(10)) * 3
    pictures = torch.tensor(labels, dtype=torch.uint8).mul(20).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)
    held_out = Images(pictures, labels, fashion_mnist.CLASSES, "as bright as their class")
    evaluator = replace(EVALUATOR, held_out=held_out)
    assert evaluator.accuracy(Reader(wrong)) == pytest.approx(accuracy)  # type: ignore[arg-type]
    assert evaluator.correct(Reader(wrong)) == [label not in wrong for label in labels]  # type: ignore[arg-type]


def recovered(number: int = 1, evaluator: Evaluator = EVALUATOR, dice: int = 0) -> Supernet:
    network = selected()
    torch.manual_seed(dice)
    evaluator.finetune(network, number)
    return network


def runs(name: str) -> bool:
    """Whether a parameter of this name belongs to a block that runs in SOME."""
    if ".paths." not in name:
        return True
    _, stage, _, position, *tail = name.split(".")
    return f"blocks.{SOME.choices[int(stage)][int(position)]}." in ".".join(tail)


def test_what_runs_recovers_and_the_spares_stay() -> None:
    before, after = selected().state_dict(), recovered().state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if runs(name)}
    assert not any("alpha" in name for name in moved)


def test_after_finetuning_the_choice_is_in_evaluation_mode() -> None:
    network = recovered()
    assert network.subnet == SOME and network.config == TINY
    assert not any(module.training for module in network.modules())
    assert EVALUATOR.accuracy(copy.deepcopy(network)) == EVALUATOR.accuracy(network)


def test_finetuning_takes_the_requested_steps_however_few_the_images() -> None:
    before, after = (int(network.stem.norm1.num_batches_tracked) for network in (selected(), recovered()))
    assert after - before == EVALUATOR.finetune_steps  # of 20 images each; there are 50


def test_finetuning_has_a_small_rate_and_sees_new_images_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the supernet's rate, falling to 0 without a warm-up; every image is used before any is repeated."""
    seen = list[Run]()

    class Watched(ClassificationTrainer):
        def __init__(self, run: Run) -> None:
            seen.append(run)
            super().__init__(run)

    monkeypatch.setattr(evaluator_module, "ClassificationTrainer", Watched)
    for number in (1, 2):
        recovered(number)
    first, second = seen
    gentle = {"learning_rate": RECIPE.learning_rate / 4, "epochs": 1, "warmup_epochs": 0, "min_lr": 0}
    assert first.recipe == second.recipe == RECIPE.replace(**gentle)
    known = [bytes(EVALUATOR.learn[index][0].flatten().tolist()) for index in range(50)]
    orders = [[known.index(bytes(run.train[index][0].flatten().tolist())) for index in range(60)] for run in seen]
    for order in orders:
        assert sorted(order[:50]) == list(range(50)) and order[50:] == order[:10]
    assert orders[0] != orders[1]


def same(network: Supernet, other: Supernet) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in network.state_dict().items())


def test_recovery_is_a_function_of_seed_and_number() -> None:
    first = recovered()
    assert same(first, recovered(dice=5))
    assert not same(first, recovered(number=2))
    assert not same(first, recovered(evaluator=replace(EVALUATOR, seed=4)))


def test_recovery_helps() -> None:
    """An untrained network learns enough in a few steps to classify the images that it was trained on."""
    evaluator = replace(EVALUATOR, held_out=EVALUATOR.learn, finetune_steps=30)
    torch.manual_seed(0)
    network = Supernet(TINY)
    network.choose(SOME)
    before = evaluator.accuracy(network.eval())
    evaluator.finetune(network, 1)
    assert evaluator.accuracy(network) > before + 0.2
