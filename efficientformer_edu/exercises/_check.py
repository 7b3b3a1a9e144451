"""Helper functions of the exercise checks.

A check runs the learner's code, compares the answer with an independent oracle and with the results of typical mistakes
and raises `ExerciseError` with one sentence about the mistake. Jupyter shows this sentence instead of a traceback.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value")


class ExerciseError(AssertionError):
    """The learner's answer is not correct yet; the message names the likely mistake."""

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython prints instead of a traceback."""
        return [f"Not yet: {self}"]


def require(condition: object, message: str) -> None:
    """Raise ExerciseError with a message if the condition is false."""
    if not condition:
        raise ExerciseError(message)


def require_value(value: Value, name: str) -> Value:
    """Return the learner's value. Raises ExerciseError if it is still `...` or `None`."""
    require(value is not ..., f"{name} is not done yet.")
    require(value is not None, f"{name} is None: it is not done yet, or a `return` is missing.")
    return value


def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Return the result of the learner's function.

    Raises:
        ExerciseError: if the function is not done yet, returns None, or raises an exception.
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
    return require_value(result, f"{name}({shown})")


def require_value_error(message: str, function: Callable[..., Any], *arguments: Any) -> None:
    """Call the learner's function, which should raise ValueError. Raises ExerciseError if it does not."""
    try:
        call(function, *arguments)
    except ExerciseError as error:
        require(isinstance(error.__cause__, ValueError), str(error))
    else:
        raise ExerciseError(message)


def describe(value: object) -> str:
    """Describe a value briefly; tensors and arrays by their shape."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"<{type(value).__name__} of shape {tuple(shape)}>"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def listed(values: Sequence[float] | NDArray[Any]) -> str:
    """Numbers with four significant digits, separated by commas."""
    return ", ".join(f"{float(value):.4g}" for value in values)


def expect_shape(value: Any, shape: tuple[int, ...], message: str) -> None:
    """Raise ExerciseError with a message and both shapes if `value` is not a tensor or an array of this shape."""
    actual = getattr(value, "shape", None)
    require(actual is not None, f"{message} Expected a tensor, got {describe(value)}.")
    require(tuple(actual or ()) == shape, f"{message} Expected shape {shape}, got {tuple(actual or ())}.")


def expect_items(value: Any, count: int, message: str) -> None:
    """Raise ExerciseError with a message if `value` is not a tuple or a list of `count` items."""
    require(isinstance(value, tuple | list) and len(value) == count, f"{message} Got {describe(value)}.")


def close(a: Any, b: Any, rtol: float = 1e-4, atol: float = 1e-6) -> bool:
    """Whether two numbers, sequences, arrays or tensors have the same shape and nearly the same values."""
    try:
        first, second = (
            np.asarray(value.detach().cpu() if hasattr(value, "detach") else value, dtype=float) for value in (a, b)
        )
    except (TypeError, ValueError):
        return False
    return first.shape == second.shape and np.allclose(first, second, rtol=rtol, atol=atol)


def compare(
    answer: Any,
    expected: Any,
    mistakes: Mapping[str, Any],
    message: str,
    same: Callable[[Any, Any], bool] = close,
    prefix: str = "",
) -> None:
    """Compare an answer with the results of typical mistakes and with the expected value.

    Args:
        answer: the learner's.
        expected: the correct answer.
        mistakes: message to the answer that the mistake gives. A mistake that gives the correct answer here is ignored.
        message: for any other wrong answer.
        same: whether two answers are equal.
        prefix: of every message.

    Raises:
        ExerciseError: if the answer is wrong.
    """
    if not same(answer, expected):
        for explanation, wrong in mistakes.items():
            require(not same(answer, wrong), prefix + explanation)
        raise ExerciseError(prefix + message)


def random_tensor(*shape: int, seed: int = 1) -> Any:
    """Normally distributed values, the same for the same shape and seed."""
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def done(message: str) -> None:
    """Print that the exercise is solved."""
    print(f"Well done: {message}")
