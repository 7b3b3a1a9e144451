"""The description of the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from efficientformer_edu.utils import hardware

FAULTS = """
import torch
from efficientformer_edu.utils.hardware import keep_memory, page_faults
if {keep}:
    assert keep_memory()
def call():
    torch.zeros(16 * 2**20).add_(1)  # 64 MB, above what glibc ever keeps by default
for _ in range(3):
    call()
before = page_faults()
for _ in range(10):
    call()
print(page_faults() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_kept_memory_is_not_allocated_again() -> None:
    def faults(keep: bool) -> int:
        command = [sys.executable, "-c", FAULTS.format(keep=keep)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    # The system may reclaim pages at any time, so that a call allocates them again; the minimum is our own share.
    assert 2 * min(faults(keep=True) for _ in range(3)) + 100 < faults(keep=False)


def test_page_faults_only_grow() -> None:
    before = hardware.page_faults()
    _ = [bytearray(2**20) for _ in range(20)]
    assert hardware.page_faults() >= before


def test_versions_name_python_and_torch_without_builds() -> None:
    versions = hardware.versions()
    assert versions["python"] == platform.python_version()
    assert "+" not in versions["torch"]


def test_the_processor_has_a_name_and_cores() -> None:
    assert hardware.processor().endswith(f"{hardware.cores()} cores")
    assert 1 <= hardware.cores() <= (os.cpu_count() or 1)


def test_busy_is_a_sentence_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cores", lambda: 2)
    monkeypatch.setattr(hardware.os, "getloadavg", lambda: (0.4, 0.0, 0.0))
    assert hardware.busy() == ""
    monkeypatch.setattr(hardware.os, "getloadavg", lambda: (3.26, 0.0, 0.0))
    assert hardware.busy() == "the machine is busy: 3.3 processes wanted its 2 cores over the last minute"
