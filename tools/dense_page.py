"""What the page `Necks and heads` has from the code: tables of what goes together, and the drawing of a detector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from efficientformer_edu.audit.tables import Table
from efficientformer_edu.config import PRESETS
from efficientformer_edu.dense import AnchorDecoupledHeadConfig, DenseConfig, FPNConfig
from efficientformer_edu.dense.network import CLASSES, HEADS, NECKS, WITHOUT
from efficientformer_edu.figures.dense import dense_mermaid
from tools.dense_matrix import Cell, stored

YES = "✓"


def matrix() -> str:
    """Which neck goes with which head, on which network, and why the others do not: from `results/`."""
    return of_record(stored())


def of_record(record: dict[str, Any]) -> str:
    """Three tables in Markdown, and where their cells come from."""
    networks = record["networks"]
    cells: list[Cell] = [cell for network in PRESETS for cell in networks[network]["cells"]]
    necks = (WITHOUT, *NECKS)
    by_pair = {(neck, head): _of(cells, neck, head) for head in HEADS for neck in necks}
    heads = tuple((f"`{head}`", *(_works(by_pair[neck, head]) for neck in necks)) for head in HEADS)
    together = {pair: found for pair, found in by_pair.items() if not found[0].refused}
    steps = list(next(iter(together.values()))[0].tried)
    tried: tuple[tuple[str | int, ...], ...] = tuple(
        (_name(neck), f"`{head}`", *(_counted(found, step) for step in steps), *(cell.parameters for cell in found))
        for (neck, head), found in together.items()
    )
    refused = tuple(
        (_name(neck), f"`{head}`", found[0].refused.partition(" is not possible: ")[2].partition("; allowed")[0])
        for (neck, head), found in by_pair.items()
        if found[0].refused
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
            f"are for {_and(f'{count} classes in {task}' for task, count in CLASSES.items())}:",
            Table(columns, tried).to_markdown(),
            *(["What went wrong:", "\n".join(faults)] if faults else []),
            f"Tried by `{record['command']}` {'; '.join(where)}. The tests try the smaller ones again.",
            "The other pairs raise an error that says why:",
            Table(("neck", "head", "why not"), refused).to_markdown(),
        ]
    )


def diagram() -> str:
    """L1 as a detector."""
    config = DenseConfig(PRESETS["l1"], AnchorDecoupledHeadConfig(), FPNConfig(), num_classes=20)
    return f"```mermaid\n{dense_mermaid(config)}```"


def _of(cells: Iterable[Cell], neck: str, head: str) -> list[Cell]:
    """The cells of one pair, one for each network."""
    found = {cell.network: cell for cell in cells if (cell.neck, cell.head) == (neck, head)}
    return [found[network] for network in PRESETS]


def _works(found: list[Cell]) -> str:
    if found[0].refused:
        return "refused"
    failed = [cell.network.upper() for cell in found if cell.faults]
    return f"not on {_and(failed)}" if failed else YES


def _counted(found: list[Cell], step: str) -> str:
    outcomes = [fault for cell in found for fault in cell.tried[step].values()]
    return f"{outcomes.count('')} of {len(outcomes)}"


def _where(network: dict[str, Any]) -> str:
    libraries = _and(f"{name} {number}" for name, number in network["versions"].items())
    return f"on {network['date']}, {network['machine']}, {libraries}"


def _name(neck: str) -> str:
    return neck if neck == WITHOUT else f"`{neck}`"


def _and(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
