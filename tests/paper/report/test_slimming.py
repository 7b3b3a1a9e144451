"""Section 4.2: rows of equations and actions, and that each verdict can fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from efficientformer_edu import paper
from efficientformer_edu.paper.report import rows, slimming
from efficientformer_edu.slimming import supernet
from efficientformer_edu.slimming.subnet import Action, Subnet

ROWS = {row.name: row for row in rows() if row.part == slimming.PART}


@pytest.mark.parametrize(
    ("name", "status", "ours"),
    [
        (
            "Eq. 7: supernet",
            "exact",
            "stage 1: MB4D, I; stage 2: MB4D, I; stage 3: MB4D, MB3D, I; stage 4: MB4D, MB3D, I",
        ),
        ("§4.2: gumbel", "exact", "equal to the formula, to 1e-12"),
        ("§4.2: importance_early", "disagrees", "the ratio of the weights e^α"),
        ("§4.2: importance_late", "disagrees", "the ratio of the weights e^α"),
        ("Algorithm 1: action 1, depth reduction", "exact", "I for MetaPath 2 of stage 3"),
        ("Algorithm 1: action 2, MB3D reduction", "exact", "MB4D for MB3D at MetaPath 1 of stage 3"),
        ("Algorithm 1: action 3, width reduction", "exact", "16 channels off stage 2"),
    ],
)
def test_a_computed_row(name: str, status: str, ours: str) -> None:
    assert (ROWS[name].status, ROWS[name].result) == (status, ours)


def test_the_steps_wait_and_the_remarks_are_background() -> None:
    waiting = [name for name, row in ROWS.items() if row.status == "not yet"]
    assert waiting == [f"Algorithm 1: step {step.number}, {step.name}" for step in paper.algorithm1()]
    assert all(row.status == "background" for name, row in ROWS.items() if "remark" in name)


def test_another_candidate_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    late = supernet.CANDIDATES[3]
    monkeypatch.setattr(supernet, "CANDIDATES", (late, *supernet.CANDIDATES[1:]))
    assert slimming.check("supernet").status == "disagrees"


@pytest.mark.parametrize("what", ["no noise", "another noise", "no temperature", "alpha alone"])
def test_another_mixture_disagrees(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    if what == "another noise":
        monkeypatch.setattr(supernet, "NOISES", {"uniform": supernet.gumbel})
    else:
        mixtures: dict[str, Any] = {
            "no noise": lambda alpha, noise, tau: (alpha / tau).softmax(0),
            "no temperature": lambda alpha, noise, tau: (alpha + noise).softmax(0),
            "alpha alone": lambda alpha, noise, tau: alpha / alpha.sum(),
        }
        monkeypatch.setattr(supernet, "mixture", mixtures[what])
    assert slimming.check("gumbel").status == "disagrees"


def test_a_quotient_of_alpha_would_be_called_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slimming, "mixture", lambda alpha, noise, tau: alpha)
    assert slimming.check("importance_late").status == "exact"
    monkeypatch.setattr(slimming, "importance", lambda weights: 1.0)
    verdict = slimming.check("importance_late")
    assert (verdict.status, verdict.result) == ("disagrees", "a different number")


def test_a_check_leaves_the_random_numbers_as_they_were() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    slimming.check("gumbel")
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(
    ("kind", "other"), [("depth", Action("depth", 0, 1)), ("MB3D", Action("MB3D", 2, 0)), ("width", Action("width", 3))]
)
def test_another_action_disagrees(monkeypatch: pytest.MonkeyPatch, kind: str, other: Action) -> None:
    shifted = Subnet((32, 32, 32, 48), slimming.START.choices)
    monkeypatch.setattr(slimming, "actions", lambda *_: (other,))
    if kind == "MB3D":
        monkeypatch.setitem(slimming.AFTER, kind, shifted)
    assert slimming.action(kind).status == "disagrees"
