"""Ablations: one change at a time, several seeds per variant, and verdicts computed from confidence intervals."""
