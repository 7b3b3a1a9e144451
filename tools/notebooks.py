"""Runs the notebooks: `make notebooks` stores the outputs in them, `--copies` leaves them alone and runs copies.

A notebook is run again when the key changes that stands for its code cells, the package's files, the results and the
pinned versions. Prose is no part of the key. The copies live in build/notebooks; `make site` and the tests read them.
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
from pathlib import Path

from tools import COPIES, NOTEBOOKS, ROOT
from tools.chapters import Notebook, chapters, code_cells, output_text, read, tags, write
from tools.shape import faults

SOURCES = ("efficientformer_edu", "results", "constraints.txt")
MINUTES = 30
WIDGET = "application/vnd.jupyter.widget-view+json"


class NotebookError(Exception):
    """A notebook that cannot be stored: a cell raised, or an output shows a path of this machine."""


def key(notebook: Notebook) -> str:
    """What the outputs depend on: the code cells, the package, the results, the pinned versions."""
    digest = hashlib.sha256()
    for cell in code_cells(notebook):
        digest.update(cell.source.encode() + b"\0")
    for path in _files():
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _files() -> Iterator[Path]:
    for name in SOURCES:
        top = ROOT / name
        inside = [top] if top.is_file() else sorted(top.rglob("*"))
        yield from (path for path in inside if path.is_file() and "__pycache__" not in path.parts)


def stored_key(notebook: Notebook) -> str | None:
    """The key that the notebook was last run under."""
    stored: str | None = notebook.metadata.get("efficientformer_edu", {}).get("key")
    return stored


def up_to_date(notebook: Notebook) -> bool:
    """Whether the outputs in the notebook are those of its present code."""
    return stored_key(notebook) == key(notebook) and all(cell.execution_count for cell in code_cells(notebook))


def executed(path: Path, copies: Path = COPIES) -> Notebook:
    """The notebook in `path` with fresh outputs, from its copy in `copies` or, where that is stale, from a run.

    Raises:
        NotebookError: a cell raised, or an output shows a path of this machine.
    """
    notebook, copy = read(path), copies / path.name
    current = key(notebook)
    before = read(copy) if copy.exists() else None
    if before is not None and stored_key(before) == current:
        _take_outputs(before, notebook)
        print(f"  {path.stem}: unchanged", flush=True)
    else:
        started = time.perf_counter()
        print(f"  {path.stem}: running", end="", flush=True)
        run(notebook)
        notebook.metadata["efficientformer_edu"] = {"key": current, **_provenance(notebook)}
        print(f", {time.perf_counter() - started:.1f} s", flush=True)
    write(notebook, copy)
    return notebook


def _take_outputs(source: Notebook, target: Notebook) -> None:
    for old, new in zip(code_cells(source), code_cells(target), strict=True):
        new.outputs, new.execution_count = old.outputs, old.execution_count
    target.metadata = source.metadata


def run(notebook: Notebook) -> None:
    """Run the code cells of `notebook` in a fresh kernel of this Python, in an empty folder, and keep the outputs."""
    with _kernel_home() as home:
        from jupyter_client.kernelspec import KernelSpecManager
        from jupyter_client.manager import AsyncKernelManager
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError

        _scrub(notebook)
        kernel = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),  # no installed kernel: the one of this Python
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
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:  # Windows' usual loop knows no zmq
                runner.run(client.async_execute(cleanup_kc=True, env=_environment(home)))
        except CellExecutionError as error:
            raise NotebookError(re.sub(r"\x1b\[[0-9;]*m", "", str(error))) from None
        _scrub_metadata(notebook)
        _drop_widgets(notebook)
        _refuse_paths(notebook, home)


def _transport(home: Path) -> dict[str, str]:
    """How the kernel is talked to: by sockets in a folder of ours, without ports; Windows has no such sockets."""
    return {} if os.name == "nt" else {"transport": "ipc", "ip": str(home / "kernel")}


@contextmanager
def _kernel_home() -> Iterator[Path]:
    """A temporary folder for what Jupyter and IPython would otherwise write into the user's home."""
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
    """The kernel's environment: fixed hashes, the default number of threads, nothing written into the user's home."""
    plots = COPIES.parent / "matplotlib"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {
        "PYTHONHASHSEED": "0",
        "IPYTHONDIR": str(home / "ipython"),
        "MPLCONFIGDIR": str(plots),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    environment.pop("MPLBACKEND", None)
    if not plots.exists():  # matplotlib lists the fonts once, and says so on stderr where that takes long
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
    """Leave what stands in for a widget: the widget needs the kernel that made it, and has a new id each time."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            output.get("data", {}).pop(WIDGET, None)


def _refuse_paths(notebook: Notebook, home: Path) -> None:
    machine = [
        form
        for path in (ROOT, home, Path.home(), Path(sys.prefix))
        if len(path.parts) > 1
        for form in {str(path), path.as_posix(), repr(str(path))[1:-1]}  # they differ in Windows' backslashes
    ]
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", []):
            for kind, text in output_text(output).items():
                if any(path in text for path in machine):
                    raise NotebookError(f"cell {number} shows a path of this machine ({kind}): {text[:300]!r}")


def _provenance(notebook: Notebook) -> dict[str, str]:
    """Machine, versions and date, for a notebook that shows what was measured here."""
    if not any(tags(cell) & {"measured", "trained"} for cell in notebook.cells):
        return {}
    from importlib.metadata import version

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
    """Run what changed; the exit status is 1 where a notebook could not be run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="the notebooks to run (all)")
    parser.add_argument("--copies", action="store_true", help="run copies in build/notebooks, store nothing")
    parser.add_argument("--force", action="store_true", help="run also what has not changed")
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
            print(f"    to mend: {fault}")
        if not arguments.copies:
            write(notebook, path)
            print(f"  {path.stem}: stored", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
