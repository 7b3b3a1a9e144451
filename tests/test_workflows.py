"""The workflows in .github: their commands exist, with supported versions; Colab gets its branch."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import ROOT, colab

FOLDER = ROOT / ".github" / "workflows"
NAMES = ("test", "pages")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())


def text(name: str) -> str:
    return (FOLDER / f"{name}.yml").read_text(encoding="utf-8")


def jobs(name: str) -> dict[str, Any]:
    result: dict[str, Any] = yaml.safe_load(text(name))["jobs"]
    return result


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in jobs(name).values() for step in job["steps"]]


def rows() -> list[dict[str, str]]:
    matrix_rows: list[dict[str, str]] = jobs("test")["test"]["strategy"]["matrix"]["include"]
    return matrix_rows


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def lower_bound(requirement: str) -> tuple[int, ...]:
    return numbers(requirement.partition(">=")[2])


def test_there_are_two() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(f"{name}.yml" for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_exist(name: str) -> None:
    commands = "\n".join(step.get("run", "") for step in steps(name))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    settings = set(re.findall(r"^([A-Z_]+) +\?=", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    called = re.findall(r"\bmake (.+)", commands)
    assert called
    for arguments in (line.split() for line in called):
        assert {word for word in arguments if "=" not in word} <= targets
        assert {word.partition("=")[0] for word in arguments if "=" in word} <= settings
    for module in re.findall(r"python -m ([\w.]+)", commands):
        room, _, inner = module.partition(".")
        assert PathFinder.find_spec(room, [str(ROOT), *sys.path]), module
        assert not inner or (ROOT / room / f"{inner}.py").is_file(), module
    extras = re.findall(r"\.\[([\w,]+)\]", commands)
    assert {extra for extra_names in extras for extra in extra_names.split(",")} <= PROJECT[
        "optional-dependencies"
    ].keys()


def test_without_make_the_same_is_tested() -> None:
    """Every `python -m` of the Makefile's targets env, lint and test is also in the steps for Windows."""
    recipes = re.findall(
        r"^(?:test|lint):.*\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    expected = {command.strip() for recipe in recipes for command in re.findall(r"\$\(RUN\) -m (.+)", recipe)}
    windows_commands = "\n".join(step["run"] for step in steps("test") if step.get("if") == "runner.os == 'Windows'")
    assert expected and expected == {
        line for line in re.findall(r"python -m (.+)", windows_commands) if not line.startswith("pip ")
    }
    extras = "training,tracking,cluster,hf,download,dense,engines,notebooks,docs,test"
    for step in ("torch torchvision", f'-e ".[{extras}]"'):
        assert f"python -m pip install -c constraints.txt {step}\n" in windows_commands + "\n"


def test_every_system_python_and_torch_is_tested() -> None:
    assert {row["system"].partition("-")[0] for row in rows()} == {"ubuntu", "macos", "windows"}
    pythons = {row["python"] for row in rows()}
    others = {row["torch"] for row in rows() if "torch" in row}
    assert len(pythons) == 2 and len(others) == 1 and any("torch" not in row for row in rows())
    assert all(numbers(python) >= lower_bound(PROJECT["requires-python"]) for python in pythons)
    (torch,) = (requirement for requirement in PROJECT["dependencies"] if requirement.startswith("torch>"))
    assert all(lower_bound(torch) <= numbers(version) <= numbers(PINS["torch"]) for version in others)


@pytest.mark.parametrize("name", NAMES)
def test_they_may_do_little_and_name_no_index(name: str) -> None:
    assert yaml.safe_load(text(name))["permissions"] == {"contents": "read"}
    assert "concurrency" in yaml.safe_load(text(name))
    assert not re.search(r"https?:|index-url|[\w-]+\.(?:org|com|io)\b", text(name))
    for step in steps(name):
        assert "uses" not in step or re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"]), step


def test_only_the_jobs_that_publish_may_write() -> None:
    rights = {job: about.get("permissions") for job, about in jobs("pages").items()}
    assert rights == {
        "build": None,
        "colab": {"contents": "write"},
        "deploy": {"pages": "write", "id-token": "write"},
    }
    assert jobs("pages")["deploy"]["needs"] == ["build", "colab"]  # the pages link to the branch


def test_the_branch_for_colab_holds_the_derived_notebooks_alone(tmp_path: Path) -> None:
    if not (shutil.which("git") and shutil.which("bash")):
        pytest.skip("needs git and bash")
    (script,) = (step["run"] for step in jobs("pages")["colab"]["steps"] if "run" in step)
    assert f"refs/heads/{colab.BRANCH}" in script and colab.TARGET.relative_to(ROOT).as_posix() in script
    kit = tmp_path / "kit"

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@localhost", *arguments]
        return subprocess.run(command, cwd=kit, check=True, capture_output=True, text=True).stdout

    kit.mkdir()
    git("init", "--quiet", "--bare", str(tmp_path / "remote"))
    git("init", "--quiet")
    git("remote", "add", "origin", str(tmp_path / "remote"))
    (kit / ".gitignore").write_text("build/\n", encoding="utf-8")
    git("add", ".")
    git("commit", "--quiet", "-m", "The kit")
    for notebooks in ({}, {"02_b.ipynb": "2", "03_n.ipynb": "3"}, {"03_n.ipynb": "new"}):
        shutil.rmtree(kit / "build", ignore_errors=True)
        for name, content in notebooks.items():
            (kit / "build" / "colab").mkdir(parents=True, exist_ok=True)
            (kit / "build" / "colab" / name).write_text(content, encoding="utf-8")
        subprocess.run(["bash", "-e", "-c", script], cwd=kit, check=True, capture_output=True)
        git("fetch", "--quiet", "origin")
        if notebooks:
            held = git("ls-tree", "-r", "--name-only", f"origin/{colab.BRANCH}").split()
            assert held == list(notebooks)
            assert git("show", f"origin/{colab.BRANCH}:03_n.ipynb") == notebooks["03_n.ipynb"]
        else:
            assert not git("branch", "--remotes")
    assert git("status", "--porcelain") == ""  # the checked-out files are unchanged
