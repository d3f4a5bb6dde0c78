"""The store fixture for the tests of the receiver."""

from receiver_parts import store

__all__ = ["store"]
