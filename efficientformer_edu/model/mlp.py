"""The MLPs that follow the token mixers: 1×1 convolutions on feature maps, linear layers on tokens.

Paper: section 4.1; the second half of Eq. 4 (Conv_B, Conv_{B,G}) and of Eq. 5 (Linear, Linear_G), and observation 3:
CONV-BN folds into one operation at inference, LN-Linear does not. Released code: `Mlp` and `LinearMlp`.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

ACTIVATION_MODULES: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,  # exact, x·Φ(x), not the tanh approximation
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "prelu": nn.PReLU,
    "leaky_relu": nn.LeakyReLU,
    "silu": nn.SiLU,
    "hard_swish": nn.Hardswish,
}


def activation(name: str) -> nn.Module:
    """The activation module for a configuration's `act` or `stem_act`."""
    return ACTIVATION_MODULES[name]()


class ConvMlp(nn.Module):
    """The MLP of an MB4D, on a feature map: Conv_B(Conv_{B,G}(x)) of Eq. 4, both convolutions 1×1.

    Args:
        dim: channels of the feature map.
        hidden: channels between the convolutions, `mlp_ratio` times `dim`.
        act: name of the activation.
        drop: dropout after the activation and at the end.
    """

    def __init__(self, dim: int, hidden: int, act: str, drop: float) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, kernel_size=1)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.act = activation(act)
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Conv2d(hidden, dim, kernel_size=1)
        self.norm2 = nn.BatchNorm2d(dim)
        self.drop2 = nn.Dropout(drop)
        for conv in (self.fc1, self.fc2):  # the released code initializes only these convolutions like linear layers
            init_linear(conv)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        x = self.drop1(self.act(self.norm1(self.fc1(x))))  # (B, 4C, H, W)
        return self.drop2(self.norm2(self.fc2(x)))  # (B, C, H, W)


class Mlp(nn.Module):
    """The MLP of an MB3D, on tokens: Linear(Linear_G(x)) of Eq. 5. Arguments as for `ConvMlp`."""

    def __init__(self, dim: int, hidden: int, act: str, drop: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = activation(act)
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden, dim)
        self.drop2 = nn.Dropout(drop)
        for linear in (self.fc1, self.fc2):
            init_linear(linear)

    def forward(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        x = self.drop1(self.act(self.fc1(x)))  # (B, N, 4C)
        return self.drop2(self.fc2(x))  # (B, N, C)


def init_linear(layer: nn.Linear | nn.Conv2d) -> None:
    """Initialize as in the released code: normal with standard deviation 0.02, truncated at ±2; bias 0."""
    nn.init.trunc_normal_(layer.weight, std=0.02)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
