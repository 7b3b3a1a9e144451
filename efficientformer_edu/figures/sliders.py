"""Sliders that change a network and show at once what it then costs. Needs ipywidgets.

They show the same pieces as the page that runs Python in the browser. Where no kernel runs, as in a stored notebook,
the strip of the network stands in their place.
"""

from __future__ import annotations

from html import escape
from typing import Any, get_args

import ipywidgets as widgets

from efficientformer_edu.audit import COUNTERS, Form
from efficientformer_edu.config import PRESETS, get_config, resolution_pair
from efficientformer_edu.figures.live import DEFAULTS, answer
from efficientformer_edu.figures.strip import Svg

MOST = {"depths": 24, "embed_dims": 1024, "resolution": 1024}
ROW = {"description_width": "7em"}
STYLE = (
    "<style>.audit .number {text-align: right; font-variant-numeric: tabular-nums}"
    ".audit :is(th, td) {text-align: left; padding-left: 1em}"
    ".audit caption {text-align: left; font-weight: bold; padding-top: 1em}"
    ".audit dl.summary div {display: inline-block; margin: 0 2em 0.5em 0}"
    ".audit dl.summary :is(dt, dd) {display: block; float: none; width: auto; margin: 0; padding: 0}"
    ".audit dl.summary .number {padding: 0}</style>"
)
PIECES = ("diagram", "summary", "ledger", "counters", "explanation")


class Sliders:
    """Controls with the answer below them.

    Attributes:
        controls: the controls by name; a change of one's `value` changes what is shown.
        shown: the widget with the pieces, or with the sentence that says why there are none.
        view: the widget that holds everything.
        diagram: the strip that was shown last.
    """

    def __init__(self, model: str, resolution: int) -> None:
        self.controls = _controls(model, resolution)
        self.shown = widgets.HTML()
        self.diagram = Svg()
        self._resting = False  # while a preset moves the sliders
        for name, control in self.controls.items():
            control.observe(self._take_preset if name == "model" else self._show, "value")
        shape = [control for name, control in self.controls.items() if name[-1].isdigit()]
        rest = [control for control in self.controls.values() if control not in shape]
        columns = [widgets.VBox(column) for column in (rest, shape[:4], shape[4:])]
        self.view = widgets.VBox([widgets.HBox(columns, layout={"flex_flow": "row wrap"}), self.shown])
        self._take_preset()

    @property
    def fields(self) -> dict[str, str]:
        """What the controls say, in the words that `efficientformer_edu.figures.live.read` takes."""
        values = {name: str(control.value) for name, control in self.controls.items()}
        lists = {
            name: ",".join(values.pop(f"{name} {stage}") for stage in range(1, 5)) for name in ("depths", "embed_dims")
        }
        return values | lists

    def _take_preset(self, _: object = None) -> None:
        config = PRESETS[self.controls["model"].value]
        self._resting = True
        for name in ("depths", "embed_dims"):
            for stage, value in enumerate(getattr(config, name), start=1):
                self.controls[f"{name} {stage}"].value = value
        self.controls["num_vit"].value = config.num_vit
        self._resting = False
        self._show()

    def _show(self, _: object = None) -> None:
        if self._resting:
            return
        pieces = answer(self.fields)
        if "error" in pieces:
            self.shown.value = f'<p role="alert">{escape(pieces["error"])}</p>'
        else:
            self.shown.value = f'{STYLE}<div class="audit">{"".join(pieces[name] for name in PIECES)}</div>'
            self.diagram = Svg(pieces["diagram"])

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        """The widget for a front end with a kernel, the strip for one without."""
        return self.view._repr_mimebundle_() | self.diagram._repr_mimebundle_()


def sliders(model: str = "l1", resolution: int = 224) -> Sliders:
    """Controls for depths, widths, MB3D blocks, resolution, form and counter, which start from a published network.

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

    def slider(words: str, least: int, most: int, step: int = 1) -> Any:
        return widgets.IntSlider(least, least, most, step, description=words, style=ROW)

    def choice(words: str, options: Any, value: Any) -> Any:
        return widgets.Dropdown(options=options, value=value, description=words, style=ROW)

    stages = range(1, 5)
    size = slider("resolution", 32, max(MOST["resolution"], height))
    size.value = height
    return {
        **{f"depths {stage}": slider(f"depth {stage}", 1, MOST["depths"]) for stage in stages},
        **{f"embed_dims {stage}": slider(f"width {stage}", 16, MOST["embed_dims"], 16) for stage in stages},
        "model": choice("start from", list(PRESETS), name),
        "num_vit": slider("num_vit", 0, MOST["depths"]),
        "resolution": size,
        "form": choice("form", get_args(Form), DEFAULTS["form"]),
        "counter": choice("counter", list(COUNTERS), DEFAULTS["counter"]),
    }
