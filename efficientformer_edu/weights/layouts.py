"""The five published checkpoint layouts and our own: tensor names in each of them.

The networks and weights are identical; only the names differ. Released code: `patch_embed`, `network`, `norm`,
`head` and `dist_head` of `EfficientFormer` in `models/efficientformer.py`; the other four are ports of it. Lucid uses
timm's names. The names were taken from timm 1.0.31, transformers 4.57.6, mmpretrain 1.2.0 and NetsPresso 1.4.

This module imports neither torch nor numpy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from efficientformer_edu._validation import unknown_name
from efficientformer_edu.config import EfficientFormerConfig

CONV = LINEAR = LAYER_NORM = ("weight", "bias")
BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
BIASES = "attention_biases"  # the table: one bias per head and offset between two tokens
INDEX = "attention_bias_idxs"  # the published code stores the bias index of each pair of tokens; we compute it


@dataclass(frozen=True)
class Layout:
    """Names of the network's modules in one project.

    In a template, `{s}` is the stage and `{b}` the index of the block among those of its kind in the stage, both from
    0. If a project stores stages and embeddings in one list, `{even}` = 2s is the stage and `{odd}` = 2s − 1 the
    embedding before it. If it stores all blocks of a stage in one list, `{n}` is the index in this list, and `{m}` the
    index if the list also contains the embedding. In these lists `Flat`, which converts the feature map to tokens, has
    its own index before the first MB3D.
    """

    stem: tuple[str, str, str, str]  # conv1, norm1, conv2, norm2
    downsample: tuple[str, str]  # conv, norm
    mb4d: tuple[str, str]  # a block in the first three stages, a block in the last
    mb3d: str
    layer_scale: str  # {i} is 1 or 2
    heads: tuple[str, ...]  # the head that learns from labels, the head that learns from a teacher
    mb4d_mlp: tuple[str, str, str, str] = ("mlp.fc1", "mlp.norm1", "mlp.fc2", "mlp.norm2")
    mb3d_norms: tuple[str, str] = ("norm1", "norm2")  # before the attention, before the MLP
    mb3d_mlp: tuple[str, str] = ("mlp.fc1", "mlp.fc2")
    qkv: tuple[str, ...] = ("token_mixer.qkv",)  # one linear layer or three
    proj: str = "token_mixer.proj"
    norm: str = "norm"
    index: bool = True  # whether the index of offsets is stored
    wrapper: str | None = None  # the key of the tensors in a torch file of the project


LAYOUTS = {
    "official": Layout(
        stem=("patch_embed.0", "patch_embed.1", "patch_embed.3", "patch_embed.4"),
        downsample=("network.{odd}.proj", "network.{odd}.norm"),
        mb4d=("network.{even}.{n}", "network.{even}.{n}"),
        mb3d="network.{even}.{n}",
        layer_scale="layer_scale_{i}",
        heads=("head", "dist_head"),
        wrapper="model",
    ),
    "timm": Layout(
        stem=("stem.conv1", "stem.norm1", "stem.conv2", "stem.norm2"),
        downsample=("stages.{s}.downsample.conv", "stages.{s}.downsample.norm"),
        mb4d=("stages.{s}.blocks.{n}", "stages.{s}.blocks.{n}"),
        mb3d="stages.{s}.blocks.{n}",
        layer_scale="ls{i}.gamma",
        heads=("head", "head_dist"),
    ),
    "hf": Layout(
        stem=(
            "efficientformer.patch_embed.convolution1",
            "efficientformer.patch_embed.batchnorm_before",
            "efficientformer.patch_embed.convolution2",
            "efficientformer.patch_embed.batchnorm_after",
        ),
        downsample=(
            "efficientformer.encoder.intermediate_stages.{odd}.projection",
            "efficientformer.encoder.intermediate_stages.{odd}.norm",
        ),
        mb4d=(
            "efficientformer.encoder.intermediate_stages.{even}.meta4D_layers.blocks.{b}",
            "efficientformer.encoder.last_stage.meta4D_layers.blocks.{b}",
        ),
        mb4d_mlp=("mlp.convolution1", "mlp.batchnorm_before", "mlp.convolution2", "mlp.batchnorm_after"),
        mb3d="efficientformer.encoder.last_stage.meta3D_layers.blocks.{b}",
        mb3d_norms=("layernorm1", "layernorm2"),
        mb3d_mlp=("mlp.linear_in", "mlp.linear_out"),
        proj="token_mixer.projection",
        layer_scale="layer_scale_{i}",
        norm="efficientformer.layernorm",
        heads=("classifier", "distillation_classifier"),
    ),
    "mmpretrain": Layout(
        stem=(
            "backbone.patch_embed.0.conv",
            "backbone.patch_embed.0.bn",
            "backbone.patch_embed.1.conv",
            "backbone.patch_embed.1.bn",
        ),
        downsample=("backbone.network.{s}.0.conv", "backbone.network.{s}.0.bn"),
        mb4d=("backbone.network.{s}.{m}", "backbone.network.{s}.{m}"),
        mb3d="backbone.network.{s}.{m}",
        layer_scale="ls{i}.weight",
        norm="backbone.norm3",
        heads=("head.head", "head.dist_head"),
        wrapper="state_dict",
    ),
    "netspresso": Layout(
        stem=(
            "backbone.patch_embed.stem.0.block.conv",
            "backbone.patch_embed.stem.0.block.norm",
            "backbone.patch_embed.stem.1.block.conv",
            "backbone.patch_embed.stem.1.block.norm",
        ),
        downsample=("backbone.encoder.blocks.{odd}.proj.block.conv", "backbone.encoder.blocks.{odd}.proj.block.norm"),
        mb4d=("backbone.encoder.blocks.{even}.{n}", "backbone.encoder.blocks.{even}.{n}"),
        mb4d_mlp=(
            "channel_mlp.ffn.conv_1x1_1.block.conv",
            "channel_mlp.ffn.conv_1x1_1.block.norm",
            "channel_mlp.ffn.conv_1x1_2.block.conv",
            "channel_mlp.ffn.conv_1x1_2.block.norm",
        ),
        mb3d="backbone.encoder.blocks.{even}.{n}",
        mb3d_norms=("layernorm_before", "layernorm_after"),
        mb3d_mlp=("channel_mlp.ffn.dense1", "channel_mlp.ffn.dense2"),
        qkv=("token_mixer.query", "token_mixer.key", "token_mixer.value"),
        proj="token_mixer.linear",
        layer_scale="layer_scale_{i}",
        norm="backbone.norm",
        heads=("head.classifier.1",),  # the mean of both heads
    ),
    "native": Layout(
        stem=("stem.conv1", "stem.norm1", "stem.conv2", "stem.norm2"),
        downsample=("stages.{s}.downsample.conv", "stages.{s}.downsample.norm"),
        mb4d=("stages.{s}.mb4d.{b}", "stages.{s}.mb4d.{b}"),
        mb3d="stages.{s}.mb3d.{b}",
        layer_scale="layer_scale_{i}.gamma",
        heads=("head", "head_dist"),
        index=False,
    ),
}


def key_map(config: EfficientFormerConfig, layout: str) -> dict[str, str]:
    """Map our tensor names to those of a layout, in the order of our `state_dict`.

    Args:
        config: configuration of the network.
        layout: `"official"`, `"timm"`, `"hf"`, `"mmpretrain"`, `"netspresso"` or `"native"`.

    Returns:
        Our name to the layout's name, one to one. There are three exceptions, which `convert` creates from our tensors:
        if a project splits `token_mixer.qkv`, our names are `token_mixer.query`, `.key` and `.value`; if it has one
        head, `head` is the mean of both; and the five published layouts have `token_mixer.attention_bias_idxs`.

    Raises:
        ValueError: for an unknown layout, and for a network that a published layout does not support.
    """
    target = get_layout(layout)
    if target is not LAYOUTS["native"]:
        _check_published(config, layout)
    source = dataclasses.replace(
        LAYOUTS["native"], heads=LAYOUTS["native"].heads[: len(target.heads)], index=target.index
    )
    if len(target.qkv) == 3:
        source = dataclasses.replace(source, qkv=LAYOUTS["netspresso"].qkv)
    return dict(zip(_tensors(config, source), _tensors(config, target), strict=True))


def get_layout(layout: str) -> Layout:
    """The layout of this name. Raises ValueError for an unknown name that lists the available ones."""
    if layout not in LAYOUTS:
        raise unknown_name(layout, LAYOUTS, "layout")
    return LAYOUTS[layout]


def block_name(template: str, stage: int, b: int, first: int = 0) -> str:
    """The name of block `b` of its kind; the first of its kind has index `first` in the stage's list."""
    n = first + b
    return template.format(s=stage, b=b, even=2 * stage, odd=2 * stage - 1, n=n, m=n + (stage > 0))


