"""Measure latency: an interleaved timer, inference engines, and the paper's four observations on your machine."""

from efficientformer_edu.latency.records import Conditions, Measurement, Timing, load, save
from efficientformer_edu.latency.timer import measure

__all__ = ["Conditions", "Measurement", "Timing", "load", "measure", "save"]
