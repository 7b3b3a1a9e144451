"""The counting rule of each FLOP counter, as data over the operations of the ledger.

All counters see the same operations but weight each kind differently. A rule is therefore a list of terms to add to our
count, each a multiple of the elements, parameters or MACs of some kinds of operations. The rules were derived from each
tool's code. For the tools that can be installed, they are compared with the printed numbers, exactly
(`tests/audit/test_counters.py`).

Three tools use hooks on modules or patched functions, so their result depends on how a product or an activation is
written. Terms therefore name the implementations to which they apply:

* "ours": `efficientformer_edu.model`, which has a module for each layer scale and for the softmax;
* "released": the authors' code, timm and mmpretrain, which call `.softmax` of a tensor;
* "huggingface": transformers, which calls `torch.matmul`, and imports GELU before any tool can patch it.

mmpretrain's table was made with the counter of mmcv 1.x on the feature maps without the heads. The released counter,
`toolbox.py`, has two bugs: its convolution hook counts one bias per input channel instead of per output channel, and
its GELU hook tests a tensor without its batch axis, so the width of a feature map is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Literal

from efficientformer_edu.audit.ledger import Kind, Operation
from efficientformer_edu.config import EfficientFormerConfig

Code = Literal["ours", "released", "huggingface"]
Quantity = Literal["macs", "params"]

EVERYWHERE: tuple[Code, ...] = ("ours", "released", "huggingface")
ANY_ACT = ("gelu", "relu", "relu6", "prelu", "leaky_relu", "silu", "hard_swish")
ANY_STAGE = ("stem", "stage 1", "stage 2", "stage 3", "stage 4", "head")
NOT_THE_STEM = ANY_STAGE[1:]

AMOUNTS: Mapping[str, Callable[[Operation], int]] = MappingProxyType(
    {
        "MAC": lambda row: row.macs,
        "parameter": lambda row: row.params,
        "element": lambda row: row.elements,
        "input position": lambda row: row.window * row.elements,
        "element without the width": lambda row: prod(row.output_shape[:2]),
        "row": lambda row: prod(row.output_shape[:-1]),
        "input channel": lambda row: row.params // (row.output_shape[0] * row.window),
    }
)
"""The amounts of an operation that a term can multiply."""


@dataclass(frozen=True)
class Term:
    """A multiple of some amount, summed over the matching operations.

    Attributes:
        factor: the multiplier; negative for amounts that the counter leaves out.
        amount: a key of `AMOUNTS`.
        kinds: matching kinds of operations.
        acts: matching activation functions.
        stages: matching stages.
        codes: implementations to which the term applies.
        ends: suffix of the operations' names.
        when: a condition on the configuration and the operation.
    """

    factor: int
    amount: str
    kinds: tuple[Kind, ...]
    acts: tuple[str, ...] = ANY_ACT
    stages: tuple[str, ...] = ANY_STAGE
    codes: tuple[Code, ...] = EVERYWHERE
    ends: str = ""
    when: Callable[[EfficientFormerConfig, Operation], bool] = lambda config, row: True


@dataclass(frozen=True)
class CounterRule:
    """The terms that lead from our count to a counter's own.

    Attributes:
        tool: name and version of the tool.
        macs: terms added to our MACs.
        params: terms added to our parameters; None for a counter of operations only.
        per_mac: 2 if the counter prints FLOPs (two per MAC), else 1.
        runs: whether the tests run the tool; if not, the rule is derived from its code and its published numbers.
        note: a remark on the tool.
    """

    tool: str
    macs: tuple[Term, ...]
    params: tuple[Term, ...] | None = None
    per_mac: int = 1
    runs: bool = True
    note: str = ""


BIASES: tuple[Kind, ...] = ("convolution bias", "linear bias")
NORMS: tuple[Kind, ...] = ("batch norm", "layer norm")
NO_PRODUCTS = Term(-1, "MAC", ("attention product",))
BARE = (Term(-1, "parameter", ("layer scale",)), Term(-1, "parameter", ("attention bias",)))
"""Parameters outside of any hooked module, which hook-based counters miss."""


def _single_channel_heads(config: EfficientFormerConfig, row: Operation) -> bool:
    """Return whether the heads' values are concatenated without a copy; torch then multiplies and adds in two calls."""
    return config.value_dim == 1 and config.num_heads > 1 and row.output_shape[0] > 1


