"""The class of Fig. 2 that an operator belongs to: by what it does, else by the module in which it runs.

Paper: section 3, Fig. 2, which names six of the classes. The authors' rules are not known. Ours are the tables below,
in this order:

1. What an operator does decides for norms, activations, pooling and what only moves numbers (copies, views,
   concatenations). A layout copy inside an attention product or a linear layer counts as reshape too.
2. Else the innermost module decides whose name or type says what it is.
3. Else a convolution decides by its kernel: 1×1 mixes channels as an MLP does (an MB4D's MLP is two of them). A larger
   one is the stem at the top of the network; in a block it mixes neighbouring positions, as pooling does in an MB4D,
   and shares its class.
4. Sums, differences and scales outside all these are the ends of a branch, residual or layer scale. They belong to the
   branch that ran before them.
5. What is left is other: the heads, the mean over all places before them, and whatever no rule knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from torch import nn

SPATIAL = "spatial convolution and pooling"
CLASSES = ("patch embedding", "attention", "MLP", "reshape", "activation", "norm", SPATIAL, "other")
BRANCH = "branch"  # of a class that only its place in time tells

Classify = Callable[[str, Sequence[str]], str]
"""From an operator's name and the modules around it, outermost first, to a class, or to `BRANCH`."""

NORMS = {"layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm"}
ACTIVATIONS = {"relu", "relu6", "gelu", "hardtanh", "hardswish", "silu", "hardsigmoid", "leaky_relu", "elu", "mish"}
POOLS = {"avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d"}
LAYOUT = {"clone", "contiguous"}  # copies for the sake of the layout, also where another operator asks for them
MOVES = LAYOUT | {
    *(
        "copy",
        "to",
        "to_copy",
        "cat",
        "stack",
        "pad",
        "roll",
        "repeat",
        "expand",
        "expand_as",
        "reshape",
        "reshape_as",
        "view",
    ),
    *("view_as", "flatten", "unflatten", "transpose", "permute", "t", "movedim", "squeeze", "unsqueeze", "select"),
    *("slice", "narrow", "split", "split_with_sizes", "chunk", "unbind", "unfold", "as_strided", "alias", "detach"),
}
ENDS = {"add", "sub", "rsub", "mul", "div", "neg", "lerp", "addcmul"}
OPERATORS = (
    (NORMS, "norm"),
    (ACTIVATIONS, "activation"),
    (POOLS, SPATIAL),
    (MOVES, "reshape"),
)

HEADS = r"^/(head\w*|fc|classifier|global_pool):"  # at the top, where a slash stands before the name
MODULES = (
    (r":(Layer|Batch|Group|Instance|RMS)Norm", "norm"),
    (r":(GELU|ReLU|Hard(s|S)wish|SiLU)", "activation"),
    (r"(?i)attn|attention|mhsa", "attention"),
    (r":(Avg|Max)Pool|:Pooling", SPATIAL),
    (r"^/stem|conv_stem|patch_embed|downsample|:(PatchEmbed|Embedding|Downsample)", "patch embedding"),
    (r"(?i)mlp|feed_?forward|ffn", "MLP"),
    (r":(LayerScale|Scale)", BRANCH),
)
CONVOLUTIONS = (
    (r":Conv\w* 1×1", "MLP"),
    (r"^/.*:Conv", "patch embedding"),
    (r":Conv", SPATIAL),
)


def classify(operator: str, around: Sequence[str]) -> str:
    """The class of an operator that a module calls itself, by the tables of this file.

    Args:
        operator: its name in the profile, such as `"aten::linear"`.
        around: the modules in which it runs, outermost first, as `place` names them; without the network itself.
    """
    name = plain(operator)
    for names, found in OPERATORS:
        if name in names:
            return found
    if any(re.search(HEADS, part) for part in around):
        return "other"
    for table in (MODULES, CONVOLUTIONS):
        for part in reversed(around):
            for pattern, found in table:
                if re.search(pattern, part):
                    return found if found != BRANCH or name in ENDS else "other"
    return BRANCH if name in ENDS else "other"


def plain(operator: str) -> str:
    """`"aten::add_"` as `"add"`, `"aten::_to_copy"` as `"to_copy"`."""
    return operator.removeprefix("aten::").strip("_")


def place(network: nn.Module, path: str) -> tuple[str, ...]:
    """The modules on the way to one, such as `("/stem:Stem", "conv1:Conv2d 3×3")`; the network itself is left out."""
    parts: list[str] = []
    module = network
    for name in filter(None, path.split(".")):
        module = module.get_submodule(name)
        kernel = getattr(module, "kernel_size", None)
        size = "×".join(map(str, kernel)) if isinstance(module, nn.Conv2d) and isinstance(kernel, tuple) else ""
        parts.append(f"{'' if parts else '/'}{name}:{type(module).__name__} {size}".rstrip())
    return tuple(parts)
