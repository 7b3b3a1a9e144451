"""The class of Fig. 2 that an operator belongs to, from its function or from the module in which it runs.

Paper: section 3, Fig. 2, which names six of the classes. The authors' rules are not published. The rules here are the
tables below, applied in this order:

1. Norms, activations, pooling and operators that only move data (copies, views, concatenations) are classified by their
   function. A layout copy inside an attention product or a linear layer also counts as reshape.
2. Next, the innermost module with a known name or type determines the class.
3. Next, a convolution is classified by its kernel: 1×1 mixes channels like an MLP (the MLP of an MB4D consists of
   two). A larger one at the top of the network is the stem; in a block it mixes neighbouring positions, like the
   pooling in an MB4D, and has the same class.
4. Remaining sums, differences and scales end a branch: a residual connection or a layer scale. They belong to the
   branch that ran before them.
5. Everything else is "other": the heads, the mean over all positions before them, and operators without a rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from torch import nn

SPATIAL = "spatial convolution and pooling"
CLASSES = ("patch embedding", "attention", "MLP", "reshape", "activation", "norm", SPATIAL, "other")
BRANCH = "branch"  # the class is that of the branch that ran before

Classify = Callable[[str, Sequence[str]], str]
"""Maps an operator's name and the enclosing modules, outermost first, to a class or to `BRANCH`."""

NORMS = {"layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm"}
ACTIVATIONS = {"relu", "relu6", "gelu", "hardtanh", "hardswish", "silu", "hardsigmoid", "leaky_relu", "elu", "mish"}
POOLS = {"avg_pool1d", "avg_pool2d", "max_pool1d", "max_pool2d"}
LAYOUT = {"clone", "contiguous"}  # layout copies, including those made by other operators
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

HEADS = r"^/(head\w*|fc|classifier|global_pool):"  # at the top level, where the name starts with a slash
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
    """The class of an operator that a module calls directly, from the tables in this module.

    Args:
        operator: its name in the profile, such as `"aten::linear"`.
        around: the enclosing modules, outermost first, named as by `place`, without the network itself.
    """
    name = plain(operator)
    for names, kind in OPERATORS:
        if name in names:
            return kind
    if any(re.search(HEADS, part) for part in around):
        return "other"
    for table in (MODULES, CONVOLUTIONS):
        for part in reversed(around):
            for pattern, kind in table:
                if re.search(pattern, part):
                    return kind if kind != BRANCH or name in ENDS else "other"
    return BRANCH if name in ENDS else "other"


def plain(operator: str) -> str:
    """The base name of an operator: `"add"` for `"aten::add_"`, `"to_copy"` for `"aten::_to_copy"`."""
    return operator.removeprefix("aten::").strip("_")


def place(network: nn.Module, path: str) -> tuple[str, ...]:
    """The modules on a path, such as `("/stem:Stem", "conv1:Conv2d 3×3")`, without the network itself."""
    parts: list[str] = []
    module = network
    for name in filter(None, path.split(".")):
        module = module.get_submodule(name)
        kernel = getattr(module, "kernel_size", None)
        size = "×".join(map(str, kernel)) if isinstance(module, nn.Conv2d) and isinstance(kernel, tuple) else ""
        parts.append(f"{'' if parts else '/'}{name}:{type(module).__name__} {size}".rstrip())
    return tuple(parts)
