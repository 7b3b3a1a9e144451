"""Run every exercise of one notebook, and print the results as JSON.

An exercise is run in several versions: the solution, the stub, and each mistake.

The notebook's other cells run once, without solutions and without cells that train a network, because training takes
minutes and exercises do not depend on it. Each version then runs in a copy of their namespace. tests/test_exercises.py
starts one process per notebook.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from efficientformer_edu.exercises._check import ExerciseError
from tools.chapters import Cell, Exercise, Notebook, code_cells, cut, exercises, read, tags


def verdicts(notebook: Notebook) -> list[dict[str, Any]]:
    """Return one record per version of an exercise: its outcome, and the phrase that the check should print."""
    records: list[dict[str, Any]] = []
    namespace: dict[str, Any] = {"__name__": "__main__", "display": lambda *_: None}
    at_solution = {id(exercise.solution): exercise for exercise in exercises(notebook)}
    skipped = False
    for cell in code_cells(notebook):
        if id(cell) in at_solution:
            records += _try(at_solution[id(cell)], namespace)
        elif "trained" in tags(cell):
            skipped = True
        elif not tags(cell) & {"check", "solution"}:
            # Later cells may use results of the training; test_notebooks runs every cell.
            with contextlib.suppress(Exception) if skipped else contextlib.nullcontext():
                _execute(cell.source, namespace)
    return records


def _try(exercise: Exercise, namespace: dict[str, Any]) -> list[dict[str, Any]]:
    assert exercise.solution is not None and exercise.check is not None
    source = exercise.solution.source
    versions = [("solution", source, ""), ("cut", cut(source), "not done yet")]
    versions += [
        (f"mistake {number}", mistake.source, mistake.metadata["explains"])
        for number, mistake in enumerate(exercise.mistakes, start=1)
    ]
    return [
        {"exercise": exercise.number, "version": name, "explains": phrase, **_check(text, exercise.check, namespace)}
        for name, text, phrase in versions
    ]


def _check(source: str, check: Cell, namespace: dict[str, Any]) -> dict[str, str]:
    own = dict(namespace)
    try:
        _execute(source, own)
        _execute(check.source, own)
    except ExerciseError as error:
        return {"outcome": "refused", "message": str(error)}
    except Exception as error:
        return {"outcome": "raised", "message": f"{type(error).__name__}: {error}"}
    return {"outcome": "passed", "message": ""}


def _execute(source: str, namespace: dict[str, Any]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(source, "<cell>", "exec"), namespace)


if __name__ == "__main__":
    os.environ["MPLBACKEND"] = "agg"
    print(json.dumps(verdicts(read(Path(sys.argv[1])))))
