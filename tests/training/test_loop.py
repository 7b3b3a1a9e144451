"""The loop: goes on after a kill to the same weights, stops at numbers that are none, learns nothing from nothing."""

from __future__ import annotations

import csv
import json
import math
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from training_runs import CONFIG, LONG, RECIPE, images, run

from efficientformer_edu.training import checkpoints, fashion_mnist
from efficientformer_edu.training.data import Images, load_data
from efficientformer_edu.training.distillation import network_teacher
from efficientformer_edu.training.guard import NotFiniteError
from efficientformer_edu.training.loop import Loop
from efficientformer_edu.training.recipe import Recipe
from efficientformer_edu.weights import from_weights, load


def test_a_run_leaves_everything_in_its_folder(tmp_path: Path) -> None:
    loop = Loop(run(), tmp_path)
    rows = list(loop.epochs())
    trained = loop.finish()
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
    told = json.loads((tmp_path / checkpoints.RUN).read_text(encoding="utf-8"))
    assert told["result"] == {"top1": trained.evaluation.top1, "top5": trained.evaluation.top5, "images": 100}
    assert told["train"] == "200 images to train"
    assert Recipe(**told["recipe"]) == RECIPE
    stored = from_weights(tmp_path / checkpoints.WEIGHTS)
    assert stored.config.downsamples == CONFIG.downsamples
    for name, value in trained.network.state_dict().items():
        assert torch.equal(stored.state_dict()[name], value), name
    average = load(tmp_path / checkpoints.AVERAGE)
    assert any(not torch.equal(average[name], value) for name, value in trained.network.state_dict().items())


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    def weights(seed: int, workers: int = 0) -> torch.Tensor:
        loop = Loop(run(RECIPE.replace(epochs=1), seed=seed), workers=workers)
        list(loop.epochs())
        return loop.network.state_dict()["head.weight"].clone()

    first = weights(0)
    assert torch.equal(first, weights(0))
    assert torch.equal(first, weights(0, workers=1))  # whoever reads the images
    assert not torch.equal(first, weights(1))


STEPS = 4  # of an epoch: 200 images, 50 at a time
KILLED = """
import sys
from pathlib import Path
from training_runs import LONG, run
from efficientformer_edu.training.loop import Loop
loop = Loop(run(LONG), Path(sys.argv[1]), resume=sys.argv[2] == "resume")
for row in loop.epochs(lambda: (print("step", flush=True), input())):  # goes on when it is told to
    pass
loop.finish()
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
    """Let a process take some steps, then kill it a moment after it was let go; it cannot pass the next step."""
    with start(folder, how) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for _ in range(step):
                read = []
                while not read or read[-1] not in ("step\n", ""):  # past what a library may say
                    read.append(process.stdout.readline())
                assert read[-1] == "step\n", read
                process.stdin.write("\n")
                process.stdin.flush()
            time.sleep(seconds)
        finally:
            process.kill()


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """Killed within a step of the second epoch, then at moments around the end of an epoch, when a lot is written."""
    to_the_end(tmp_path / "whole", "begin")
    folder = tmp_path / "killed"
    killed_within(folder, "begin", STEPS + 2, 0.0)
    moments = random.Random(0)
    for _ in range(3):  # whether or not the epoch was stored before the kill, the next resumes from what is there
        killed_within(folder, "resume", STEPS, moments.uniform(0, 0.1))
    to_the_end(folder, "resume")
    expected, found = load(tmp_path / "whole" / "weights.safetensors"), load(folder / "weights.safetensors")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    expected, found = load(tmp_path / "whole" / "average.safetensors"), load(folder / "average.safetensors")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    logs = [(tmp_path / name / "log.csv").read_text(encoding="utf-8").splitlines() for name in ("whole", "killed")]
    without_seconds = [[line.rpartition(",")[0] for line in log] for log in logs]
    assert without_seconds[0] == without_seconds[1]
    assert not list(folder.glob(".*")) or all(path.name.endswith(".partial") for path in folder.glob(".*"))


def test_a_finished_run_that_is_resumed_is_finished(tmp_path: Path) -> None:
    first = Loop(run(), tmp_path)
    list(first.epochs())
    top1 = first.finish().evaluation.top1
    again = Loop(run(), tmp_path, resume=True)
    assert list(again.epochs()) == []
    assert again.finish().evaluation.top1 == top1


def test_another_run_is_not_mistaken_for_this_one(tmp_path: Path) -> None:
    list(Loop(run(), tmp_path).epochs())
    with pytest.raises(FileExistsError, match="add --resume"):
        Loop(run(), tmp_path)
    with pytest.raises(ValueError, match="seed was 0 and now is 1"):
        Loop(run(seed=1), tmp_path, resume=True)


def test_a_run_whose_numbers_explode_stops_and_keeps_what_it_had(tmp_path: Path) -> None:
    loop = Loop(run(RECIPE.replace(clipping=None)), tmp_path)
    rows = loop.epochs()
    next(rows)
    with torch.no_grad():
        loop.network.get_parameter("stem.conv1.weight").fill_(math.nan)
    with pytest.raises(
        NotFiniteError, match=r"step 4: the loss is nan; the weights .*stem\.conv1\.weight are no numbers"
    ):
        next(rows)
    kept = checkpoints.load_checkpoint(tmp_path, loop.run.described())
    assert kept["epoch"] == 1
    assert all(value.isfinite().all() for value in kept["network"].values() if value.is_floating_point())


def test_random_labels_stay_at_chance() -> None:
    """What is learned by heart does not help: of 500 test images 10 % are right, give or take 4 deviations."""
    shuffled = torch.randint(10, (1000,), generator=torch.Generator().manual_seed(0)).tolist()
    train = Images(fashion_mnist.small("train")[0][:1000], shuffled, fashion_mnist.CLASSES, "random labels")
    quick = RECIPE.replace(epochs=5, learning_rate=0.1, clipping=None)
    loop = Loop(run(quick, train=train, test=images("test", 500)))
    accuracy = [row["top1"] for row in loop.epochs()][-1]
    # Labels of the test are right: a network that saw random ones may prefer some classes, but not know them.
    assert abs(accuracy - 0.1) < 4 * math.sqrt(0.1 * 0.9 / 500)


def test_true_labels_do_not() -> None:
    quick = RECIPE.replace(epochs=5, learning_rate=0.1, clipping=None)
    loop = Loop(run(quick, train=images("train", 1000), test=images("test", 500)))
    assert [row["top1"] for row in loop.epochs()][-1] > 0.4


def test_a_teacher_is_asked_about_what_the_network_sees() -> None:
    asked = []
    base = network_teacher(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1024, 10)))

    def teacher(seen: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        asked.append((seen.shape, len(indices)))
        return base(seen, indices)

    recipe = RECIPE.replace(epochs=1, distillation="hard")
    list(Loop(run(recipe, teacher=teacher, teacher_words="a linear map")).epochs())
    assert asked == [(torch.Size([50, 1, 32, 32]), 50)] * 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"recipe": RECIPE.replace(distillation="hard")}, "there is no teacher; give one"),
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
        list(Loop(run(**fields)).epochs())  # type: ignore[arg-type]


def test_classes_of_training_and_test_must_be_the_same() -> None:
    other = Images(fashion_mnist.small("test")[0][:10], [0] * 10, ("only one",), "other")
    with pytest.raises(ValueError, match="training has 10 classes, testing 1"):
        run(test=other)


def test_embedded_images_are_what_load_data_gives() -> None:
    assert load_data("fashion-mnist-small", "train").classes == fashion_mnist.CLASSES
