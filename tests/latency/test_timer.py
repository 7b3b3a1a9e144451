"""The clock on subjects whose cost is known, and on a clock that is made up."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable

import pytest
import torch

from efficientformer_edu.latency import Conditions, measure, timer
from efficientformer_edu.machine import cores

pytestmark = pytest.mark.filterwarnings("ignore:the machine is busy", "ignore:.*the interval is wide")


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Callable[[], None]]:
    """A clock that only subjects move: each takes exactly the seconds that it was made with."""
    now = [0.0]
    monkeypatch.setattr(timer.time, "perf_counter", lambda: now[0])

    def subject(seconds: float) -> Callable[[], None]:
        def call() -> None:
            now[0] += seconds

        return call

    return subject


def test_known_sleeps() -> None:
    found = measure({"short": lambda: time.sleep(0.004), "long": lambda: time.sleep(0.012)}, rounds=5)
    assert 0.004 <= found["short"].interval.median < 0.012 <= found["long"].interval.median
    assert found.ratio("long", "short").low > 1


def test_a_cost_scaled_by_two_is_seen_as_two(made_up) -> None:
    found = measure({"one": made_up(0.5), "two": made_up(1.0)}, rounds=7)
    assert found["one"].seconds == pytest.approx([0.5] * 7)
    assert found.ratio("two", "one") == pytest.approx((2, 2, 2))
    assert found["two"].milliseconds == pytest.approx(1000)


def test_what_is_quick_is_called_several_times_for_one_sample(made_up) -> None:
    found = measure({"quick": made_up(1e-4), "slow": made_up(1.0)}, rounds=2)
    assert (found["quick"].calls, found["slow"].calls) == (20, 1)
    assert found["quick"].seconds == pytest.approx([1e-4] * 2)


def test_subjects_take_turns() -> None:
    seen: list[str] = []

    def note(name: str) -> Callable[[], None]:
        return lambda: (seen.append(name), time.sleep(0.003))[0]

    measure({name: note(name) for name in "ABC"}, rounds=3, warm_up=2)
    assert seen == [*"AABBCC", *"AABBCC" * 3]  # warm-up; then in each round a call before the timed one


def test_a_subject_does_not_pay_for_what_another_left_in_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    now, last = [0.0], [""]
    monkeypatch.setattr(timer.time, "perf_counter", lambda: now[0])

    def call(name: str) -> None:
        now[0] += 1.0 if last[0] == name else 3.0  # cold, it takes three times as long
        last[0] = name

    found = measure({name: lambda name=name: call(name) for name in "AB"}, rounds=4)
    assert [timing.seconds for timing in found.timings] == [(1.0,) * 4] * 2


def test_a_machine_that_slows_down_slows_all_alike(made_up, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interleaved, the drift is in every subject; one after the other it would be in the last."""
    now, slower = [0.0], itertools.count()
    monkeypatch.setattr(timer.time, "perf_counter", lambda: now[0])

    def call() -> None:
        now[0] += 1 + 0.01 * next(slower)

    found = measure({"first": call, "second": call}, rounds=50)
    assert found.ratio("second", "first").high < 1.02
    assert found["first"].interval.median > 1.4


def test_torch_is_left_as_it_was() -> None:
    threads, collecting = torch.get_num_threads(), gc.isenabled()
    inside: list[object] = []
    measure({"look": lambda: inside.append((gc.isenabled(), torch.get_num_threads()))}, rounds=1, num_threads=1)
    assert set(inside) == {(False, 1)}
    assert (torch.get_num_threads(), gc.isenabled()) == (threads, collecting)
    with pytest.raises(ZeroDivisionError):
        measure({"fails": lambda: 1 / 0}, rounds=1, num_threads=1)
    assert (torch.get_num_threads(), gc.isenabled()) == (threads, collecting)


def test_conditions_are_completed_and_those_given_kept() -> None:
    given = Conditions(command="efficientformer-edu bench l1", batch=8, resolution=(192, 256))
    found = measure({"nothing": lambda: None}, given, rounds=2, num_threads=1).conditions
    assert (found.command, found.batch, found.resolution) == ("efficientformer-edu bench l1", 8, (192, 256))
    assert found.threads == 1
    assert found.versions["torch"] == torch.__version__.split("+")[0]
    assert found.machine.endswith(f"{cores()} cores")
    assert len(found.date) == 10


def test_a_busy_machine_and_a_wide_interval_are_said(made_up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "busy", lambda: "the machine is busy: 9.0 processes wanted its 2 cores")
    with pytest.warns(UserWarning, match="the machine is busy: 9.0"):
        assert "9.0" in measure({"steady": made_up(1.0)}, rounds=2).conditions.busy
    monkeypatch.setattr(timer, "busy", lambda: "")
    now, turn = [0.0], itertools.cycle([1.0, 1.0, 5.0, 5.0])
    monkeypatch.setattr(timer.time, "perf_counter", lambda: now[0])

    def moody() -> None:
        now[0] += next(turn)

    with pytest.warns(UserWarning, match="moody: the interval is wide"):
        measure({"moody": moody}, rounds=6)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: measure({}), "0 subjects in 30 rounds is not possible"),
        (lambda: measure({"a": lambda: None}, rounds=0), "1 subjects in 0 rounds is not possible"),
        (lambda: measure({"a": lambda: None}, num_threads=0), "threads=0 is not possible; allowed: 1 to"),
        (lambda: measure({"a": lambda: None}, num_threads=10**4), "threads=10000 is not possible"),
    ],
)
def test_errors_say_what_would_be_right(call, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU that torch can use")
def test_a_gpu_is_timed_by_its_own_clock() -> None:
    small, large = (torch.randn(n, n, device="cuda") for n in (512, 4096))
    found = measure({"small": lambda: small @ small, "large": lambda: large @ large}, rounds=5, device="cuda")
    assert found.ratio("large", "small").low > 10
