"""Conditions of a measurement: the machine, threads, memory settings and library versions."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

LIBRARIES = ("torch", "numpy", "onnxruntime", "openvino", "timm")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
NEVER = 2**31 - 1  # bytes: the largest value that mallopt accepts


def processor() -> str:
    """The processor's name as reported by the system, and the number of cores that this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {cores()} cores"


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def accelerator(device: torch.device) -> str:
    """The name of the GPU, or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries that run networks."""
    installed = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            installed[library] = version(library).split("+")[0]
        except PackageNotFoundError:
            continue
    return installed


def page_faults() -> int:
    """Page faults of this process so far; 0 on Windows, which does not report them."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def busy() -> str:
    """A sentence if other processes are using the machine, else ""."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5 * cores() + 0.5:
        return f"the machine is busy: {load:.1f} processes wanted its {cores()} cores over the last minute"
    return ""


def keep_memory() -> bool:
    """Keep freed memory in this process from now on. Returns whether that was possible, which needs glibc.

    By default glibc returns every large block to the system when it is freed, and requests it again in the next call.
    Each page then causes a page fault, which takes up to a third of the time of a network with small feature maps. The
    setting cannot be undone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL("libc.so.6")
    return bool(library.mallopt(M_MMAP_THRESHOLD, 2**30)) and bool(library.mallopt(M_TRIM_THRESHOLD, NEVER))


@contextmanager
def threads(number: int | None) -> Iterator[int]:
    """Set the number of torch threads; None keeps the current setting. Yields the number in effect.

    Raises:
        ValueError: for less than one thread, or more threads than cores.
    """
    before = torch.get_num_threads()
    if number is not None:
        if not 1 <= number <= cores():
            raise ValueError(f"threads={number} is not possible; allowed: 1 to {cores()}, the cores of this machine")
        torch.set_num_threads(number)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
