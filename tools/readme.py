"""Fill the generated parts of README.md: figure, findings, chapters, commands. `make readme` stores them.

Each part is between two comments, such as `<!-- chapters -->` and `<!-- /chapters -->`. A test compares them.
"""

from __future__ import annotations

import re

from efficientformer_edu.audit import count, explain
from efficientformer_edu.config import PRESETS
from efficientformer_edu.latency.records import load
from efficientformer_edu.paper import table1
from efficientformer_edu.plots.architecture import draw_architecture
from efficientformer_edu.plots.style import save
from efficientformer_edu.slimming.front import stored_slimming
from efficientformer_edu.utils.records import stored
from tools import NOTEBOOKS, ROOT
from tools.chapters import chapters, read, write_text
from tools.colab import repository
from tools.reference import commands

COUNTERS_SHOWN = ("fvcore", "flop_counter", "torchinfo", "ptflops", "thop")
GRAPH_ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "images" / "efficientformer_l1.svg"
MINUTES = re.compile(r"(\d+) minutes")


def numbers() -> str:
    """Return a table of parameters and MACs of the published networks, computed here and reported by the paper."""
    rows = [
        "| | parameters, computed | reported | MACs at 224×224, computed | reported |",
        "|---|--:|--:|--:|--:|",
    ]
    for name in PRESETS:
        costs, paper = count(name), table1()
        rows.append(
            f"| EfficientFormer-{name.upper()} | {costs.params:,} | {paper[name, 'params'].value} M "
            f"| {costs.macs:,} | {paper[name, 'macs'].value} G |"
        )
    return "\n".join(rows)


def findings() -> str:
    """Return three findings with their numbers, from the stored records and the ledger."""
    return "\n".join([*map("* {}".format, (_speed(), _counters(), _slimming())), ""]).rstrip()


def _speed() -> str:
    record = load(stored("speed_batch1_1thread.json"))["bench"]
    ratios = {engine: record.ratio(f"l1 {engine}", f"timm:mobilenetv2_140 {engine}") for engine in record.engines}
    names = {"eager": "eager PyTorch", "folded": "folded PyTorch"} | GRAPH_ENGINES
    shown = ", ".join(
        f"{ratio.value:.2f} ({ratio.low:.2f}–{ratio.high:.2f}) in {names[engine]}" for engine, ratio in ratios.items()
    )
    return (
        "**“MobileNet speed” depends on the compiler.** The latency of EfficientFormer-L1 divided by that of "
        f"MobileNetV2×1.4 is {shown}, measured on {record.conditions.machine}, one thread. "
        "[Chapter 5](notebooks/05_mobilenet_speed.ipynb)"
    )


def _counters() -> str:
    printed = ", ".join(f"{explain(name, 'l1').total:,} ({name.replace('_', ' ')})" for name in COUNTERS_SHOWN)
    return (
        f"**Every FLOP counter prints a different number.** L1 has {count('l1').macs:,} multiply-accumulates at "
        f"224×224; tools print {printed}. Each difference is explained to the last operation. "
        "[Chapter 4](notebooks/04_parameters_and_macs.ipynb)"
    )


def _slimming() -> str:
    front = stored_slimming().front
    comparison = front.compare("uniform")
    assert comparison
    difference = comparison.difference
    return (
        "**Latency-driven slimming did not beat uniform scaling at small scale**, at equal latency on one machine: "
        f"{difference.points} of top-1 accuracy, {difference.verdict()}. "
        "[Chapter 8](notebooks/08_latency_driven_slimming.ipynb)"
    )


def chapter_list() -> str:
    """Return the chapters in order, each with the first sentence of its introduction and its minutes."""
    rows = ["| chapter | what you do there | minutes |", "|---|---|--:|"]
    for path in chapters(NOTEBOOKS):
        cells = read(path).cells
        title, sentence = heading(cells[0].source)
        minutes = MINUTES.search("".join(cell.source for cell in cells[:4]))
        assert minutes, f"{path.name} names no minutes in its first cells"
        rows.append(f"| [{title}](notebooks/{path.name}) | {sentence} | {minutes[1]} |")
    return "\n".join(rows)


def heading(source: str) -> tuple[str, str]:
    """Return title and first sentence of a chapter, from its first cell."""
    title, _, body = source.partition("\n")
    return title.lstrip("# "), re.split(r"(?<=[.!?])\s", " ".join(body.split()), maxsplit=1)[0]


def get() -> str:
    """Return instructions to get the code: git clone if mkdocs.yml names the repository, else the archive."""
    address = repository()
    if not address:
        return "Unpack the source archive and open a terminal in its top folder, the one with this file. Then run:"
    return f"```sh\ngit clone {address}\ncd {address.rstrip('/').rpartition('/')[2].removesuffix('.git')}\n```"


def command_list() -> str:
    """Return every command with the first sentence of its help."""
    sentences = {name: " ".join(command.help.split("\n\n")[0].split()) for name, command in commands().items()}
    rows = [f"| [`{name}`](docs/cli.md#{name}) | {sentence} |" for name, sentence in sentences.items()]
    return "\n".join(["| command | |", "|---|---|", *rows])


def filled(text: str) -> str:
    """Fill in every generated part of README.md."""
    for name, part in {"findings": findings, "get": get, "chapters": chapter_list, "commands": command_list}.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        assert begin in text and end in text, f"README.md lacks the comments {begin} and {end}"
        before, _, after = text.partition(begin)
        text = f"{before}{begin}\n\n{part()}\n\n{end}{after.partition(end)[2]}"
    return text


if __name__ == "__main__":
    save(draw_architecture("l1"), PICTURE)
    write_text(README, filled(README.read_text(encoding="utf-8")))
