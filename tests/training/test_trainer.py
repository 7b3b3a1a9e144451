"""The trainer: resumes after a kill with the same weights, stops at a loss that is not finite, and learns."""

from __future__ import annotations

import csv
import json
import math
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_runs import ALIKE, CONFIG, LONG, RECIPE, STILL, images, run

from efficientformer_edu.data import fashion_mnist
from efficientformer_edu.data.datasets import Images, load_data
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.model.blocks import DropPath
from efficientformer_edu.training import checkpoints
from efficientformer_edu.training.classification import ClassificationTrainer
from efficientformer_edu.training.distillation import DistillationLoss, StoredLogits, network_teacher
from efficientformer_edu.training.loading import Batch
from efficientformer_edu.training.nan_checks import NotFiniteError
from efficientformer_edu.training.optimization import learning_rate
from efficientformer_edu.training.recipe import Recipe
from efficientformer_edu.weights import from_weights, load, save


def test_a_run_leaves_everything_in_its_folder(tmp_path: Path) -> None:
    loop = ClassificationTrainer(run(), tmp_path)
    rows = list(loop.epochs())
    trained = loop.finalize()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "average.safetensors",
        "checkpoint.pt",
        "log.csv",
        "run.json",
        "weights.safetensors",
    ]
    with (tmp_path / checkpoints.LOG).open(encoding="utf-8") as file:
        logged = list(csv.DictReader(file))
    assert [line["epoch"] for line in logged] == ["1", "2"]
    assert [float(line["top1"]) for line in logged] == [row["top1"] for row in rows]
    data = json.loads((tmp_path / checkpoints.RUN).read_text(encoding="utf-8"))
    assert data["classes"] == list(fashion_mnist.CLASSES)
    assert data["result"] == {"top1": trained.evaluation.top1, "top5": trained.evaluation.top5, "images": 100}
    assert data["train"] == "200 images to train"
    assert Recipe(**data["recipe"]) == RECIPE
    stored = from_weights(tmp_path / checkpoints.WEIGHTS)
    assert stored.config.downsamples == CONFIG.downsamples
    for name, value in trained.network.state_dict().items():
        assert torch.equal(stored.state_dict()[name], value), name
    average = load(tmp_path / checkpoints.AVERAGE)
    assert any(not torch.equal(average[name], value) for name, value in trained.network.state_dict().items())


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    def weights(seed: int, workers: int = 0) -> torch.Tensor:
        loop = ClassificationTrainer(run(RECIPE.replace(epochs=1), seed=seed), workers=workers)
        list(loop.epochs())
        return loop.network.state_dict()["head.weight"].clone()

    first = weights(0)
    assert torch.equal(first, weights(0))
    assert torch.equal(first, weights(0, workers=1))  # in the process that reads the images
    assert not torch.equal(first, weights(1))


STEPS = 4  # of an epoch: 200 images, 50 at a time
KILLED = """
import sys
from pathlib import Path
from training_runs import LONG, run
from efficientformer_edu.training.classification import ClassificationTrainer
loop = ClassificationTrainer(run(LONG), Path(sys.argv[1]), resume=sys.argv[2] == "resume")
for row in loop.epochs(lambda: (print("step", flush=True), input())):  # continues after a line of input
    pass
loop.finalize()
print("done", flush=True)
"""


