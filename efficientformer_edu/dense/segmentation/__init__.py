"""Semantic segmentation: heads."""
