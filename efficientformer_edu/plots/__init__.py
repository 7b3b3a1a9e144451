"""Drawings of what the other rooms return: rooms return records, figures draws them."""