def start(folder: Path, how: str) -> subprocess.Popen[str]:
    tests = str(Path(__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {tests!r})\n{KILLED}"
    command = [sys.executable, "-c", code, str(folder), how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def to_the_end(folder: Path, how: str) -> None:
    with start(folder, how) as process:
        out, _ = process.communicate("\n" * LONG.total_epochs * STEPS)
    assert out.endswith("done\n"), out


def killed_within(folder: Path, how: str, step: int, seconds: float) -> None:
    """Let a process take some steps, then kill it a moment after it is released; it cannot pass the next step."""
    with start(folder, how) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for _ in range(step):
                read = []
                while not read or read[-1] not in ("step\n", ""):  # skip the output of libraries
                    read.append(process.stdout.readline())
                assert read[-1] == "step\n", read
                process.stdin.write("\n")
                process.stdin.flush()
            time.sleep(seconds)
        finally:
            process.kill()


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """Killed within a step of the second epoch, then at moments around the end of an epoch, when files are written."""
    to_the_end(tmp_path / "whole", "begin")
    folder = tmp_path / "killed"
    killed_within(folder, "begin", STEPS + 2, 0.0)
    moments = random.Random(0)
    for _ in range(3):  # whether or not the epoch was stored before the kill, the next process resumes correctly
        killed_within(folder, "resume", STEPS, moments.uniform(0, 0.1))
    to_the_end(folder, "resume")
    expected, actual = load(tmp_path / "whole" / "weights.safetensors"), load(folder / "weights.safetensors")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    expected, actual = load(tmp_path / "whole" / "average.safetensors"), load(folder / "average.safetensors")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    logs = [(tmp_path / name / "log.csv").read_text(encoding="utf-8").splitlines() for name in ("whole", "killed")]
    without_seconds = [[line.rpartition(",")[0] for line in log] for log in logs]
    assert without_seconds[0] == without_seconds[1]
    assert not list(folder.glob(".*")) or all(path.name.endswith(".partial") for path in folder.glob(".*"))


def test_a_finished_run_that_is_resumed_is_finished(tmp_path: Path) -> None:
    first = ClassificationTrainer(run(), tmp_path)
    list(first.epochs())
    top1 = first.finalize().evaluation.top1
    again = ClassificationTrainer(run(), tmp_path, resume=True)
    assert list(again.epochs()) == []
    assert again.finalize().evaluation.top1 == top1


def test_another_run_is_not_mistaken_for_this_run(tmp_path: Path) -> None:
    list(ClassificationTrainer(run(), tmp_path).epochs())
    with pytest.raises(FileExistsError, match="--resume"):
        ClassificationTrainer(run(), tmp_path)
    for changed, difference in (
        (run(seed=1), "seed was 0 and now is 1"),
        (run(RECIPE.replace(ema=0.99)), r"recipe\.ema was 0\.9 and now is 0\.99"),
        (run(RECIPE.replace(epochs=1)), r"recipe\.epochs was 2 and now is 1"),
        (run(size=64), "size was 32 and now is 64"),
    ):
        with pytest.raises(ValueError, match=rf"checkpoint\.pt: {difference}\. ") as caught:
            ClassificationTrainer(changed, tmp_path, resume=True)
        assert str(caught.value).count(" was ") == 1  # equal settings are not named


def test_more_epochs_continue_a_run_with_the_longer_schedule(tmp_path: Path) -> None:
    first, longer = ClassificationTrainer(run(), tmp_path), run(RECIPE.replace(epochs=4))
    log = list(first.epochs())
    weights = first.finalize().network.state_dict()
    again = ClassificationTrainer(longer, tmp_path, resume=True)
    assert all(torch.equal(value, weights[name]) for name, value in again.network.state_dict().items())
    assert "4 epochs instead of 2" in again.notes[0]
    rows = list(again.epochs())
    again.finalize()
    assert [row["epoch"] for row in rows] == [3, 4]
    rates = [learning_rate(longer.recipe, epoch * STEPS - 1, STEPS) for epoch in (3, 4)]  # of every epoch's last step
    assert [row["learning_rate"] for row in rows] == rates
    assert rates[0] > log[-1]["learning_rate"]
    data = json.loads((tmp_path / checkpoints.RUN).read_text(encoding="utf-8"))
    assert (data["recipe"]["epochs"], data["extended"]) == (4, [{"after_epoch": 2, "epochs": 2}])
    assert ClassificationTrainer(longer, tmp_path, resume=True).extended == [{"after_epoch": 2, "epochs": 2}]


def photographs(root: Path, brightness: int = 0) -> Images:
    """Four images of two classes, of the same number of bytes for any brightness."""
    for name in ("cat", "dog"):
        for number in range(2):
            path = root / name / f"{number}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (brightness, 9 * number, 0)).save(path)
    return load_data(root, "train")


def test_data_sets_and_teachers_are_compared_by_their_content(tmp_path: Path) -> None:
    def loop(data: str, teacher: torch.Tensor, *, brightness: int = 0, resume: bool = True) -> ClassificationTrainer:
        images = photographs(tmp_path / data, brightness)
        recipe = RECIPE.replace(batch=2, crop=None, distillation="hard", epochs=1)
        config = CONFIG.replace(num_classes=2, in_channels=3)
        more = {"teacher": StoredLogits(teacher), "teacher_description": f"teacher for {data}"}
        return ClassificationTrainer(
            run(recipe, config=config, train=images, test=images, **more), tmp_path / "run", resume=resume
        )

    list(loop("pets", torch.eye(2).repeat(2, 1), resume=False).epochs())
    loop("moved", torch.eye(2).repeat(2, 1))  # the same content under other names
    with pytest.raises(ValueError, match=r"test has changed content.*train has changed content") as caught:
        loop("pets", torch.eye(2).repeat(2, 1), brightness=1)  # other content under the same names
    assert "teacher has" not in str(caught.value)
    with pytest.raises(ValueError, match="teacher has changed content"):
        loop("moved", torch.eye(2).repeat(2, 1).flip(0))


def test_a_run_whose_numbers_explode_stops_and_keeps_what_it_had(tmp_path: Path) -> None:
    loop = ClassificationTrainer(run(RECIPE.replace(agc_clip=None)), tmp_path)
    rows = loop.epochs()
    next(rows)
    with torch.no_grad():
        loop.network.get_parameter("stem.conv1.weight").fill_(math.nan)
    with pytest.raises(
        NotFiniteError, match=r"step 4: the loss is nan; the weights .*stem\.conv1\.weight are not finite"
    ):
        next(rows)
    kept = checkpoints.load_checkpoint(tmp_path, loop.run.described())
    assert kept["epoch"] == 1
    assert all(value.isfinite().all() for value in kept["network"].values() if value.is_floating_point())


@pytest.mark.slow
def test_random_labels_stay_at_chance() -> None:
    """Memorizing does not help: of 500 test images 10 % are right, within 4 standard deviations."""
    shuffled = torch.randint(10, (1000,), generator=torch.Generator().manual_seed(0)).tolist()
    train = Images(fashion_mnist.small("train")[0][:1000], shuffled, fashion_mnist.CLASSES, "random labels")
    quick = RECIPE.replace(epochs=5, learning_rate=0.1, agc_clip=None)
    loop = ClassificationTrainer(run(quick, train=train, test=images("test", 500)))
    accuracy = [row["top1"] for row in loop.epochs()][-1]
    # The test labels are correct: a network trained on random labels may prefer some classes, but not know them.
    assert abs(accuracy - 0.1) < 4 * math.sqrt(0.1 * 0.9 / 500)


@pytest.mark.slow
def test_true_labels_do_not() -> None:
    quick = RECIPE.replace(epochs=5, learning_rate=0.1, agc_clip=None)
    loop = ClassificationTrainer(run(quick, train=images("train", 1000), test=images("test", 500)))
    assert [row["top1"] for row in loop.epochs()][-1] > 0.4


def test_a_teacher_sees_what_the_network_sees() -> None:
    calls = []
    base = network_teacher(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1024, 10)))

    def teacher(seen: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        calls.append((seen.shape, len(indices)))
        return base(seen, indices)

    recipe = RECIPE.replace(epochs=1, distillation="hard")
    list(ClassificationTrainer(run(recipe, teacher=teacher, teacher_description="a linear map")).epochs())
    assert calls == [(torch.Size([50, 1, 32, 32]), 50)] * 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recipe": RECIPE.replace(distillation="hard")}, "no teacher"),
        (
            {
                "recipe": RECIPE.replace(distillation="soft"),
                "teacher": lambda seen, indices: seen,
                "config": CONFIG.replace(distillation=False),
            },
            "one head cannot learn from a teacher",
        ),
        ({"recipe": RECIPE.replace(batch=500)}, "200 images do not fill a batch of 500"),
    ],
)
def test_what_cannot_be_run(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(ClassificationTrainer(run(**fields)).epochs())  # type: ignore[arg-type]


def states() -> tuple[object, ...]:
    """The global random states of torch, NumPy and Python."""
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


@pytest.mark.parametrize("workers", [0, 1])
def test_global_random_states_are_left_as_they_were(workers: int, tmp_path: Path) -> None:
    augmented = RECIPE.replace(epochs=1, mixup=0.8, cutmix=1.0, erasing=0.5)
    torch.rand(3)
    before = states()
    loop = ClassificationTrainer(run(augmented), tmp_path, workers=workers)
    assert states() == before
    list(loop.epochs(lambda: torch.testing.assert_close(states() == before, True)))
    assert states() == before
    loop.finalize()
    assert states() == before
    ClassificationTrainer(run(augmented), tmp_path, resume=True)
    assert states() == before


def test_precisions_in_any_order_in_a_single_process() -> None:
    """Three runs that exist at the same time, two steps of each: bf16 only changes its own run."""
    loops = [
        ClassificationTrainer(run(**{**ALIKE, "recipe": STILL.replace(precision=name)}))
        for name in ("fp32", "bf16", "fp32")
    ]
    dtypes: list[list[torch.dtype]] = [[], [], []]
    for loop, seen in zip(loops, dtypes, strict=True):
        loop.network.stem.conv1.register_forward_hook(lambda *call, seen=seen: seen.append(call[-1].dtype))
    losses = [[float(loop.step(loop.batches()[number], number)) for number in range(2)] for loop in loops]
    assert dtypes == [[torch.float32] * 2, [torch.bfloat16] * 2, [torch.float32] * 2]
    assert losses[0] == losses[2] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert all(parameter.dtype == torch.float32 for parameter in loops[1].network.parameters())


def dropped(loop: ClassificationTrainer, step: int) -> list[list[bool]]:
    """The images of a step that lose a branch, for every branch."""
    masks: list[list[bool]] = []
    paths = [module for module in loop.network.modules() if isinstance(module, DropPath) and module.rate]
    handles = [
        path.register_forward_hook(lambda *c: masks.append((~c[-1].flatten(1).any(1)).tolist())) for path in paths
    ]
    loop.step(loop.batches()[0], step)
    for handle in handles:
        handle.remove()
    return masks


def test_stochastic_depth_differs_between_steps_and_is_the_same_in_the_same_step() -> None:
    recipe = STILL.replace(drop_path=0.5)
    first, other = (ClassificationTrainer(run(**{**ALIKE, "recipe": recipe})) for _ in range(2))
    assert max(module.rate for module in first.network.modules() if isinstance(module, DropPath)) == 0.5
    masks = [dropped(first, step) for step in (0, 1, 2)]
    assert all(any(map(any, mask)) for mask in masks)
    assert masks[0] != masks[1] != masks[2] != masks[0]
    assert dropped(other, 1) == masks[1]


def test_settings_of_distillation_reach_the_loss() -> None:
    teacher = network_teacher(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1024, 10)))
    for kind, alpha, tau in (("hard", 0.5, 1.0), ("soft", 0.5, 1.0), ("soft", 0.5, 4.0), ("soft", 0.9, 4.0)):
        recipe = STILL.replace(distillation=kind, alpha=alpha, tau=tau)
        loop = ClassificationTrainer(run(**{**ALIKE, "recipe": recipe}, teacher=teacher))
        images, targets, _ = loop.batches()[0]
        with torch.no_grad():
            heads = loop.network.forward_heads(images)
        expected = DistillationLoss(kind, alpha, tau)(heads, targets, teacher(images, []))
        assert float(loop.step(loop.batches()[0], 0)) == pytest.approx(float(expected), rel=1e-5)


