"""Time it: one honest clock, the ways to run a network, and the paper's four observations on the reader's machine."""

from efficientformer_edu.latency.records import Conditions, Measurement, Timing, load, save
from efficientformer_edu.latency.statistics import Interval, interval, paired_ratio, verdict
from efficientformer_edu.latency.timer import measure

__all__ = [
    "Conditions",
    "Interval",
    "Measurement",
    "Timing",
    "interval",
    "load",
    "measure",
    "paired_ratio",
    "save",
    "verdict",
]
