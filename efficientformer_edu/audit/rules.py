"""What each counter counts, as data over the operations of the ledger.

Every counter starts from the same operations, and gives each kind of them another weight. A rule is therefore a list
of terms to add to our count: so much for each number, parameter or MAC of the operations of some kinds. The rules were
read off each tool's code, and those of the tools that can be installed are held against what the tools print, to the
last operation (`tests/audit/test_counters.py`).

Three of them count by hooks on modules or by patched functions, so that what they print depends on how a product or an
activation is written. Terms name the code that they hold for:

* "ours": `efficientformer_edu.model`, which has a module for each layer scale and for the softmax;
* "released": the authors' code, timm and mmpretrain, which call `.softmax` of a tensor;
* "huggingface": transformers, which calls `torch.matmul`, and took hold of GELU before any tool could patch it.

mmpretrain's table was made with the counter of mmcv 1.x on the maps without the heads. The released counter,
`toolbox.py`, has two slips: its hook takes the bias of a convolution for as many numbers as the convolution has inputs,
and its hook of GELU tests a tensor that has lost its batch, so that a map's width is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import Literal

from efficientformer_edu.audit.costs import Kind, Operation
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
        "number": lambda row: row.elements,
        "place looked at": lambda row: row.window * row.elements,
        "number without the width": lambda row: prod(row.output_shape[:2]),
        "row": lambda row: prod(row.output_shape[:-1]),
        "input channel": lambda row: row.params // (row.output_shape[0] * row.window),
    }
)
"""What a term may take of an operation."""


@dataclass(frozen=True)
class Term:
    """So much for each of what the operations of some kinds have.

    Attributes:
        factor: how often each is counted; negative for what the counter leaves out.
        each: a key of `AMOUNTS`.
        kinds: of the operations.
        acts: for activations: which ones.
        stages: where in the network.
        codes: in whose code.
        ends: end of the operations' names.
        when: a condition on the network and the operation.
    """

    factor: int
    each: str
    kinds: tuple[Kind, ...]
    acts: tuple[str, ...] = ANY_ACT
    stages: tuple[str, ...] = ANY_STAGE
    codes: tuple[Code, ...] = EVERYWHERE
    ends: str = ""
    when: Callable[[EfficientFormerConfig, Operation], bool] = lambda config, row: True


@dataclass(frozen=True)
class Rule:
    """How a counter gets from our count to its own.

    Attributes:
        tool: what it is, with the version that was read.
        macs: terms added to our MACs.
        params: terms added to our parameters; None for a counter of operations only.
        per_mac: 2 if the counter prints FLOPs, two for each MAC.
        runs: whether the tests run the tool; if not, the rule is derived from its code and its published numbers.
        note: what to know about it.
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
"""Parameters that belong to no module with a hook, so that a counter by hooks does not see them."""


def _heads_of_one_channel(config: EfficientFormerConfig, row: Operation) -> bool:
    """Whether the heads' values are laid side by side without a copy: torch then multiplies and adds in two calls."""
    return config.value_dim == 1 and config.num_heads > 1 and row.output_shape[0] > 1


_TOOLBOX_PARAMS = (
    *BARE,
    Term(-1, "parameter", ("batch norm",)),
    Term(-1, "parameter", ("convolution bias",)),
    Term(+1, "input channel", ("convolution",)),
)
_TOOLBOX_MACS = (Term(+1, "place looked at", ("pool",)), Term(+2, "number", ("layer norm",)))

