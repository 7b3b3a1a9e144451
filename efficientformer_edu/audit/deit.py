"""DeiT-S in closed form: a network in which 12 blocks of attention and an MLP follow one cut into patches.

Table 1 of the paper lists it among the rivals. Shape: DeiT, *Training data-efficient image transformers & distillation
through attention*, ICML 2021, with images of 224×224 pixels and 1000 classes. With distillation, a second token and a
second head are added. Each block holds 12·width² weights: 3 for Q, K and V, 1 for the projection, 4 + 4 for the MLP.
"""

from __future__ import annotations

WIDTH, DEPTH, PATCH, IMAGE, COLOURS, CLASSES = 384, 12, 16, 224, 3, 1000

PATCHES = (IMAGE // PATCH) ** 2
PIXELS = COLOURS * PATCH**2
"""Numbers that a patch holds, and so the inputs of the patch embedding."""


def params(distilled: bool = False) -> int:
    """Parameters: the patch embedding, extra tokens, positions, blocks, the last norm and the heads."""
    extra = 1 + distilled  # tokens that stand for no patch; each has a head of its own
    embedding = PIXELS * WIDTH + WIDTH
    places = extra * WIDTH + (PATCHES + extra) * WIDTH
    biases, norms = (3 + 1 + 4 + 1) * WIDTH, 2 * 2 * WIDTH
    block = 12 * WIDTH**2 + biases + norms
    return embedding + places + DEPTH * block + 2 * WIDTH + extra * (WIDTH + 1) * CLASSES


def macs(distilled: bool = False) -> int:
    """Multiply-accumulates of linears, attention products and the patch embedding for one image."""
    return PATCHES * PIXELS * WIDTH + block_macs(distilled) + (1 + distilled) * WIDTH * CLASSES


def block_macs(distilled: bool = False) -> int:
    """Multiply-accumulates of the blocks alone."""
    tokens = PATCHES + 1 + distilled
    return DEPTH * (tokens * 12 * WIDTH**2 + 2 * tokens**2 * WIDTH)
