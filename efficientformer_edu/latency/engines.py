"""Inference engines with a common interface; the output of each is compared with eager PyTorch before it is timed.

Paper: section 3, observation 4: which operators are fast depends on the compiler. The phone used CoreML; these engines
run on a computer.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from efficientformer_edu.export.program import INPUT, INSTALL, OUTPUT, evaluated, needs
from efficientformer_edu.model import EfficientFormer, fold
from efficientformer_edu.model.folding import fold_norms, folded_maps
from efficientformer_edu.utils.hardware import threads

TOLERANCE = 1e-4  # maximum difference from eager, relative to the largest logit
COMPILER = "a C++ compiler"
COMPILERS = ("g++", "clang++", "c++", "cl")

Run = Callable[[], Tensor]


@dataclass(frozen=True)
class Engine:
    """A way to run a network.

    Attributes:
        words: a short description.
        needs: the libraries required in addition to torch, and `COMPILER` if a compiler is required.
        install: how to install them; "" if nothing is required.
        ours: whether it only runs EfficientFormer. A graph compiler folds the norms of other networks by itself.
        build: returns a function without arguments, from a network in evaluation mode, images and a number of threads.
    """

    words: str
    build: Callable[[nn.Module, Tensor, int], Run]
    needs: tuple[str, ...] = ()
    install: str = ""
    ours: bool = False

    @property
    def missing(self) -> tuple[str, ...]:
        """The requirements that are not installed."""
        return tuple(name for name in self.needs if not (_compiler() if name == COMPILER else _installed(name)))


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
        network: in its trained form; any module that maps images to logits. Engines with `ours` only accept
            EfficientFormer. The network is not modified: a copy runs in evaluation mode.
        images: (B, in_channels, H, W), float32.
        num_threads: threads of the engine; None for the current number of torch threads. For engines that run in torch,
            pass the same number to `measure`.

    Raises:
        ImportError: if a library is missing, with the command that installs it.
        ValueError: for an unknown engine, an engine that cannot run this network, or logits that differ from eager's by
            more than `TOLERANCE`.
    """
    if name not in ENGINES:
        raise ValueError(f"engine {name!r} is unknown; there are {', '.join(ENGINES)}")
    engine = ENGINES[name]
    if engine.ours and not isinstance(network, EfficientFormer):
        kind = type(network).__name__
        raise ValueError(f"{name} folds an EfficientFormer, and this is a {kind}; use {name.removesuffix('-folded')}")
    if engine.missing:
        raise ImportError(f"{name} needs {' and '.join(engine.missing)}: {engine.install}")
    if set(engine.needs) - {COMPILER} and images.device.type != "cpu":
        raise ValueError(f"{name} runs on the processor here, and the images are on {images.device}")
    with threads(num_threads) as in_force:
        expected = _eager(evaluated(network), images, in_force)
        with torch.inference_mode():
            logits = expected()
        prepared = Prepared(engine.build(evaluated(network), images, in_force), logits)
    if not prepared.difference <= TOLERANCE:
        raise ValueError(
            f"{name} is wrong: its logits differ from eager's by {prepared.difference:.1e} of the largest, "
            f"allowed are {TOLERANCE:.0e}"
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
    runtime = needs("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.force_spinning_stop", "1")  # else its threads slow down the next subject
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
    openvino = needs("openvino")
    hints = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": num_threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(source, "CPU", hints)
    request = compiled.create_infer_request()
    kept = images.detach().contiguous().numpy()
    request.set_input_tensor(openvino.Tensor(kept, shared_memory=True))

    def run(kept: Any = kept) -> Tensor:  # the images live as long as this function
        request.infer()
        return torch.from_numpy(request.get_output_tensor().data.copy())

    return run


def _eager(network: nn.Module, images: Tensor, _: int) -> Run:
    return partial(network, images)


def _folded(network: nn.Module, images: Tensor, _: int) -> Run:
    """EfficientFormer is folded by `fold`; other networks get folded batch norms and channels-last feature maps."""
    if isinstance(network, EfficientFormer):
        return _eager(fold(network, _size(images)), images, _)
    fold_norms(network)
    return _channels_last(network, images, _)


def _channels_last(network: nn.Module, images: Tensor, _: int) -> Run:
    layout = torch.channels_last
    network.to(memory_format=layout)  # type: ignore[call-overload]  # torch's annotations leave it out
    return _eager(network, images.contiguous(memory_format=layout), _)


def _compile(network: nn.Module, images: Tensor, _: int) -> Run:
    def call(inputs: Tensor) -> Tensor:
        return network(inputs)

    # torch compiles the same code object for at most eight networks, so each network gets its own code object.
    call.__code__ = call.__code__.replace()
    compiled = torch.compile(call, fullgraph=True, dynamic=False)  # an error instead of a silent fallback to eager

    def run() -> Tensor:
        return compiled(images)

    try:
        with torch.inference_mode():
            run()
    except Exception as error:  # the compiler backend may raise any exception
        message = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"torch.compile fails on this network: {message}") from error
    return run


def _onnx(network: nn.Module, images: Tensor, num_threads: int) -> Run:
    return run_onnx(to_onnx(network, images).SerializeToString(), images, num_threads)


def _onnx_folded(network: nn.Module, images: Tensor, num_threads: int) -> Run:
    return _onnx(folded_maps(_ours(network), _size(images)), images, num_threads)


def _openvino(network: nn.Module, images: Tensor, num_threads: int) -> Run:
    return run_openvino(to_openvino(network, images), images, num_threads)


def _openvino_folded(network: nn.Module, images: Tensor, num_threads: int) -> Run:
    return _openvino(folded_maps(_ours(network), _size(images)), images, num_threads)


def _ours(network: nn.Module) -> EfficientFormer:
    assert isinstance(network, EfficientFormer)  # checked by `prepare`
    return network


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]


def _installed(library: str) -> bool:
    return find_spec(library) is not None


def _compiler() -> bool:
    return any(shutil.which(name) for name in (environ.get("CXX", ""), *COMPILERS) if name)


_ONNXRUNTIME = ("onnx", "onnxscript", "onnxruntime")
_OPENVINO = ("onnx", "onnxscript", "openvino")
_GET_COMPILER = "install g++ or clang++ with your system's packages"

ENGINES: Mapping[str, Engine] = MappingProxyType(
    {
        "eager": Engine("torch, operation by operation", _eager),
        "folded": Engine("the folded form in torch", _folded),
        "channels-last": Engine("torch, the channels of a place side by side", _channels_last),
        "compile": Engine("torch.compile", _compile, (COMPILER,), _GET_COMPILER),
        "onnxruntime": Engine("ONNX Runtime", _onnx, _ONNXRUNTIME, INSTALL),
        "onnxruntime-folded": Engine("the folded form in ONNX Runtime", _onnx_folded, _ONNXRUNTIME, INSTALL, True),
        "openvino": Engine("OpenVINO", _openvino, _OPENVINO, INSTALL),
        "openvino-folded": Engine("the folded form in OpenVINO", _openvino_folded, _OPENVINO, INSTALL, True),
    }
)