COUNTERS: Mapping[str, Rule] = MappingProxyType(
    {
        "fvcore": Rule(
            "fvcore 0.1.5.post20221221, FlopCountAnalysis",
            (
                Term(+2, "number", ("batch norm",)),
                Term(+5, "number", ("layer norm",)),
                Term(+4, "number", ("resize",)),
            ),
            params=(),
            note="Prints MACs and calls them flops. A call of scaled_dot_product_attention counts 0.",
        ),
        "flop_counter": Rule(
            "torch.utils.flop_counter.FlopCounterMode (torch 2.13)",
            (),
            per_mac=2,
            note="FLOPs of convolutions and matrix products alone: twice our MACs.",
        ),
        "torchinfo": Rule(
            "torchinfo 1.8.0, total_mult_adds",
            (
                NO_PRODUCTS,
                Term(+1, "number", ("convolution bias",)),
                Term(-1, "MAC", ("linear",)),
                Term(+1, "parameter", ("linear", "linear bias")),
                Term(+1, "parameter", NORMS),
                Term(+1, "parameter", ("activation",)),
            ),
            params=(),
            note="Counts a linear layer on tokens for one token only: a fault, mended after 1.8.0 but not released.",
        ),
        "ptflops": Rule(
            "ptflops 0.7.5, backend pytorch",
            (
                NO_PRODUCTS,
                Term(+1, "MAC", ("attention product",), codes=("huggingface",)),
                Term(+1, "number", BIASES),
                Term(+2, "number", ("batch norm",)),
                Term(+1, "number", ("layer norm",)),
                Term(+2, "number", ("pool",)),
                Term(+2, "number", ("activation",), acts=("relu", "prelu")),
                Term(+2, "number", ("activation",), acts=("gelu",), codes=("ours", "released")),
                Term(+1, "number", ("activation",), acts=("relu6", "leaky_relu", "silu")),
                Term(+1, "number", ("softmax",), codes=("ours",)),
                Term(+1, "number", ("resize",)),
            ),
            params=(),
            note="A module's hook and its function's patch both count pooling and GELU; the operator @ is missed.",
        ),
        "ptflops-aten": Rule(
            "ptflops 0.7.5, backend aten",
            (
                Term(+1, "number", BIASES),
                Term(-1, "number", ("linear bias",), ends="proj.bias", when=_heads_of_one_channel),
            ),
            params=(),
            note="Sees a linear's bias where torch adds it in the same call: not behind heads of one channel.",
        ),
        "thop": Rule(
            "thop 0.1.1",
            (
                NO_PRODUCTS,
                Term(+4, "number", NORMS),
                Term(+1, "number", ("pool",)),
                Term(+1, "number", ("activation",), acts=("prelu",)),
                Term(+3, "number", ("softmax",), codes=("ours",)),
                Term(-1, "row", ("softmax",), codes=("ours",)),
            ),
            params=BARE,
            note="Sees modules only: no matrix product that is not a layer, no bare parameter.",
        ),
        "toolbox": Rule(
            "toolbox.py of the released code, as it prints",
            (*_TOOLBOX_MACS, Term(+1, "number without the width", ("activation",), stages=NOT_THE_STEM)),
            params=_TOOLBOX_PARAMS,
            runs=False,
            note="The paper's parameters are what it prints.",
        ),
        "toolbox-intended": Rule(
            "toolbox.py of the released code, without its two slips",
            (*_TOOLBOX_MACS, Term(+1, "number", ("activation",), stages=NOT_THE_STEM)),
            params=_TOOLBOX_PARAMS[:-2],
            runs=False,
        ),
        "mmpretrain": Rule(
            "mmcv 1.x get_model_complexity_info on extract_feat, behind mmpretrain's table",
            (
                NO_PRODUCTS,
                Term(-1, "MAC", ("linear",), stages=("head",)),
                Term(+1, "number", ("convolution bias",)),
                Term(+2, "number", NORMS),
                Term(+1, "number", ("pool",)),
                Term(+1, "place looked at", ("token mean",)),
                Term(+1, "number", ("activation",), acts=("relu",)),
            ),
            params=(),
            runs=False,
            note="Its L1 was counted with a frozen stem, its L3 with one MB3D block in place of four.",
        ),
    }
)
"""The counters by the name that `explain` and the command line take."""
