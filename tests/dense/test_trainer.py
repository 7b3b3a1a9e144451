"""The trainer for detection and segmentation: it learns, resumes after an interruption, and distributes its work."""

from __future__ import annotations

import csv
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_networks import SMALL
from dense_runs import RECIPE, SIZE, STILL, Listed, first_step, run

from efficientformer_edu.data.shapes import Shapes
from efficientformer_edu.dense import DenseConfig, FCConfig
from efficientformer_edu.dense.files import from_dict, load_dense
from efficientformer_edu.dense.network import HEADS, DenseNetwork, default_config
from efficientformer_edu.dense.recipe import DenseRecipe
from efficientformer_edu.dense.trainer import DenseTrainer, load_initial_dense
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.training import checkpoints
from efficientformer_edu.training.loading import Shard, loader
from efficientformer_edu.training.nan_checks import NotFiniteError
from efficientformer_edu.training.optimization import unit_norms
from efficientformer_edu.utils.records import load_json
from efficientformer_edu.weights import save

TASKS = ("segmentation", "detection")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "scenes", "epochs", "rate"), [("segmentation", 4, 25, 5e-3), ("detection", 2, 90, 1e-2)]
)
def test_a_few_scenes_are_learned_by_heart(task: str, scenes: int, epochs: int, rate: float) -> None:
    few = Shapes(scenes, SIZE)
    recipe = STILL.replace(epochs=epochs, batch=scenes, warmup_steps=5, learning_rate=rate)
    loop = DenseTrainer(run(task, recipe, train=few, test=few))
    measure = {"segmentation": "miou", "detection": "ap50"}[task]
    untrained, losses = loop.evaluate().scores[measure], []
    for epoch in range(epochs):
        loop.epoch = epoch
        losses.extend(float(loss) for loss in loop.steps())
    trained = loop.evaluate().scores[measure]
    assert losses[-1] < losses[0] / 2
    assert untrained < 0.1 < 0.5 < trained


@pytest.mark.parametrize("head", [name for name, head in HEADS.items() if head.criterion])
def test_every_head_and_neck_takes_a_step(head: str) -> None:
    task = DenseNetwork(default_config(SMALL, "detection" if "anchor" in head else "segmentation", 5, head)).config.task
    loop = DenseTrainer(run(task, STILL, head))
    before = {name: value.detach().clone() for name, value in loop.network.named_parameters()}
    loop.step(loop.batches()[0], 0)
    parts = {
        name.split(".")[0] for name, value in loop.network.named_parameters() if not torch.equal(before[name], value)
    }
    assert parts == {
        name for name, _ in loop.network.named_children() if any(True for _ in getattr(loop.network, name).parameters())
    }


class Stopped(BaseException):
    """Like Ctrl-C: no handler may catch it."""


