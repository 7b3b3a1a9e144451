"""Every option of every command changes what its help describes, and nothing else.

Commands run with slow functions replaced. The tests record the arguments of these and other functions, the printed
output, and the files that are written.
"""

from __future__ import annotations

import dataclasses
import inspect
import io
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import typer
from dense_networks import dense_config
from PIL import Image
from settings_cases import ANY, GONE, Observations, check_all_have_cases, check_changes
from slimming_runs import LOOKUP, SEARCHED, Knowing, supernet
from strategies import SMALL
from torch import nn
from training_runs import images
from typer.testing import CliRunner

from efficientformer_edu.ablations.variants import variant_table
from efficientformer_edu.audit import count, explain
from efficientformer_edu.audit.modules import audit_module
from efficientformer_edu.cli import app, main
from efficientformer_edu.config import get_config
from efficientformer_edu.data.datasets import Images
from efficientformer_edu.data.shapes import Shapes
from efficientformer_edu.dense import DenseNetwork
from efficientformer_edu.dense.files import save_dense
from efficientformer_edu.dense.recipe import ADE20K, SHAPES
from efficientformer_edu.latency import Measurement, Timing
from efficientformer_edu.model import EfficientFormer
from efficientformer_edu.slimming import protocol as slimming_protocol
from efficientformer_edu.slimming.records import Search
from efficientformer_edu.training import trainer
from efficientformer_edu.training.recipe import CODE, LAPTOP
from efficientformer_edu.utils.records import read_json, stored
from efficientformer_edu.utils.tables import Table
from efficientformer_edu.weights import save

pytestmark = pytest.mark.slow

PACKAGE = "efficientformer_edu"
SEARCH = stored("slimming.json") / "search.json"
IMAGE = "image.png"
TINY = SMALL.replace(num_classes=10, in_channels=1)


class ReachedError(Exception):
    """Raised when a command reaches the function at which the test stops it."""


def stop(*_: Any, **__: Any) -> None:
    raise ReachedError


class Recorder:
    """Records the arguments of functions of the package, by "function.parameter" and the fields of each argument."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.calls: dict[str, list[Any]] = {}

    def watch(self, path: str, instead: Callable[..., Any] | None = None) -> None:
        """Record calls of `package.module.function`, and call `instead` if it is given."""
        module_name, _, name = f"{PACKAGE}.{path}".rpartition(".")
        module = import_module(module_name)
        original = getattr(module, name)
        signature = inspect.signature(original)

        def recorded(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            for parameter, value in bound.arguments.items():
                for key, entry in flat(f"{name}.{parameter}", value):
                    self.calls.setdefault(key, []).append(entry)
            return (instead or original)(*args, **kwargs)

        self.monkeypatch.setattr(module, name, recorded)

    def observations(self) -> Observations:
        """An argument that all calls share is a single value; others are tuples, in the order of the calls."""
        return {
            key: entries[0] if all(entry == entries[0] for entry in entries) else tuple(entries)
            for key, entries in self.calls.items()
        }


def flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A value as comparable entries: dataclasses and mappings field by field."""
    if isinstance(value, Path):
        value = str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield name, type(value).__name__
        for field in dataclasses.fields(value):
            yield from flat(f"{name}.{field.name}", getattr(value, field.name))
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from flat(f"{name}.{key}", entry)
    elif isinstance(value, list | tuple) and value and all(map(dataclasses.is_dataclass, value)):
        yield from flat(name, dict(enumerate(value)))
    elif isinstance(value, partial):
        yield from flat(name, value.keywords)
    elif isinstance(value, torch.Tensor):
        yield name, tuple(value.shape)
    elif isinstance(value, nn.Module) and hasattr(value, "config"):
        yield name, type(value).__name__
        yield f"{name}.norms", any(isinstance(module, nn.BatchNorm2d) for module in value.modules())
        yield from flat(f"{name}.config", value.config)
    elif isinstance(value, str | int | float | tuple | list | None):
        yield name, str(value) if isinstance(value, tuple | list) else value
    else:
        yield name, getattr(value, "words", type(value).__name__)


class Scores:
    """The scores of a network, without computing them."""

    def table(self) -> Table:
        return Table(("class", "score"), (("disc", 0.5),))

    def __str__(self) -> str:
        return "scores"


def load_data(data: str, split: str, **_: Any) -> Images:
    return images(split, 1100 if split == "train" else 10)


def measure(functions: Mapping[str, Any], conditions: Any, *, rounds: int, **_: Any) -> Measurement:
    timings = [Timing(name, (0.01 * n,) * rounds, 2.0) for n, name in enumerate(functions, 1)]
    return Measurement(conditions.complete(machine="a clock", threads=1, date="2026-01-01"), tuple(timings))


def scores(model: Any, *_: Any) -> dict[str, Any]:
    count = get_config(getattr(model, "config", model)).num_classes
    return {"pred_scores": np.linspace(0.01, 0.02, count)}


