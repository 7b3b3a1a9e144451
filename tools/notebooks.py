"""Run the notebooks. `make notebooks` stores outputs; `make check` runs copies, which the tests compare with them.

A chapter is stale if its code cells or one of its inputs changed: the modules of the package that it imports, the
records and data files that it reads, and the pinned versions of the libraries that it imports. The inputs are recorded
while the chapter runs and stored in its metadata. Prose is not an input.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import hashlib
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import packages_distributions, version
from pathlib import Path

from packaging.utils import canonicalize_name

from tools import COPIES, NOTEBOOKS, ROOT
from tools.chapters import Notebook, chapters, code_cells, output_text, read, tags, write
from tools.shape import faults

TRACKED = ("efficientformer_edu/",)
PYCACHE = re.compile(r"__pycache__/(\w+)\.[\w-]+\.pyc(?:\.\d+)?$")
MINUTES = 30
WIDGET = "application/vnd.jupyter.widget-view+json"


class NotebookError(Exception):
    """A notebook that cannot be stored: a cell raised, or an output shows a path of this machine."""


def key(notebook: Notebook) -> str | None:
    """Hash the code cells and the current inputs; None for a notebook without recorded inputs."""
    inputs = notebook.metadata.get("efficientformer_edu", {}).get("inputs")
    if inputs is None:
        return None
    digest = hashlib.sha256()
    for cell in code_cells(notebook):
        digest.update(cell.source.encode() + b"\0")
    for name in inputs["files"]:
        path = ROOT / name
        digest.update(name.encode() + b"\0" + (path.read_bytes() if path.is_file() else b"missing") + b"\0")
    pins = pinned_versions()
    for package in inputs["packages"]:
        digest.update(f"{package}=={pins.get(package)}\0".encode())
    return digest.hexdigest()


def pinned_versions() -> dict[str, str]:
    """Return the versions in constraints.txt by normalized package name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name.strip()): version.strip() for name, _, version in pins}


def up_to_date(notebook: Notebook) -> bool:
    """Return whether the outputs in the notebook are those of the current code."""
    stored = notebook.metadata.get("efficientformer_edu", {}).get("key")
    return stored is not None and stored == key(notebook) and all(cell.execution_count for cell in code_cells(notebook))


def fresh(path: Path, copies: Path = COPIES) -> Notebook:
    """Return the notebook in `path` with outputs of the current code, either stored or from running a copy.

    Raises:
        NotebookError: a cell raised, or an output shows a path of this machine.
    """
    notebook = read(path)
    return notebook if up_to_date(notebook) else executed(path, copies)


def executed(path: Path, copies: Path = COPIES) -> Notebook:
    """Return the notebook in `path` as executed here. Its copy in `copies` is run if it is missing or stale.

    Raises:
        NotebookError: a cell raised, or an output shows a path of this machine.
    """
    notebook, copy = read(path), copies / path.name
    before = read(copy) if copy.exists() else None
    if before is not None and _same_code(before, notebook) and up_to_date(before):
        _take_outputs(before, notebook)
        print(f"  {path.stem}: unchanged", flush=True)
    else:
        started = time.perf_counter()
        print(f"  {path.stem}: running", end="", flush=True)
        inputs = run(notebook)
        notebook.metadata["efficientformer_edu"] = {"inputs": inputs, **_provenance(notebook)}
        notebook.metadata["efficientformer_edu"]["key"] = key(notebook)
        print(f", {time.perf_counter() - started:.1f} s", flush=True)
    write(notebook, copy)
    return notebook


def _same_code(first: Notebook, second: Notebook) -> bool:
    return [cell.source for cell in code_cells(first)] == [cell.source for cell in code_cells(second)]


def _take_outputs(source: Notebook, target: Notebook) -> None:
    for old, new in zip(code_cells(source), code_cells(target), strict=True):
        new.outputs, new.execution_count = old.outputs, old.execution_count
    target.metadata = source.metadata


def run(notebook: Notebook) -> dict[str, list[str]]:
    """Run the code cells of `notebook` in a new kernel of this Python, in an empty folder, and keep the outputs.

    Returns:
        The inputs of the notebook: files of this project, and pinned packages.
    """
    with _kernel_home() as home:
        from jupyter_client.kernelspec import KernelSpecManager
        from jupyter_client.manager import AsyncKernelManager
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError

        _scrub(notebook)
        trace = _install_trace(home)
        kernel = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),  # use this Python, not an installed kernel
            **_transport(home),
        )
        client = NotebookClient(
            notebook,
            km=kernel,
            timeout=60 * MINUTES,
            record_timing=False,
            store_widget_state=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(home / "empty")}},
        )
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # zmq needs it on Windows
                runner.run(client.async_execute(cleanup_kc=True, env=_environment(home)))
        except CellExecutionError as error:
            raise NotebookError(re.sub(r"\x1b\[[0-9;]*m", "", str(error))) from None
        _scrub_metadata(notebook)
        _drop_widgets(notebook)
        _refuse_paths(notebook, home)
        return _inputs(trace.read_text(encoding="utf-8").splitlines())


