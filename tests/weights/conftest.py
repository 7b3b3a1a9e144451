"""The fixtures that these tests share."""

from random_networks import cache, make_network, network

__all__ = ["cache", "make_network", "network"]
