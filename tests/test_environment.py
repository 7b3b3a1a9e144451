"""The three lists of packages agree: pyproject.toml, environment.yml, constraints.txt."""

from __future__ import annotations

import re
import tomllib

import yaml

from tools import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def requirements() -> set[str]:
    """Everything that `make env` installs: all packages except the peers, which are not needed here."""
    extras = PROJECT["optional-dependencies"]
    return set(PROJECT["dependencies"]).union(*(extras[name] for name in extras if name != "peers"))


def bare(requirement: str) -> str:
    """The package's name alone, normalized as on PyPI."""
    match = re.match(r"[\w.-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def test_conda_gets_the_same_packages_and_bounds() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    pip = next(entry["pip"] for entry in conda if isinstance(entry, dict))
    assert set(pip) == requirements() | {"-e ."}
    assert f"python{PROJECT['requires-python']}" in conda


def test_a_package_has_a_single_bound() -> None:
    names = [bare(requirement) for requirement in requirements()]
    assert len(names) == len(set(names))


def test_every_requirement_is_pinned_within_its_bound() -> None:
    pinned = dict(line.split("==") for line in PINS)
    versions = {bare(name): version for name, version in pinned.items()}
    for requirement in requirements():
        lower = re.search(r"[>=]=([\d.]+)", requirement)
        assert lower, f"{requirement} has no lower bound"
        assert numbers(versions[bare(requirement)]) >= numbers(lower[1]), requirement


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def test_a_pin_is_a_name_and_a_version() -> None:
    assert [line for line in PINS if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
