"""Every exercise: its check accepts the solution, and rejects the stub and each mistake with an explanation."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from efficientformer_edu.exercises._check import ExerciseError, call, done, expect_shape, require, require_value
from tools import NOTEBOOKS, ROOT
from tools.chapters import chapters, exercises, read

pytestmark = pytest.mark.slow

EXERCISES = [
    pytest.param(path, exercise.number, id=f"{path.stem}-{exercise.number}")
    for path in chapters(NOTEBOOKS)
    for exercise in exercises(read(path))
]


@cache
def verdicts(path: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tools.exercises", str(path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, f"the chapter does not run without its solutions:\n{result.stderr[-3000:]}"
    results: list[dict[str, Any]] = json.loads(result.stdout)
    return results


@pytest.mark.parametrize(("path", "number"), EXERCISES)
def test_the_check_distinguishes_right_and_wrong_answers(path: Path, number: int) -> None:
    own = [verdict for verdict in verdicts(path) if verdict["exercise"] == number]
    assert [verdict["version"] for verdict in own][:2] == ["solution", "cut"]
    for verdict in own:
        expected = "passed" if verdict["version"] == "solution" else "refused"
        assert verdict["outcome"] == expected, f"{verdict['version']} {verdict['outcome']}: {verdict['message']}"
        assert verdict["explains"] in verdict["message"], verdict["version"]


@pytest.mark.parametrize("nothing", [..., None])
def test_an_answer_that_is_not_there_is_not_done_yet(nothing: object) -> None:
    with pytest.raises(ExerciseError, match="total .*not done yet"):
        require_value(nothing, "total")
    with pytest.raises(ExerciseError, match=r"f\(2\) .*not done yet"):
        call(_named(lambda _: nothing), 2)


def _named(function: Any) -> Any:
    function.__name__ = "f"
    return function


def test_a_stub_is_not_done_yet_and_an_exception_is_reported() -> None:
    def stub() -> None:
        raise NotImplementedError("your turn")

    def divide(by: int) -> float:
        return 1 / by

    with pytest.raises(ExerciseError, match="stub is not done yet"):
        call(stub)
    with pytest.raises(ExerciseError, match=r"divide\(0\) raised ZeroDivisionError"):
        call(divide, 0)
    assert call(divide, by=2) == 0.5


def test_a_wrong_shape_is_reported_with_both_shapes() -> None:
    import torch

    expect_shape(torch.zeros(1, 3), (1, 3), "never shown")
    with pytest.raises(ExerciseError, match=r"Too flat\. Expected shape \(1, 3\), got \(3,\)"):
        expect_shape(torch.zeros(3), (1, 3), "Too flat.")
    with pytest.raises(ExerciseError, match="Expected a tensor, got 7"):
        expect_shape(7, (1, 3), "Too flat.")


def test_a_learner_reads_the_sentence_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    require(True, "never shown")
    with pytest.raises(ExerciseError) as caught:
        require(False, "The map is halved five times.")
    assert caught.value._render_traceback_() == ["Not yet: The map is halved five times."]
    done("49 tokens.")
    assert capsys.readouterr().out == "Well done: 49 tokens.\n"
