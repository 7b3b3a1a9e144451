"""Two processes that share a batch give the same result as one process with the full batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from training_runs import STILL, first_step, images

from efficientformer_edu.training import distributed
from efficientformer_edu.training.loading import Shard, TrainBatches

pytestmark = pytest.mark.slow

SCRIPT = """
from accelerate.state import PartialState
import training_runs
training_runs.{function}(sys.argv[1])
assert PartialState().num_processes == 2
"""


def in_two_processes(function: str, tmp_path: Path, argument: Path) -> None:
    """Run a function of `training_runs` in two connected processes."""
    path = str(Path(__file__).parents[1])
    script = tmp_path / "script.py"
    script.write_text(f"import sys; sys.path.insert(0, {path!r})\n{SCRIPT.format(function=function)}", encoding="utf-8")
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    done = subprocess.run([*launcher, str(script), str(argument)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_gradients_statistics_and_evaluation_of_two_processes_equal_a_single_process(tmp_path: Path) -> None:
    in_two_processes("first_step", tmp_path, tmp_path / "two.pt")
    first_step(str(tmp_path / "one.pt"))
    single, two = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("one", "two"))
    assert single.keys() == two.keys()
    for name, value in single.items():
        torch.testing.assert_close(
            two[name], value, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_two_processes_agree_and_none_waits_for_ever(tmp_path: Path) -> None:
    in_two_processes("several_processes", tmp_path, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    # Without synchronized batch norms each process has its own statistics; those of the first are saved, and logged.
    assert first["batch norms"] == second["batch norms"] == {"BatchNorm2d"}
    assert first["logged"] == second["logged"] == pytest.approx(first["alone"], rel=1e-5)
    assert first["running"] == second["running"]
    assert first["train_loss"] == second["train_loss"]
    assert first["looked"]
    # A loss that is not finite in one process stops both.
    assert first["stopped"] == "step 7: the loss of another process is not finite"
    assert second["stopped"].startswith("step 7: the loss is nan; an image of the batch is not finite")


def test_without_synchronisation_the_gradients_would_differ() -> None:
    """A control for the test above: batch norms of half a batch have different statistics."""
    torch.manual_seed(0)
    x = torch.randn(8, 4, 5, 5)
    full, half = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    assert not torch.allclose(full(x)[:4], half(x[:4]), atol=1e-3)


def test_a_synchronised_norm_is_the_norm_it_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one process the sum over all is its own: equal to torch's batch norm, forward, backward and after."""
    monkeypatch.setattr(distributed, "_sum", lambda x: x)
    torch.manual_seed(0)
    reference = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with torch.no_grad():
        reference[1].weight.uniform_(0.5, 2)
        reference[1].bias.normal_()
    synced = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    synced.load_state_dict(reference.state_dict())
    distributed.synchronize(synced, torch.device("cpu"))
    assert isinstance(synced[1], distributed.SynchronizedBatchNorm2d)
    x = 3 + 2 * torch.randn(2, 3, 8, 8)
    weights = torch.randn(2, 4, 6, 6)
    for network in (reference, synced):
        (network(x) * weights).sum().backward()
    torch.testing.assert_close(synced(x), reference(x))
    for (name, mine), expected in zip(synced.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(
            mine.grad, expected.grad, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    for name, buffer in reference.named_buffers():
        torch.testing.assert_close(dict(synced.named_buffers())[name], buffer)
    torch.testing.assert_close(synced.eval()(x), reference.eval()(x))


def test_a_batch_that_two_processes_cannot_share() -> None:
    recipe = STILL.replace(batch=25)
    with pytest.raises(ValueError, match="a batch of 25 cannot be shared by 2 processes"):
        TrainBatches(images("train", 100), recipe, 32, 1, seed=0, epoch=0, shard=Shard(0, 2))
