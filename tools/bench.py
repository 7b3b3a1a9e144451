"""Measures what should be quick, beside its target: `make bench`.

Short commands are the median of several fresh processes; the site and the tests, from scratch, run once.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

RUNS = 7
LONG = 10  # seconds; a command with a longer target runs once
COMMAND = str(Path(sys.executable).with_name("efficientformer-edu"))
ROWS: list[tuple[str, list[str], float | None]] = [  # what, command, target in seconds
    ("python -c pass", [sys.executable, "-c", "pass"], None),
    ("import efficientformer_edu", [sys.executable, "-c", "import efficientformer_edu"], 0.1),
    ("efficientformer-edu --help", [COMMAND, "--help"], 0.5),
    ("make site, all chapters stale", ["make", "clean", "site"], 240),
    ("make test, once set up", ["make", "test"], 360),
]


def seconds(command: list[str], runs: int = RUNS) -> float:
    """The wall time of `command` in seconds: the median of `runs` after one that is not counted, or that of one run."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - started)
    return median(times[1:] or times)


def main() -> int:
    """Print the table; the exit status is 1 where a row misses its target."""
    print(f"measured, in seconds: the median of {RUNS} fresh processes, for site and tests one run")
    print(f"{'':30}{'measured':>10}{'beyond bare':>13}{'target':>8}")
    bare, missed = 0.0, 0
    for what, command, target in ROWS:
        took = seconds(command) if (target or 0) < LONG else seconds(command, runs=0)
        bare = bare or took
        late = target is not None and took > target
        missed += late
        print(f"{what:30}{took:10.3f}{took - bare:13.3f}{target or '':>8}{'  over' if late else ''}", flush=True)
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
