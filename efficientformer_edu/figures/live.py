"""An audit that answers as the reader changes the network: from words in a form or a link to pieces of a page.

The page that runs Python in the browser and the sliders of chapter 4 show the same pieces. Needs nothing but the
standard library and this package's ledger.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, get_args
from urllib.parse import urlencode

from efficientformer_edu.audit import COUNTERS, Costs, Form, count
from efficientformer_edu.audit.explain import get_rule
from efficientformer_edu.config import PRESETS, EfficientFormerConfig, get_config, resolution_pair
from efficientformer_edu.config_values import known_fields, wrong
from efficientformer_edu.figures.fragments import counters_html, explanation_html, ledger_html, summary_html
from efficientformer_edu.figures.strip import strip

DEFAULTS = {"model": "l1", "resolution": "224", "form": "trained", "counter": next(iter(COUNTERS))}
SHAPE = tuple(field.name for field in dataclasses.fields(EfficientFormerConfig))
MOST_BLOCKS = 100  # more would neither fit the drawing nor be answered while one types
LARGEST = 30_000  # for any one number, so that sums stay readable; ImageNet-21k has 21,841 classes
WORDS = {"true": True, "false": False, "none": None}


class Question(NamedTuple):
    """What a reader asks about.

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
    """The answer in pieces, each a string.

    Attributes:
        diagram: the network as a strip of bars, SVG.
        summary: parameters, MACs, bytes and attention's share, HTML.
        ledger: what each stage costs, an HTML table.
        kinds: what each kind of operation costs, an HTML table.
        counters: what every counter prints, an HTML table.
        explanation: the steps to the chosen counter's numbers, HTML.
        yaml: the configuration as `EfficientFormerConfig.from_yaml` reads it.
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
    """A question from words, as a form or the query of a link gives them.

    Args:
        fields: `model`, `resolution` ("224" or "384x640"), `form`, `counter`, and any field of the configuration, such
            as `depths` ("3,2,6,4") or `num_vit` ("1" or "0,0,1,1"). What is not named is that of the model, L1 if no
            model is named, at 224 pixels.

    Raises:
        ValueError: in one sentence, for a name that is no field and for a value that is not possible.
    """
    known_fields(fields, (*DEFAULTS, *SHAPE))
    values = {**DEFAULTS, **fields}
    config = get_config(values["model"]).replace(
        **{name: _value(name, fields[name]) for name in SHAPE if name in fields}
    )
    if sum(config.depths) > MOST_BLOCKS:
        raise wrong("depths", config.depths, f"at most {MOST_BLOCKS} blocks in all")
    resolution = resolution_pair(_value("resolution", re.sub("[x×]", ",", values["resolution"])))
    if values["form"] not in get_args(Form):
        raise wrong("form", values["form"], ", ".join(get_args(Form)))
    get_rule(values["counter"])
    form: Form = "folded" if values["form"] == "folded" else "trained"
    return Question(config, resolution, form, values["counter"])


def fields(question: Question) -> dict[str, str]:
    """The shortest words that `read` makes the same question of."""
    config, (height, width) = question.config, question.resolution
    model, changes = min(
        ((name, differences(config, preset)) for name, preset in PRESETS.items()), key=lambda pair: len(pair[1])
    )
    words = {"model": model} | {name: _words(value) for name, value in changes.items()}
    rest = {
        "resolution": f"{height}" if height == width else f"{height}x{width}",
        "form": question.form,
        "counter": question.counter,
    }
    return words | {name: value for name, value in rest.items() if value != DEFAULTS[name]}


def live(question: Question) -> Live:
    """Everything that a page shows about a question."""
    costs = count(question.config, question.resolution, question.form)
    return Live(
        diagram=str(strip(costs)),
        summary=summary_html(costs),
        ledger=ledger_html(costs, "stage"),
        kinds=ledger_html(costs, "kind"),
        counters=counters_html(costs),
        explanation=explanation_html(costs, question.counter),
        yaml=question.config.to_yaml(),
        python=python(costs),
    )


def answer(words: Mapping[str, str]) -> dict[str, str]:
    """What a page gets for the words of its form: the pieces and the query of a link to them, or only the error."""
    try:
        question = read(words)
    except ValueError as error:
        return {"error": str(error)}
    return live(question)._asdict() | {"link": urlencode(fields(question), safe=",")}


def python(costs: Costs) -> str:
    """Code that builds the network of a ledger and counts it; fields that have their default are left out."""
    height, width = costs.resolution
    changes = differences(costs.config, EfficientFormerConfig())
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


def differences(config: EfficientFormerConfig, other: EfficientFormerConfig) -> dict[str, Any]:
    """The fields of a configuration that have another value than in the other one."""
    return {name: value for name in SHAPE if (value := getattr(config, name)) != getattr(other, name)}


def _value(name: str, text: str) -> Any:
    """A number, a word, or a tuple of them. What is neither stays text, which the configuration then refuses."""
    if "," in text:
        return tuple(_value(name, part) for part in text.split(","))
    word = text.strip()
    if word.lower() in WORDS:
        return WORDS[word.lower()]
    for number in (int, float):
        try:
            value = number(word)
        except ValueError:
            continue
        if abs(value) > LARGEST:
            raise wrong(name, text, f"numbers up to {LARGEST:,}")
        return value
    return text


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_words, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
