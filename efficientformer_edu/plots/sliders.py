"""Sliders that change a network and show its costs immediately. Needs ipywidgets.

They show the same HTML as the page that runs Python in the browser. Without a kernel, as in a stored notebook, a front
end shows the strip of the network instead.
"""

from __future__ import annotations

from html import escape
from typing import Any, get_args

import ipywidgets as widgets

from efficientformer_edu.audit import COUNTERS, Form
from efficientformer_edu.config import PRESETS, get_config, resolution_pair
from efficientformer_edu.plots.live import DEFAULTS, answer
from efficientformer_edu.plots.strip import Svg

MAX_VALUES = {"depths": 24, "embed_dims": 1024, "resolution": 1024}
ROW = {"description_width": "7em"}
STYLE = (
    "<style>.audit .number {text-align: right; font-variant-numeric: tabular-nums}"
    ".audit :is(th, td) {text-align: left; padding-left: 1em}"
    ".audit caption {text-align: left; font-weight: bold; padding-top: 1em}"
    ".audit dl.summary div {display: inline-block; margin: 0 2em 0.5em 0}"
    ".audit dl.summary :is(dt, dd) {display: block; float: none; width: auto; margin: 0; padding: 0}"
    ".audit dl.summary .number {padding: 0}</style>"
)
FIELDS = ("diagram", "summary", "ledger", "counters", "explanation")


class Sliders:
    """Controls with the answer below them.

    Attributes:
        controls: the controls by name; setting a `value` updates the answer.
        output: the widget with the answer or the error message.
        view: the widget that contains everything.
        diagram: the latest strip.
    """

    def __init__(self, model: str, resolution: int) -> None:
        self.controls = _controls(model, resolution)
        self.output = widgets.HTML()
        self.diagram = Svg()
        self._updating = False  # while a preset moves the sliders
        for name, control in self.controls.items():
            control.observe(self._load_preset if name == "model" else self._show, "value")
        shape = [control for name, control in self.controls.items() if name[-1].isdigit()]
        options = [control for control in self.controls.values() if control not in shape]
        columns = [widgets.VBox(column) for column in (options, shape[:4], shape[4:])]
        self.view = widgets.VBox([widgets.HBox(columns, layout={"flex_flow": "row wrap"}), self.output])
        self._load_preset()

    @property
    def fields(self) -> dict[str, str]:
        """The values of the controls in the format of `efficientformer_edu.plots.live.read`."""
        values = {name: str(control.value) for name, control in self.controls.items()}
        lists = {
            name: ",".join(values.pop(f"{name} {stage}") for stage in range(1, 5)) for name in ("depths", "embed_dims")
        }
        return values | lists

    def _load_preset(self, _: object = None) -> None:
        config = PRESETS[self.controls["model"].value]
        self._updating = True
        for name in ("depths", "embed_dims"):
            for stage, value in enumerate(getattr(config, name), start=1):
                self.controls[f"{name} {stage}"].value = value
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
            self.output.value = f'{STYLE}<div class="audit">{"".join(html[name] for name in FIELDS)}</div>'
            self.diagram = Svg(html["diagram"])

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """The widget for a front end with a kernel, the strip for a front end without."""
        return self.view._repr_mimebundle_() | self.diagram._repr_mimebundle_()


def sliders(model: str = "l1", resolution: int = 224) -> Sliders:
    """Controls for depths, widths, MB3D blocks, resolution, form and counter, starting from a published network.

    Args:
        model: name of the published network.
        resolution: height and width of the image in pixels.

    Raises:
        ValueError: for an unknown name, or a resolution below 32 pixels.
    """
    return Sliders(model, resolution)


def _controls(model: str, resolution: int) -> dict[str, Any]:
    config, (height, _) = get_config(model), resolution_pair(resolution)
    name = next(name for name, preset in PRESETS.items() if preset == config)

    def slider(label: str, low: int, high: int, step: int = 1) -> Any:
        return widgets.IntSlider(low, low, high, step, description=label, style=ROW)

    def choice(label: str, options: Any, value: Any) -> Any:
        return widgets.Dropdown(options=options, value=value, description=label, style=ROW)

    stages = range(1, 5)
    size = slider("resolution", 32, max(MAX_VALUES["resolution"], height))
    size.value = height
    return {
        **{f"depths {stage}": slider(f"depth {stage}", 1, MAX_VALUES["depths"]) for stage in stages},
        **{f"embed_dims {stage}": slider(f"width {stage}", 16, MAX_VALUES["embed_dims"], 16) for stage in stages},
        "model": choice("start from", list(PRESETS), name),
        "num_vit": slider("num_vit", 0, MAX_VALUES["depths"]),
        "resolution": size,
        "form": choice("form", get_args(Form), DEFAULTS["form"]),
        "counter": choice("counter", list(COUNTERS), DEFAULTS["counter"]),
    }
