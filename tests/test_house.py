"""Architecture and style: layers of imports, module lengths, docstrings, and forbidden text."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import ROOT

PACKAGE = "efficientformer_edu"
MODULES = sorted((ROOT / PACKAGE).rglob("*.py"))
TOOLS = sorted((ROOT / "tools").glob("*.py"))

# From the lowest layer up. A folder imports only from folders before it.
LAYERS = (
    *("utils", "config", "paper", "model", "audit", "data", "weights", "hf", "export", "latency", "training", "dense"),
    *("ablations", "slimming", "exercises", "plots", "paper.report", "cli", ""),  # "" is the package's __init__
)
TOP = {"__init__", "config", "_validation", "_formats"}  # both modules with an underscore belong to config


def dotted(path: Path) -> str:
    """`audit/costs.py` as audit.costs, `audit/__init__.py` as audit, the package itself as ''."""
    parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {dotted(path) for path in MODULES}


def layer(module: str) -> int:
    """Index in LAYERS of the folder that a module belongs to."""
    folder = module.split(".")[0]
    if module.startswith("paper.report"):
        folder = "paper.report"
    return LAYERS.index("config" if folder in ("_validation", "_formats") else folder)


def imported(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """What a module imports from the package, anywhere in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (inside(alias.name) for alias in node.names if alias.name.split(".")[0] == PACKAGE)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = f"{PACKAGE}.{module}".rstrip(".").split(".")
                above = above[: len(above) - node.level + is_package]
                source = ".".join([*above, source]).rstrip(".")
            if source.split(".")[0] == PACKAGE:
                for alias in node.names:
                    deeper = inside(f"{source}.{alias.name}")
                    yield deeper if deeper in NAMES else inside(source)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and str(first.value).split(".")[0] == PACKAGE:
                yield inside(str(first.value))


def inside(name: str) -> str:
    return name.removeprefix(PACKAGE).lstrip(".")


def faults(source: str, module: str, is_package: bool) -> list[str]:
    return [
        f"{module} imports {name or PACKAGE}, which is in a higher layer"
        for name in imported(ast.parse(source), module, is_package)
        if layer(name) > layer(module)
    ]


def test_few_modules_at_the_top_level() -> None:
    assert {path.stem for path in (ROOT / PACKAGE).glob("*.py")} == TOP


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_subpackages_only_import_from_lower_layers(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8"), dotted(path), path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("model.blocks", "def later():\n    from efficientformer_edu.audit import count"),
        ("audit.ledger", "import efficientformer_edu.weights"),
        ("config", "from efficientformer_edu import model"),
        ("audit.rules", "from ..weights import load"),
        ("paper.tables", "import efficientformer_edu as ef"),
        ("plots.mermaid", "from efficientformer_edu.paper import report"),
        ("model.stem", "from importlib import import_module\nimport_module('efficientformer_edu.cli')"),
    ],
)
def test_an_import_from_a_higher_layer_is_detected(module: str, source: str) -> None:
    assert faults(source, module, is_package=False)


@pytest.mark.parametrize("path", [*MODULES, *TOOLS], ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_have_docstrings_and_are_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source)), "a module starts with what it is"
    assert len(source.splitlines()) <= 500


def project_files() -> list[Path]:
    """Files that git tracks or would track: none that are ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def found(pattern: str, paths: list[Path]) -> list[str]:
    """Lines of the text files among `paths` that match a pattern."""
    locations = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        lines = text.splitlines()
        locations += [f"{path.relative_to(ROOT)}:{n}" for n, line in enumerate(lines, 1) if re.search(pattern, line)]
    return locations


def test_no_file_names_a_path_of_a_machine() -> None:
    folders = "|".join(["home", "root", "work", "Users"])
    assert found(rf"(?:^|[^\w.:/-])/(?:{folders})/\w|[A-Z]:\\{'Users'}", project_files()) == []


def test_a_printed_warning_is_called_a_warning() -> None:
    """In code only: outputs of chapters are what a run printed."""
    sources = {str(path): path.read_text(encoding="utf-8") for path in (*MODULES, *TOOLS)}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources[path.name] = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert [name for name, source in sources.items() if re.search(r"\b(?:Doubt|Take care):", source)] == []


def test_no_file_puts_work_off() -> None:
    marks = "|".join(["TO" + "DO", "FIX" + "ME"])
    assert found(rf"\b(?:{marks})\b", project_files()) == []


def test_locks_hold_versions_and_hashes_and_no_address() -> None:
    names = {"package-lock.json", "package.json", "constraints.txt", "pyproject.toml", "environment.yml", "Makefile"}
    files = [path for path in project_files() if path.name in names]
    assert {path.name for path in files} == names
    assert found(r"\"resolved\"|https?://|--(?:extra-)?index-url [^$]", files) == []


def test_the_lock_of_the_site_assets_fits_its_package() -> None:
    folder = ROOT / "tools/assets"
    expected = json.loads((folder / "package.json").read_text(encoding="utf-8"))["dependencies"]
    packages = json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert packages.pop("")["dependencies"] == expected
    assert {name: entry["version"] for name, entry in packages.items()} == {
        f"node_modules/{n}": v for n, v in expected.items()
    }
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