def _tensors(config: EfficientFormerConfig, layout: Layout) -> Iterator[str]:
    """The names of all tensors of the network, in the same order for every layout."""
    conv1, norm1, conv2, norm2 = layout.stem
    yield from _named(conv1, CONV)
    yield from _named(norm1, BATCH_NORM)
    if config.stem_act == "prelu":
        yield "stem.act1.weight"
    yield from _named(conv2, CONV)
    yield from _named(norm2, BATCH_NORM)
    if config.stem_act == "prelu":
        yield "stem.act2.weight"
    for stage, (depth, vit) in enumerate(zip(config.depths, config.vits, strict=True)):
        if config.downsamples[stage]:
            conv, norm = (block_name(template, stage, 0) for template in layout.downsample)
            yield from _named(conv, CONV)
            yield from _named(norm, BATCH_NORM)
        for b in range(depth - vit):
            yield from _mb4d(config, layout, block_name(layout.mb4d[stage == 3], stage, b))
        for b in range(vit):
            yield from _mb3d(config, layout, block_name(layout.mb3d, stage, b, first=depth - vit + 1))
    yield from _named(layout.norm, LAYER_NORM)
    for head in layout.heads[: 1 + config.distillation]:
        yield from _named(head, LINEAR)


def _mb4d(config: EfficientFormerConfig, layout: Layout, block: str) -> Iterator[str]:
    fc1, norm1, fc2, norm2 = layout.mb4d_mlp
    yield from _layer_scale(config, layout, block, 1)
    yield from _named(f"{block}.{fc1}", CONV)
    yield from _named(f"{block}.{norm1}", BATCH_NORM)
    if config.act == "prelu":
        yield f"{block}.mlp.act.weight"
    yield from _named(f"{block}.{fc2}", CONV)
    yield from _named(f"{block}.{norm2}", BATCH_NORM)
    yield from _layer_scale(config, layout, block, 2)