@pytest.mark.parametrize("task", TASKS)
def test_a_stopped_run_resumes_to_the_same_weights(task: str, tmp_path: Path) -> None:
    def stop() -> None:
        steps.append(1)
        if len(steps) == 3:  # the first of the second epoch
            raise Stopped

    unbroken = DenseTrainer(run(task), tmp_path / "whole")
    rows = list(unbroken.epochs())
    expected = unbroken.finalize()
    steps: list[int] = []
    with pytest.raises(Stopped):
        list(DenseTrainer(run(task), tmp_path / "stopped").epochs(stop))
    torch.rand(7)  # independent of other random numbers
    again = DenseTrainer(run(task), tmp_path / "stopped", resume=True)
    assert [row["epoch"] for row in again.epochs()] == [2]
    outcome = again.finalize()
    for name, value in expected.network.state_dict().items():
        assert torch.equal(outcome.network.state_dict()[name], value), name
    assert unbroken.average is not None and again.average is not None
    average = again.average.state_dict()
    assert all(torch.equal(average[name], value) for name, value in unbroken.average.state_dict().items())
    assert outcome.evaluation == expected.evaluation
    for logged, other in zip(outcome.log, rows, strict=True):
        assert {**logged, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.parametrize("task", TASKS)
def test_a_run_leaves_everything_in_its_folder(task: str, tmp_path: Path) -> None:
    loop = DenseTrainer(run(task), tmp_path)
    rows = list(loop.epochs())
    trained = loop.finalize()
    data = load_json(tmp_path / checkpoints.RUN, "run", dict)
    assert data.pop("result") == trained.evaluation.result
    assert data == loop.run.described()  # only values that JSON supports
    assert from_dict(data["config"]) == loop.run.config
    assert DenseRecipe(**data["recipe"]) == RECIPE
    assert checkpoints.load_checkpoint(tmp_path, loop.run.described())["epoch"] == 2
    with (tmp_path / checkpoints.LOG).open(encoding="utf-8") as file:
        logged = list(csv.DictReader(file))
    assert list(logged[0]) == ["epoch", "learning_rate", "train_loss", *loop.metric_names, "seconds"]
    assert [float(line[loop.metric_names[0]]) for line in logged] == [row[loop.metric_names[0]] for row in rows]
    stored, average = (load_dense(tmp_path / name) for name in (checkpoints.WEIGHTS, checkpoints.AVERAGE))
    assert (stored.size, stored.classes) == (SIZE, loop.run.classes)
    for name, value in trained.network.state_dict().items():
        assert torch.equal(stored.network.state_dict()[name], value), name
    assert stored.network.config == average.network.config == loop.run.config
    weight = "backbone.stem.conv1.weight"
    assert not torch.equal(stored.network.get_parameter(weight), average.network.get_parameter(weight))


def test_another_run_is_not_mistaken_for_this_run(tmp_path: Path) -> None:
    list(DenseTrainer(run(recipe=STILL), tmp_path).epochs())
    with pytest.raises(FileExistsError, match="add --resume"):
        DenseTrainer(run(recipe=STILL), tmp_path)
    for changed, message in (
        (run(recipe=STILL, seed=1), "seed was 0 and now is 1"),
        (run(recipe=STILL.replace(scale=(0.5, 1.0))), r"recipe\.scale was \[1\.0, 1\.0\] and now is \[0\.5, 1\.0\]"),
        (run("detection", STILL), "task was 'segmentation' and now is 'detection'"),
        (run(recipe=STILL, head="semantic_fpn"), r"config\.head\.name was"),
    ):
        with pytest.raises(ValueError, match=message):
            DenseTrainer(changed, tmp_path, resume=True)


def test_the_same_seed_gives_the_same_batches_with_any_number_of_workers() -> None:
    def batches(seed: int = 0, epoch: int = 0, workers: int = 0) -> list[torch.Tensor]:
        loop = DenseTrainer(run(seed=seed))
        loop.epoch = epoch
        made = list(loader(loop.batches(), workers))
        return [
            torch.cat([batch.images.flatten(), *(target.boxes.flatten() for target in batch.targets)]) for batch in made
        ]

    first = batches()
    for same in (batches(), batches(workers=1)):
        assert all(torch.equal(*pair) for pair in zip(first, same, strict=True))
    for other in (batches(seed=1), batches(epoch=1)):
        assert not torch.equal(first[0], other[0])


def test_processes_share_a_batch() -> None:
    loop = DenseTrainer(run(recipe=STILL))
    full = loop.batches()[0]
    for process in (0, 1):
        loop.shard = Shard(process, 2)
        part = loop.batches()[0]
        assert torch.equal(part.images, full.images[process::2])
        assert all(torch.equal(*pair) for pair in zip(part.targets[0], full.targets[process], strict=True))
    loop.shard = Shard(0, 3)
    with pytest.raises(ValueError, match="a batch of 4 cannot be shared by 3 processes"):
        loop.batches()


@pytest.mark.parametrize("flip", [True, False])
def test_flip_mirrors_about_half_of_the_images_with_their_boxes(flip: bool) -> None:
    def views(flip: bool) -> list[tuple[torch.Tensor, torch.Tensor]]:
        recipe = STILL.replace(flip=flip, scale=(1.0, 1.0), batch=8)
        batch = DenseTrainer(run("detection", recipe, train=Shapes(32, SIZE))).batches()
        return [
            pair for part in batch for pair in zip(part.images, (target.boxes for target in part.targets), strict=True)
        ]

    mirrored = 0
    for (image, boxes), (unflipped, own) in zip(views(flip), views(False), strict=True):
        if not torch.equal(image, unflipped):
            mirrored += 1
            assert torch.equal(image, unflipped.flip(2))
            own = torch.stack([SIZE - own[:, 2], own[:, 1], SIZE - own[:, 0], own[:, 3]], dim=1)
        torch.testing.assert_close(boxes, own)
    assert 8 <= mirrored <= 24 if flip else mirrored == 0


@pytest.mark.parametrize("task", TASKS)
def test_global_random_states_are_left_as_they_were(task: str, tmp_path: Path) -> None:
    def states() -> tuple[object, ...]:
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()

    before = states()
    loop = DenseTrainer(run(task, RECIPE.replace(epochs=1)), tmp_path)
    list(loop.epochs())
    loop.finalize()
    assert states() == before


@pytest.mark.slow
def test_precisions_in_any_order_in_a_single_process() -> None:
    losses = []
    for precision in ("bf16", "fp32", "bf16"):
        loop = DenseTrainer(run(recipe=STILL.replace(precision=precision)))
        losses.append([float(loop.step(loop.batches()[number], number)) for number in range(2)])
    assert losses[0] == losses[2] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


SCRIPT = """
from accelerate.state import PartialState
from dense_runs import first_step
for task, head in (("segmentation", "all_mlp_decoder"), ("detection", None), ("detection", "anchor_decoupled_head")):
    first_step(task, head, f"{sys.argv[1]}{task}{head}.pt")
assert PartialState().num_processes == 2
"""


@pytest.mark.slow
def test_gradients_statistics_and_scores_of_two_processes_equal_a_single_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n{SCRIPT}", encoding="utf-8")
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    done = subprocess.run([*launcher, script, tmp_path / "two"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    files = sorted(tmp_path.glob("two*.pt"))
    assert len(files) == 3
    for two in files:
        task, head = two.stem.removeprefix("two").split("ion", 1)
        first_step(f"{task}ion", None if head == "None" else head, str(tmp_path / "one.pt"))
        single, double = (torch.load(path, weights_only=True) for path in (tmp_path / "one.pt", two))
        assert single.keys() == double.keys()
        for name, value in single.items():
            if value is None:  # the backbone's last norm is not used
                assert double[name] is None or not double[name].any()
                continue
            largest = max(float(value.abs().max()), 1e-2)  # 0 up to rounding for a bias before a norm
            assert float((double[name] - value).abs().max()) < 2e-3 * largest, (two.stem, name)


def test_training_starts_from_a_classifiers_backbone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    classifier = EfficientFormer(SMALL)
    save(classifier, tmp_path / "classifier.safetensors")
    weights = {name: value for name, value in classifier.state_dict().items() if "head" not in name}
    fresh = DenseTrainer(run(recipe=STILL)).network
    for source in (tmp_path / "classifier.safetensors", weights):
        loop = DenseTrainer(run(recipe=STILL, init_from=source))
        for name, value in loop.network.backbone.state_dict().items():
            expected = fresh.backbone.state_dict()[name] if name.startswith("norms.") else weights[name]
            assert torch.equal(value, expected), name
        head = "classifier.weight"
        assert torch.equal(loop.network.head.state_dict()[head], fresh.head.state_dict()[head])
        assert "neck and head start at random" in loop.notes[0]
    assert run(init_from=tmp_path / "classifier.safetensors").described()["init_from"] == "classifier.safetensors"


def test_neck_and_head_are_kept_for_the_same_classes_alone(tmp_path: Path) -> None:
    first = DenseTrainer(run(recipe=STILL, seed=1), tmp_path)
    list(first.epochs())
    trained = first.finalize().network.state_dict()
    file = tmp_path / checkpoints.WEIGHTS
    kept = DenseTrainer(run(recipe=STILL, init_from=file))
    assert all(torch.equal(value, trained[name]) for name, value in kept.network.state_dict().items())
    assert "all its weights are kept" in kept.notes[0]
    shapes = Shapes(8, SIZE)
    renamed = Listed([shapes[index] for index in range(8)], (), tuple(reversed(shapes.pixel_classes)))
    other = DenseTrainer(run(recipe=STILL, init_from=file, train=renamed, test=renamed))
    for name, value in other.network.state_dict().items():
        if name.startswith("backbone.") and "norms." not in name:
            assert torch.equal(value, trained[name]), name
    assert not torch.equal(other.network.state_dict()["head.classifier.weight"], trained["head.classifier.weight"])
    assert "neck and head start at random" in other.notes[0]


def test_weights_of_another_backbone() -> None:
    network, classes = DenseNetwork(default_config(SMALL, "detection", 5)), Shapes(1, SIZE).classes
    weights = {name: value for name, value in EfficientFormer(SMALL).state_dict().items() if "head" not in name}
    load_initial_dense(network, weights, classes)
    missing = {name: value for name, value in weights.items() if name != "stem.conv1.weight"}
    for other, problem in (
        (missing, r"stem\.conv1\.weight is missing"),
        ({**weights, "head.weight": torch.zeros(1)}, r"head\.weight is unknown"),
        ({**weights, "stem.conv1.weight": torch.zeros(1)}, r"stem\.conv1\.weight .*has another shape"),
    ):
        with pytest.raises(ValueError, match=f"do not fit this network: {problem}"):
            load_initial_dense(network, other, classes)


def test_stochastic_depth_is_of_training_alone() -> None:
    loop = DenseTrainer(run())
    assert loop.network.config.backbone.drop_path_rate == RECIPE.drop_path == 0.1
    assert loop.finalize().network.config == loop.run.config
    assert loop.run.config.backbone.drop_path_rate == 0


def test_long_gradients_are_clipped() -> None:
    def longest(clipping: float | None) -> float:
        loop = DenseTrainer(run(recipe=STILL.replace(agc_clip=clipping, learning_rate=1e-12)))
        loop.step(loop.batches()[0], 0)
        norms = [
            unit_norms(tensor.grad) / unit_norms(tensor.detach()).clamp(min=1e-3)
            for tensor in loop.network.parameters()
            if tensor.grad is not None
        ]
        return float(torch.cat([tensor.flatten() for tensor in norms]).max())

    assert longest(None) > 0.02
    assert longest(0.01) == pytest.approx(0.01, rel=1e-4)


def test_the_average_follows_the_weights() -> None:
    loop = DenseTrainer(run(recipe=STILL.replace(ema=0.75)))
    weight = "head.classifier.weight"
    before = loop.network.get_parameter(weight).detach().clone()
    loop.step(loop.batches()[0], 0)
    assert loop.average is not None
    after = loop.network.get_parameter(weight).detach()
    torch.testing.assert_close(loop.average.network.get_parameter(weight), 0.75 * before + 0.25 * after)
    assert not torch.equal(before, after)


def test_every_step_has_the_recipes_rate() -> None:
    loop = DenseTrainer(run(recipe=RECIPE.replace(ema=None)))
    rates = []
    for _ in loop.epochs(lambda: rates.append(loop.optimizer.param_groups[0]["lr"])):
        pass
    assert rates == [RECIPE.lr_at_step(step, 2) for step in range(4)]


@pytest.mark.parametrize("task", TASKS)
def test_numbers_that_explode_stop_the_run(task: str) -> None:
    loop = DenseTrainer(run(task, STILL))
    with torch.no_grad():
        loop.network.get_parameter("backbone.stem.conv1.weight").fill_(torch.nan)
    with pytest.raises(NotFiniteError, match=r"step 0: the loss is nan; the weights backbone\.stem\.conv1\.weight"):
        list(loop.steps())


def test_what_cannot_be_run() -> None:
    shapes = Shapes(8, SIZE)
    examples = [shapes[index] for index in range(4)]
    other = Listed(examples, ("cat", "dog"), ("background", "cat", "dog"))
    with pytest.raises(ValueError, match="classes background, disc, .*test images have background, cat"):
        run(test=other)
    with pytest.raises(ValueError, match="6 classes.* 3"):
        run(train=other, test=other)
    with pytest.raises(ValueError, match="4 images .*batch of 5"):
        run("segmentation", RECIPE.replace(batch=5), train=Shapes(4, SIZE))
    masks = Listed(examples, (), shapes.pixel_classes)
    with pytest.raises(ValueError, match="no objects.*: 4 images"):
        run("detection", train=masks, test=masks)
    with pytest.raises(ValueError, match="fc has no"):
        DenseTrainer(
            replace(run(), config=DenseConfig(SMALL, FCConfig(), None, 6))
        )  # what `default_config` never creates
