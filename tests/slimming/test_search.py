"""The search: greedy by drop per second, reproduced exactly, and resumed on the same path after a kill."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from slimming_runs import IMAGES, LOOKUP, MAC, SEARCHED, SIZE, TIMED, TINY, WIDTHS, Knowing, answers, supernet, table
from training_runs import images

from efficientformer_edu.audit import count
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.latency.lookup_table import Entry, Lookup, Part, parts
from efficientformer_edu.latency.records import Conditions
from efficientformer_edu.slimming.protocol import Evaluator
from efficientformer_edu.slimming.records import SEARCH, Search, Trial
from efficientformer_edu.slimming.search import WEIGHTS, Slimming, applied, begin, check_targets, narrowest
from efficientformer_edu.slimming.subnet import Action, Subnet
from efficientformer_edu.slimming.supernet import UNIT, Supernet
from efficientformer_edu.training.loading import EvalBatches, loader
from efficientformer_edu.training.recipe import LAPTOP
from efficientformer_edu.utils.rng import generator

pytestmark = pytest.mark.slow

CONFIG = SEARCHED
SMALLEST = CONFIG.replace(depths=(1, 1, 1, 1), embed_dims=(16, 16, 16, 16))
START, LEAST = (
    LOOKUP.predict(config) for config in (Subnet.largest(CONFIG).config(CONFIG), SMALLEST)
)  # 5.5 and 1.9 ms
USELESS = (1, 1)  # stage and MetaPath


def seconds(subnet: Subnet) -> float:
    """From the MAC count, independent of parts."""
    return MAC * count(subnet.config(CONFIG), TIMED).macs


def made(config: EfficientFormerConfig = CONFIG) -> Supernet:
    return supernet(config)


def points_down(network: Supernet, stage: int, block: int) -> Supernet:
    """The supernet with importances that point to one MetaPath, where I has e⁶ times the weight of a block."""
    with torch.no_grad():
        network.paths(stage)[block].alpha_in_units[-1] = 6 / UNIT
    return network


def lost(subnet: Subnet) -> int:
    """Steps from the largest subnet, except for the removal of the useless block."""
    stage, block = USELESS
    gone = sum(stage_blocks.count("I") for stage_blocks in subnet.choices) - (subnet.choices[stage][block] == "I")
    turned = sum(stage_blocks.count("MB4D") for stage_blocks in subnet.choices[2:])
    return gone + turned + (sum(CONFIG.embed_dims) - sum(subnet.embed_dims)) // 16


def worth(subnet: Subnet) -> float:
    return 0.9 - 0.01 * lost(subnet)


def finished(slimming: Slimming) -> Search:
    for _ in slimming.steps():
        pass
    return slimming.search


def search(network: Supernet, *targets: float, evaluator: Knowing | None = None, lookup: Lookup = LOOKUP) -> Search:
    return finished(Slimming(network, begin(network, lookup, targets), lookup, evaluator or Knowing(worth)))


def test_a_search_begins_with_what_the_supernet_has_learned() -> None:
    network = points_down(made(), *USELESS)
    result = begin(network, LOOKUP, [0.9 * START, 0.8 * START], {"noise": "uniform"})
    assert result.importances == network.importances()
    assert result.importances[1] == pytest.approx((1.0, 0.0024787522), rel=1e-4)  # e⁻⁶
    assert result.start == pytest.approx(seconds(Subnet.largest(CONFIG)))
    assert (result.supernet, result.steps, result.made_of) == (CONFIG, (), {"noise": "uniform"})


def test_a_useless_block_is_removed_first() -> None:
    result = search(points_down(made(), *USELESS), 0.5 * START)
    assert result.steps[0].taken.action == Action("depth", *USELESS)
    assert result.steps[0].taken.drop == 0
    assert len(result.steps) > 2


class Resting(Evaluator):
    """Only by accuracy: a network that learned anything would predict differently."""

    def finetune(self, supernet: Supernet, step: int) -> None:
        pass


def test_a_block_without_branches_is_identified_by_real_accuracy() -> None:
    """Its layer scales are 0. The labels are the network's predictions, so every real change costs accuracy."""
    network, (stage, block) = points_down(made(), *USELESS), USELESS
    with torch.no_grad():
        for scale in ("layer_scale_1", "layer_scale_2"):
            getattr(network.paths(stage)[block].blocks["MB4D"], scale).gamma.zero_()
    network.choose(Subnet.largest(CONFIG))
    held_out = images("test", 100)
    evaluator = Resting(images("train", 60), held_out, LAPTOP.replace(batch=30), SIZE)
    evaluator.accuracy(network)
    with torch.no_grad():
        logits = torch.cat([network(batch) for batch, _ in loader(EvalBatches(held_out, SIZE, 1, 30))])
        network.head.bias.sub_(logits.mean(0))  # else it would predict the same for nearly all images
    answers = (logits - logits.mean(0)).argmax(1).tolist()
    assert len(set(answers)) > 5
    held_out.labels[:] = answers
    step = next(Slimming(network, begin(network, LOOKUP, [0.5 * START]), LOOKUP, evaluator).steps())
    assert step.accuracy == 1.0
    assert step.taken == Trial(Action("depth", stage, block), step.taken.gain, 0.0, "1" * 100)
    assert step.correct == "1" * 100
    assert all(trial.correct.count("0") == round(100 * trial.drop) for trial in step.trials)
    others = [trial.drop for trial in step.trials if trial != step.taken]
    assert len(others) == 2 and min(others) > 0


