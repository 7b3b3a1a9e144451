"""Figures of what a network computes for an image: feature maps, attention, and receptive fields.

They take the outputs of `EfficientFormer.features` and `attention_maps`, of `DenseBackbone`, and of
`audit.receptive_field.receptive_field`, as tensors or arrays. Paper: section 4.1, the two token mixers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.colors import LogNorm, to_rgb
from numpy.typing import NDArray

from efficientformer_edu._validation import pair
from efficientformer_edu.audit.receptive_field import half_mass_fraction, nonzero_fraction
from efficientformer_edu.data.images import MEAN, STD
from efficientformer_edu.plots import FAINT, FRAME_LINE, INK, PAPER, PARTS
from efficientformer_edu.plots.blocks import check_query
from efficientformer_edu.plots.mermaid import shape_text
from efficientformer_edu.plots.style import Drawing, array, bare, drawing, outline

HEADS_PER_ROW, FIELDS_PER_ROW = 4, 5
MIN_STRENGTH = 1e-3  # relative to the strongest pixel; weaker pixels are hidden like those that are zero
DECADES = 4  # of the colour scale of receptive fields
PERCENTILES = (2, 98)  # of a principal component: the ends of its colour scale
CONTRAST = 0.8  # how close to black and white the first component goes


class Components(NamedTuple):
    """The first two principal components of a feature map, (2, h, w) from 0 to 1, and their share of the variance."""

    values: NDArray[np.float64]
    share: float


def draw_feature_maps(image: Any, maps: Sequence[Any], channels: int = 2) -> Drawing:
    """The image and, for each stage, the mean of its feature map over the channels and the channels that vary most.

    Each panel has its own colour scale, from its smallest value to its largest.

    Args:
        image: (H, W, 3), uint8 or floats from 0 to 1, as the network received it.
        maps: one per stage, (C, h, w), or (1, C, h, w) as `features` returns for one image.
        channels: number of single channels below the mean.

    Raises:
        ValueError: if an array has another shape.
    """
    pixels = _image(image)
    arrays = [_without_batch("maps", values) for values in maps]
    with drawing(height=0.5 + 1.75 * (1 + channels), width=2.0 * (1 + len(arrays))) as figure:
        panels = figure.subplots(1 + channels, 1 + len(arrays), squeeze=False)
        for axes in panels.flat:
            bare(axes)
        panels[0, 0].imshow(pixels)
        panels[0, 0].set_title(f"image\n{shape_text(pixels.shape[:2])}")
        for stage, (values, column) in enumerate(zip(arrays, panels[:, 1:].T, strict=True), start=1):
            spread = values.std(axis=(1, 2))
            column[0].imshow(values.mean(axis=0), cmap="viridis")
            column[0].set_title(f"stage {stage}, mean of\n{shape_text(values.shape)}")
            for axes, channel in zip(column[1:], np.argsort(-spread, kind="stable")[:channels], strict=True):
                axes.imshow(values[channel], cmap="viridis")
                axes.set_title(f"channel {channel}", fontsize=9)
    return figure


def draw_attention(image: Any, attention: Any, grid: tuple[int, int], query: tuple[int, int]) -> Drawing:
    """The attention of one token: the image with the query marked, and an overlay of the probabilities of each head.

    Args:
        image: (H, W, 3), uint8 or floats from 0 to 1, as the network received it.
        attention: probabilities of one block, (heads, N, N), or (1, heads, N, N) as `attention_maps` returns.
        grid: height and width h, w of the token grid; N = h·w.
        query: row and column of the query, from 0.

    Raises:
        ValueError: if an array has another shape, or the query is not on the grid.
    """
    pixels, probabilities = _image(image), _without_batch("attention", attention)
    (height, width), heads = pair("grid", grid), probabilities.shape[0]
    tokens = height * width
    if probabilities.shape[1:] != (tokens, tokens):
        raise ValueError(
            f"attention has shape {probabilities.shape}; allowed: (heads, {tokens}, {tokens}), grid={grid}"
        )
    y, x = check_query(query, (height, width))
    weights = probabilities[:, y * width + x].reshape(heads, height, width)
    grey = np.broadcast_to(pixels.mean(axis=2, keepdims=True), pixels.shape).astype(pixels.dtype)
    columns = min(HEADS_PER_ROW, heads)
    rows = -(-heads // columns)
    # One unit is a token; the aspect is that of the image.
    look: Any = {"extent": (0, width, height, 0), "aspect": pixels.shape[0] / pixels.shape[1] * width / height}
    with drawing(height=0.4 + 1.9 * rows, width=1.9 * (columns + 1) + 0.5) as figure:
        panels = figure.subplots(rows, 1 + columns, squeeze=False)
        for axes in (*panels[1:, 0], *panels[:, 1:].flat[heads:]):
            axes.set_visible(False)
        for head, axes in enumerate([panels[0, 0], *panels[:, 1:].flat[:heads]]):
            bare(axes)
            axes.imshow(grey if head else pixels, **look)
            if head:
                values = weights[head - 1]
                overlay = axes.imshow(values, cmap="viridis", vmin=0, vmax=weights.max(), alpha=0.65, **look)
            outline(axes, x, y, 1, 1)
            axes.set_title(f"head {head}" if head else "the query")
        figure.colorbar(overlay, ax=panels, label="attention", shrink=0.8)
    return figure


def draw_reach(image: Any, strengths: Sequence[Any]) -> Drawing:
    """For each stage, which pixels influence one position of its feature map: the others are faded out.

    Fading is logarithmic, from the strongest pixel to a thousandth of it. The frame contains every pixel that has any
    influence.

    Args:
        image: (H, W, 3), uint8 or floats from 0 to 1, as the network received it.
        strengths: one array (H, W) per stage, such as the size of a gradient; not negative and not all zero.

    Raises:
        ValueError: if a strength does not have the height and width of the image.
    """
    pixels, fields = array(image), [array(strength) for strength in strengths]
    for strength in fields:
        if strength.shape != pixels.shape[:2]:
            raise ValueError(f"a strength has shape {strength.shape}; allowed: {pixels.shape[:2]}, as the image")
    with drawing(height=2.9) as figure:
        panels = figure.subplots(1, len(fields), squeeze=False)[0]
        for stage, (axes, strength) in enumerate(zip(panels, fields, strict=True), start=1):
            fade = np.full((*strength.shape, 4), (*to_rgb(PAPER), 0.95))  # (H, W, 4)
            fade[..., 3] *= np.log(np.clip(strength / strength.max(), MIN_STRENGTH, 1.0)) / np.log(MIN_STRENGTH)
            bare(axes)
            axes.imshow(pixels)
            axes.imshow(fade)
            rows, columns = (np.flatnonzero((strength > 0).any(axis=axis)) for axis in (1, 0))
            height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
            outline(axes, columns[0] - 0.5, rows[0] - 0.5, width, height)
            axes.set_title(f"stage {stage}\n{height}×{width} pixels")
    return figure


def draw_receptive_fields(fields: Mapping[str, Any]) -> Drawing:
    """Effective receptive fields: the influence of each pixel, relative to the largest, on a logarithmic colour scale.

    Pixels without any influence are white. The titles give the share of pixels with any influence, and the smallest
    share that has half of it.

    Args:
        fields: name to field, (H, W).

    Raises:
        ValueError: without fields, or for a field of another shape or without influence.
    """
    if not fields:
        raise ValueError("no fields to draw; expected at least one")
    columns = min(FIELDS_PER_ROW, len(fields))
    rows = -(-len(fields) // columns)
    with drawing(height=0.4 + 2.15 * rows, width=1.0 + 1.8 * columns) as figure:
        panels = figure.subplots(rows, columns, squeeze=False)
        for axes in panels.flat[len(fields) :]:
            axes.set_visible(False)
        for axes, (name, field) in zip(panels.flat, fields.items(), strict=False):
            tensor = torch.as_tensor(array(field))
            if tensor.ndim != 2:
                raise ValueError(f"the field {name!r} has the shape {tuple(tensor.shape)}; expected (H, W)")
            pixels = f"{nonzero_fraction(tensor):.0%} of {shape_text(tensor.shape)} pixels"
            title = f"{pixels},\nhalf of it on {half_mass_fraction(tensor):.1%}"
            values = array(tensor / tensor.max())
            values = values.clip(10.0**-DECADES) * (values > 0)
            image = axes.imshow(values, cmap="viridis", norm=LogNorm(10.0**-DECADES, 1))
            axes.set_title(f"{name}\n{title}", fontsize=8)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color(FRAME_LINE)
        figure.colorbar(image, ax=panels, label="relative to the largest", shrink=0.8)
    return figure


# The feature maps of a backbone for dense tasks, by their principal components.


def draw_principal_components(image: Any, maps: Sequence[Any]) -> Drawing:
    """The image and its four feature maps, the finest first, coloured by their first two principal components.

    Principal components are the directions in which the vectors of a map differ most. The first sets how light a
    position is, the second whether it is blue or orange. Positions of similar colour have similar features. The signs
    are chosen so that bright parts of the image tend to be light and orange.

    Args:
        image: (3, H, W), normalized, as `Letterbox` makes it.
        maps: (C, h, w) each, or (1, C, h, w) as `DenseBackbone` returns for one image.

    Raises:
        ValueError: for other shapes, or if there are not four maps.
    """
    pixels, arrays = _denormalized(image), _four(maps)
    with drawing(height=4.5, width=7.6) as figure:
        grid = figure.add_gridspec(2, 4)
        panels = [figure.add_subplot(grid[:, :2]), *(figure.add_subplot(grid[n // 2, 2 + n % 2]) for n in range(4))]
        height, width = pixels.shape[:2]
        panels[0].imshow(pixels, interpolation="auto")
        panels[0].set_title(f"image, {height}×{width} pixels")
        for axes, values in zip(panels[1:], arrays, strict=True):
            axes.imshow(_colours(principal_components(values, pixels)), extent=(0, width, height, 0))
            axes.set_title(
                f"stride {_stride(values, pixels)}: {_positions(values)}\n{len(values)} channels", fontsize=9
            )
        for axes in panels:
            bare(axes)
        figure.supxlabel("light or dark: first principal component; orange or blue: second", fontsize=9, color=FAINT)
    return figure


def principal_components_alt_text(image: Any, maps: Sequence[Any]) -> str:
    """A description of the figure for screen readers. Arguments and errors as for `draw_principal_components`."""
    pixels, arrays = _denormalized(image), _four(maps)
    descriptions = [
        f"{_positions(values)} with {len(values)} channels at stride {_stride(values, pixels)} "
        f"({principal_components(values, pixels).share:.0%} of the variance shown)"
        for values in arrays
    ]
    height, width = pixels.shape[:2]
    return f"An image of {height}×{width} pixels and its four feature maps: {', '.join(descriptions)}."


def principal_components(features: NDArray[Any], image: NDArray[Any]) -> Components:
    """The first two principal components of a feature map.

    Args:
        features: the feature map, (C, h, w).
        image: (H, W, 3); its brightness determines the sign of each component.
    """
    channels, height, width = features.shape
    vectors = features.reshape(channels, -1).astype(np.float64)  # (C, h·w)
    vectors -= vectors.mean(axis=1, keepdims=True)
    variances, directions = np.linalg.eigh(vectors @ vectors.T)  # in ascending order
    scores = (directions[:, :-3:-1].T @ vectors).reshape(2, height, width)
    rows, columns = (np.arange(n) * side // n for n, side in ((height, image.shape[0]), (width, image.shape[1])))
    light = np.add.reduceat(np.add.reduceat(image.mean(axis=2), rows, axis=0), columns, axis=1)  # (h, w)
    scores *= np.where(((light - light.mean()) * scores).sum(axis=(1, 2)) < 0, -1, 1)[:, None, None]
    low, high = np.percentile(scores, PERCENTILES, axis=(1, 2), keepdims=True)
    spread = np.where(high > low, high - low, 1)
    total = variances.sum()
    return Components(((scores - low) / spread).clip(0, 1), float(variances[-2:].sum() / total) if total > 0 else 1.0)


def _colours(components: Components) -> NDArray[np.float64]:
    """(2, h, w) to colours (h, w, 3)."""
    first, second = components.values[..., None]  # (h, w, 1) each
    blue, orange, black, white = (np.array(to_rgb(name)) for name in (PARTS["MB4D"].line, "#E69F00", INK, PAPER))
    tone = (1 - second) * blue + second * orange
    amount = CONTRAST * np.abs(2 * first - 1)
    return (1 - amount) * tone + amount * np.where(first < 0.5, black, white)


def _image(image: Any) -> NDArray[Any]:
    pixels = array(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"image has shape {pixels.shape}; allowed: (H, W, 3)")
    return pixels


def _denormalized(image: Any) -> NDArray[np.float64]:
    """(3, H, W), normalized, to (H, W, 3) from 0 to 1."""
    values = array(image)
    if values.ndim != 3 or len(values) != 3:
        raise ValueError(f"image has shape {values.shape}; expected (3, H, W)")
    return (values.transpose(1, 2, 0) * np.array(STD) + np.array(MEAN)).clip(0, 1)


def _without_batch(name: str, values: Any) -> NDArray[Any]:
    """A three-dimensional array, without a batch dimension of 1."""
    result = array(values)
    if result.ndim == 4 and len(result) == 1:
        result = result[0]
    if result.ndim != 3:
        raise ValueError(f"{name} has an array of shape {result.shape}; allowed: 3 dimensions, or a batch of 1")
    return result


def _four(maps: Sequence[Any]) -> list[NDArray[Any]]:
    arrays = [_without_batch("maps", values) for values in maps]
    if len(arrays) != 4 or any(len(values) < 2 for values in arrays):
        shapes = ", ".join(str(values.shape) for values in arrays) or "none"
        raise ValueError(f"maps have the shapes {shapes}; expected four of (C, h, w), C at least 2")
    return arrays


def _positions(features: NDArray[Any]) -> str:
    return f"{shape_text(features.shape[1:])} positions"


def _stride(features: NDArray[Any], image: NDArray[Any]) -> int:
    return round(image.shape[0] / features.shape[1])