TRACE = """
import os, sys

def _trace(root, target):
    log, seen = open(target, "a", buffering=1, encoding="utf-8"), set()

    def hook(event, arguments):
        if event == "import":
            line = "import " + arguments[0].partition(".")[0]
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path, mode = os.path.abspath(os.fsdecode(arguments[0])), arguments[1] or "r"
            if not path.startswith(root) or "r" not in str(mode):
                return
            line = "open " + path[len(root):]
        else:
            return
        if line not in seen:
            seen.add(line)
            log.write(line + "\\n")

    sys.addaudithook(hook)

_trace({root!r}, {target!r})
del _trace
"""


def _install_trace(home: Path) -> Path:
    """Make the kernel log its imports and the project files that it reads; return the path of the log."""
    log, startup = home / "inputs.log", home / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    root, target = f"{ROOT}{os.sep}", str(log)
    (startup / "trace.py").write_text(TRACE.format(root=root, target=target), encoding="utf-8")
    log.touch()
    return log


def _inputs(log: list[str]) -> dict[str, list[str]]:
    """Return the files and pinned packages in a log of `TRACE`; bytecode files are mapped to their sources."""
    names = {"open": set[str](), "import": set[str]()}
    for kind, _, name in (line.partition(" ") for line in log):
        names[kind].add(name)
    files = {PYCACHE.sub(r"\1.py", Path(name).as_posix()) for name in names["open"]}
    distributions = packages_distributions()
    packages = {canonicalize_name(package) for name in names["import"] for package in distributions.get(name, ())}
    return {
        "files": sorted(name for name in files if name.startswith(TRACKED) and (ROOT / name).is_file()),
        "packages": sorted(packages & pinned_versions().keys()),
    }


def _transport(home: Path) -> dict[str, str]:
    """Return the kernel's transport: Unix sockets in a temporary folder, without ports, except on Windows."""
    return {} if os.name == "nt" else {"transport": "ipc", "ip": str(home / "kernel")}


@contextmanager
def _kernel_home() -> Iterator[Path]:
    """Create a temporary folder for files that Jupyter and IPython would write to the home directory."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name).resolve()
        (home / "empty").mkdir()
        before = os.environ.get("JUPYTER_RUNTIME_DIR")
        os.environ["JUPYTER_RUNTIME_DIR"] = str(home / "runtime")
        try:
            yield home
        finally:
            del os.environ["JUPYTER_RUNTIME_DIR"]
            if before is not None:
                os.environ["JUPYTER_RUNTIME_DIR"] = before


def _environment(home: Path) -> dict[str, str]:
    """Return the kernel's environment: fixed hashes, default number of threads, no files in the home directory."""
    plots = COPIES.parent / "matplotlib"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {
        "PYTHONHASHSEED": "0",
        "IPYTHONDIR": str(home / "ipython"),
        "MPLCONFIGDIR": str(plots),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    environment.pop("MPLBACKEND", None)
    if not plots.exists():  # matplotlib builds its font cache once, and reports it on stderr if that is slow
        plots.mkdir(parents=True)
        subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], env=environment, check=True)
    return environment


def _scrub(notebook: Notebook) -> None:
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


def _scrub_metadata(notebook: Notebook) -> None:
    notebook.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)


def _drop_widgets(notebook: Notebook) -> None:
    """Remove widgets and keep their fallbacks: a widget needs its kernel, and has a new id in every run."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            output.get("data", {}).pop(WIDGET, None)


def _refuse_paths(notebook: Notebook, home: Path) -> None:
    machine = [
        form
        for path in (ROOT, home, Path.home(), Path(sys.prefix))
        if len(path.parts) > 1
        for form in {str(path), path.as_posix(), repr(str(path))[1:-1]}  # backslashes differ on Windows
    ]
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", []):
            for kind, text in output_text(output).items():
                if any(path in text for path in machine):
                    raise NotebookError(f"cell {number} shows a path of this machine ({kind}): {text[:300]!r}")


def _provenance(notebook: Notebook) -> dict[str, str]:
    """Return machine, versions and date, for a notebook with measured results."""
    if not any(tags(cell) & {"measured", "trained"} for cell in notebook.cells):
        return {}
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": f"Python {platform.python_version()}, torch {version('torch').split('+')[0]}",
        "date": datetime.date.today().isoformat(),
    }


def _processor() -> str:
    try:
        named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        named = None
    return named[1] if named else platform.processor() or platform.machine()


def main() -> int:
    """Run and store stale chapters, or run copies; the exit status is 1 if a chapter fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="the notebooks to run (default: all)")
    parser.add_argument("--copies", action="store_true", help="run copies in build/notebooks and store nothing")
    parser.add_argument("--force", action="store_true", help="run up-to-date chapters as well")
    arguments = parser.parse_args()
    failed = 0
    for path in arguments.notebooks or chapters(NOTEBOOKS):
        if arguments.force:
            (COPIES / path.name).unlink(missing_ok=True)
        elif not arguments.copies and up_to_date(read(path)):
            print(f"  {path.stem}: unchanged", flush=True)
            continue
        try:
            notebook = executed(path)
        except NotebookError as error:
            print(f"\n{path.name}: {error}", file=sys.stderr)
            failed += 1
            continue
        for fault in faults(notebook, with_exercises=path.stem >= "01"):
            print(f"    to fix: {fault}")
        if not arguments.copies:
            write(notebook, path)
            print(f"  {path.stem}: stored", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
