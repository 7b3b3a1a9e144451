"""Helpers that are not about EfficientFormer: statistics."""
