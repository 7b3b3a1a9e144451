"""The live audit: from the fields of a form or a link to the HTML of a page, and the sliders of chapter 4.

The page that runs Python in the browser and the sliders show the same HTML; all numbers come from the ledger. Only the
sliders need more than the standard library: ipywidgets.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from html import escape
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import urlencode

from efficientformer_edu._validation import invalid_value, known_fields
from efficientformer_edu.audit import COUNTERS, Costs, Form, count
from efficientformer_edu.audit.explain import explain_costs, get_rule
from efficientformer_edu.audit.growth import attention_share
from efficientformer_edu.audit.rules import Code
from efficientformer_edu.config import PRESETS, EfficientFormerConfig, get_config, resolution_pair
from efficientformer_edu.plots.strip import Svg, strip
from efficientformer_edu.utils.tables import Cell, Table, format_cell

DEFAULTS = {"model": "l1", "resolution": "224", "form": "trained", "counter": next(iter(COUNTERS))}
SHAPE = tuple(field.name for field in dataclasses.fields(EfficientFormerConfig))
MAX_BLOCKS = 100  # more neither fit the figure nor can be counted while the reader types
MAX_VALUE = 30_000  # of any number, so that sums stay readable; ImageNet-21k has 21,841 classes
CONSTANTS = {"true": True, "false": False, "none": None}
NUMBER = re.compile(r"[+-]?\d[\d,.]*(?: %)?")
CODES: dict[Code, str] = {
    "released": "the authors' code, timm's and mmpretrain's",
    "huggingface": "the classes of Hugging Face",
}


class Question(NamedTuple):
    """The network to audit.

    Attributes:
        config: the network.
        resolution: height and width of the image in pixels.
        form: "trained" or "folded".
        counter: the counter to explain, a key of `COUNTERS`.
    """

    config: EfficientFormerConfig
    resolution: tuple[int, int]
    form: Form
    counter: str


class Live(NamedTuple):
    """The answer as strings.

    Attributes:
        diagram: the network as a strip of bars, SVG.
        summary: parameters, MACs, bytes and the share of attention, HTML.
        ledger: costs by stage, an HTML table.
        kinds: costs by kind of operation, an HTML table.
        counters: the output of every counter, an HTML table.
        explanation: the steps to the numbers of the selected counter, HTML.
        yaml: the configuration in the format of `EfficientFormerConfig.from_yaml`.
        python: code that builds the configuration and counts it.
    """

    diagram: str
    summary: str
    ledger: str
    kinds: str
    counters: str
    explanation: str
    yaml: str
    python: str


def read(fields: Mapping[str, str]) -> Question:
    """Parse the fields of a form or the query of a link.

    Args:
        fields: `model`, `resolution` ("224" or "384x640"), `form`, `counter`, and any field of the configuration, such
            as `depths` ("3,2,6,4") or `num_vit` ("1" or "0,0,1,1"). Missing fields are those of the model; without a
            model, those of L1 at 224 pixels.

    Raises:
        ValueError: for an unknown field or an invalid value, in one sentence.
    """
    known_fields(fields, (*DEFAULTS, *SHAPE))
    values = {**DEFAULTS, **fields}
    config = get_config(values["model"]).replace(
        **{name: _parse(name, fields[name]) for name in SHAPE if name in fields}
    )
    if sum(config.depths) > MAX_BLOCKS:
        raise invalid_value("depths", config.depths, f"at most {MAX_BLOCKS} blocks in all")
    resolution = resolution_pair(_parse("resolution", re.sub("[x×]", ",", values["resolution"])))
    if values["form"] not in get_args(Form):
        raise invalid_value("form", values["form"], ", ".join(get_args(Form)))
    get_rule(values["counter"])
    form: Form = "folded" if values["form"] == "folded" else "trained"
    return Question(config, resolution, form, values["counter"])


def fields(question: Question) -> dict[str, str]:
    """The shortest fields that `read` parses to the same question."""
    config, (height, width) = question.config, question.resolution
    model, changes = min(
        ((name, _differences(config, preset)) for name, preset in PRESETS.items()), key=lambda pair: len(pair[1])
    )
    options = {
        "resolution": f"{height}" if height == width else f"{height}x{width}",
        "form": question.form,
        "counter": question.counter,
    }
    changed_options = {name: value for name, value in options.items() if value != DEFAULTS[name]}
    return {"model": model} | {name: _to_text(value) for name, value in changes.items()} | changed_options


def live(question: Question) -> Live:
    """Everything that a page shows for a question."""
    costs = count(question.config, question.resolution, question.form)
    return Live(
        diagram=str(strip(costs)),
        summary=_summary(costs),
        ledger=_ledger(costs, "stage"),
        kinds=_ledger(costs, "kind"),
        counters=_counters(costs),
        explanation=_explanation(costs, question.counter),
        yaml=question.config.to_yaml(),
        python=_python(costs),
    )


def answer(values: Mapping[str, str]) -> dict[str, str]:
    """The fields of `Live` and the query of a link to them for the fields of a form; or only `error`."""
    try:
        question = read(values)
    except ValueError as error:
        return {"error": str(error)}
    return live(question)._asdict() | {"link": urlencode(fields(question), safe=",")}


# Text and values


def _differences(config: EfficientFormerConfig, other: EfficientFormerConfig) -> dict[str, Any]:
    """The fields of `config` whose value differs from that in `other`."""
    return {name: value for name in SHAPE if (value := getattr(config, name)) != getattr(other, name)}


def _parse(name: str, text: str) -> Any:
    """A number, True, False, None, or a tuple of them. Other text is returned unchanged, for the config to reject."""
    if "," in text:
        return tuple(_parse(name, part) for part in text.split(","))
    text = text.strip()
    if text.lower() in CONSTANTS:
        return CONSTANTS[text.lower()]
    for number in (int, float):
        try:
            value = number(text)
        except ValueError:
            continue
        if abs(value) > MAX_VALUE:
            raise invalid_value(name, text, f"numbers up to {MAX_VALUE:,}")
        return value
    return text


def _to_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_to_text, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _python(costs: Costs) -> str:
    """Code that builds the network of a ledger and counts it, without the fields that have their default."""
    height, width = costs.resolution
    changes = _differences(costs.config, EfficientFormerConfig())
    arguments = "".join(f"\n    {name}={value!r}," for name, value in changes.items()) + ("\n" if changes else "")
    options = f"resolution={height if height == width else costs.resolution}"
    if costs.form != "trained":
        options += f', form="{costs.form}"'
    return (
        "import efficientformer_edu as ef\n\n"
        f"config = ef.EfficientFormerConfig({arguments})\n"
        f"costs = ef.count(config, {options})\n"
        "print(costs.to_markdown())\n"
    )


# HTML


def _summary(costs: Costs) -> str:
    """Parameters, MACs, memory and the share of attention as a list of terms."""
    sums = costs.sums
    items: tuple[tuple[str, str, str], ...] = (
        ("parameters", f"{sums.params:,}", "learned values"),
        ("MACs", f"{sums.macs:,}", "multiply-accumulates for one image"),
        ("weights", f"{sums.weight_bytes:,} bytes", "parameters and stored statistics in float32"),
        ("activations", f"{sums.activation_bytes:,} bytes", "all outputs of operations, in float32"),
        ("attention products", f"{100 * attention_share(costs):.2f} %", "of all MACs"),
    )
    terms = (
        f'<div><dt>{term}</dt><dd><span class="number">{value}</span> <small>{note}</small></dd></div>'
        for term, value, note in items
    )
    return f'<dl class="summary">{"".join(terms)}</dl>'


def _ledger(costs: Costs, level: Literal["stage", "kind"]) -> str:
    """Costs by stage or by kind of operation."""
    height, width = costs.resolution
    return _table(costs.table(level), f"Costs by {level}, as {costs.form}, for one image of {height}×{width} pixels")


def _counters(costs: Costs) -> str:
    """The output of every counter for the network in this package's code, next to the audit's count."""
    rows: list[tuple[Cell, ...]] = [("this audit", costs.macs, None, costs.params, None, None)]
    for counter, rule in COUNTERS.items():
        macs = explain_costs(counter, costs, "macs").total
        params = None if rule.params is None else explain_costs(counter, costs, "params").total
        more = None if params is None else params - costs.params
        status = "run in the tests" if rule.runs else "derived, not run"
        rows.append((counter, macs, macs - costs.macs, params, more, status))
    columns = ("counter", "MACs", "MACs beyond ours", "parameters", "parameters beyond ours", "how we know")
    formats = {"MACs beyond ours": "+,d", "parameters beyond ours": "+,d"}
    return _table(Table(columns, tuple(rows), formats=formats), "What every counter prints for this network")


def _explanation(costs: Costs, counter: str) -> str:
    """The steps from the audit's counts to those of a counter, a note on it, and its results for other code."""
    rule = COUNTERS[counter]
    html = [f"<p><strong>{escape(rule.tool)}</strong>. {escape(rule.note)}</p>"]
    macs = explain_costs(counter, costs, "macs")
    html.append(_table(macs.table(), f"From our MACs to what {counter} prints"))
    if rule.params is not None:
        params = explain_costs(counter, costs, "params")
        html.append(
            _table(params.table(), f"From our parameters to what {counter} prints")
            if params.steps
            else f"<p>It counts the same {costs.params:,} parameters as we do.</p>"
        )
    others = [explain_costs(counter, costs, "macs", code) for code in CODES]
    differing = [f"{format_cell(other.total)} for {CODES[other.code]}" for other in others if other.total != macs.total]
    if differing:
        html.append(f"<p>Other implementations of the same network count as {escape('; '.join(differing))}.</p>")
    return "".join(html)