def test_every_gain_is_the_difference_of_two_full_networks() -> None:
    result = search(made(), 0.4 * START)
    assert result.done and len(result.steps) > 5
    for subnet, step in zip(result.subnets[:-1], result.steps, strict=True):
        for trial in step.trials:
            after = subnet.after(trial.action)
            assert trial.gain == pytest.approx(seconds(subnet) - seconds(after), rel=1e-6)
            assert trial.drop == pytest.approx(worth(subnet) - worth(after))
        assert step.accuracy == pytest.approx(worth(subnet))
    assert result.seconds[-1] == pytest.approx(seconds(result.subnets[-1]))


def test_the_evaluator_runs_on_every_network_and_on_the_result_of_every_action() -> None:
    evaluator = Knowing(worth)
    result = search(made(), 0.6 * START, evaluator=evaluator)
    expected = []
    for subnet, step in zip(result.subnets[:-1], result.steps, strict=True):
        expected += [subnet, *(subnet.after(trial.action) for trial in step.trials)]
    assert evaluator.subnets == expected
    assert evaluator.finetuned == [*range(len(result.steps) + 1)]  # and once before the first step


ROOM = TINY.replace(depths=(1, 2, 1, 1), embed_dims=(16, 16, 16, 32))
MS = {  # by hand: milliseconds of every part. Everything within a stage has the same width, except in the last
    ("stem", 0, 16): 1.0,
    ("MB4D", 0, 16): 1.0,
    ("embedding", 1, 16): 1.0,
    ("MB4D", 1, 16): 2.0,
    ("embedding", 2, 16): 1.0,
    ("MB4D", 2, 16): 3.0,
    ("MB3D", 2, 16): 5.0,
    ("embedding", 3, 16): 0.5,
    ("embedding", 3, 32): 1.0,
    ("MB4D", 3, 16): 2.0,
    ("MB4D", 3, 32): 3.0,
    ("MB3D", 3, 16): 3.0,
    ("MB3D", 3, 32): 4.0,
    ("head", 3, 16): 0.5,
    ("head", 3, 32): 1.0,
}
DROPS = {Action("MB3D", 2, 0): 0.02, Action("width", 3): 0.03, Action("depth", 1, 0): 0.06, Action("MB3D", 3, 0): 0.04}


def room(**changed: float) -> Lookup:
    """The table of MS; `head32=9` changes an entry."""
    times = {**MS, **{key: changed[f"{key[0]}{key[2]}"] for key in MS if f"{key[0]}{key[2]}" in changed}}
    grids, seconds = ROOM.grids(TIMED), dict[Part, float]()
    for (kind, stage, width), time in times.items():
        widths = (16, width) if kind == "embedding" else (width,)
        seconds[Part(kind, grids[stage], widths)] = time / 1e3  # type: ignore[arg-type]
    total = sum(number * seconds[part] for part, number in parts(ROOM, TIMED).items())
    entries = tuple(Entry(part, time, total) for part, time in seconds.items())
    return Lookup("eager", TIMED, ROOM, Conditions(resolution=TIMED), entries)


def cost(drops: dict[Action, float]) -> Callable[[Subnet], float]:
    """A rule for the evaluator on ROOM; its four actions can be taken once each, with the costs in the dictionary."""

    def accuracy(subnet: Subnet) -> float:
        done = {
            Action("depth", 1, 0): "I" in subnet.choices[1],
            Action("MB3D", 2, 0): subnet.choices[2] == ("MB4D",),
            Action("MB3D", 3, 0): subnet.choices[3] == ("MB4D",),
            Action("width", 3): subnet.embed_dims[3] == 16,
        }
        return 0.9 - sum(drops[action] for action, is_done in done.items() if is_done)

    return accuracy


