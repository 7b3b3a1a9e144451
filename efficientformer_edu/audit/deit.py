"""Parameters and MACs of DeiT-S in closed form: a patch embedding followed by 12 blocks of attention and an MLP.

Table 1 of the paper lists it among the baselines. Architecture: *Training data-efficient image transformers &
distillation through attention*, ICML 2021, for images of 224×224 pixels and 1000 classes. Distillation adds a second
token and a second head. Each block has 12·width² weights: 3 for Q, K and V, 1 for the projection, 4 + 4 for the MLP.
"""

from __future__ import annotations

WIDTH, DEPTH, PATCH, IMAGE, COLOURS, CLASSES = 384, 12, 16, 224, 3, 1000

PATCHES = (IMAGE // PATCH) ** 2
PIXELS = COLOURS * PATCH**2
"""Values per patch: the input channels of the patch embedding."""


def params(distilled: bool = False) -> int:
    """Count the parameters: patch embedding, extra tokens, position embeddings, blocks, final norm and heads."""
    extra = 1 + distilled  # class and distillation tokens, each with its own head
    embedding = PIXELS * WIDTH + WIDTH
    tokens_and_positions = extra * WIDTH + (PATCHES + extra) * WIDTH
    biases, norms = (3 + 1 + 4 + 1) * WIDTH, 2 * 2 * WIDTH
    block = 12 * WIDTH**2 + biases + norms
    return embedding + tokens_and_positions + DEPTH * block + 2 * WIDTH + extra * (WIDTH + 1) * CLASSES


def macs(distilled: bool = False) -> int:
    """Count the MACs of linear layers, attention products and the patch embedding for one image."""
    return PATCHES * PIXELS * WIDTH + block_macs(distilled) + (1 + distilled) * WIDTH * CLASSES


def block_macs(distilled: bool = False) -> int:
    """Count the MACs of the blocks alone."""
    tokens = PATCHES + 1 + distilled
    return DEPTH * (tokens * 12 * WIDTH**2 + 2 * tokens**2 * WIDTH)
