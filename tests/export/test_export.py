"""Files for other runtimes: the same logits, atomic writes, and errors when a library is missing."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from strategies import SMALL
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.export import export_onnx, export_openvino, program
from efficientformer_edu.export.onnx import to_onnx
from efficientformer_edu.model import EfficientFormer, fold, unwrap
from efficientformer_edu.model.backbone import Backbone
from efficientformer_edu.model.folding import folded_maps


def trained() -> EfficientFormer:
    """A small network in training mode whose norms and offsets have an effect."""
    torch.manual_seed(0)
    network = EfficientFormer(SMALL.replace(layer_scale_init=0.5))
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        if "attention_biases" in name or "running_mean" in name:
            value.data.normal_()
        elif "running_var" in name:
            value.data.uniform_(0.5, 2.0)
    return network


def logits(network: EfficientFormer, images: torch.Tensor) -> np.ndarray:
    mode = network.training
    with torch.inference_mode():
        output = network.eval()(images).numpy()
    network.train(mode)
    return output


def session(path: Path) -> Callable[[torch.Tensor], np.ndarray]:
    """Run the file in its own runtime."""
    if path.suffix == ".onnx":
        opened = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda images: opened.run(["logits"], {"images": images.numpy()})[0]
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: compiled({"images": images.numpy()})["logits"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["trained", "folded"])
@pytest.mark.parametrize(
    ("size", "written"), [((64, 64), {"a.onnx"}), ((64, 96), {"a.onnx"}), ((64, 96), {"a.xml", "a.bin"})]
)
def test_a_file_gives_torchs_logits_for_any_number_of_images(
    tmp_path: Path, size: tuple[int, int], written: set[str], form: str
) -> None:
    model = trained()
    network = folded_maps(model, size) if form == "folded" else model
    path = tmp_path / max(written)
    (export_onnx if path.suffix == ".onnx" else export_openvino)(network, path, size)
    assert {file.name for file in tmp_path.iterdir()} == written
    assert model.training
    run = session(path)
    for batch in (1, 3):
        images = torch.randn(batch, 3, *size)
        expected = logits(model, images)
        np.testing.assert_allclose(run(images), expected, 0, 1e-5 * np.abs(expected).max())


def test_the_file_describes_itself(tmp_path: Path) -> None:
    network = folded_maps(trained(), (64, 96))
    export_onnx(network, tmp_path / "small.onnx")
    proto = onnx.load(tmp_path / "small.onnx")
    about = {entry.key: entry.value for entry in proto.metadata_props}
    assert (about["resolution"], about["form"]) == ("64x96", "folded")
    (tmp_path / "small.yaml").write_text(about["configuration"], encoding="utf-8")
    assert EfficientFormerConfig.from_yaml(tmp_path / "small.yaml") == network.config
    shapes = [
        (value.name, [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim])
        for value in (*proto.graph.input, *proto.graph.output)
    ]
    assert shapes == [("images", ["batch", 3, 64, 96]), ("logits", ["batch", 5])]


class Calibration(CalibrationDataReader):
    """Two batches of random images."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.batches = iter([{"images": torch.randn(2, 3, 64, 64, generator=generator).numpy()} for _ in range(2)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["trained", "folded"])
@pytest.mark.parametrize(
    ("quantize", "operator"),
    [
        (quantize_dynamic, "MatMulInteger"),
        (partial(quantize_static, quant_format=QuantFormat.QDQ), "QuantizeLinear"),
        (partial(quantize_static, quant_format=QuantFormat.QOperator), "QLinearConv"),
    ],
    ids=["dynamic", "static QDQ", "static QOperator"],
)
def test_onnx_runtimes_quantizers_accept_the_file(
    tmp_path: Path, quantize: Callable[..., None], operator: str, form: str
) -> None:
    network = trained()
    exported, quantized = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    export_onnx(folded_maps(network, 64) if form == "folded" else network, exported, 64)
    quantize(exported, quantized, *([] if quantize is quantize_dynamic else [Calibration()]))
    assert operator in {node.op_type for node in onnx.load(quantized).graph.node}
    images = torch.randn(3, 3, 64, 64)
    expected = logits(network, images)
    np.testing.assert_allclose(session(quantized)(images), expected, 0, 0.2 * np.abs(expected).max())


@pytest.mark.slow
def test_no_shape_of_a_weight_is_stored_twice(tmp_path: Path) -> None:
    export_onnx(trained(), tmp_path / "small.onnx", 32)
    graph = onnx.load(tmp_path / "small.onnx").graph
    weights, values = ({item.name for item in items} for items in (graph.initializer, graph.value_info))
    assert weights and values and not weights & values
    assert {name for node in graph.node for name in node.output} <= values | {"logits"}


