"""A slimming's folder is read up to its last complete step, and refused if its files do not match."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from slimming_runs import LOOKUP, SEARCHED

from efficientformer_edu.latency.lookup import Errors, Prediction
from efficientformer_edu.latency.records import Conditions
from efficientformer_edu.slimming.baselines import CONTENDERS, Contender, found, save_contenders
from efficientformer_edu.slimming.front import LATENCY, TRAINED, load_slimming, stored_slimming
from efficientformer_edu.slimming.records import SEARCH, Search, Step, Trial
from efficientformer_edu.slimming.subnet import Action, Subnet
from efficientformer_edu.training.study import Record

START = LOOKUP.predict(Subnet.largest(SEARCHED).config(SEARCHED))
FIRST = Action("depth", 1, 0)
GAIN = START - LOOKUP.predict(Subnet.largest(SEARCHED).after(FIRST).config(SEARCHED))
SEARCH_DONE = Search(SEARCHED, ((1.0,), (0.5, 1.0), (1.0, 1.0), (1.0, 1.0)), (START - GAIN,), START).with_step(
    Step(0.8, (Trial(FIRST, GAIN, 0.01),))
)
OURS = found(SEARCH_DONE, LOOKUP)[0]
OTHER = Contender("uniform", OURS.target, OURS.predicted, Subnet.largest(SEARCHED).config(SEARCHED))


def record(contender: Contender, top1: float) -> Record:
    return Record(contender.name, 0, top1, "", 1.0, {"config": contender.config.to_dict()}, (), {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As the command leaves it before the networks are trained, without networks to compare with."""
    SEARCH_DONE.save(tmp_path / SEARCH)
    LOOKUP.save(tmp_path / "lookup.json")
    (tmp_path / TRAINED).mkdir()
    return tmp_path


def test_a_slimming_is_read_as_far_as_it_has_come(folder: Path) -> None:
    slimmed = load_slimming(folder)
    assert slimmed.search == SEARCH_DONE
    assert slimmed.lookup.seconds == pytest.approx(LOOKUP.seconds)
    assert [contender.config for contender in slimmed.contenders] == [OURS.config]
    assert slimmed.records == () and slimmed.errors is None
    (point,) = slimmed.front.points
    assert point.accuracy is None and point.prediction is None


def test_networks_that_were_compared_trained_and_timed_are_in_the_front(folder: Path) -> None:
    save_contenders([OURS, OTHER], folder / CONTENDERS)
    for contender, top1 in ((OURS, 0.9), (OTHER, 0.85)):
        record(contender, top1).save(folder / TRAINED)
    Errors(Conditions(), (Prediction(OURS.config, 0.2, 0.21, 0.2),)).save(folder / LATENCY)
    front = load_slimming(folder).front
    own, other = front.points
    assert (own.top1, other.top1) == ({0: 0.9}, {0: 0.85})
    assert own.prediction is not None and own.prediction.measured == 0.21
    assert other.prediction is None
    comparison = front.compare("uniform")
    assert comparison is not None and comparison.difference.value == pytest.approx(0.05)


def test_a_record_of_another_network_is_refused(folder: Path) -> None:
    wrong = replace(record(OURS, 0.9), run={"config": OTHER.config.to_dict()})
    wrong.save(folder / TRAINED)
    with pytest.raises(ValueError, match="seed 0 is not one of the networks to compare"):
        load_slimming(folder)


def test_the_slimming_in_the_package_is_complete() -> None:
    slimmed = stored_slimming()
    assert slimmed.search.done and all(point.top1 and point.prediction for point in slimmed.front.points)
