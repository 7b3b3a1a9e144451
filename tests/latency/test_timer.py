"""The timer on functions of known cost, and on a simulated clock."""

from __future__ import annotations

import gc
import itertools
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from efficientformer_edu.latency import Conditions, measure, timer
from efficientformer_edu.utils.hardware import cores

pytestmark = pytest.mark.filterwarnings("ignore:the machine is busy", "ignore:.*interval is wide")


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Callable[[], None]]:
    """A clock that only functions advance: each takes exactly the seconds that it was created with."""
    now = [0.0]
    monkeypatch.setattr(timer.time, "perf_counter", lambda: now[0])

    def function(seconds: float) -> Callable[[], None]:
        def call() -> None:
            now[0] += seconds

        return call

    return function


def test_known_sleeps() -> None:
    timings = measure({"short": lambda: time.sleep(0.004), "long": lambda: time.sleep(0.012)}, rounds=5)
    # A sleep is never shorter than asked for, however busy the machine is; it may be longer.
    assert timings["short"].estimate.value >= 0.004 and timings["long"].estimate.value >= 0.012


def test_twice_the_cost_takes_twice_as_long(made_up) -> None:
    timings = measure({"one": made_up(0.5), "two": made_up(1.0)}, rounds=7)
    assert timings["one"].seconds == pytest.approx([0.5] * 7)
    assert timings.ratio("two", "one")[:3] == pytest.approx((2, 2, 2))
    assert timings["two"].milliseconds == pytest.approx(1000)


def test_a_fast_function_is_called_several_times_per_sample(made_up) -> None:
    timings = measure({"quick": made_up(1e-4), "slow": made_up(1.0)}, rounds=2)
    assert (timings["quick"].calls, timings["slow"].calls) == (20, 1)
    assert timings["quick"].seconds == pytest.approx([1e-4] * 2)


def test_functions_take_turns() -> None:
    seen: list[str] = []

    def note(name: str) -> Callable[[], None]:
        return lambda: (seen.append(name), time.sleep(0.003))[0]

    measure({name: note(name) for name in "ABC"}, rounds=3, warm_up=2)
    assert seen == [*"AABBCC", *"AABBCC" * 3]  # warm-up; then in each round a call before the timed one


def test_a_function_does_not_pay_for_what_another_left_in_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    now, last = [0.0], [""]
    monkeypatch.setattr(timer.time, "perf_counter", lambda: now[0])

    def call(name: str) -> None:
        now[0] += 1.0 if last[0] == name else 3.0  # with cold caches it takes three times as long
        last[0] = name

    timings = measure({name: lambda name=name: call(name) for name in "AB"}, rounds=4)
    assert [timing.seconds for timing in timings.timings] == [(1.0,) * 4] * 2


