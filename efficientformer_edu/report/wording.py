"""Describe a record of `efficientformer_edu.paper` in one line, for a table."""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch

from efficientformer_edu import paper


@singledispatch
def reported(record: object) -> str:
    """Return the description. Raises TypeError for any other object."""
    raise TypeError(f"{type(record).__name__} is not a record of the paper")


@reported.register
def _(record: paper.Reported) -> str:
    values = (record, *record.also)
    return "; ".join(
        f"{value.printed} {value.unit}".strip() + (f" ({value.note})" if value.note else "") for value in values
    )


@reported.register
def _(record: paper.Statement) -> str:
    return f"{record.text} ({record.note})" if record.note else record.text


@reported.register
def _(record: paper.Setting) -> str:
    sides = {"paper": record.paper, "code": record.code, "the run": record.run}
    return "; ".join(f"{side}: {reported(value)}" for side, value in sides.items() if value is not None)


@reported.register
def _(record: paper.Row) -> str:
    return "; ".join(f"{cell.quantity} {reported(cell)}" for cell in record.cells)


@reported.register
def _(record: paper.Ratio) -> str:
    return ("more than " if record.at_least else "") + reported(record.stated)


@reported.register
def _(record: paper.Equation) -> str:
    return record.meaning


@reported.register
def _(record: paper.Architecture) -> str:
    return described(record.widths, record.depths, record.mb3d)


@reported.register
def _(record: paper.Printed) -> str:
    return f"{blocks(record.mb4d, record.mb3d)}; {reported(record.params)}"


@reported.register
def _(record: paper.Difference) -> str:
    stated = {"paper": record.paper, "code": record.code}
    sides = "; ".join(f"{side}: {reported(value)}" for side, value in stated.items() if value is not None)
    return f"{sides} {record.consequence.text}" if record.consequence else sides


@reported.register
def _(record: paper.Observation) -> str:
    share = record.share
    return record.name + (f" {share.label}: {share.low} to {share.high} {share.unit}." if share else "")


@reported.register
def _(record: paper.Profile) -> str:
    return f"{', '.join(record.models)} by {', '.join(record.operators)}. {' '.join(record.notes)}"


@reported.register
def _(record: paper.Step) -> str:
    return record.what


def described(widths: tuple[int, ...], depths: tuple[int, ...], mb3d: int) -> str:
    """Describe a network."""
    lists = (", ".join(map(str, numbers)) for numbers in (widths, depths))
    return "widths {}; depths {}; the last {} MB3D".format(*lists, mb3d)


def blocks(mb4d: int, mb3d: int) -> str:
    """Describe the blocks of a stage."""
    return f"{mb4d} MB4D" + (f" + {mb3d} MB3D" if mb3d else "")


def cells(table: paper.Table) -> Iterator[tuple[paper.Row, str, paper.Reported]]:
    """Yield the sourced cells of a table, each with its row and a description."""
    labels = {column.name: column.label for column in table.columns}
    for row in table.rows:
        for cell in row.cells:
            yield row, f"{row.name}, {labels[cell.quantity]}", cell
