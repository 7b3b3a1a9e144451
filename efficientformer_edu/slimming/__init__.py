"""Slim it: a supernet, a lookup table of latencies, and the search that leads to networks for given times."""