def _table(table: Table, caption: str) -> str:
    """A table as HTML; the first cell of a row is its header, and a row of totals is the footer."""
    body = table.formatted()
    numeric = [any(NUMBER.fullmatch(row[index]) for row in body) for index, _ in enumerate(table.columns)]
    head = "".join(_cell("th", name, right, "col") for name, right in zip(table.columns, numeric, strict=True))
    rows = []
    for first, *others in body:
        cells = (_cell("td", text, right) for text, right in zip(others, numeric[1:], strict=True))
        rows.append(f"<tr>{_cell('th', first, False, 'row')}{''.join(cells)}</tr>")
    foot = f"<tfoot>{rows.pop()}</tfoot>" if table.total else ""
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody>{foot}</table>"
    )


def _cell(tag: Literal["th", "td"], text: str, right: bool, scope: str = "") -> str:
    attributes = (f' scope="{scope}"' if scope else "") + (' class="number"' if right else "")
    return f"<{tag}{attributes}>{escape(text)}</{tag}>"


# Widgets

SLIDER_MAX = {"depths": 24, "embed_dims": 1024, "resolution": 1024}
SHOWN = ("diagram", "summary", "ledger", "counters", "explanation")  # fields of `Live` below the sliders
CSS = (
    "<style>.audit .number {text-align: right; font-variant-numeric: tabular-nums}"
    ".audit :is(th, td) {text-align: left; padding-left: 1em}"
    ".audit caption {text-align: left; font-weight: bold; padding-top: 1em}"
    ".audit dl.summary div {display: inline-block; margin: 0 2em 0.5em 0}"
    ".audit dl.summary :is(dt, dd) {display: block; float: none; width: auto; margin: 0; padding: 0}"
    ".audit dl.summary .number {padding: 0}</style>"
)


