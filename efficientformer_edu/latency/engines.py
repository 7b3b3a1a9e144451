"""Inference engines with a common interface; the output of each is compared with eager PyTorch before it is timed.

Paper: section 3, observation 4: which operators are fast depends on the compiler. The phone used CoreML; these engines
run on a computer.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from os import environ
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from efficientformer_edu.export.onnx import to_onnx
from efficientformer_edu.export.openvino import to_openvino
from efficientformer_edu.export.program import INPUT, OUTPUT, evaluated, import_engine
from efficientformer_edu.model import EfficientFormer, fold
from efficientformer_edu.model.folding import fold_norms, folded_maps
from efficientformer_edu.utils.hardware import threads
from efficientformer_edu.utils.optional import install_command

TOLERANCE = 1e-4  # maximum difference from eager, relative to the largest logit
COMPILER = "a C++ compiler"
COMPILERS = ("g++", "clang++", "c++", "cl")

Run = Callable[[], Tensor]


class Engine:
    """PyTorch, operation by operation; the base class of the other engines.

    Attributes:
        requirements: the libraries required in addition to torch, and `COMPILER` if a compiler is required.
        install: how to install them; "" for packages that pip installs.
        efficientformer_only: whether other networks are refused. A graph compiler folds their norms by itself.
    """

    requirements: tuple[str, ...] = ()
    install = ""
    efficientformer_only = False

    def build(self, network: nn.Module, images: Tensor, num_threads: int) -> Run:
        """Return a function that runs a network in evaluation mode, which may be modified, on images."""
        return partial(network, images)

    @property
    def missing(self) -> tuple[str, ...]:
        """The requirements that are not installed."""
        return tuple(
            name for name in self.requirements if not (has_compiler() if name == COMPILER else is_installed(name))
        )


class ChannelsLast(Engine):
    """PyTorch with the channels-last memory format (NHWC)."""

    def build(self, network: nn.Module, images: Tensor, num_threads: int) -> Run:
        layout = torch.channels_last
        network.to(memory_format=layout)  # type: ignore[call-overload]  # torch's annotations leave it out
        return super().build(network, images.contiguous(memory_format=layout), num_threads)


class Folded(ChannelsLast):
    """EfficientFormer folded by `fold`; other networks get folded batch norms and channels-last feature maps."""

    def build(self, network: nn.Module, images: Tensor, num_threads: int) -> Run:
        if isinstance(network, EfficientFormer):
            return partial(fold(network, _size(images)), images)
        fold_norms(network)
        return super().build(network, images, num_threads)


class Compiled(Engine):
    """PyTorch with `torch.compile`, as a single graph."""

    requirements = (COMPILER,)
    install = "install g++ or clang++ with your system's packages"

    def build(self, network: nn.Module, images: Tensor, num_threads: int) -> Run:
        def call(inputs: Tensor) -> Tensor:
            return network(inputs)

        # torch compiles the same code object for at most eight networks, so each network gets its own code object.
        call.__code__ = call.__code__.replace()
        compiled = torch.compile(call, fullgraph=True, dynamic=False)  # an error instead of a silent fallback to eager
        try:
            with torch.inference_mode():
                compiled(images)
        except Exception as error:  # the compiler backend may raise any exception
            message = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(f"torch.compile fails on this network: {message}") from error
        return partial(compiled, images)


class OnnxRuntime(Engine):
    """ONNX Runtime on the CPU."""

    requirements = ("onnx", "onnxscript", "onnxruntime")

    def build(self, network: nn.Module, images: Tensor, num_threads: int) -> Run:
        return run_onnx(to_onnx(network, images).SerializeToString(), images, num_threads)


class OpenVino(Engine):
    """OpenVINO on the CPU."""

    requirements = ("onnx", "onnxscript", "openvino")

    def build(self, network: nn.Module, images: Tensor, num_threads: int) -> Run:
        return run_openvino(to_openvino(network, images), images, num_threads)


class FoldedGraph(Engine):
    """The form of EfficientFormer that is folded for graph compilers, in another engine."""

    efficientformer_only = True

    def __init__(self, engine: Engine) -> None:
        self.engine, self.requirements, self.install = engine, engine.requirements, engine.install

    def build(self, network: nn.Module, images: Tensor, num_threads: int) -> Run:
        assert isinstance(network, EfficientFormer)  # checked by `prepare`
        return self.engine.build(folded_maps(network, _size(images)), images, num_threads)


ENGINES: Mapping[str, Engine] = MappingProxyType(
    {
        "eager": Engine(),
        "folded": Folded(),
        "channels-last": ChannelsLast(),
        "compile": Compiled(),
        "onnxruntime": OnnxRuntime(),
        "onnxruntime-folded": FoldedGraph(OnnxRuntime()),
        "openvino": OpenVino(),
        "openvino-folded": FoldedGraph(OpenVino()),
    }
)


class Prepared:
    """A network in an engine with its images; call it to get the logits.

    Attributes:
        difference: the largest difference from eager's logits, relative to the largest logit.
    """

    def __init__(self, run: Run, expected: Tensor) -> None:
        with torch.inference_mode():
            self._run, self.difference = run, difference(run(), expected)

    @torch.inference_mode()
    def __call__(self) -> Tensor:
        """The logits, (B, num_classes)."""
        return self._run()


def prepare(name: str, network: nn.Module, images: Tensor, num_threads: int | None = None) -> Prepared:
    """Prepare a network to run in an engine, and compare its logits with eager.

    Args:
        name: a key of `ENGINES`.
        network: in its trained form; any module that maps images to logits, or an EfficientFormer for engines that
            accept no other network. It is not modified: a copy runs in evaluation mode.
        images: (B, in_channels, H, W), float32.
        num_threads: threads of the engine; None for the current number of torch threads. For engines that run in torch,
            pass the same number to `measure`.

    Raises:
        ImportError: if a library is missing, with the command that installs it.
        ValueError: for an unknown engine, an engine that cannot run this network, or logits that differ from eager's by
            more than `TOLERANCE`.
    """
    if name not in ENGINES:
        raise ValueError(f"engine {name!r} is unknown; allowed: {', '.join(ENGINES)}")
    engine = ENGINES[name]
    if engine.efficientformer_only and not isinstance(network, EfficientFormer):
        kind = type(network).__name__
        raise ValueError(f"{name} runs only an EfficientFormer, not {kind}; use {name.removesuffix('-folded')}")
    if engine.missing:
        command = engine.install or install_command(engine.missing[0])
        raise ImportError(f"{name} needs {' and '.join(engine.missing)}: {command}")
    if set(engine.requirements) - {COMPILER} and images.device.type != "cpu":
        raise ValueError(f"{name} runs on the CPU, but the images are on {images.device}")
    with threads(num_threads) as count:
        with torch.inference_mode():
            logits = evaluated(network)(images)
        prepared = Prepared(engine.build(evaluated(network), images, count), logits)
    if not prepared.difference <= TOLERANCE:
        raise ValueError(
            f"{name} is wrong: its logits differ from eager's by {prepared.difference:.1e} of the largest logit, "
            f"at most {TOLERANCE:.0e} is allowed"
        )
    return prepared


def available() -> list[str]:
    """The engines whose requirements are installed."""
    return [name for name, engine in ENGINES.items() if not engine.missing]


def difference(logits: Tensor, expected: Tensor) -> float:
    """The largest difference between two tensors, relative to the largest expected value."""
    return float((logits - expected).abs().max() / expected.abs().max())


def run_onnx(source: bytes | Path, images: Tensor, num_threads: int) -> Run:
    """Run a graph from `export` in ONNX Runtime; the images are bound once and not copied in each call.

    Raises:
        ImportError: if onnxruntime is missing, with the command that installs it.
    """
    runtime = import_engine("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.force_spinning_stop", "1")  # else its threads slow down the next workload
    graph = source if isinstance(source, bytes) else str(source)
    session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    kept = images.detach().contiguous()
    binding.bind_input(INPUT, "cpu", 0, "float32", tuple(kept.shape), kept.data_ptr())
    binding.bind_output(OUTPUT, "cpu")

    def run(kept: Tensor = kept) -> Tensor:  # the images live as long as this function
        session.run_with_iobinding(binding)
        return torch.from_numpy(binding.get_outputs()[0].numpy())

    return run


def run_openvino(source: Any, images: Tensor, num_threads: int) -> Run:
    """Run a graph from `export`, a file or a model, in OpenVINO; the images are not copied in each call.

    Raises:
        ImportError: if openvino is missing, with the command that installs it.
    """
    openvino = import_engine("openvino")
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": num_threads, "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(source, "CPU", hints).create_infer_request()
    kept = images.detach().contiguous().numpy()
    request.set_input_tensor(openvino.Tensor(kept, shared_memory=True))

    def run(kept: Any = kept) -> Tensor:  # the images live as long as this function
        request.infer()
        return torch.from_numpy(request.get_output_tensor().data.copy())

    return run


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]


def is_installed(library: str) -> bool:
    """Whether a library can be imported."""
    return find_spec(library) is not None


def has_compiler() -> bool:
    """Whether torch.compile finds a C++ compiler."""
    return any(shutil.which(name) for name in (environ.get("CXX", ""), *COMPILERS) if name)
