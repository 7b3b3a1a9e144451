"""Helper functions of the exercise checks.

A check runs the learner's code and raises `ExerciseError` with one sentence about the likely mistake. Jupyter shows
this sentence instead of a traceback.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Value = TypeVar("Value")


class ExerciseError(AssertionError):
    """The learner's answer is not correct yet; the message names the likely mistake."""

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython prints instead of a traceback."""
        return [f"Not yet: {self}"]


def require(condition: object, sentence: str) -> None:
    """Check that `condition` is true.

    Raises:
        ExerciseError: with `sentence`, if it is false.
    """
    if not condition:
        raise ExerciseError(sentence)


def given(value: Value, name: str) -> Value:
    """Return the learner's `value` if it is set.

    Raises:
        ExerciseError: if `value` is still `...` or `None`.
    """
    require(value is not ..., f"{name} is not done yet.")
    require(value is not None, f"{name} is None: it is not done yet, or a `return` is missing.")
    return value


def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Return the result of the learner's `function` for these arguments.

    Raises:
        ExerciseError: if it is not done yet, returns None, or raises an exception.
    """
    name = getattr(function, "__name__", type(function).__name__)
    shown = ", ".join([*map(describe, arguments), *(f"{key}={describe(value)}" for key, value in named.items())])
    try:
        result = function(*arguments, **named)
    except NotImplementedError:
        raise ExerciseError(f"{name} is not done yet.") from None
    except ExerciseError:
        raise
    except Exception as error:
        raise ExerciseError(f"{name}({shown}) raised {type(error).__name__}: {error}") from error
    return given(result, f"{name}({shown})")


def describe(value: object) -> str:
    """Describe a value briefly; tensors and arrays by their shape."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"<{type(value).__name__} of shape {tuple(shape)}>"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def expect_shape(value: Any, shape: tuple[int, ...], sentence: str) -> None:
    """Check that `value` is a tensor or an array of this shape.

    Raises:
        ExerciseError: with `sentence` and both shapes, if it is not.
    """
    actual = getattr(value, "shape", None)
    require(actual is not None, f"{sentence} Expected a tensor, got {describe(value)}.")
    require(tuple(actual or ()) == shape, f"{sentence} Expected shape {shape}, got {tuple(actual or ())}.")


def done(sentence: str) -> None:
    """Print that the exercise is solved."""
    print(f"Well done: {sentence}")