def test_a_machine_that_slows_down_slows_all_functions_equally(made_up, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interleaved, the drift affects every function; run one after the other, it would affect only the last."""
    now, slower = [0.0], itertools.count()
    monkeypatch.setattr(timer.time, "perf_counter", lambda: now[0])

    def call() -> None:
        now[0] += 1 + 0.01 * next(slower)

    timings = measure({"first": call, "second": call}, rounds=50)
    assert timings.ratio("second", "first").high < 1.02
    assert timings["first"].estimate.value > 1.4


def test_torch_is_left_as_it_was() -> None:
    threads, collecting = torch.get_num_threads(), gc.isenabled()
    inside: list[object] = []
    measure({"look": lambda: inside.append((gc.isenabled(), torch.get_num_threads()))}, rounds=1, num_threads=1)
    assert set(inside) == {(False, 1)}
    assert (torch.get_num_threads(), gc.isenabled()) == (threads, collecting)
    with pytest.raises(ZeroDivisionError):
        measure({"fails": lambda: 1 / 0}, rounds=1, num_threads=1)
    assert (torch.get_num_threads(), gc.isenabled()) == (threads, collecting)


def test_missing_conditions_are_added_and_existing_conditions_kept() -> None:
    conditions = Conditions(command="efficientformer-edu bench l1", batch=8, resolution=(192, 256))
    timings = measure({"nothing": lambda: None}, conditions, rounds=2, num_threads=1).conditions
    assert (timings.command, timings.batch, timings.resolution) == ("efficientformer-edu bench l1", 8, (192, 256))
    assert timings.threads == 1
    assert timings.versions["torch"] == torch.__version__.split("+")[0]
    assert timings.machine.endswith(f"{cores()} cores")
    assert len(timings.date) == 10


def test_a_busy_machine_and_a_wide_interval_are_reported(made_up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "busy", lambda: "the machine is busy: 9.0 processes wanted its 2 cores")
    with pytest.warns(UserWarning, match="the machine is busy: 9.0"):
        assert "9.0" in measure({"steady": made_up(1.0)}, rounds=2).conditions.busy
    monkeypatch.setattr(timer, "busy", lambda: "")
    now, turn = [0.0], itertools.cycle([1.0, 1.0, 5.0, 5.0])
    monkeypatch.setattr(timer.time, "perf_counter", lambda: now[0])

    def moody() -> None:
        now[0] += next(turn)

    with pytest.warns(UserWarning, match="moody: .*interval is wide"):
        measure({"moody": moody}, rounds=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "too few rounds" in str(measure({"moody": moody}, rounds=4)["moody"])


def test_page_faults_are_counted_per_call_and_only_while_timed(
    made_up: Callable[[float], Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = [0]
    monkeypatch.setattr(timer, "page_faults", lambda: faults[0])
    fast, slow = made_up(1e-4), made_up(1.0)

    def call_fast() -> None:
        faults[0] += 3
        fast()

    def call_slow() -> None:
        faults[0] += 7
        slow()

    timings = measure({"fast": call_fast, "slow": call_slow}, rounds=4)
    assert (timings["fast"].calls, timings["fast"].faults, timings["slow"].faults) == (20, 3, 7)


@pytest.mark.parametrize("flushing", [False, True])
def test_flush_denormal_is_restored(flushing: bool) -> None:
    inside: list[bool] = []

    def flushed() -> bool:
        return float(torch.tensor(5e-324, dtype=torch.float64) * 1) == 0

    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormal numbers")
    try:
        torch.set_flush_denormal(flushing)
        measure({"look": lambda: inside.append(flushed())}, rounds=1)
        assert set(inside) == {True} and flushed() == flushing
        with pytest.raises(ZeroDivisionError):
            measure({"fails": lambda: 1 / 0}, rounds=1)
        assert flushed() == flushing
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"functions": {}}, "0 functions in 30 rounds"),
        ({"rounds": 0}, "1 functions in 0 rounds"),
        ({"num_threads": 0}, "threads=0.*allowed: 1 to"),
        ({"num_threads": 10**4}, "threads=10000"),
        ({"device": "tpu"}, "device='tpu'.*allowed: cpu, cuda"),
        ({"device": "xpu:0"}, "device='xpu:0'.*allowed: cpu, cuda"),
        ({"device": "meta"}, "device='meta'.*allowed: cpu, cuda"),
        ({"device": "cuda:one"}, "device='cuda:one'.*allowed: cpu, cuda"),
        ({"device": "cuda:99"}, "device='cuda:99'.*not available"),
    ],
)
def test_invalid_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(**({"functions": {"a": lambda: None}} | options))


class Queue:
    """A device that queues work: its clock advances when it is synchronized, and other devices are not touched."""

    def __init__(self) -> None:
        self.current, self.queued, self.now = 0, {0: 0.0, 1: 0.0}, {0: 0.0, 1: 0.0}
        self.log: list[tuple[str, int]] = []

    def call(self, index: int, seconds: float) -> None:
        self.queued[index] += seconds

    def synchronize(self) -> None:
        self.log.append(("synchronize", self.current))
        self.now[self.current] += self.queued[self.current]
        self.queued[self.current] = 0.0


def test_a_second_gpu_is_timed_by_its_own_events(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = Queue()

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            gpus.log.append(("record", gpus.current))
            self.at = gpus.now[gpus.current] + gpus.queued[gpus.current]

        def elapsed_time(self, end: Event) -> float:
            return 1e3 * (end.at - self.at)

    @contextmanager
    def current(device: torch.device) -> Iterator[None]:
        before, gpus.current = gpus.current, device.index
        yield
        gpus.current = before

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", gpus.synchronize)
    monkeypatch.setattr(torch.cuda, "device", current)
    monkeypatch.setattr(timer, "accelerator", lambda device: f"GPU {device.index}")
    timings = measure({"work": lambda: gpus.call(1, 0.25)}, rounds=3, device="cuda:1")
    assert timings["work"].seconds == pytest.approx((0.25,) * 3)
    assert timings.conditions.machine == "GPU 1"
    assert {index for _, index in gpus.log} == {1} and gpus.current == 0
    with pytest.raises(ValueError, match="device='cuda:2'.*not available.*2"):
        measure({"work": lambda: None}, device="cuda:2")


def test_an_apple_gpu_is_synchronized_before_and_after_every_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Queue()
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device='mps'.*not available"):
        measure({"work": lambda: None}, device="mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "synchronize", gpu.synchronize)
    monkeypatch.setattr(timer.time, "perf_counter", lambda: gpu.now[0])
    timings = measure({"short": lambda: gpu.call(0, 0.5), "long": lambda: gpu.call(0, 1.5)}, rounds=3, device="mps")
    # A sample contains its own call only, not the call before it, which is queued but not timed.
    assert [timing.seconds for timing in timings.timings] == [(0.5,) * 3, (1.5,) * 3]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU that torch can use")
def test_a_gpu_is_timed_by_its_own_clock() -> None:
    small, large = (torch.randn(n, n, device="cuda") for n in (512, 4096))
    timings = measure({"small": lambda: small @ small, "large": lambda: large @ large}, rounds=5, device="cuda")
    assert timings.ratio("large", "small").low > 10
