"""Generate the parts of the page `Audit a network`: the tables of the presets, and the form with its first result."""

from __future__ import annotations

from typing import get_args
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from efficientformer_edu.audit import COUNTERS, Form, count, explain
from efficientformer_edu.audit.rules import Quantity
from efficientformer_edu.config import PRESETS, EfficientFormerConfig, get_config
from efficientformer_edu.plots.live import DEFAULTS, answer
from efficientformer_edu.utils.tables import Cell, Table
from tools import ROOT

TEMPLATES = ROOT / "docs" / "includes"
SHAPE = ("depths", "embed_dims", "num_vit")  # the fields of the configuration in the form


def presets() -> str:
    """Return three Markdown tables: the costs of the published networks, and the results of every counter for them."""
    names = [name.upper() for name in PRESETS]
    ledgers = [count(name) for name in PRESETS]
    costs: tuple[tuple[Cell, ...], ...] = (
        ("parameters", *(costs.params for costs in ledgers)),
        ("MACs", *(costs.macs for costs in ledgers)),
        ("bytes of weights", *(costs.sums.weight_bytes for costs in ledgers)),
        ("bytes of activations", *(costs.sums.activation_bytes for costs in ledgers)),
    )
    tables = [
        Table(("our count", *names), costs),
        Table(("MACs as printed by", *names, "how we know"), _printed("macs")),
        Table(("parameters as printed by", *names, "how we know"), _printed("params")),
    ]
    return "\n\n".join(table.to_markdown() for table in tables)


def _printed(quantity: Quantity) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (
            counter,
            *(explain(counter, name, quantity=quantity).total for name in PRESETS),
            "run in the tests" if rule.runs else "derived, not run",
        )
        for counter, rule in COUNTERS.items()
        if quantity == "macs" or rule.params is not None
    )


def live() -> str:
    """Return the form together with the result for its initial values."""
    config = get_config(DEFAULTS["model"])
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    return environment.get_template("audit.html").render(
        presets={name: urlencode(_fields(preset), safe=",") for name, preset in PRESETS.items()},
        depths={f"stage {j}": depth for j, depth in enumerate(config.depths, start=1)},
        widths={f"stage {j}": width for j, width in enumerate(config.embed_dims, start=1)},
        num_vit=config.num_vit,
        sizes=dict.fromkeys(("height", "width"), DEFAULTS["resolution"]),
        forms=get_args(Form),
        counters=COUNTERS,
        answer=answer({}),
    )


def _fields(config: EfficientFormerConfig) -> dict[str, str]:
    """Return the values of the form for a network."""
    values = {name: getattr(config, name) for name in SHAPE}
    return {name: str(value).strip("()").replace(" ", "") for name, value in values.items()}
