"""Generate the parts of the page `Necks and heads`: compatibility tables, and the diagram of a detector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from efficientformer_edu.config import PRESETS
from efficientformer_edu.dense import AnchorDecoupledHeadConfig, DenseConfig, FPNConfig
from efficientformer_edu.dense.network import HEADS, NECKS, NO_NECK, NUM_CLASSES
from efficientformer_edu.plots.dense import dense_mermaid
from efficientformer_edu.utils.tables import Table
from tools.dense_matrix import Cell, load_matrix

YES = "✓"


def matrix() -> str:
    """Return the compatibility tables of necks and heads, from the stored record."""
    return of_record(load_matrix())


def of_record(record: dict[str, Any]) -> str:
    """Return three Markdown tables and the origin of their cells."""
    networks = record["networks"]
    cells: list[Cell] = [cell for network in PRESETS for cell in networks[network]["cells"]]
    necks = (NO_NECK, *NECKS)
    by_pair = {(neck, head): _of(cells, neck, head) for head in HEADS for neck in necks}
    heads = tuple((f"`{head}`", *(_works(by_pair[neck, head]) for neck in necks)) for head in HEADS)
    together = {pair: row for pair, row in by_pair.items() if not row[0].refused}
    steps = list(next(iter(together.values()))[0].tried)
    tried: tuple[tuple[str | int, ...], ...] = tuple(
        (_name(neck), f"`{head}`", *(_counted(row, step) for step in steps), *(cell.parameters for cell in row))
        for (neck, head), row in together.items()
    )
    refused = tuple(
        (_name(neck), f"`{head}`", row[0].refused.partition(" is not possible: ")[2].partition("; allowed")[0])
        for (neck, head), row in by_pair.items()
        if row[0].refused
    )
    faults = [f"* {fault}" for cell in cells for fault in cell.faults]
    columns = ("neck", "head", *steps, *(f"parameters, {name.upper()}" for name in PRESETS))
    runs, *_, graphs = (_and(sizes) for sizes in next(iter(together.values()))[0].tried.values())
    where = dict.fromkeys(_where(networks[network]) for network in PRESETS)
    return "\n\n".join(
        [
            Table(("head", *map(_name, necks)), heads).to_markdown(),
            f"{YES} stands for {_and(name.upper() for name in PRESETS)}: each runs at {runs}, and what torch.fx and "
            f"torch.export make of it gives the same numbers at {graphs}. So many of the tries went well; parameters "
            f"are for {_and(f'{count} classes in {task}' for task, count in NUM_CLASSES.items())}:",
            Table(columns, tried).to_markdown(),
            *(["What went wrong:", "\n".join(faults)] if faults else []),
            f"Tried by `{record['command']}` {'; '.join(where)}. The tests try the smaller ones again.",
            "The other pairs raise an error that says why:",
            Table(("neck", "head", "why not"), refused).to_markdown(),
        ]
    )


def diagram() -> str:
    """Return the diagram of L1 as a detector."""
    config = DenseConfig(PRESETS["l1"], AnchorDecoupledHeadConfig(), FPNConfig(), num_classes=20)
    return f"```mermaid\n{dense_mermaid(config)}```"


def _of(cells: Iterable[Cell], neck: str, head: str) -> list[Cell]:
    """Return the cells of one pair, one per network."""
    by_network = {cell.network: cell for cell in cells if (cell.neck, cell.head) == (neck, head)}
    return [by_network[network] for network in PRESETS]


def _works(row: list[Cell]) -> str:
    if row[0].refused:
        return "refused"
    failed = [cell.network.upper() for cell in row if cell.faults]
    return f"not on {_and(failed)}" if failed else YES


def _counted(row: list[Cell], step: str) -> str:
    outcomes = [fault for cell in row for fault in cell.tried[step].values()]
    return f"{outcomes.count('')} of {len(outcomes)}"


def _where(network: dict[str, Any]) -> str:
    libraries = _and(f"{name} {number}" for name, number in network["versions"].items())
    return f"on {network['date']}, {network['machine']}, {libraries}"


def _name(neck: str) -> str:
    return neck if neck == NO_NECK else f"`{neck}`"


def _and(items: Iterable[str]) -> str:
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last