def pruned(network: EfficientFormer) -> EfficientFormer:
    prune.l1_unstructured(network.head, "weight", amount=0.5)
    return network


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (torch.nn.DataParallel, "small.onnx"),
        (torch.compile, "small.xml"),
        (AveragedModel, "small.xml"),
        (pruned, "small.onnx"),
    ],
)
def test_a_wrapped_or_pruned_network_is_exported_as_the_inner_network(
    tmp_path: Path, wrap: Callable[[EfficientFormer], torch.nn.Module], name: str
) -> None:
    wrapped = wrap(trained())
    (export_onnx if name.endswith(".onnx") else export_openvino)(wrapped, tmp_path / name, 64)
    images = torch.randn(1, 3, 64, 64)
    expected = logits(unwrap(wrapped), images)
    np.testing.assert_allclose(session(tmp_path / name)(images), expected, 0, 1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("network", [torch.nn.Linear(3, 2), Backbone(SMALL)])
def test_other_architectures_are_rejected(tmp_path: Path, network: torch.nn.Module) -> None:
    for write, name in ((export_onnx, "small.onnx"), (export_openvino, "small.xml")):
        with pytest.raises(ValueError, match=f"{type(network).__name__} .*EfficientFormer"):
            write(network, tmp_path / name, 32)
    assert not list(tmp_path.iterdir())


def test_the_folded_form_is_that_of_fold_and_has_no_norms_left() -> None:
    network = trained()
    images = torch.randn(2, 3, 64, 64)
    folded = folded_maps(network, 64)
    expected = logits(fold(network, 64), images)
    np.testing.assert_allclose(logits(folded, images), expected, 0, 1e-5 * np.abs(expected).max())
    kinds = {type(module).__name__ for module in folded.modules()}
    assert "BatchNorm2d" not in kinds and "LayerScale" in kinds  # γ₁ of an MB4D is kept
    nodes = [node.op_type for node in to_onnx(folded, images).graph.node]
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in network.modules())
    assert "BatchNormalization" not in nodes and nodes.count("Conv") == convolutions
    with pytest.raises(ValueError, match="is folded already"):
        folded_maps(folded, 64)


def test_a_size_other_than_the_folded_size_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="resolution 96×96 is not possible; the model was folded for 64×64"):
        export_onnx(folded_maps(trained(), 64), tmp_path / "small.onnx", 96)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_failure_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = onnx.helper.make_model(
        onnx.helper.make_graph([], "nothing", [], []), opset_imports=[onnx.helper.make_opsetid("", 18)]
    )
    monkeypatch.setattr("efficientformer_edu.export.onnx.to_onnx", lambda *_, **__: proto)
    before = {"small.bin": b"b", "small.onnx": b"o", "small.xml": b"x"}
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("efficientformer_edu.export.openvino.to_openvino", lambda *_, **__: None)
    monkeypatch.setattr(openvino, "save_model", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    for write, name in ((export_onnx, "small.onnx"), (export_openvino, "small.xml")):
        with pytest.raises(OSError, match="no space left"):
            write(trained(), tmp_path / name, 32)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_invalid_paths_are_rejected_before_computing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.export, "export", None)
    with pytest.raises(ValueError, match="allowed: one that ends in .xml"):
        export_openvino(trained(), tmp_path / "small.bin")
    for write, name in ((export_onnx, "small.onnx"), (export_openvino, "small.xml")):
        with pytest.raises(FileNotFoundError, match="the folder does not exist"):
            write(trained(), tmp_path / "nowhere" / name, 32)


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "openvino"])
def test_a_missing_library_error_has_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError) as missing:
        export_openvino(trained(), tmp_path / "small.xml", 32)
    assert str(missing.value) == f"{library} is missing: pip install 'efficientformer-edu[engines]'"
    assert not list(tmp_path.iterdir())


def test_openvino_sends_no_telemetry() -> None:
    """`import openvino` would send telemetry; through `import_engine` it uses its own stub."""
    code = (
        "import sys\nfrom efficientformer_edu.export.program import import_engine\nimport_engine('openvino')\n"
        "print(sorted(name for name in sys.modules if 'openvino_telemetry' in name))\n"
        "import openvino.tools.ovc as ovc\nprint(type(ovc.telemetry).__module__)"
    )
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.splitlines() == ["[]", "openvino.tools.ovc.telemetry_stub"]


def test_quiet_restores_the_log_level() -> None:
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    with program.quiet():
        assert logger.level == logging.ERROR
    assert logger.level == before
