"""What a measurement depends on, besides what is measured: the machine, its threads, memory and versions."""

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
NEVER = 2**31 - 1  # bytes: the largest that mallopt takes


def processor() -> str:
    """The processor's name as the system gives it, with how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {cores()} cores"


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def accelerator(device: torch.device) -> str:
    """The name of a GPU, or the processor's."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def versions() -> dict[str, str]:
    """Python and the libraries that run networks, those that are installed."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library).split("+")[0]
        except PackageNotFoundError:
            continue
    return found


def page_faults() -> int:
    """Pages of memory that this process has been given so far; 0 on Windows, which does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def busy() -> str:
    """A sentence if other work is using the machine right now, else ""."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5 * cores() + 0.5:
        return f"the machine is busy: {load:.1f} processes wanted its {cores()} cores over the last minute"
    return ""


def keep_memory() -> bool:
    """Keep freed memory in this process from now on, if the C library is glibc; returns whether that was possible.

    By default glibc hands every large block back to the system when it is freed, and asks for it anew in the next call:
    each page then costs a page fault, and a network of small maps loses up to a third of its time. It cannot be undone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL("libc.so.6")
    return bool(library.mallopt(M_MMAP_THRESHOLD, 2**30)) and bool(library.mallopt(M_TRIM_THRESHOLD, NEVER))


@contextmanager
def threads(number: int | None) -> Iterator[int]:
    """Inside, torch computes with so many threads; None leaves what is set. Yields the number that is in force.

    Raises:
        ValueError: for less than one thread, or more than there are cores.
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