def _mb3d(config: EfficientFormerConfig, layout: Layout, block: str) -> Iterator[str]:
    fc1, fc2 = layout.mb3d_mlp
    yield from _named(f"{block}.{layout.mb3d_norms[0]}", LAYER_NORM)
    yield from _named(f"{block}.token_mixer", (BIASES, INDEX) if layout.index else (BIASES,))
    for linear in (*layout.qkv, layout.proj):
        yield from _named(f"{block}.{linear}", LINEAR)
    yield from _layer_scale(config, layout, block, 1)
    yield from _named(f"{block}.{layout.mb3d_norms[1]}", LAYER_NORM)
    yield from _named(f"{block}.{fc1}", LINEAR)
    if config.act == "prelu":
        yield f"{block}.mlp.act.weight"
    yield from _named(f"{block}.{fc2}", LINEAR)
    yield from _layer_scale(config, layout, block, 2)


def _layer_scale(config: EfficientFormerConfig, layout: Layout, block: str, i: int) -> Iterator[str]:
    if config.layer_scale_init is not None:
        yield f"{block}.{layout.layer_scale.format(i=i)}"


def _named(module: str, tensors: tuple[str, ...]) -> Iterator[str]:
    return (f"{module}.{tensor}" for tensor in tensors)


def _check_published(config: EfficientFormerConfig, layout: str) -> None:
    if config.downsamples != (False, True, True, True):
        reason = f"embeddings before other stages than the last three (downsamples={config.downsamples})"
    elif any(config.vits[:3]):
        reason = f"MB3D blocks before the last stage (num_vit={config.num_vit})"
    elif "prelu" in (config.act, config.stem_act):
        reason = "weights of PReLU activations"
    else:
        return
    raise ValueError(f"the {layout} layout cannot store {reason}; use layout='native'")
