"""Measure the time of commands and compare it with targets: `make bench`.

Short commands are timed as the median of several new processes. The site and the tests run once, from scratch. An audit
of L7 is also timed repeatedly in this process, and compared with fvcore's count of the same network.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from efficientformer_edu.audit import count
from tools import bench_latency, bench_training
from tools.bench_page import EDITS, milliseconds

RUNS = 7
AUDITS = 200
LONG = 10  # seconds; a command with a longer target runs once
COMMAND = str(Path(sys.executable).with_name("efficientformer-edu"))
ROWS: list[tuple[str, list[str], float | None]] = [  # what, command, target in seconds
    ("python -c pass", [sys.executable, "-c", "pass"], None),
    ("import efficientformer_edu", [sys.executable, "-c", "import efficientformer_edu"], 0.1),
    ("efficientformer-edu --help", [COMMAND, "--help"], 0.5),
    ("efficientformer-edu audit l7", [COMMAND, "audit", "l7"], 0.3),
    ("make site, all chapters stale", ["make", "clean", "site"], 240),
    ("make test, once set up", ["make", "test"], 360),
]
EDIT_TARGET = 100  # milliseconds
AUDIT, RATIO = 0.001, 300  # targets: seconds for L7 in this process, and fvcore's time divided by ours


def seconds(command: list[str], runs: int = RUNS) -> float:
    """Return the wall time of `command` in seconds: the median of `runs` after one warm-up run, or of a single run."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return median(times[1:] or times)


def timed(call: Callable[[], object], runs: int) -> float:
    """Return the wall time of a call in seconds: the median of `runs` after one warm-up run."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return median(times[1:])


def audits() -> int:
    """Print the time of an audit of L7 and of fvcore; return the number of missed targets."""
    from efficientformer_edu.audit.counters import build, fvcore_analysis

    def audit() -> tuple[int, int]:
        costs = count("l7")
        return costs.params, costs.macs

    network, images = build(count("l7"))
    audit_time, fvcore_time = timed(audit, AUDITS), timed(lambda: fvcore_analysis(network, images).total(), 3)
    print(f"measured, in milliseconds, in one process: the median of {AUDITS} audits and of 3 of fvcore's")
    rows = [
        ("audit of L7", 1e3 * audit_time, 1e3 * AUDIT, audit_time > AUDIT),
        ("fvcore on L7", 1e3 * fvcore_time, None, False),
    ]
    rows.append(("fvcore / audit", fvcore_time / audit_time, RATIO, fvcore_time / audit_time < RATIO))
    for what, value, target, missed in rows:
        print(f"{what:30}{value:10.3f}{'':13}{target or '':>8}{'  missed' if missed else ''}", flush=True)
    return sum(row[-1] for row in rows)


def main() -> int:
    """Print the tables; the exit status is 1 if a row misses its target."""
    missed = audits()
    print(f"measured, in seconds: the median of {RUNS} fresh processes, for site and tests one run")
    print(f"{'':30}{'measured':>10}{'beyond bare':>13}{'target':>8}")
    bare = 0.0
    for what, command, target in ROWS:
        took = seconds(command) if (target or 0) < LONG else seconds(command, runs=0)
        bare = bare or took
        late = target is not None and took > target
        missed += late
        print(f"{what:30}{took:10.3f}{took - bare:13.3f}{target or '':>8}{'  over' if late else ''}", flush=True)
    return min(missed + page() + bench_latency.main() + bench_training.main(), 1)


def page() -> int:
    """Print the latency of an edit of L7 on the page `Audit a network`; return 1 if the target is missed, else 0."""
    times = milliseconds("l7")
    if times is None:
        print("an edit of L7 on the page: not measured, because chromedriver is missing")
        return 0
    middle, worst = times
    print(f"measured, in milliseconds, from an edit to the frame that shows the answer: {EDITS} edits of L7")
    print(f"{'an edit, median':30}{middle:10.1f}\n{'an edit, the slowest':30}{worst:10.1f}{'':13}{EDIT_TARGET:>8}")
    return int(worst > EDIT_TARGET)


if __name__ == "__main__":
    sys.exit(main())
