"""FC, the classification head: linear layers on the mean over all tokens.

Source: NetsPresso Trainer's `FC`. With one layer it equals EfficientFormer's own head, without the distillation head.

Input: (B, in_dim). Output: logits (B, num_classes).
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from efficientformer_edu import config_values as values
from efficientformer_edu.model.mlp import activation, init_linear


@dataclass(frozen=True)
class FCConfig:
    """Fields, named as in NetsPresso.

    Attributes:
        num_layers: number of linear layers.
        intermediate_channels: width between them; None for a single layer.
        act_type: activation between them; None for a single layer.
        dropout_prob: dropout before each layer.
    """

    num_layers: int = 1
    intermediate_channels: int | None = None
    act_type: str | None = None
    dropout_prob: float = 0.0

    def __post_init__(self) -> None:
        values.count("num_layers", self.num_layers)
        values.rate("dropout_prob", self.dropout_prob)
        if self.num_layers > 1 or self.intermediate_channels is not None:
            values.count("intermediate_channels", self.intermediate_channels)
        if self.num_layers > 1 or self.act_type is not None:
            values.activation("act_type", self.act_type)


class FC(nn.Module):
    """Linear layers with an activation between them.

    Args:
        in_dim: channels of a token.
        num_classes: number of logits.
        config: configuration.
    """

    def __init__(self, in_dim: int, num_classes: int, config: FCConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        for _ in range(config.num_layers - 1):
            assert config.intermediate_channels is not None
            assert config.act_type is not None
            hidden = config.intermediate_channels
            layers += [nn.Dropout(config.dropout_prob), nn.Linear(in_dim, hidden), activation(config.act_type)]
            in_dim = hidden
        self.classifier = nn.Sequential(*layers, nn.Dropout(config.dropout_prob), nn.Linear(in_dim, num_classes))
        for layer in self.classifier:
            if isinstance(layer, nn.Linear):
                init_linear(layer)

    def forward(self, pooled: Float[Tensor, "B in_dim"]) -> Float[Tensor, "B num_classes"]:
        return self.classifier(pooled)