class Sliders:
    """Sliders that change a network, with its costs below them. Without a kernel, Jupyter shows the strip instead.

    Args:
        model: name of the published network to start from.
        resolution: height and width of the image in pixels.

    Attributes:
        controls: the widgets by name; setting a `value` updates the output.
        output: the widget with the costs or the error message.
        view: the widget that contains everything.
        diagram: the latest strip.

    Raises:
        ValueError: for an unknown name, or a resolution below 32 pixels.
    """

    def __init__(self, model: str = "l1", resolution: int = 224) -> None:
        import ipywidgets as widgets

        config, (height, _) = get_config(model), resolution_pair(resolution)
        name = next(name for name, preset in PRESETS.items() if preset == config)
        style = {"description_width": "7em"}

        def slider(label: str, low: int, high: int, step: int = 1) -> Any:
            return widgets.IntSlider(low, low, high, step, description=label, style=style)

        def dropdown(label: str, options: Any, value: Any) -> Any:
            return widgets.Dropdown(options=options, value=value, description=label, style=style)

        stages = range(1, 5)
        depths = {f"depths {j}": slider(f"depth {j}", 1, SLIDER_MAX["depths"]) for j in stages}
        dims = {f"embed_dims {j}": slider(f"width {j}", 16, SLIDER_MAX["embed_dims"], 16) for j in stages}
        options = {
            "model": dropdown("start from", list(PRESETS), name),
            "num_vit": slider("num_vit", 0, SLIDER_MAX["depths"]),
            "resolution": slider("resolution", 32, max(SLIDER_MAX["resolution"], height)),
            "form": dropdown("form", get_args(Form), DEFAULTS["form"]),
            "counter": dropdown("counter", list(COUNTERS), DEFAULTS["counter"]),
        }
        options["resolution"].value = height
        self.controls = {**options, **depths, **dims}
        self.output = widgets.HTML()
        self.diagram = Svg()
        self._updating = False  # while a preset moves the sliders
        for name, control in self.controls.items():
            control.observe(self._load_preset if name == "model" else self._show, "value")
        columns = [widgets.VBox(list(group.values())) for group in (options, depths, dims)]
        self.view = widgets.VBox([widgets.HBox(columns, layout={"flex_flow": "row wrap"}), self.output])
        self._load_preset()

    @property
    def fields(self) -> dict[str, str]:
        """The values of the controls in the format of `read`."""
        values = {name: str(control.value) for name, control in self.controls.items()}
        shape = {name: ",".join(values.pop(f"{name} {j}") for j in range(1, 5)) for name in ("depths", "embed_dims")}
        return values | shape

    def _load_preset(self, _: object = None) -> None:
        config = PRESETS[self.controls["model"].value]
        self._updating = True
        for j in range(4):
            self.controls[f"depths {j + 1}"].value = config.depths[j]
            self.controls[f"embed_dims {j + 1}"].value = config.embed_dims[j]
        self.controls["num_vit"].value = config.num_vit
        self._updating = False
        self._show()

    def _show(self, _: object = None) -> None:
        if self._updating:
            return
        html = answer(self.fields)
        if "error" in html:
            self.output.value = f'<p role="alert">{escape(html["error"])}</p>'
        else:
            self.output.value = f'{CSS}<div class="audit">{"".join(html[name] for name in SHOWN)}</div>'
            self.diagram = Svg(html["diagram"])

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """The widget for a front end with a kernel, the strip for a front end without."""
        return self.view._repr_mimebundle_() | self.diagram._repr_mimebundle_()
