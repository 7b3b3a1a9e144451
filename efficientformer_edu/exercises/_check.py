"""What the checks are written with.

A check takes what the learner wrote, tries it, and raises `ExerciseError` with one sentence about the likely mistake.
Jupyter shows that sentence instead of a traceback.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Value = TypeVar("Value")


class ExerciseError(AssertionError):
    """The learner's answer is not right yet; the message says what is likely to be wrong."""

    def _render_traceback_(self) -> list[str]:
        """What IPython prints in place of a traceback."""
        return [f"Not yet: {self}"]


def require(condition: object, sentence: str) -> None:
    """Go on if `condition` holds.

    Raises:
        ExerciseError: with `sentence`, if it does not.
    """
    if not condition:
        raise ExerciseError(sentence)


def given(value: Value, name: str) -> Value:
    """The learner's `value`, if there is one.

    Raises:
        ExerciseError: `value` is still `...` or `None`.
    """
    require(value is not ..., f"{name} is not done yet.")
    require(value is not None, f"{name} is None: it is not done yet, or a `return` is missing.")
    return value


def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What the learner's `function` returns for these arguments.

    Raises:
        ExerciseError: it is not done yet, returned nothing, or raised something.
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
    """A short description of a value: a tensor or an array by its shape."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"<{type(value).__name__} of shape {tuple(shape)}>"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def expect_shape(value: Any, shape: tuple[int, ...], sentence: str) -> None:
    """Go on if `value` is a tensor or an array of this shape.

    Raises:
        ExerciseError: with `sentence` and both shapes, if it is not.
    """
    found = getattr(value, "shape", None)
    require(found is not None, f"{sentence} A tensor was expected, {describe(value)} came.")
    require(tuple(found or ()) == shape, f"{sentence} The shape is {tuple(found or ())}, expected is {shape}.")


def done(sentence: str) -> None:
    """Say that the exercise is solved."""
    print(f"Well done: {sentence}")
