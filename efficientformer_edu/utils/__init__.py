"""Helpers that are not about EfficientFormer: files, records, tables, statistics, hardware, optional packages."""
