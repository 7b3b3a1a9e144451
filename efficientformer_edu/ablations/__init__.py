"""Doubt it: one change at a time, several seeds each, and verdicts computed from intervals."""
