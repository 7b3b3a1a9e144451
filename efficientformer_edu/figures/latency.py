"""Figures of everything that the subpackage `latency` returns."""

from efficientformer_edu.figures.latency_profiles import draw_accuracy_latency, draw_profiles
from efficientformer_edu.figures.latency_times import (
    draw_claims,
    draw_measurement,
    draw_observation,
    draw_waterfall,
)

__all__ = [
    "draw_accuracy_latency",
    "draw_claims",
    "draw_measurement",
    "draw_observation",
    "draw_profiles",
    "draw_waterfall",
]
