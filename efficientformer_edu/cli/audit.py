"""The command `efficientformer-edu audit`: parameters and MACs of a network, and why other counters differ.

torch is only imported to run other counters (`--counters`, `--summary`) or to count your own module.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from efficientformer_edu.audit import COUNTERS, Costs, Explanation, Form, count
from efficientformer_edu.audit.explain import explain_costs
from efficientformer_edu.audit.ledger import Level
from efficientformer_edu.audit.rules import Code, Quantity
from efficientformer_edu.cli.common import MODEL_HELP, YAML, Pixels, read_model, read_resolution
from efficientformer_edu.config import Resolution, resolution_pair
from efficientformer_edu.utils.tables import Cell, Format, Table

if TYPE_CHECKING:
    from torch import Tensor, nn

OF: Mapping[Quantity, str] = {"macs": "operations", "params": "parameters"}


def audit(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help=f"{MODEL_HELP}, or package.module:Name")],
    resolution: Pixels = "224",
    channels: Annotated[
        int | None,
        typer.Option(min=1, help="image channels, for package.module:Name; default: its first convolution's, or 3"),
    ] = None,
    form: Annotated[Form | None, typer.Option(help="as trained, the default, or folded for inference")] = None,
    by: Annotated[Level | None, typer.Option(help="one row for each of these; stage is the default")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="put several networks side by side")] = False,
    counters: Annotated[bool, typer.Option("--counters", help="run other tools, and explain what they print")] = False,
    explained: Annotated[
        str | None, typer.Option("--explain", metavar="COUNTER", help="the steps from our count to that of a tool")
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="torchinfo's summary, preceded by the errors of its counts")
    ] = False,
    format: Annotated[Format, typer.Option(help="csv and json contain unrounded numbers")] = "table",
) -> None:
    """Count parameters and MACs, and explain what other counters print.

    package.module:Name is your own torch module: a class or function without required arguments, or a module
    instance. The current folder is searched first. fvcore and torch's FlopCounterMode count it, at any --resolution.
    """
    modes = {"--compare": compare, "--counters": counters, "--explain": explained is not None, "--summary": summary}
    requested = [name for name, on in modes.items() if on]
    unsupported = [name for name in requested if name != "--summary"]
    unsupported += [name for name, value in {"--form": form, "--by": by}.items() if value]
    custom = [model for model in models if ":" in model and not model.endswith(YAML)]
    if custom and (unsupported or len(models) > 1):
        what = " and ".join(unsupported) or "other networks"
        raise ValueError(f"{custom[0]} is a module of your own, which is counted alone, without {what}")
    if len(requested) > 1:
        raise ValueError(f"{' and '.join(requested)} cannot be combined; use one at a time")
    if summary and format != "table":
        raise ValueError(f"--summary is torchinfo's own text, not {format}; leave out --format")
    if by and requested and not compare:
        raise ValueError(f"--by and {requested[0]} cannot be combined: a tool counts the full network; leave out --by")
    if compare and len(set(models)) < 2:
        raise ValueError("--compare takes two networks or more, such as audit --compare l1 l3")
    if not compare and len(models) > 1:
        raise ValueError(f"audit takes one network, not {len(models)}; --compare puts several side by side")

    size = read_resolution(resolution)
    if custom:
        from efficientformer_edu.audit.modules import audit_module, torchinfo_summary

        network, images = load_module(custom[0], size, channels)
        if summary:
            typer.echo(torchinfo_summary(network, images), nl=False)
        else:
            typer.echo(audit_module(network, images).to(format).rstrip("\n"))
        return
    if channels:
        raise ValueError("--channels is for a module of your own; a YAML file sets in_channels")
    pixels = resolution_pair(size)
    costs = {model: count(read_model(model), pixels, form or "trained") for model in models}
    (first, *_) = costs.values()
    if compare:
        _show(compare_costs(costs, by), format)
    elif summary:
        from efficientformer_edu.audit.counters import build
        from efficientformer_edu.audit.modules import torchinfo_summary

        typer.echo(torchinfo_summary(*build(first)), nl=False)
    elif counters:
        _show(run_counters(first), format, _implementation_notes(first, COUNTERS))
    elif explained is not None:
        _show(explained_steps(explained, first), format, _about(explained, first))
    elif by is None and format == "json":
        typer.echo(first.to_json())
    elif by == "op" and format == "csv":
        typer.echo(first.to_csv(), nl=False)
    else:
        _show(first.table(by or "stage"), format)


def load_module(name: str, resolution: Resolution, channels: int | None) -> tuple[nn.Module, Tensor]:
    """Load the module `package.module:Name`, and create an image of zeros to count it on.

    Args:
        name: a module, or a class or function that returns one and has no required arguments.
        resolution: height and width of the image in pixels, or one number for both; any size.
        channels: channels of the image; None for the input channels of the first convolution, or 3 if there is none.

    Raises:
        ValueError: if the module does not exist or cannot be created.
    """
    import torch

    network = _network(name)
    if channels is None:
        convolutions = (module for module in network.modules() if isinstance(module, torch.nn.modules.conv._ConvNd))
        first = next((module.in_channels for module in convolutions), 0)
        channels = first or 3  # a lazy convolution has 0 channels until it runs
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    return network, torch.zeros(1, channels, height, width)


def _network(name: str) -> nn.Module:
    from torch import nn

    module, _, path = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        value: Any = import_module(module)
    except Exception as error:  # user code may raise any exception
        raise ValueError(
            f"{module!r} cannot be imported ({type(error).__name__}: {error}); allowed: package.module:Name, "
            "installed or in the current folder"
        ) from error
    for attribute in path.split("."):
        if not hasattr(value, attribute):
            raise ValueError(f"{module} has no {path!r}; allowed: the name of a torch module, or a class or function")
        value = getattr(value, attribute)
    if not isinstance(value, nn.Module) and callable(value):
        try:
            value = value()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{name}() fails ({reason}); allowed: a class or function without arguments") from error
    if not isinstance(value, nn.Module):
        raise ValueError(
            f"{name} is of type {type(value).__name__}; allowed: a torch.nn.Module or a function that returns it"
        )
    return value


def compare_costs(costs: Mapping[str, Costs], by: Level | None) -> Table:
    """Total costs with one row per network, or the MACs of the parts with one column per network."""
    if by is None:
        rows = [
            (name, cost.params, cost.macs, cost.sums.weight_bytes, cost.sums.activation_bytes)
            for name, cost in costs.items()
        ]
        return Table(("network", "params", "MACs", "weight bytes", "activation bytes"), tuple(rows))
    groups = [cost.by(by) for cost in costs.values()]
    labels = dict.fromkeys(label for group in groups for label in group)
    body: list[tuple[Cell, ...]] = [
        (label, *(group[label].macs if label in group else None for group in groups)) for label in labels
    ]
    total: tuple[Cell, ...] = ("total", *(cost.macs for cost in costs.values()))
    return Table((by, *(f"MACs of {name}" for name in costs)), (*body, total), total=True)


def explained_steps(counter: str, costs: Costs) -> Table:
    """The steps from our MACs, then from our parameters, to the numbers that a counter prints."""
    rows: list[tuple[Cell, ...]] = []
    for quantity in _quantities(counter):
        table = _explain(counter, costs, quantity).table()
        rows += [(OF[quantity], *row) for row in table.rows]
    return Table(("of", "step", "count"), tuple(rows))


def run_counters(costs: Costs) -> Table:
    """The number printed by each counter, the number from its rule, and the remainder."""
    from efficientformer_edu.audit.counters import build, run

    network, images = build(costs)
    rows: list[tuple[Cell, ...]] = []
    for counter, rule in COUNTERS.items():
        how, printed = "derived, not run", None
        if rule.runs:
            try:
                how, printed = "run", run(counter, network, images)
            except ImportError as error:
                how = str(error)
        for quantity in _quantities(counter):
            explanation = _explain(counter, costs, quantity)
            number = getattr(printed, quantity, None)
            remainder = None if number is None else explanation.remainder(number)
            rows.append((counter, OF[quantity], "ours", number, explanation.total, remainder, how))
            for code, total in _others(counter, costs, quantity):
                rows.append((counter, OF[quantity], code, None, total, None, "derived, not run"))
    return Table(("counter", "of", "code", "prints", "by its rule", "remainder", "how"), tuple(rows))


def _quantities(counter: str) -> tuple[Quantity, ...]:
    if counter in COUNTERS and COUNTERS[counter].params is None:
        return ("macs",)
    return get_args(Quantity)  # for an unknown counter `explain` raises an error


def _explain(counter: str, costs: Costs, quantity: Quantity = "macs", code: Code = "ours") -> Explanation:
    return explain_costs(counter, costs, quantity, code)


def _others(counter: str, costs: Costs, quantity: Quantity) -> Iterator[tuple[Code, int]]:
    """Other implementations for which the counter prints a different number. None of them has a folded form."""
    base = _explain(counter, costs, quantity).total
    for code in get_args(Code):
        total = _explain(counter, costs, quantity, code).total
        if total != base and costs.form == "trained":
            yield code, total


def _implementation_notes(costs: Costs, counters: Iterable[str]) -> Iterator[str]:
    """One line per counter that prints a different number for other implementations of the same network."""
    labels = {"released": "the released code", "huggingface": "Hugging Face's"}
    for counter in counters:
        if others := dict(_others(counter, costs, "macs")):
            base = _explain(counter, costs).total
            names = {total: [labels[code] for code in others if others[code] == total] for total in others.values()}
            numbers = ", ".join(f"{total:,} for {' and '.join(code)}" for total, code in names.items())
            yield f"{counter} prints {base:,} for our code, {numbers}: its count depends on how the code is written."


def _about(counter: str, costs: Costs) -> Iterator[str]:
    rule = COUNTERS[counter]
    yield f"{rule.tool}{'' if rule.runs else ' (derived, not run)'}."
    if rule.note:
        yield rule.note
    yield from _implementation_notes(costs, [counter])


def _show(table: Table, format: Format, notes: Iterable[str] = ()) -> None:
    """Print a table, followed by notes in the human-readable formats."""
    typer.echo(table.to(format).rstrip("\n"))
    if format in ("table", "markdown"):
        for note in notes:
            typer.echo(f"\n{note}")