_TOOLBOX_PARAMS = (
    *BARE,
    Term(-1, "parameter", ("batch norm",)),
    Term(-1, "parameter", ("convolution bias",)),
    Term(+1, "input channel", ("convolution",)),
)
_TOOLBOX_MACS = (Term(+1, "input position", ("pool",)), Term(+2, "element", ("layer norm",)))

COUNTERS: Mapping[str, CounterRule] = MappingProxyType(
    {
        "fvcore": CounterRule(
            "fvcore 0.1.5.post20221221, FlopCountAnalysis",
            (
                Term(+2, "element", ("batch norm",)),
                Term(+5, "element", ("layer norm",)),
                Term(+4, "element", ("resize",)),
            ),
            params=(),
            note="Prints MACs and calls them flops. A call of scaled_dot_product_attention counts 0.",
        ),
        "flop_counter": CounterRule(
            "torch.utils.flop_counter.FlopCounterMode (torch 2.13)",
            (),
            per_mac=2,
            note="FLOPs of convolutions and matrix products alone: twice our MACs.",
        ),
        "torchinfo": CounterRule(
            "torchinfo 1.8.0, total_mult_adds",
            (
                NO_PRODUCTS,
                Term(+1, "element", ("convolution bias",)),
                Term(-1, "MAC", ("linear",)),
                Term(+1, "parameter", ("linear", "linear bias")),
                Term(+1, "parameter", NORMS),
                Term(+1, "parameter", ("activation",)),
            ),
            params=(),
            note="Counts a linear layer on tokens for one token only: a bug, fixed after 1.8.0 but not released.",
        ),
        "ptflops": CounterRule(
            "ptflops 0.7.5, backend pytorch",
            (
                NO_PRODUCTS,
                Term(+1, "MAC", ("attention product",), codes=("huggingface",)),
                Term(+1, "element", BIASES),
                Term(+2, "element", ("batch norm",)),
                Term(+1, "element", ("layer norm",)),
                Term(+2, "element", ("pool",)),
                Term(+2, "element", ("activation",), acts=("relu", "prelu")),
                Term(+2, "element", ("activation",), acts=("gelu",), codes=("ours", "released")),
                Term(+1, "element", ("activation",), acts=("relu6", "leaky_relu", "silu")),
                Term(+1, "element", ("softmax",), codes=("ours",)),
                Term(+1, "element", ("resize",)),
            ),
            params=(),
            note="A module's hook and its function's patch both count pooling and GELU; the operator @ is missed.",
        ),
        "ptflops-aten": CounterRule(
            "ptflops 0.7.5, backend aten",
            (
                Term(+1, "element", BIASES),
                Term(-1, "element", ("linear bias",), ends="proj.bias", when=_single_channel_heads),
            ),
            params=(),
            note="Sees a linear's bias where torch adds it in the same call: not behind heads of one channel.",
        ),
        "thop": CounterRule(
            "thop 0.1.1",
            (
                NO_PRODUCTS,
                Term(+4, "element", NORMS),
                Term(+1, "element", ("pool",)),
                Term(+1, "element", ("activation",), acts=("prelu",)),
                Term(+3, "element", ("softmax",), codes=("ours",)),
                Term(-1, "row", ("softmax",), codes=("ours",)),
            ),
            params=BARE,
            note="Sees modules only: no matrix product that is not a layer, no bare parameter.",
        ),
        "toolbox": CounterRule(
            "toolbox.py of the released code, as it prints",
            (*_TOOLBOX_MACS, Term(+1, "element without the width", ("activation",), stages=NOT_THE_STEM)),
            params=_TOOLBOX_PARAMS,
            runs=False,
            note="The paper's parameters are what it prints.",
        ),
        "toolbox-intended": CounterRule(
            "toolbox.py of the released code, without its two bugs",
            (*_TOOLBOX_MACS, Term(+1, "element", ("activation",), stages=NOT_THE_STEM)),
            params=_TOOLBOX_PARAMS[:-2],
            runs=False,
        ),
        "mmpretrain": CounterRule(
            "mmcv 1.x get_model_complexity_info on extract_feat, behind mmpretrain's table",
            (
                NO_PRODUCTS,
                Term(-1, "MAC", ("linear",), stages=("head",)),
                Term(+1, "element", ("convolution bias",)),
                Term(+2, "element", NORMS),
                Term(+1, "element", ("pool",)),
                Term(+1, "input position", ("token mean",)),
                Term(+1, "element", ("activation",), acts=("relu",)),
            ),
            params=(),
            runs=False,
            note="Its L1 was counted with a frozen stem, its L3 with one MB3D block instead of four.",
        ),
    }
)
"""The counters, by the names that `explain` and the command line accept."""
