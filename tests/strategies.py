"""Small configurations, one fixed and random ones, and input sizes."""

from __future__ import annotations

from hypothesis import strategies as st

from efficientformer_edu._validation import ACTIVATIONS
from efficientformer_edu.config import EfficientFormerConfig

SMALL = EfficientFormerConfig(depths=(1, 1, 1, 2), embed_dims=(8, 8, 12, 16), num_heads=2, key_dim=4, num_classes=5)

resolutions = st.tuples(st.integers(32, 80), st.integers(32, 80))


@st.composite
def configs(draw: st.DrawFn) -> EfficientFormerConfig:
    """Any configuration: with and without embeddings, MB3D blocks in any stage, one head or two, etc."""
    depths = draw(st.tuples(*[st.integers(1, 3)] * 4))
    downsamples = draw(st.tuples(*[st.booleans()] * 4))
    embed_dims = [draw(st.integers(2, 8))]
    for downsample in downsamples[1:]:
        embed_dims.append(draw(st.integers(2, 12)) if downsample else embed_dims[-1])
    per_stage = st.tuples(*(st.integers(0, depth) for depth in depths))
    return EfficientFormerConfig(
        depths=depths,
        embed_dims=tuple(embed_dims),
        downsamples=downsamples,
        num_vit=draw(st.integers(0, depths[-1]) | per_stage),
        num_classes=draw(st.integers(1, 12)),
        distillation=draw(st.booleans()),
        in_channels=draw(st.integers(1, 4)),
        mlp_ratio=draw(st.sampled_from([0.5, 1, 2.5, 4])),
        pool_size=draw(st.sampled_from([1, 3, 5])),
        num_heads=draw(st.integers(1, 3)),
        key_dim=draw(st.integers(1, 6)),
        attn_ratio=draw(st.sampled_from([1, 1.5, 4])),
        bias_grid=draw(st.tuples(st.integers(1, 5), st.integers(1, 5))),
        layer_scale_init=draw(st.none() | st.floats(-2, 2)),
        drop_rate=draw(st.sampled_from([0, 0.3])),
        proj_drop_rate=draw(st.sampled_from([0, 0.3])),
        attn_drop_rate=draw(st.sampled_from([0, 0.3])),
        drop_path_rate=draw(st.sampled_from([0, 0.3])),
        act=draw(st.sampled_from(ACTIVATIONS)),
        stem_act=draw(st.sampled_from(ACTIVATIONS)),
    )
