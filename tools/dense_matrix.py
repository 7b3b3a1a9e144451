"""Tries every neck with every head on L1, L3 and L7: `python -m tools.dense_matrix`, or only those named behind it.

What goes together is built with random weights and run at four sizes. torch.fx makes one graph of it for all sizes, and
so does torch.export; both have to give the same numbers at the two odd sizes. What does not go together has to be
refused. The outcome is stored network by network in `results/dense_matrix.json`, from which `tools.dense_page` fills
the site's table; tests/dense/test_matrix.py tries what is cheap again.

It takes some seven minutes of one core, and less than 3 GB.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.dense import DenseConfig, DenseNetwork
from efficientformer_edu.dense.network import CLASSES, HEADS, MATRIX, NECKS, TASKS
from efficientformer_edu.files import whole
from efficientformer_edu.machine import processor, versions
from tools import ROOT

RECORDS = ROOT / "results" / "dense_matrix.json"
SIZES = ((512, 512), (225, 225), (480, 640), (500, 333))  # height and width
COMPARED = ((225, 225), (500, 333))  # at which the graphs run, too
# From here on the last stage's map is larger than the grid that the table of offsets was trained for, 7×7, where the
# table is taken as it is: another graph.
SMALLEST, LARGEST = 225, 4096  # pixels that the exported program takes
TRACED_AT = (256, 320)  # the images that torch.export sees
FORMS = ("torch.fx", "torch.export")

Size = tuple[int, int]


@dataclass(frozen=True)
class Cell:
    """One neck and one head on one network.

    Attributes:
        network: a published one.
        neck: its name, or "no neck".
        head: its name.
        refused: the error that refuses the pair; "" where the two go together.
        parameters: of the whole network.
        outputs: size to the shapes of what comes out for one image.
        tried: "run", "torch.fx" and "torch.export", each with size to "", or to what went wrong.
    """

    network: str
    neck: str
    head: str
    refused: str = ""
    parameters: int = 0
    outputs: dict[str, list[str]] = field(default_factory=dict)
    tried: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def faults(self) -> list[str]:
        """What went wrong, one sentence each."""
        return [
            f"{self.network}, {self.neck}, {self.head}: {step} at {size}: {fault}"
            for step, sizes in self.tried.items()
            for size, fault in sizes.items()
            if fault
        ]


def pair(backbone: EfficientFormerConfig, neck: str, head: str) -> DenseConfig:
    """A neck and a head with their default fields, for the classes of the task. Raises ValueError if refused."""
    return DenseConfig(backbone, HEADS[head](), NECKS[neck]() if neck in NECKS else None, CLASSES[TASKS[head]])


def tried(network: str, neck: str, head: str, sizes: Iterable[Size] = SIZES, forms: Iterable[str] = FORMS) -> Cell:
    """Try one pair on a published network: all of it, or at some sizes and some of the graphs."""
    try:
        config = pair(PRESETS[network], neck, head)
    except ValueError as error:
        return Cell(network, neck, head, refused=str(error))
    torch.manual_seed(0)
    built = moved(DenseNetwork(config)).eval()
    made = {form: attempt(partial(_MAKE[form], built)) for form in forms}
    cell = Cell(network, neck, head, parameters=sum(parameter.numel() for parameter in built.parameters()))
    for size in sizes:
        images, at = torch.randn(1, 3, *size), size_text(size)
        found, fault = attempt(partial(finite, built, images))
        cell.tried.setdefault("run", {})[at] = fault
        cell.outputs[at] = [size_text(output.shape) for output in found or []]
        for form, (graph, no_graph) in made.items() if size in COMPARED else ():
            reason = fault or no_graph or attempt(partial(same, graph, images, found))[1]
            cell.tried.setdefault(form, {})[at] = reason
    return cell


@torch.no_grad()
def moved(network: DenseNetwork) -> DenseNetwork:
    """Everything that starts at zero or one moved a little: a fresh bias hides where it is left out."""
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.is_floating_point() and (tensor.ndim == 1 or name.endswith("attention_biases")):
            tensor += 0.02 * torch.randn_like(tensor)
    return network


def attempt(step: Callable[[], Any]) -> tuple[Any, str]:
    """What the step returns and "", or None and the first line of its error."""
    try:
        return step(), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


@torch.no_grad()
def finite(network: nn.Module, images: Tensor) -> list[Tensor]:
    """The outputs. Raises ValueError if one is infinite or no number."""
    outputs = flat(network(images))
    if not all(bool(output.isfinite().all()) for output in outputs):
        raise ValueError("an output is infinite or no number")
    return outputs


@torch.no_grad()
def same(graph: nn.Module, images: Tensor, outputs: list[Tensor]) -> None:
    """Raises AssertionError unless the graph gives these outputs."""
    found = flat(graph(images))
    assert len(found) == len(outputs), f"{len(found)} outputs, not {len(outputs)}"
    for ours, wanted in zip(found, outputs, strict=True):
        torch.testing.assert_close(ours, wanted)


def flat(outputs: Any) -> list[Tensor]:
    """What a head gives, as a list: one tensor, or several."""
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


@torch.no_grad()
def exported(network: nn.Module) -> nn.Module:
    """The network by torch.export, for any number of images of any size from 225×225."""
    batch = torch.export.Dim("batch", min=1, max=64)
    height, width = (torch.export.Dim(name, min=SMALLEST, max=LARGEST) for name in ("height", "width"))
    images = torch.randn(2, 3, *TRACED_AT)
    program = torch.export.export(network, (images,), dynamic_shapes=({0: batch, 2: height, 3: width},))
    module: nn.Module = program.module()
    return module


_MAKE: dict[str, Callable[[nn.Module], nn.Module]] = {"torch.fx": torch.fx.symbolic_trace, "torch.export": exported}


def size_text(size: Iterable[int]) -> str:
    """512×512."""
    return "×".join(map(str, size))


def write(network: str, cells: list[Cell]) -> None:
    """Store one network's cells, and where and when they were tried; the other networks' stay what they are."""
    networks = stored()["networks"] if RECORDS.exists() else {}
    networks[network] = {
        "date": date.today().isoformat(),
        "versions": {name: number for name, number in versions().items() if name in ("python", "torch")},
        "machine": processor(),
        "cells": cells,
    }
    record = {
        "command": "python -m tools.dense_matrix",
        "networks": {name: networks[name] for name in sorted(networks)},
    }
    with whole(RECORDS) as file:
        text = json.dumps(record, indent=1, ensure_ascii=False, default=asdict)
        file.write_text(text + "\n", encoding="utf-8")


def stored() -> dict[str, Any]:
    """The record, its cells as `Cell`."""
    record: dict[str, Any] = json.loads(RECORDS.read_text(encoding="utf-8"))
    for network in record["networks"].values():
        network["cells"] = [Cell(**cell) for cell in network["cells"]]
    return record


def main(networks: Iterable[str] = ()) -> int:
    """Try all, cell by cell, and store the outcome; the exit status is 1 if anything went wrong."""
    faults, started = [], time.monotonic()
    for network in networks or PRESETS:
        cells = []
        for neck, head in MATRIX:
            cells.append(cell := tried(network, neck, head))
            said = "refused" if cell.refused else f"{cell.parameters:,} parameters, {len(cell.faults)} faults"
            print(f"{time.monotonic() - started:6.0f} s  {network}  {neck:10} {head:27} {said}", flush=True)
        write(network, cells)
        faults += [fault for cell in cells for fault in cell.faults]
    print("\n".join([*faults, f"  {RECORDS.relative_to(ROOT)}"]))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