def test_the_greedy_order_by_hand() -> None:
    """The largest network takes 19 ms. Gains: MB3D 2 ms and 1 ms, width 2 ms (embedding ½, block 1, head ½), depth 2.

    Points per ms: MB3D of stage 3 has 1, width 1.5, depth 3, MB3D of stage 4 has 4, and may come after the other MB3D.
    """
    lookup = room()
    result = search(made(ROOM), 17.5e-3, 14e-3, 12.1e-3, evaluator=Knowing(cost(DROPS)), lookup=lookup)
    assert [step.taken.action for step in result.steps] == list(DROPS)
    assert result.seconds == pytest.approx((19e-3, 17e-3, 15e-3, 13e-3, 12e-3))
    assert [len(step.trials) for step in result.steps] == [3, 3, 2, 1]
    scores = [[100 * trial.score[1] / 1000 for trial in step.trials] for step in result.steps]
    assert scores == [pytest.approx(row) for row in ([3, 1, 1.5], [3, 4, 1.5], [3, 4], [4])]
    assert list(result.family) == [17.5e-3, 14e-3, 12.1e-3]
    first, second, third = result.family.values()
    assert first == ROOM.replace(num_vit=1)
    assert second == ROOM.replace(num_vit=1, embed_dims=(16, 16, 16, 16), depths=(1, 1, 1, 1))
    assert third == second.replace(num_vit=0)


def test_an_action_that_saves_nothing_is_taken_last() -> None:
    """A head that is slower with fewer channels, by more than everything else is faster; the accuracy even rises."""
    drops = {**DROPS, Action("width", 3): -0.1}
    result = search(made(ROOM), 14.15e-3, evaluator=Knowing(cost(drops)), lookup=room(head16=2.6))
    kinds = [step.taken.action.kind for step in result.steps]
    assert kinds == ["MB3D", "depth", "MB3D"]
    assert all(len(step.trials) > 1 and step.trials[-1].gain < 0 for step in result.steps)


def test_an_action_that_helps_is_taken_before_all_others() -> None:
    drops = {**DROPS, Action("depth", 1, 0): -0.01}
    result = search(made(ROOM), 12.1e-3, evaluator=Knowing(cost(drops)), lookup=room())
    assert result.steps[0].taken.action == Action("depth", 1, 0)


def test_every_network_of_the_family_is_the_first_below_its_target() -> None:
    targets = [0.8 * START, 0.5 * START, 0.65 * START]
    result = search(made(), *targets)
    assert list(result.family) == sorted(targets, reverse=True)
    path = [subnet.config(CONFIG) for subnet in result.subnets]
    for target, config in result.family.items():
        index = path.index(config)
        assert result.seconds[index] <= target
        assert all(before > target for before in result.seconds[:index])
    assert all(before > after for before, after in pairwise(result.seconds))
    assert result.seconds[-2] > min(targets) >= result.seconds[-1]


def test_a_search_for_many_targets_is_the_search_for_the_last() -> None:
    family = search(made(), 0.8 * START, 0.5 * START)
    assert family.steps == search(made(), 0.5 * START).steps


def test_a_target_above_the_start_needs_no_step() -> None:
    evaluator = Knowing(worth)
    result = search(made(), 2 * START, START, evaluator=evaluator)
    assert result.steps == () and evaluator.subnets == []
    assert list(result.family.values()) == [Subnet.largest(CONFIG).config(CONFIG)] * 2


def test_the_smallest_network_can_be_reached() -> None:
    result = search(made(), 1.0001 * LEAST)
    assert result.family[1.0001 * LEAST] == SMALLEST


def test_its_own_time_is_a_target_too() -> None:
    """The path's seconds are a sum of rounded gains; the rounding must not lead to an endless search."""
    assert list(search(made(), LEAST).family) == [LEAST]


@pytest.mark.parametrize("targets", [[0.999 * LEAST], [START, 0.1 * LEAST]])
def test_an_impossible_target_is_refused_before_anything_is_evaluated(targets: list[float]) -> None:
    message = r"target .* ms is not possible: the smallest network, one block in each stage, of \(16, 16, 16, 16\)"
    with pytest.raises(ValueError, match=message):
        begin(made(), LOOKUP, targets)
    with pytest.raises(ValueError, match=message):
        check_targets(CONFIG, LOOKUP, targets)