def batch(**settings: Any) -> Batch:
    return ClassificationTrainer(run(**{**ALIKE, "recipe": STILL.replace(**settings)})).batches()[0]


def test_settings_of_mixing_and_repetition_reach_the_loader() -> None:
    default = batch(label_smoothing=0.0)
    partner = default.images.flip(0)
    assert sorted(default.targets.unique().tolist()) == [0, 1] and len(set(default.indices.tolist())) == len(
        default.indices
    )

    assert batch(label_smoothing=0.4).targets.unique().tolist() == pytest.approx([0.04, 0.64])

    pasted = batch(label_smoothing=0.0, cutmix=1.0).images
    assert ((pasted == default.images) | (pasted == partner)).all() and not torch.equal(pasted, default.images)

    mixed = batch(label_smoothing=0.0, mixup=1.0)
    kept = mixed.targets.max(1).values.clamp(max=1)[default.targets.argmax(1) != default.targets.flip(0).argmax(1)][0]
    blends = [share * default.images + (1 - share) * partner for share in (kept, 1 - kept)]
    assert any(torch.allclose(mixed.images, blend, atol=1e-5) for blend in blends)

    times = Counter(batch(repeated_aug=3, batch=48).indices.tolist()).values()
    assert set(times) == {3}


def test_training_starts_from_existing_weights(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = EfficientFormer(CONFIG)
    file = tmp_path / "given.safetensors"

    def started(**more: object) -> tuple[dict[str, torch.Tensor], str]:
        loop = ClassificationTrainer(run(init_from=file, **more))
        return loop.network.state_dict(), loop.notes[0]

    def kept(state: Mapping[str, torch.Tensor]) -> tuple[bool, bool]:
        """Whether the weights of the backbone, and of the heads, are the loaded weights."""
        same = {name: torch.equal(value, network.state_dict()[name]) for name, value in state.items()}
        heads = [name for name in same if name.startswith("head")]
        return all(same[name] for name in same if name not in heads), all(same[name] for name in heads)

    save(network, file, layout="native", class_names=fashion_mnist.CLASSES)
    state, note = started()
    assert kept(state) == (True, True) and "is kept" in note
    assert kept(ClassificationTrainer(run(init_from=network.state_dict())).network.state_dict()) == (True, True)

    save(network, file, layout="native")  # no names: the same number of classes is treated as equal
    state, note = started()
    assert kept(state) == (True, True) and "without names" in note

    save(network, file, layout="native", class_names=fashion_mnist.CLASSES[::-1])  # the same names in another order
    state, note = started()
    assert kept(state) == (True, False) and "other classes" in note

    save(EfficientFormer(CONFIG.replace(distillation=False)), file, layout="native")
    assert "one head" in started()[1]

    network = EfficientFormer(CONFIG.replace(num_classes=3))
    save(network, file, layout="native")
    state, note = started()
    same = [name for name, value in network.state_dict().items() if torch.equal(value, state.get(name, value))]
    assert {name for name in state if name not in same} >= {"head.weight", "head_dist.weight"}
    assert "3 classes and the data 10" in note

    save(EfficientFormer(CONFIG.replace(embed_dims=(8, 24, 24, 24))), file, layout="native")
    with pytest.raises(ValueError, match=r"given\.safetensors: .*24"):
        started()
    with pytest.raises(FileNotFoundError):
        ClassificationTrainer(run(init_from=tmp_path / "nothing.pth"))


def test_fine_tuning_is_part_of_what_a_run_is(tmp_path: Path) -> None:
    for seed in (1, 2):
        torch.manual_seed(seed)
        save(EfficientFormer(CONFIG), tmp_path / f"{seed}.safetensors", layout="native")
    list(ClassificationTrainer(run(init_from=tmp_path / "1.safetensors"), tmp_path / "run").epochs())
    (tmp_path / "1.safetensors").rename(tmp_path / "renamed.safetensors")
    ClassificationTrainer(run(init_from=tmp_path / "renamed.safetensors"), tmp_path / "run", resume=True)
    with pytest.raises(ValueError, match="init_from has changed content"):
        ClassificationTrainer(run(init_from=tmp_path / "2.safetensors"), tmp_path / "run", resume=True)


def test_class_names_are_stored_with_the_weights(tmp_path: Path) -> None:
    loop = ClassificationTrainer(run(), tmp_path)
    list(loop.epochs())
    assert loop.finalize().network.class_names == fashion_mnist.CLASSES
    for name in (checkpoints.WEIGHTS, checkpoints.AVERAGE):
        assert from_weights(tmp_path / name).class_names == fashion_mnist.CLASSES


def test_the_log_is_also_written_for_tensorboard(tmp_path: Path) -> None:
    trainer = ClassificationTrainer(run(), tmp_path, tracker="tensorboard")
    trainer.fit()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name in ("learning_rate", "train_loss", *trainer.metric_names):
        logged = [(event.step, event.value) for event in events.Scalars(name)]
        assert logged == [(row["epoch"], pytest.approx(row[name], rel=1e-6)) for row in trainer.log]


def test_a_tracker_that_cannot_write_is_reported_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"tensorboard .*folder"):
        ClassificationTrainer(run(), tracker="tensorboard")
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as if it were not installed
    with pytest.raises(ImportError, match=r"tensorboard is missing: pip install"):
        ClassificationTrainer(run(), tmp_path / "run", tracker="tensorboard")
    assert not (tmp_path / "run").exists()


def test_classes_of_training_and_test_must_be_the_same() -> None:
    other = Images(fashion_mnist.small("test")[0][:10], [0] * 10, ("only one",), "other")
    with pytest.raises(ValueError, match="10 and 1"):
        run(test=other)


def test_embedded_images_are_what_load_data_gives() -> None:
    assert load_data("fashion-mnist-small", "train").classes == fashion_mnist.CLASSES
