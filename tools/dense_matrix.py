"""Test every neck with every head on L1, L3 and L7: `python -m tools.dense_matrix [NETWORK ...]`.

Supported pairs are built with random weights and run at four sizes. torch.fx and torch.export each trace one graph for
all sizes; both graphs must give the same outputs at the two odd sizes. Unsupported pairs must raise an error. The
results are stored per network in `dense_matrix.json`, from which `tools.dense_page` fills the site's table;
tests/dense/test_matrix.py repeats the fast cases.

It takes about seven minutes on one core, and less than 3 GB of memory.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.dense import DenseConfig, DenseNetwork
from efficientformer_edu.dense.network import HEADS, MATRIX, NECKS, NUM_CLASSES
from efficientformer_edu.utils.hardware import processor, versions
from efficientformer_edu.utils.records import load_json, save_json, stored
from tools import ROOT

RECORDS = stored("dense_matrix.json")
SIZES = ((512, 512), (225, 225), (480, 640), (500, 333))  # height and width
COMPARED = ((225, 225), (500, 333))  # sizes at which the graphs run, too
# From this size on, the last stage's feature map is larger than the 7×7 grid for which the attention-bias table was
# trained. On the 7×7 grid itself the table is not resized, which gives a different graph.
SMALLEST, LARGEST = 225, 4096  # range of image sizes of the exported program, in pixels
TRACED_AT = (256, 320)  # size of the example images for torch.export
FORMS = ("torch.fx", "torch.export")

Size = tuple[int, int]


@dataclass(frozen=True)
class Cell:
    """One neck and one head on one network.

    Attributes:
        network: name of a published network.
        neck: name of the neck, or "no neck".
        head: name of the head.
        refused: the error for an unsupported pair; "" for a supported one.
        parameters: number of parameters of the network.
        outputs: shapes of the outputs for one image, by size.
        tried: for "run", "torch.fx" and "torch.export": "" or the error message, by size.
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
        """The failures, one sentence each."""
        return [
            f"{self.network}, {self.neck}, {self.head}: {step} at {size}: {fault}"
            for step, sizes in self.tried.items()
            for size, fault in sizes.items()
            if fault
        ]


def pair(backbone: EfficientFormerConfig, neck: str, head: str) -> DenseConfig:
    """Combine a neck and a head with default fields, for the classes of the task.

    Raises ValueError for an unsupported pair.
    """
    fields = NECKS[neck].config() if neck in NECKS else None
    return DenseConfig(backbone, HEADS[head].config(), fields, NUM_CLASSES[HEADS[head].task])


def tried(network: str, neck: str, head: str, sizes: Iterable[Size] = SIZES, forms: Iterable[str] = FORMS) -> Cell:
    """Test one pair on a published network, at the given sizes and with the given graphs."""
    try:
        config = pair(PRESETS[network], neck, head)
    except ValueError as error:
        return Cell(network, neck, head, refused=str(error))
    torch.manual_seed(0)
    built = moved(DenseNetwork(config)).eval()
    graphs = {form: attempt(partial(_MAKE[form], built)) for form in forms}
    cell = Cell(network, neck, head, parameters=sum(parameter.numel() for parameter in built.parameters()))
    for size in sizes:
        images, at = torch.randn(1, 3, *size), size_text(size)
        outputs, fault = attempt(partial(finite, built, images))
        cell.tried.setdefault("run", {})[at] = fault
        cell.outputs[at] = [size_text(output.shape) for output in outputs or []]
        for form, (graph, no_graph) in graphs.items() if size in COMPARED else ():
            reason = fault or no_graph or attempt(partial(same, graph, images, outputs))[1]
            cell.tried.setdefault(form, {})[at] = reason
    return cell


@torch.no_grad()
def moved(network: DenseNetwork) -> DenseNetwork:
    """Add noise to parameters and buffers initialized to zero or one, so that a missing bias has an effect."""
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.is_floating_point() and (tensor.ndim == 1 or name.endswith("attention_biases")):
            tensor += 0.02 * torch.randn_like(tensor)
    return network


def attempt(step: Callable[[], Any]) -> tuple[Any, str]:
    """Return the result of a step and "", or None and the first line of its error."""
    try:
        return step(), ""
    except Exception as error:
        return None, f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


@torch.no_grad()
def finite(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the outputs. Raises ValueError if one is infinite or NaN."""
    outputs = flat(network(images))
    if not all(bool(output.isfinite().all()) for output in outputs):
        raise ValueError("an output is infinite or NaN")
    return outputs


@torch.no_grad()
def same(graph: nn.Module, images: Tensor, outputs: list[Tensor]) -> None:
    """Raise AssertionError unless the graph gives these outputs."""
    graph_outputs = flat(graph(images))
    assert len(graph_outputs) == len(outputs), f"{len(graph_outputs)} outputs, not {len(outputs)}"
    for actual, expected in zip(graph_outputs, outputs, strict=True):
        torch.testing.assert_close(actual, expected)


def flat(outputs: Any) -> list[Tensor]:
    """Return the outputs of a head, one tensor or several, as a list."""
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


@torch.no_grad()
def exported(network: nn.Module) -> nn.Module:
    """Export the network with torch.export, for any batch size and any image size from 225×225."""
    batch = torch.export.Dim("batch", min=1, max=64)
    height, width = (torch.export.Dim(name, min=SMALLEST, max=LARGEST) for name in ("height", "width"))
    images = torch.randn(2, 3, *TRACED_AT)
    program = torch.export.export(network, (images,), dynamic_shapes=({0: batch, 2: height, 3: width},))
    module: nn.Module = program.module()
    return module


_MAKE: dict[str, Callable[[nn.Module], nn.Module]] = {"torch.fx": torch.fx.symbolic_trace, "torch.export": exported}


def size_text(size: Iterable[int]) -> str:
    """Format a size or shape, such as 512×512."""
    return "×".join(map(str, size))


def write(network: str, cells: list[Cell]) -> None:
    """Store the cells of one network with machine, versions and date; other networks are unchanged."""
    networks = load_matrix()["networks"] if RECORDS.exists() else {}
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
    save_json(record, RECORDS, "dense matrix")


def load_matrix() -> dict[str, Any]:
    """Read the record, with its cells as `Cell`."""

    def parse(record: dict[str, Any]) -> dict[str, Any]:
        for network in record["networks"].values():
            network["cells"] = [Cell(**cell) for cell in network["cells"]]
        return record

    return load_json(RECORDS, "dense matrix", parse)


def main(networks: Iterable[str] = ()) -> int:
    """Test all cells and store the results; the exit status is 1 if a test failed."""
    faults, started = [], time.monotonic()
    for network in networks or PRESETS:
        cells = []
        for neck, head in MATRIX:
            cells.append(cell := tried(network, neck, head))
            summary = "refused" if cell.refused else f"{cell.parameters:,} parameters, {len(cell.faults)} faults"
            print(f"{time.monotonic() - started:6.0f} s  {network}  {neck:10} {head:27} {summary}", flush=True)
        write(network, cells)
        faults += [fault for cell in cells for fault in cell.faults]
    print("\n".join([*faults, f"  {RECORDS.relative_to(ROOT)}"]))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