@pytest.mark.parametrize(
    ("lookup", "message"),
    [
        (table((*WIDTHS[:3], (16, 48))), "64 is outside of the table, which has 16 to 48 channels"),
        (table(WIDTHS, TINY.replace(num_classes=9)), "num_classes=10 is not in the table"),
    ],
    ids=["width", "field"],
)
def test_a_network_that_is_not_in_the_table_is_refused_before_anything_is_evaluated(
    lookup: Lookup, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        begin(made(), lookup, [0.9 * START])


@pytest.mark.parametrize("kind", ["MB3D", "embedding", "stem", "head"])
def test_a_table_with_a_hole_is_refused_before_anything_is_evaluated(kind: str) -> None:
    """An entry of a width that the search reaches is missing, as in an incomplete table."""
    missing = next(entry for entry in LOOKUP.entries if entry.part.kind == kind)
    holed = replace(LOOKUP, entries=tuple(entry for entry in LOOKUP.entries if entry is not missing))
    with pytest.raises(ValueError, match="table"):
        begin(made(), holed, [1.01 * LEAST])


def test_the_narrowest_are_those_of_the_table() -> None:
    assert narrowest(LOOKUP) == (16, 16, 16, 16)
    lookup = table(((16,), (16, 32), (48,), (32, 64)))
    assert narrowest(lookup) == (16, 16, 48, 32)
    begun = replace(LOOKUP, entries=LOOKUP.entries[:3])
    with pytest.raises(ValueError, match=r"Lookup\(3 parts, eager, 64×96\) has no MB4D at 8×12; build it to the end"):
        narrowest(begun)
    smallest = SMALLEST.replace(embed_dims=(16, 16, 48, 32))
    result = search(made(), 1.001 * lookup.predict(smallest), lookup=lookup)
    assert result.subnets[-1].config(CONFIG) == smallest


def test_an_action_is_applied_to_a_copy() -> None:
    network = made()
    network.choose(Subnet.largest(CONFIG))
    for action in (Action("depth", 1, 0), Action("MB3D", 2, 0), Action("width", 3)):
        after = applied(network, action)
        assert after.subnet == Subnet.largest(CONFIG).after(action)
        with torch.no_grad():
            after.stem.conv1.weight.zero_()
    assert network.subnet == Subnet.largest(CONFIG)
    assert network.stem.conv1.weight.abs().min() > 0


class Feeling(Knowing):
    """An evaluator that depends on every weight and norm, and changes them; it can be stopped at a call."""

    def __init__(self, stop: int = 0) -> None:
        super().__init__(worth)
        self.calls, self.stop = 0, stop

    def _call(self) -> None:
        self.calls += 1
        if self.calls == self.stop:
            raise KeyboardInterrupt

    def correct(self, supernet: Supernet) -> list[bool]:
        self._call()
        with torch.no_grad():
            sums = [float(value.double().sum()) for value in supernet.state_dict().values()]
            for module in supernet.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_mean.add_(0.01)
        accuracy = sum(super().correct(supernet)) / IMAGES
        return answers(accuracy + 0.02 * (sum(sums) % 1.0))

    def finetune(self, supernet: Supernet, step: int) -> None:
        self._call()
        random = generator(7, step)
        with torch.no_grad():
            for value in supernet.parameters():
                value.add_(0.01 * torch.randn(value.shape, generator=random))


TARGETS = (17.5e-3, 12.1e-3)


def weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob(WEIGHTS.format("*"))}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The folder of an uninterrupted search, and the number of calls of its evaluator."""
    folder, evaluator, network = tmp_path_factory.mktemp("unbroken"), Feeling(), made(ROOM)
    finished(Slimming(network, begin(network, room(), TARGETS), room(), evaluator, folder))
    return folder, evaluator.calls


def go_on(folder: Path, evaluator: Feeling | Evaluator) -> Search:
    """Start a search in a folder, or resume the search in it, as the command does."""
    network = made(ROOM)
    here = begin(network, room(), TARGETS)
    if (folder / SEARCH).exists():
        here = Search.load(folder / SEARCH).same_as(here)
    return finished(Slimming(network, here, room(), evaluator, folder))


def test_the_folder_holds_the_search_and_its_current_weights(unbroken: tuple[Path, int]) -> None:
    folder, _ = unbroken
    result = Search.load(folder / SEARCH)
    assert result.done and len(result.steps) == 4
    assert {path.name for path in folder.iterdir()} == {SEARCH, WEIGHTS.format(len(result.steps))}


def test_a_search_killed_at_any_call_resumes_to_the_same_end(unbroken: tuple[Path, int], tmp_path: Path) -> None:
    """Stopped at every call of the evaluator, each time in a new folder."""
    expected, calls = unbroken
    steps = Search.load(expected / SEARCH).steps
    # The first fine-tuning; for every step the network, each action, the fine-tuning.
    assert calls == 1 + sum(1 + len(step.trials) + 1 for step in steps)
    for stop in range(1, calls + 1):
        folder = tmp_path / str(stop)
        folder.mkdir()
        with pytest.raises(KeyboardInterrupt):
            go_on(folder, Feeling(stop))
        torch.manual_seed(stop)
        go_on(folder, Feeling())
        assert Search.load(folder / SEARCH) == Search.load(expected / SEARCH)
        assert weights(folder) == weights(expected)


def test_it_can_be_killed_again_and_again(unbroken: tuple[Path, int], tmp_path: Path) -> None:
    expected, kills = unbroken[0], 0
    while not (tmp_path / SEARCH).exists() or not Search.load(tmp_path / SEARCH).done:
        with suppress(KeyboardInterrupt):
            go_on(tmp_path, Feeling(7))  # the first step takes six calls, all others at most five
        kills += 1
    assert kills > 2
    assert weights(tmp_path) == weights(expected)


@pytest.mark.parametrize("number", [1, 3])
def test_a_kill_between_weights_and_search_costs_that_step(
    number: int, unbroken: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, save = unbroken[0], Search.save

    def killed(search: Search, path: Path) -> None:
        if len(search.steps) == number:
            raise KeyboardInterrupt
        save(search, path)

    with monkeypatch.context() as patch:
        patch.setattr(Search, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            go_on(tmp_path, Feeling())
    assert (tmp_path / WEIGHTS.format(number)).exists()
    assert (tmp_path / SEARCH).exists() == (number > 1)
    go_on(tmp_path, Feeling())
    assert Search.load(tmp_path / SEARCH) == Search.load(expected / SEARCH)
    assert weights(tmp_path) == weights(expected)


def test_with_a_real_evaluator_it_resumes_to_the_same_weights(tmp_path: Path) -> None:
    """Accuracies, norms and the training in between are bitwise equal to those of an uninterrupted search."""
    evaluator = Evaluator(images("train", 40), images("test", 40), LAPTOP.replace(batch=20), SIZE, finetune_steps=2)
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    go_on(tmp_path / "whole", evaluator)
    network = made(ROOM)
    next(Slimming(network, begin(network, room(), TARGETS), room(), evaluator, tmp_path / "killed").steps())
    torch.manual_seed(5)
    go_on(tmp_path / "killed", evaluator)
    assert Search.load(tmp_path / "killed" / SEARCH) == Search.load(tmp_path / "whole" / SEARCH)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_a_finished_search_has_nothing_to_do(unbroken: tuple[Path, int]) -> None:
    evaluator = Feeling()
    before = weights(unbroken[0])
    assert go_on(unbroken[0], evaluator).done
    assert evaluator.calls == 0 and weights(unbroken[0]) == before


def test_the_networks_follow_from_the_file_alone(unbroken: tuple[Path, int]) -> None:
    network, evaluator = made(ROOM), Feeling()
    here = finished(Slimming(network, begin(network, room(), TARGETS), room(), evaluator))
    read = Search.load(unbroken[0] / SEARCH)
    assert (read.family, read.subnets, read.seconds) == (here.family, here.subnets, here.seconds)
    assert list(read.family) == list(TARGETS)


def test_without_its_weights_a_search_cannot_go_on(unbroken: tuple[Path, int], tmp_path: Path) -> None:
    (tmp_path / SEARCH).write_bytes((unbroken[0] / SEARCH).read_bytes())
    with pytest.raises(OSError):
        Slimming(made(ROOM), Search.load(tmp_path / SEARCH), room(), Feeling(), tmp_path)


def test_a_search_that_cannot_write_says_so(tmp_path: Path) -> None:
    network = made(ROOM)
    slimming = Slimming(network, begin(network, room(), TARGETS), room(), Knowing(worth), tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match="the folder does not exist"):
        next(slimming.steps())


def test_the_supernet_is_left_as_it_is() -> None:
    network = made(ROOM)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    finished(Slimming(network, begin(network, room(), [14e-3]), room(), Feeling()))
    assert all(path.choice is None for path in network.all_paths())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
