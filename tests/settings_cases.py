"""Helpers for the tests of settings: a fingerprint of a built network, and the comparison of two observations.

A case names a setting, another value for it, and everything that this value is documented to change. The tests
compare what was observed with both values: an entry that changes without being listed fails, and so does a listed
entry that does not change to the listed value.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Observations = dict[str, Any]

ANY = object()  # an entry that changes to some other value
GONE = object()  # an entry that exists before the change only


def check_changes(before: Observations, after: Observations, expected: Mapping[str, Any]) -> None:
    """Compare two observations with a case.

    Args:
        before: what was observed with the base value, by name.
        after: the same with the other value.
        expected: regular expressions of names, the first that matches counts, and the value of all entries with such a
            name: a constant, `ANY`, `GONE`, or a function that gets both values and asserts.
    """
    names = [name for name in before | after if not _equal(before.get(name, GONE), after.get(name, GONE))]
    patterns = {name: next((p for p in expected if re.fullmatch(p, name)), None) for name in before | after}
    unexpected = {name: (before.get(name), after.get(name)) for name in names if patterns[name] is None}
    assert not unexpected, f"changes that no case lists: {unexpected}"
    unchanged = set(expected) - {patterns[name] for name in names}
    assert not unchanged, f"expected changes that do not happen: {unchanged}"
    for name, pattern in patterns.items():
        if pattern is None or (value := expected[pattern]) is ANY:
            continue
        if isinstance(value, Callable):  # type: ignore[arg-type]
            value(before.get(name, GONE), after.get(name, GONE))
        else:
            assert after.get(name, GONE) == value, f"{name} is {after.get(name, GONE)!r}, expected {value!r}"


def check_all_have_cases(settings: Iterable[str], cases: Iterable[str], what: str) -> None:
    """Fail for any setting without a case, and for any case whose setting does not exist; the message names it."""
    settings, cases = set(settings), set(cases)
    assert not settings - cases, f"{what} without a case: {settings - cases}"
    assert not cases - settings, f"cases of {what} that do not exist: {cases - settings}"


def _equal(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(a == b)


def fingerprint(network: nn.Module, *images: Any) -> Observations:
    """Everything about a built network that a configuration can change, by "path of the module:attribute".

    That is the type and the plain attributes of each module, the shape of each parameter and buffer, the value of those
    that are constant, and how often each module is called by a forward pass in training mode.

    Args:
        network: is left in training mode.
        images: the arguments of the forward pass.
    """
    calls = Counter[str]()
    handles = [
        module.register_forward_pre_hook(lambda *_, path=path: calls.update([path]))
        for path, module in network.named_modules()
    ]
    network.train()(*images)
    for handle in handles:
        handle.remove()
    entries: Observations = {}
    for path, module in network.named_modules():
        entries[f"{path}:type"] = type(module).__name__
        entries[f"{path}:calls"] = calls[path]
        for name, value in vars(module).items():
            if not name.startswith("_") and name != "training" and _is_simple(value):
                entries[f"{path}:{name}"] = tuple(value) if isinstance(value, list) else value
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            entries[f"{path}:{name} shape"] = tuple(tensor.shape)
            if tensor.numel() > 1 and "running" not in name and (tensor == tensor.flatten()[0]).all():
                entries[f"{path}:{name} value"] = round(tensor.flatten()[0].item(), 6)
    return entries


def _is_simple(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_simple(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
