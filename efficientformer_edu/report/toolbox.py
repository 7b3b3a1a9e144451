"""What the repository's own counter, `toolbox.py`, prints for a network: the numbers that Table 1 rounds.

Released code: `toolbox.py`. It hooks modules, so it never sees bare parameters (layer scale, attention biases), and it
skips BatchNorm. Two slips belong to its rule: it counts the bias of a convolution as its input channels, and its hook
of GELU takes the shape of a map without its width.
"""

from __future__ import annotations

from math import prod

from efficientformer_edu.audit import Costs, Operation

UNSEEN = ("batch norm", "layer scale", "attention bias")


def toolbox_params(costs: Costs) -> int:
    """Parameters by the rule of `toolbox.py`."""
    params, channels = 0, costs.config.in_channels
    for row in costs.rows:
        if row.kind == "convolution":
            width = row.output_shape[0]
            params += row.params - width + channels  # in place of one bias for each output channel
            channels = width
        elif row.kind not in UNSEEN:
            params += row.params
    return params


def toolbox_macs(costs: Costs) -> int:
    """MACs by the rule of `toolbox.py`: ours, and those that it adds for pooling, GELU and LayerNorm."""
    window = costs.config.pool_size**2
    return costs.macs + sum(_added(row, window) for row in costs.rows)


def _added(row: Operation, window: int) -> int:
    match row.kind:
        case "pool":
            return window * prod(row.output_shape)
        case "layer norm":
            return 2 * prod(row.output_shape)
        case "activation" if row.stage != "stem":  # the stem's ReLU has no hook
            return prod(row.output_shape[:2])  # (C, H) of a map, W is lost; (N, C) of tokens
    return 0
