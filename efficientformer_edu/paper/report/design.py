"""Section 4.1: equations, published networks, their common settings, and the misprinted stages of Table 6.

The equations are implemented directly and compared with the package's modules. Each check returns three tensors: the
equation as printed, the equation with the released code's additions, and the output of our module. All weights are
random, so that no term vanishes, and in double precision.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from efficientformer_edu import paper
from efficientformer_edu.audit import count
from efficientformer_edu.audit.published import Networks, as_printed
from efficientformer_edu.config import EfficientFormerConfig
from efficientformer_edu.model import MB3D, MB4D, EfficientFormer, Stem
from efficientformer_edu.model.backbone import Stage
from efficientformer_edu.paper.report.rows import Row, Verdict, blocks, described, reported

TOLERANCE = 1e-12

Module = TypeVar("Module", bound=nn.Module)


class Sides(NamedTuple):
    """An equation evaluated as printed, as in the released code, and by our module."""

    printed: Tensor
    code: Tensor
    output: Tensor


def check(name: str) -> Verdict:
    """Check whether our module computes an equation of section 4.1.

    Args:
        name: name of the equation, as in `paper.equation`.

    Returns:
        "exact" if it is the equation as printed, "follows the code" if it is the released code's form of it, else
        "disagrees".

    Raises:
        ValueError: for an equation without a check, naming the equations that have one.
    """
    if name not in CHECKS:
        raise ValueError(f"{name!r} has no check; there are {', '.join(CHECKS)}")
    with torch.no_grad(), torch.random.fork_rng(devices=[]):  # a new module initializes its weights at random
        return compare_sides(CHECKS[name](), WHY.get(name, ""))


def compare_sides(sides: Sides, why: str) -> Verdict:
    """Return the verdict on one equation; `why` names the additions of the released code."""
    if _equal(sides.output, sides.printed):
        return Verdict("exact", f"equal to the formula, to {TOLERANCE:g}", "computed")
    if _equal(sides.output, sides.code):
        return Verdict("follows the code", f"equal to the released code's form, to {TOLERANCE:g}", "computed", why)
    return Verdict("disagrees", "equal to neither form", "computed", "The module computes something else.")


def network() -> Sides:
    """Y = ∏ᵢ MBᵢ(PatchEmbed(X₀)), with an embedding between the stages."""
    model = _randomized(EfficientFormer(NARROW))
    x = image = _random(1, 3, 64, 64)
    x = model.stem(x)  # (1, 8, 16, 16)
    for stage in model.stages:
        assert isinstance(stage, Stage)
        x = stage.downsample(x)
        for block in stage.mb4d:
            x = block(x)
        for block in stage.mb3d:
            height, width = x.shape[2:]
            tokens = block(x.flatten(2).mT, (height, width))  # (1, N, 48)
            x = tokens.mT.unflatten(2, (height, width))
    return _as_printed(x, model.features(image)[-1])


def metablock() -> Sides:
    """MLP(TokenMixer(X)) for both blocks: each half is the block with the other half's layer scale set to zero."""
    block, x = _mb4d()
    tokens_block, tokens = _mb3d()
    on_map = _half(block, "layer_scale_1")(_half(block, "layer_scale_2")(x))
    on_tokens = _half(tokens_block, "layer_scale_1")(_half(tokens_block, "layer_scale_2")(tokens, GRID), GRID)
    output = torch.cat([block(x).flatten(), tokens_block(tokens, GRID).flatten()])
    return _as_printed(torch.cat([on_map.flatten(), on_tokens.flatten()]), output)