class FinishedTrainer:
    """A trainer that returns a network without training it."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def fit(self) -> SimpleNamespace:
        return SimpleNamespace(network=supernet(SEARCHED))


class Stored:
    """An observation, without measuring it."""

    def to(self, format: str) -> str:
        return f"in the format {format}"

    def save(self, path: Path) -> None:
        path.touch()


class Prepared:
    """A network in an engine that is never called."""

    difference = 0.0


def export_file(_: nn.Module, path: Path, *__: Any) -> None:
    for name in (path, path.with_suffix(".bin")):
        name.write_bytes(b"1" * 100)


def not_installed(*_: Any) -> None:
    raise ImportError("it is missing")


def watch_audit(recorder: Recorder) -> None:
    recorder.watch("cli.audit.count")


def watch_bench(recorder: Recorder) -> None:
    recorder.watch("latency.measure", measure)
    recorder.watch("latency.engines.prepare", lambda *_: Prepared())
    recorder.watch("latency.peers.peer", lambda *_: nn.Identity())
    recorder.watch("latency.save")


def watch_export(recorder: Recorder) -> None:
    recorder.watch("export.export_onnx", export_file)
    recorder.watch("export.export_openvino", export_file)
    recorder.watch("model.folding.folded_maps")
    recorder.watch("weights.get_model")
    for name in ("run_onnx", "run_openvino"):
        recorder.watch(f"latency.engines.{name}", not_installed)


def watch_observe(recorder: Recorder) -> None:
    recorder.watch("latency.observations.observe", lambda *_, **__: Stored())


def watch_diagram(recorder: Recorder) -> None:
    recorder.watch("plots.mermaid.architecture_mermaid")
    recorder.watch("plots.architecture.draw_architecture", lambda *_: None)
    recorder.watch("plots.style.save", lambda *_: None)


def watch_convert(recorder: Recorder) -> None:
    recorder.watch("weights.load")
    recorder.watch("weights.save")


def watch_predict(recorder: Recorder) -> None:
    recorder.watch("weights.inference_model", scores)
    recorder.watch("weights.get_model", lambda config, **_: EfficientFormer(config))
    recorder.watch("weights.from_weights")
    recorder.watch("dense.evaluation.predict_photo")
    recorder.watch("plots.overlays.draw_overlay", lambda *_: None)
    recorder.watch("plots.style.save", lambda *_: None)


def watch_train(recorder: Recorder) -> None:
    recorder.watch("data.datasets.load_data", load_data)
    recorder.watch("training.classification.ClassificationTrainer", FinishedTrainer)
    recorder.watch("latency.peers.check_installed", lambda: None)
    recorder.monkeypatch.setattr(trainer, "import_optional", lambda _: None)
    recorder.watch("latency.peers.peer", lambda *_, **__: nn.Identity())
    recorder.watch("data.datasets.load_examples", lambda data, split, **_: Shapes(40, 64, split))
    recorder.watch("dense.trainer.DenseTrainer", FinishedTrainer)


def watch_evaluate(recorder: Recorder) -> None:
    recorder.watch("data.datasets.load_data", load_data)
    recorder.watch("training.loading.EvalBatches")
    recorder.watch("training.loading.loader")
    recorder.watch("training.evaluation.evaluate")
    recorder.watch("weights.from_weights")
    recorder.watch("weights.get_model", lambda *_, **__: EfficientFormer(TINY))
    recorder.watch("plots.training.draw_confusion", lambda _: None)
    recorder.watch("plots.style.save", lambda *_: None)
    recorder.watch("data.datasets.load_examples", lambda data, split, **_: Shapes(10, 64, split))
    recorder.watch("dense.evaluation.evaluate_dense", lambda *_, **__: Scores())


def watch_ablate(recorder: Recorder) -> None:
    recorder.watch("training.study.Study", stop)
    recorder.watch("training.study.get_executor", lambda scheduler: nullcontext())


def watch_slim(recorder: Recorder) -> None:
    recorder.watch("slimming.protocol.load_data", load_data)
    recorder.watch("latency.lookup.build", lambda *_, **__: LOOKUP)
    recorder.watch("slimming.protocol.SupernetTrainer", FinishedTrainer)
    recorder.watch("slimming.baselines.baselines", lambda *_: ())
    recorder.watch("training.study.Study", stop)
    recorder.watch("training.study.get_executor", lambda scheduler: nullcontext())
    few = {"per_class": None, "held_out": 2, "compared": None, "tested": None}
    protocols = {name: dataclasses.replace(protocol, **few) for name, protocol in slimming_protocol.PROTOCOLS.items()}
    recorder.monkeypatch.setattr(slimming_protocol, "PROTOCOLS", protocols)
    recorder.monkeypatch.setattr(slimming_protocol, "SUPERNET", SEARCHED)
    recorder.monkeypatch.setattr(slimming_protocol, "get_evaluator", lambda *_: Knowing(lambda subnet: 0.5))
    slimming_protocol.load_slimming_images.cache_clear()


WATCH: dict[str, Callable[[Recorder], None]] = {
    "": lambda _: None,
    "ablate": watch_ablate,
    "audit": watch_audit,
    "bench": watch_bench,
    "convert": watch_convert,
    "diagram": watch_diagram,
    "evaluate": watch_evaluate,
    "export": watch_export,
    "observe": watch_observe,
    "predict": watch_predict,
    "slim": watch_slim,
    "train": watch_train,
}
SEGMENT, DETECT = "tiny.yaml --task segmentation", "tiny.yaml --task detection"
RUN, DENSE = "ClassificationTrainer.run", "DenseTrainer.run"
TIMM = "classifier.safetensors new.pth --layout timm"
SLIM = "--engine eager --targets 5ms"
UNDISTILLED = CODE.replace(distillation=None)
FILE, DETECTOR = "classifier.safetensors", "dense.safetensors"
CLASSIFIED = r"(?:load_data|EvalBatches|loader|evaluate|from_weights|inference_model)\..*"


def prints(text: str) -> Callable[[str, str], None]:
    """Check that this text is printed."""

    def check(_: str, after: str) -> None:
        assert after.rstrip("\n") == text.rstrip("\n")

    return check


def contains(*texts: str) -> Callable[[str, str], None]:
    """Check that these texts are printed, and were not printed before."""

    def check(before: str, after: str) -> None:
        assert [text for text in texts if text not in after or text in before] == []

    return check


def lines(number: int) -> Callable[[str, str], None]:
    """Check that this many lines are printed."""

    def check(_: str, after: str) -> None:
        assert len(after.splitlines()) == number

    return check


def differing(base: Any, other: Any) -> dict[str, Any]:
    """The fields of `other` whose values differ from those of `base`."""
    before = dict(flat("", base))
    return {name.lstrip("."): value for name, value in flat("", other) if value != before[name]}


# fmt: off
# The command, the option, two sets of arguments that differ in it, and what that changes.
CASES: list[tuple[str, str, str, str, dict[str, Any]]] = [
    ("", "--debug", "audit l2", "--debug audit l2", {"stderr": contains("Traceback (most recent call last)")}),
    ("audit", "models", "l1", "l3", {"count.model.*": ANY, "stdout": prints(count("l3").table().to_text())}),
    ("audit", "--resolution", "l1", "l1 --resolution 64x96", {"count.resolution": "(64, 96)",
        "stdout": prints(count("l1", (64, 96)).table().to_text())}),
    ("audit", "--channels", "torch.nn:Identity", "torch.nn:Identity --channels 7",
        {"stdout": prints(audit_module(nn.Identity(), torch.zeros(1, 7, 224, 224)).to("table"))}),
    ("audit", "--form", "l1", "l1 --form folded", {"count.form": "folded",
        "stdout": prints(count("l1", form="folded").table().to_text())}),
    ("audit", "--by", "l1", "l1 --by kind", {"stdout": prints(count("l1").table("kind").to_text())}),
    ("audit", "--compare", "l1", "l1 l3 --compare", {"count.model.*": ANY, "stdout": contains("\nl1 ", "\nl3 ")}),
    ("audit", "--counters", "tiny.yaml", "tiny.yaml --counters", {"stdout": contains("fvcore", "thop", "ptflops")}),
    ("audit", "--explain", "l1", "l1 --explain thop", {"stdout": contains(f"{explain('thop', 'l1').total:,}")}),
    ("audit", "--summary", "tiny.yaml", "tiny.yaml --summary", {"stdout": contains("torchinfo", "Total params: ")}),
    ("audit", "--format", "l1 --by kind", "l1 --by kind --format csv",
        {"stdout": prints(count("l1").table("kind").to_csv())}),
    ("bench", "model", "tiny.yaml", "other.yaml", {r"measure\.functions\.other\.yaml (?:eager|folded)": "Prepared",
        r"measure\.functions\.tiny\.yaml .*": GONE, r"prepare\.network\.config\.depths": "(1, 1, 2, 2)",
        r"measure\.conditions\.command": "efficientformer-edu bench other.yaml", "stdout": ANY}),
    ("bench", "--engine", "tiny.yaml", "tiny.yaml --engine channels-last",
        {r"prepare\.name": ("eager", "channels-last"), r"measure\.functions\.tiny\.yaml channels-last": "Prepared",
        r"measure\.functions\.tiny\.yaml folded": GONE,
        r"measure\.conditions\.command": "efficientformer-edu bench tiny.yaml --engine channels-last", "stdout": ANY}),
    ("bench", "--threads", "tiny.yaml", "tiny.yaml --threads 2", {r"(?:prepare|measure)\.num_threads": 2,
        r"measure\.conditions\.command": "efficientformer-edu bench tiny.yaml --threads 2"}),
    ("bench", "--batch", "tiny.yaml", "tiny.yaml --batch 2", {r"prepare\.images": (2, 1, 224, 224),
        r"measure\.conditions\.batch": 2,
        r"measure\.conditions\.command": "efficientformer-edu bench tiny.yaml --batch 2", "stdout": ANY}),
    ("bench", "--resolution", "tiny.yaml", "tiny.yaml --resolution 64x96", {r"prepare\.images": (1, 1, 64, 96),
        r"measure\.conditions\.resolution": "(64, 96)",
        r"measure\.conditions\.command": "efficientformer-edu bench tiny.yaml --resolution 64x96"}),
    ("bench", "--rounds", "tiny.yaml", "tiny.yaml --rounds 7", {r"measure\.rounds": 7,
        r"measure\.conditions\.command": "efficientformer-edu bench tiny.yaml --rounds 7"}),
    ("bench", "--against", "tiny.yaml", "tiny.yaml --against other.yaml",
        {r"prepare\.name": ("eager", "eager", "folded", "folded"),
        r"prepare\.network\.config\.depths": ("(1, 1, 1, 2)", "(1, 1, 2, 2)") * 2,
        r"measure\.functions\.other\.yaml (?:eager|folded)": "Prepared",
        r"measure\.conditions\.command": "efficientformer-edu bench tiny.yaml --against other.yaml", "stdout": ANY}),
    ("bench", "--device", "tiny.yaml", "tiny.yaml --device cpu:0", {r"measure\.device": "cpu:0",
        r"measure\.conditions\.command": "efficientformer-edu bench tiny.yaml --device cpu:0"}),
    ("bench", "--format", "tiny.yaml", "tiny.yaml --format csv", {"stdout": contains("tiny.yaml folded,20.0,")}),
    ("bench", "--out", "tiny.yaml", "tiny.yaml --out a.json", {r"save\.path": "a.json", r"save\..*": ANY,
        "files": ["a.json"]}),
    ("convert", "source", TIMM, TIMM.replace("classifier", "second"), {r"load\.path": "second.safetensors"}),
    ("convert", "target", TIMM, TIMM.replace("new", "a"), {r"save\.path": "a.pth", "stdout": ANY, "files": ["a.pth"]}),
    ("convert", "--layout", TIMM, TIMM.replace("timm", "hf"), {r"save\.layout": "hf", "stdout": ANY}),
    ("convert", "--use-ema", TIMM, f"{TIMM} --no-use-ema", {r"load\.use_ema": False}),
    ("diagram", "model", "tiny.yaml", "other.yaml", {r"architecture_mermaid\.model\.depths": "(1, 1, 2, 2)",
        "stdout": ANY}),
    ("diagram", "--format", "tiny.yaml --out a.svg", "tiny.yaml --out a.svg --format svg",
        {r"draw_architecture\.model\.depths": "(1, 1, 1, 2)", r"draw_architecture\..*": ANY, r"save\.path": "a.svg",
        r"save\..*": ANY, r"architecture_mermaid\..*": GONE, "files": []}),
    ("diagram", "--out", "tiny.yaml", "tiny.yaml --out a.md", {"stdout": "", "files": ["a.md"]}),
    ("diagram", "--resolution", "tiny.yaml", "tiny.yaml --resolution 64x96",
        {r"architecture_mermaid\.resolution": "(64, 96)", "stdout": ANY}),
    ("diagram", "--resolution", "tiny.yaml --out a.png --format png",
        "tiny.yaml --out a.png --format png --resolution 64x96", {r"draw_architecture\.resolution": "(64, 96)"}),
    ("evaluate", "weights", FILE, "second.safetensors", {r"from_weights\.file": "second.safetensors",
        "std(?:out|err)": ANY}),
    ("evaluate", "weights", FILE, "l1", {r"get_model\.model": "l1", r"get_model\.pretrained": True,
        r"get_model\..*": ANY, r"from_weights\..*": GONE, "std(?:out|err)": ANY}),
    ("evaluate", "weights", FILE, DETECTOR, {CLASSIFIED: GONE, r"evaluate_dense\.network": "DenseNetwork",
        r"evaluate_dense\.size": 64, r"(?:evaluate_dense|load_examples)\..*": ANY, "std(?:out|err)": ANY}),
    ("evaluate", "--data", FILE, f"{FILE} --data other", {r"load_data\.data": "other"}),
    ("evaluate", "--data", DETECTOR, f"{DETECTOR} --data other", {r"load_examples\.data": "other"}),
    ("evaluate", "--rule", FILE, f"{FILE} --rule timm", {r"EvalBatches\.rule": "timm", "stdout": contains("timm")}),
    ("evaluate", "--size", FILE, f"{FILE} --size 64", {r"EvalBatches\.size": 64, "stdout": contains("64×64")}),
    ("evaluate", "--size", DETECTOR, f"{DETECTOR} --size 96", {r"(?:load_examples|evaluate_dense)\.size": 96,
        "stdout": contains("96×96")}),
    ("evaluate", "--batch", FILE, f"{FILE} --batch 3", {r"EvalBatches\.batch": 3}),
    ("evaluate", "--batch", DETECTOR, f"{DETECTOR} --batch 3", {r"evaluate_dense\.batch": 3}),
    ("evaluate", "--format", FILE, f"{FILE} --format csv", {"stdout": contains("class,images,")}),
    ("evaluate", "--format", DETECTOR, f"{DETECTOR} --format csv", {"stdout": prints("class,score\ndisc,0.5")}),
    ("evaluate", "--out", FILE, f"{FILE} --out a.png", {r"save\.path": "a.png", r"save\..*": ANY,
        r"draw_confusion\..*": ANY}),
    ("evaluate", "--workers", FILE, f"{FILE} --workers 1", {r"loader\.workers": 1}),
    ("evaluate", "--workers", DETECTOR, f"{DETECTOR} --workers 1", {r"evaluate_dense\.workers": 1}),
    ("evaluate", "--data-dir", FILE, f"{FILE} --data-dir there", {r"load_data\.data_dir": "there"}),
    ("evaluate", "--download", FILE, f"{FILE} --download", {r"load_data\.download": True}),
    ("evaluate", "--strict", FILE, f"{FILE} --strict", {r"load_data\.strict": True}),
    ("evaluate", "--strict", DETECTOR, f"{DETECTOR} --strict", {r"load_examples\.strict": True}),
    ("evaluate", "--use-ema", FILE, f"{FILE} --no-use-ema", {r"from_weights\.use_ema": False}),
    ("export", "model", "tiny.yaml --out a.onnx", "other.yaml --out a.onnx",
        {r"(?:get_model\.model|export_onnx\.model\.config)\.depths": "(1, 1, 2, 2)"}),
    ("export", "--out", "tiny.yaml --out a.onnx", "tiny.yaml --out b.onnx",
        {r"(?:export_onnx\.path|run_onnx\.source)": "b.onnx", "files": ["b.bin", "b.onnx"], "stdout": ANY}),
    ("export", "--format", "tiny.yaml --out a.onnx", "tiny.yaml --out a.xml --format openvino",
        {r"(?:export_openvino\.path|run_openvino\.source)": "a.xml", r"(?:export|run)_openvino\..*": ANY,
        r"(?:export|run)_onnx\..*": GONE, "files": ["a.bin", "a.xml"], "stdout": ANY}),
    ("export", "--folded", "tiny.yaml --out a.onnx", "tiny.yaml --out a.onnx --folded",
        {r"folded_maps\.resolution": "(224, 224)", r"folded_maps\..*": ANY, r"export_onnx\.model.norms": False,
        r"export_onnx\.model\.config\.distillation": False, "stdout": ANY}),
    ("export", "--resolution", "tiny.yaml --out a.onnx", "tiny.yaml --out a.onnx --resolution 64x96",
        {r"export_onnx\.resolution": "(64, 96)", r"run_onnx\.images": (1, 1, 64, 96), "stdout": ANY}),
    ("export", "--weights", "tiny.yaml --out a.onnx", f"tiny.yaml --out a.onnx --weights {FILE}",
        {r"get_model\.pretrained": FILE, "stderr": ""}),
    ("observe", "number", "1", "2", {r"observe\.number": 2}),
    ("observe", "--rounds", "1", "1 --rounds 7", {r"observe\.rounds": 7}),
    ("observe", "--threads", "1", "1 --threads 2", {r"observe\.num_threads": 2}),
    ("observe", "--engine", "4", "4 --engine eager,folded", {r"observe\.engines": "['eager', 'folded']"}),
    ("observe", "--device", "1", "1 --device cuda", {r"observe\.device": "cuda"}),
    ("observe", "--out", "1", "1 --out a.json", {"files": ["a.json"], "stderr": contains("a.json")}),
    ("observe", "--format", "1", "1 --format json", {"stdout": prints("in the format json")}),
    ("predict", "photo", IMAGE, "second.png", {r"inference_model\.image": "second.png"}),
    ("predict", "--weights", IMAGE, f"{IMAGE} --weights {FILE}", {r"from_weights\.file": FILE, r"from_weights\..*": ANY,
        r"inference_model\.model": "EfficientFormer", r"inference_model\.model\.config\.embed_dims": "(8, 8, 12, 16)",
        r"inference_model\.model\..*": ANY, "std(?:out|err)": ANY}),
    ("predict", "--weights", IMAGE, f"{IMAGE} --weights {DETECTOR}", {CLASSIFIED: GONE,
        r"predict_\w+\.(?:photo|image)": IMAGE, r"predict_\w+\..*": ANY, "std(?:out|err)": ANY}),
    ("predict", "--model", IMAGE, f"{IMAGE} --model tiny.yaml", {r"inference_model\.model": "EfficientFormerConfig",
        r"inference_model\.model\.embed_dims": "(8, 8, 12, 16)", r"inference_model\.model\..*": ANY,
        "std(?:out|err)": ANY}),
    ("predict", "--model", f"{IMAGE} --weights {FILE}", f"{IMAGE} --weights {FILE} --model other.yaml",
        {r"get_model\.pretrained": FILE, r"get_model\..*": ANY, r"from_weights\..*": GONE,
        r"inference_model\.model\.config\.depths": "(1, 1, 2, 2)"}),
    ("predict", "--classes", f"{IMAGE} --weights {FILE}", f"{IMAGE} --weights {FILE} --classes names.txt",
        {"stdout": contains("class number 9"), "stderr": ""}),
    ("predict", "--rule", IMAGE, f"{IMAGE} --rule timm", {r"inference_model\.rule": "timm"}),
    ("predict", "--top", IMAGE, f"{IMAGE} --top 2", {"stdout": lines(3)}),
    ("predict", "--out", f"{IMAGE} --weights {DETECTOR}", f"{IMAGE} --weights {DETECTOR} --out a.png",
        {r"save\.path": "a.png", r"save\..*": ANY, r"draw_overlay\..*": ANY, "stdout": contains("a.png")}),
    ("predict", "--use-ema", f"{IMAGE} --weights {FILE}", f"{IMAGE} --weights {FILE} --no-use-ema",
        {r"from_weights\.use_ema": False}),
    ("ablate", "--rows", "", "--rows relu,no-bias", {r"Study\.run_of\.variants\.(?!base|relu|no-bias).*": GONE,
        r"Study\.names": ANY}),
    ("ablate", "--seeds", "", "--seeds 7", {r"Study\.seeds": 7}),
    ("ablate", "--out", "", "--out there", {r"Study\.folder": "there"}),
    ("ablate", "--resume", "", "--resume", {r"Study\.resume": True}),
    ("ablate", "--scheduler", "", "--scheduler tcp://a:1", {r"get_executor\.scheduler": "tcp://a:1"}),
    ("ablate", "--list", "", "--list", {r"(?:Study|get_executor)\..*": GONE,
        "stdout": prints(variant_table().to_text()), "error": ANY}),
    ("ablate", "--protocol", "--protocol laptop", "--protocol embedded",
        {r"Study\.run_of\.protocol\.data": "fashion-mnist-small", r"Study\.run_of\.protocol\.recipe\.epochs": 20,
        r"Study\.run_of\.protocol\..*": ANY}),
    ("ablate", "--data-dir", "--protocol laptop", "--protocol laptop --data-dir there",
        {r"Study\.run_of\.data_dir": "there"}),
    ("slim", "--data", SLIM, f"{SLIM} --data fashion-mnist",
        {r"(?:load_data|Study\.run_of\.protocol)\.data": "fashion-mnist",
        r"(?:SupernetTrainer\.run|Study\.run_of\.protocol)\.recipe\.epochs": 5,
        r"(?:SupernetTrainer\.run|Study\.run_of\.protocol)\.recipe\.batch": 128,
        r"Study\.run_of\.protocol\.description": ANY,
        "stderr": ANY}),
    ("slim", "--targets", SLIM, "--engine eager --targets 5.2ms,4.9ms",
        {r"Study\.names": "('slimming-5.2ms',)", r"Study\.run_of\.configs\..*": ANY,
        "stderr": contains("5.2 ms, 4.9 ms")}),
    ("slim", "--engine", SLIM, SLIM.replace("eager", "folded"), {r"build\.engine": "folded",
        "stderr": contains("folded")}),
    ("slim", "--noise", SLIM, f"{SLIM} --noise gumbel", {r"SupernetTrainer\.run\.build\.noise": "gumbel",
        r"SupernetTrainer\.run\.variant": ANY}),
    ("slim", "--seeds", SLIM, f"{SLIM} --seeds 7", {r"Study\.seeds": 7}),
    ("slim", "--baselines", SLIM, f"{SLIM} --baselines", {r"baselines\..*": ANY, "files": ANY, "stderr": ANY}),
    ("slim", "--out", SLIM, f"{SLIM} --out there", {r"build\.path": "there/lookup.json",
        r"SupernetTrainer\.folder": "there/supernet", r"Study\.folder": "there/trained", "files": ANY}),
    ("slim", "--resume", f"{SLIM} --out full", f"{SLIM} --out full --resume", {"error": "ReachedError()", ".*": ANY}),
    ("slim", "--scheduler", SLIM, f"{SLIM} --scheduler tcp://a:1", {r"get_executor\.scheduler": "tcp://a:1"}),
    ("slim", "--replay", SLIM, f"{SLIM} --replay search.json",
        {r"(?:load_data|build|SupernetTrainer|Study|get_executor)\..*": GONE, "files": [], "error": None,
        "stdout": contains(Search.load(SEARCH).table().to_text()), "stderr": ""}),
    ("slim", "--data-dir", SLIM, f"{SLIM} --data-dir there", {r"(?:load_data|Study\.run_of)\.data_dir": "there"}),
    ("train", "model", "tiny.yaml", "small", {rf"{RUN}\.config\.embed_dims": "(16, 64, 64, 64)",
        rf"{RUN}\.config\..*": ANY, rf"{RUN}\.size": 32, r"ClassificationTrainer\.folder": "runs/small"}),
    ("train", "model", SEGMENT, "small --task segmentation",
        {rf"{DENSE}\.config\.backbone\.embed_dims": "(24, 48, 96, 192)", rf"{DENSE}\.config\..*": ANY,
        r"DenseTrainer\.folder": "runs/small"}),
    ("train", "--task", "tiny.yaml", SEGMENT, {r"(?:ClassificationTrainer|load_data)\..*": GONE,
        rf"{DENSE}\.config\.head": "SemanticFPNConfig", r"(?:DenseTrainer|load_examples)\..*": ANY, "stderr": ANY}),
    ("train", "--task", SEGMENT, DETECT, {rf"{DENSE}\.config\.head": "AnchorFreeDecoupledHeadConfig",
        rf"{DENSE}\.config\.num_classes": 5, rf"{DENSE}\.config\.(?:head|neck).*": ANY}),
    ("train", "--data", "tiny.yaml", "tiny.yaml --data other", {r"load_data\.data": "other"}),
    ("train", "--data", SEGMENT, f"{SEGMENT} --data other", {r"load_examples\.data": "other", rf"{DENSE}\.size": 512}),
    ("train", "--out", "tiny.yaml", "tiny.yaml --out there", {r"ClassificationTrainer\.folder": "there"}),
    ("train", "--out", SEGMENT, f"{SEGMENT} --out there", {r"DenseTrainer\.folder": "there"}),
    ("train", "--recipe", "tiny.yaml --teacher none", "tiny.yaml --teacher none --recipe code",
        {rf"{RUN}\.recipe\.{name}": value for name, value in differing(LAPTOP, UNDISTILLED).items()}),
    ("train", "--recipe", SEGMENT, f"{SEGMENT} --recipe ade20k",
        {rf"{DENSE}\.recipe\.{name}": value for name, value in differing(SHAPES, ADE20K).items()}),
    ("train", "--epochs", "tiny.yaml", "tiny.yaml --epochs 7", {rf"{RUN}\.recipe\.epochs": 7}),
    ("train", "--epochs", SEGMENT, f"{SEGMENT} --epochs 7", {rf"{DENSE}\.recipe\.epochs": 7}),
    ("train", "--learning-rate", "tiny.yaml", "tiny.yaml --learning-rate 0.5", {rf"{RUN}\.recipe\.learning_rate": 0.5}),
    ("train", "--learning-rate", SEGMENT, f"{SEGMENT} --learning-rate 0.5", {rf"{DENSE}\.recipe\.learning_rate": 0.5}),
    ("train", "--batch", "tiny.yaml", "tiny.yaml --batch 7", {rf"{RUN}\.recipe\.batch": 7}),
    ("train", "--batch", SEGMENT, f"{SEGMENT} --batch 7", {rf"{DENSE}\.recipe\.batch": 7}),
    ("train", "--teacher", "tiny.yaml", f"tiny.yaml --teacher {FILE}", {rf"{RUN}\.recipe\.distillation": "hard",
        rf"{RUN}\.teacher_description": FILE, rf"{RUN}\.teacher.*": ANY}),
    ("train", "--teacher", "tiny.yaml --recipe code --teacher timm:regnet", "tiny.yaml --recipe code --teacher none",
        {rf"{RUN}\.recipe\.distillation": None, rf"{RUN}\.teacher_description": "", rf"{RUN}\.teacher.*": None,
        r"peer\..*": GONE}),
    ("train", "--head", SEGMENT, f"{SEGMENT} --head all_mlp_decoder", {rf"{DENSE}\.config\.head": "ALLMLPDecoderConfig",
        rf"{DENSE}\.config\.neck": None, rf"{DENSE}\.config\.(?:head|neck)\..*": ANY}),
    ("train", "--init-from", "tiny.yaml", f"tiny.yaml --init-from {FILE}", {rf"{RUN}\.init_from": FILE}),
    ("train", "--init-from", SEGMENT, f"{SEGMENT} --init-from {FILE}", {rf"{DENSE}\.init_from": FILE}),
    ("train", "--size", "tiny.yaml", "tiny.yaml --size 64", {rf"{RUN}\.size": 64}),
    ("train", "--size", SEGMENT, f"{SEGMENT} --size 64", {rf"(?:{DENSE}|load_examples)\.size": 64}),
    ("train", "--seed", "tiny.yaml", "tiny.yaml --seed 7", {rf"{RUN}\.seed": 7}),
    ("train", "--seed", SEGMENT, f"{SEGMENT} --seed 7", {rf"{DENSE}\.seed": 7}),
    ("train", "--resume", "tiny.yaml", "tiny.yaml --resume", {r"ClassificationTrainer\.options\.resume": True}),
    ("train", "--resume", SEGMENT, f"{SEGMENT} --resume", {r"DenseTrainer\.options\.resume": True}),
    ("train", "--workers", "tiny.yaml", "tiny.yaml --workers 1", {r"ClassificationTrainer\.options\.workers": 1}),
    ("train", "--workers", SEGMENT, f"{SEGMENT} --workers 1", {r"DenseTrainer\.options\.workers": 1}),
    ("train", "--tracker", "tiny.yaml", "tiny.yaml --tracker tensorboard",
        {r"ClassificationTrainer\.options\.tracker": "tensorboard"}),
    ("train", "--tracker", SEGMENT, f"{SEGMENT} --tracker tensorboard",
        {r"DenseTrainer\.options\.tracker": "tensorboard"}),
    ("train", "--data-dir", "tiny.yaml", "tiny.yaml --data-dir there", {r"load_data\.data_dir": "there"}),
    ("train", "--download", "tiny.yaml", "tiny.yaml --download", {r"load_data\.download": True}),
    ("train", "--strict", "tiny.yaml", "tiny.yaml --strict", {r"load_data\.strict": True}),
    ("train", "--strict", SEGMENT, f"{SEGMENT} --strict", {r"load_examples\.strict": True}),
]
# fmt: on


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with the files that the cases use."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(tmp_path_factory.mktemp("commands"))
        for name in (IMAGE, "second.png"):
            Image.new("RGB", (70, 60)).save(name)
        Path("tiny.yaml").write_text(TINY.to_yaml(), encoding="utf-8")
        Path("other.yaml").write_text(TINY.replace(depths=(1, 1, 2, 2)).to_yaml(), encoding="utf-8")
        for name in (FILE, "second.safetensors"):
            save(EfficientFormer(TINY), name)
        detector = DenseNetwork(dense_config(("yolopafpn", "anchor_free_decoupled_head"), num_classes=5))
        save_dense(detector.state_dict(), detector.config, 64, Shapes(1, 64).classes, Path(DETECTOR))
        Path("search.json").write_text(json.dumps(read_json(SEARCH)), encoding="utf-8")
        Path("names.txt").write_text("".join(f"class number {n}\n" for n in range(10)), encoding="utf-8")
        Path("full").mkdir()
        Path("full/notes.txt").touch()
        yield Path.cwd()


@cache
def observe(command: str, arguments: str) -> Observations:
    """Arguments, output and files of a command."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        recorder, before = Recorder(monkeypatch), set(Path.cwd().rglob("*"))
        monkeypatch.setattr(sys, "path", list(sys.path))
        WATCH[command](recorder)
        result = CliRunner().invoke(app, [command, *shlex.split(arguments)]) if command else run_main(arguments)
    written = sorted(set(Path.cwd().rglob("*")) - before, reverse=True)
    files = [str(path.relative_to(Path.cwd())) for path in written if path.is_file()]
    for path in written:
        path.rmdir() if path.is_dir() else path.unlink()
    error = None if result.exception is None else repr(result.exception)
    return {
        **recorder.observations(),
        "stdout": result.stdout,
        "stderr": result.stderr,
        "files": files[::-1],
        "error": error,
    }


def run_main(arguments: str) -> SimpleNamespace:
    """Run `main`, which reports errors, with the common options of all commands."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main(shlex.split(arguments))
    except SystemExit as ended:
        return SimpleNamespace(stdout=out.getvalue(), stderr=err.getvalue(), exception=ended)
    raise AssertionError("main ends with SystemExit")


def test_every_option_has_a_case() -> None:
    group = typer.main.get_command(app)
    commands = {"": group, **group.commands}  # type: ignore[attr-defined]
    options = [f"{name} {option.opts[0]}" for name, command in commands.items() for option in command.params]
    check_all_have_cases(options, [f"{command} {option}" for command, option, *_ in CASES], "options")


@pytest.mark.parametrize(
    ("command", "base", "changed", "expected"),
    [(command, *case) for command, _, *case in CASES],
    ids=[f"{command} {changed}" for command, _, _, changed, _ in CASES],
)
def test_options_have_their_documented_effect(command: str, base: str, changed: str, expected: dict[str, Any]) -> None:
    after = observe(command, changed)
    assert after["error"] in (None, "ReachedError()", "SystemExit(2)")
    check_changes(observe(command, base), after, expected)