def stem() -> Sides:
    """X₁ of shape (B, C₁, H/4, W/4)."""
    width, height, channels = 96, 64, NARROW.embed_dims[0]
    output = Stem(NARROW.in_channels, NARROW.stem_width, channels, NARROW.stem_act)(
        torch.zeros(2, NARROW.in_channels, height, width)
    )
    return _as_printed(torch.tensor([2, channels, height // 4, width // 4]), torch.tensor(output.shape))


def mb4d() -> Sides:
    """I = Pool(X) + X, then Conv_B(Conv_{B,G}(I)) + I."""
    block, x = _mb4d()
    w = block.state_dict()
    gamma_1, gamma_2 = (w[f"layer_scale_{i}.gamma"][:, None, None] for i in (1, 2))  # (C, 1, 1)
    pooled = F.avg_pool2d(x, NARROW.pool_size, stride=1, padding=NARROW.pool_size // 2, count_include_pad=False)

    def conv(x: Tensor, i: int) -> Tensor:
        mean, variance = w[f"mlp.norm{i}.running_mean"], w[f"mlp.norm{i}.running_var"]
        x = F.conv2d(x, w[f"mlp.fc{i}.weight"], w[f"mlp.fc{i}.bias"])
        return F.batch_norm(x, mean, variance, w[f"mlp.norm{i}.weight"], w[f"mlp.norm{i}.bias"])

    def mlp(x: Tensor) -> Tensor:
        return conv(F.gelu(conv(x, 1)), 2)

    printed = pooled + x
    code = x + gamma_1 * (pooled - x)
    return Sides(mlp(printed) + printed, gamma_2 * mlp(code) + code, block(x))


def mb3d() -> Sides:
    """I = Linear(MHSA(Linear(LN(X)))) + X, then Linear(Linear_G(LN(I))) + I."""
    block, x = _mb3d()
    w = block.state_dict()
    gamma_1, gamma_2 = (w[f"layer_scale_{i}.gamma"] for i in (1, 2))  # (C,)

    def norm(x: Tensor, i: int) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"norm{i}.weight"], w[f"norm{i}.bias"])

    def mlp(x: Tensor) -> Tensor:
        hidden = F.gelu(F.linear(norm(x, 2), w["mlp.fc1.weight"], w["mlp.fc1.bias"]))  # (B, N, 4C)
        return F.linear(hidden, w["mlp.fc2.weight"], w["mlp.fc2.bias"])

    mixed = block.token_mixer(norm(x, 1), GRID)  # both linears and MHSA, Eq. 6
    printed = mixed + x
    code = gamma_1 * mixed + x
    return Sides(mlp(printed) + printed, gamma_2 * mlp(code) + code, block(x, GRID))


def mhsa() -> Sides:
    """Softmax(Q·Kᵀ/√C_j + b)·V, between the two linears of Eq. 5."""
    block, x = _mb3d()
    mixer, (batch, tokens, channels) = block.token_mixer, x.shape
    qkv = mixer.qkv(x).reshape(batch, tokens, NARROW.num_heads, -1).transpose(1, 2)  # (B, heads, N, 32 + 32 + 128)
    q, k, v = qkv.split([NARROW.key_dim, NARROW.key_dim, NARROW.value_dim], dim=-1)

    def attend(dim: int) -> Tensor:
        weights = (q @ k.mT / dim**0.5 + mixer.bias(GRID)).softmax(-1)  # (B, heads, N, N)
        return mixer.proj((weights @ v).transpose(1, 2).reshape(batch, tokens, -1))

    return Sides(attend(channels), attend(NARROW.key_dim), mixer(x, GRID))


# L1 with small widths, so that checks are fast. No width equals the key dimension: as printed, Eq. 6 scales by a width.
NARROW = EfficientFormerConfig(embed_dims=(8, 16, 24, 48), num_classes=10)
GRID = (3, 4)  # of the tokens: small, not square, and not the grid of the attention-bias table
CHECKS: dict[str, Callable[[], Sides]] = {
    "network": network,
    "metablock": metablock,
    "stem": stem,
    "mb4d": mb4d,
    "mb3d": mb3d,
    "mhsa": mhsa,
}
LAYER_SCALE = "The released code multiplies both branches by a layer scale, which the equation does not show."
WHY = {
    "mb4d": f"{LAYER_SCALE} See also difference 1.",
    "mb3d": LAYER_SCALE,
    "mhsa": "See difference 2.",
}


def _as_printed(printed: Tensor, output: Tensor) -> Sides:
    return Sides(printed, printed, output)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= TOLERANCE * max(1.0, float(a.abs().max())))


def _mb4d() -> tuple[MB4D, Tensor]:
    return _randomized(MB4D(NARROW, stage=0, drop_path=0.0)), _random(2, NARROW.embed_dims[0], 5, 6)


def _mb3d() -> tuple[MB3D, Tensor]:
    return _randomized(MB3D(NARROW, stage=3, drop_path=0.0)), _random(2, GRID[0] * GRID[1], NARROW.embed_dims[3])


def _half(block: Module, without: str) -> Module:
    half = copy.deepcopy(block)
    half.get_parameter(f"{without}.gamma").zero_()
    return half


def _randomized(module: Module) -> Module:
    """Put a module into evaluation mode and double precision, with random weights and statistics."""
    module.double().eval()
    for seed, (name, tensor) in enumerate(module.state_dict().items()):
        if tensor.is_floating_point():
            spread = (3 / tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.5
            tensor.copy_(_random(*tensor.shape, seed=seed) * spread + name.endswith("running_var"))
    return module


def _random(*shape: int, seed: int = 0) -> Tensor:
    """Return random values between -1 and 1, the same at each call."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 - 1


PART = "Section 4.1: the network, Eq. 4 to 6, Table 6"
BLOCKS, NETWORK = 2, 3  # the chapters


def rows(networks: Networks) -> Iterator[Row]:
    """Yield a row for every equation of section 4.1, published network, and common setting."""
    for equation in paper.equations():
        if equation.name in CHECKS:
            where = f"Eq. {equation.number}" if equation.number else "§4.1"
            chapter = NETWORK if equation.name == "network" else BLOCKS
            command = f'report.check("{equation.name}")'
            yield Row(PART, where, equation.name, equation, chapter, check(equation.name), command)
    for network in paper.architectures():
        name, preset = f"EfficientFormer-{network.preset.upper()}", f'get_config("{network.preset}")'
        config = networks[network.preset]
        record = replace(network, printed=None)  # the misprint has its own row
        yield Row(PART, "released code", name, record, NETWORK, released(record, config), preset)
        if misprint := network.printed:
            where = f"{name}, stage {misprint.stage} as printed"
            yield Row(
                PART,
                "Table 6",
                where,
                misprint,
                NETWORK,
                printed(misprint, config),
                f"{preset}.depths[{misprint.stage - 1}]",
            )
    for setting in paper.settings("architecture"):
        command = "[get_config(name) for name in ef.list_models()]"
        yield Row(PART, "released code", setting.name, setting, NETWORK, shared(setting, networks), command)


def released(network: paper.Architecture, config: EfficientFormerConfig) -> Verdict:
    """Check whether a configuration is the released network."""
    built = described(config.embed_dims, config.depths, config.vits[3])
    same = built == reported(network) and not any(config.vits[:3])
    return Verdict("exact" if same else "disagrees", built, "computed")


def printed(slip: paper.Printed, config: EfficientFormerConfig) -> Verdict:
    """Check whether a stage is as Table 6 prints it; if not, count the network as printed."""
    stage = slip.stage - 1
    mb4d, mb3d = config.depths[stage] - config.vits[stage], config.vits[stage]
    built = blocks(mb4d, mb3d)
    if (mb4d, mb3d) == (slip.mb4d, slip.mb3d):
        return Verdict("exact", built, "computed")
    params = count(as_printed(slip, config)).params
    shown = f"{built}; as printed {params:,} parameters"
    if slip.params.stands_for(params / 1e6):
        return Verdict(
            "follows the code", shown, "computed", "As printed, the network would miss Table 1's parameters."
        )
    return Verdict("disagrees", shown, "computed", "The network as printed has another count than the one derived.")


def shared(setting: paper.Setting, networks: Networks) -> Verdict:
    """Check whether all networks have a common setting.

    Raises:
        KeyError: for a setting without a check.
    """
    built = " / ".join(dict.fromkeys(SHARED[setting.name](config) for config in networks.values()))
    stated = setting.code
    expected = f"{stated.value:g}" if isinstance(stated, paper.Reported) else str(stated).partition(" pixels")[0]
    return Verdict("exact" if built == expected else "disagrees", built, "computed")


SHARED = {
    "input": lambda config: f"{count(config).resolution[0]}",
    "pooling window": lambda config: f"{config.pool_size}",
    "MLP expansion": lambda config: f"{config.mlp_ratio:g}",
    "attention heads": lambda config: f"{config.num_heads}",
    "key dimension": lambda config: f"{config.key_dim}",
    "value dimension": lambda config: f"{config.value_dim}",
    "map sizes": lambda config: "{}, {}, {} and {}".format(
        *(height for height, _ in config.grids(count(config).resolution))
    ),
}
