"""Fixtures for the tests of the receiver."""

from ingest_parts import daemon, server
from receiver_parts import store

__all__ = ["daemon", "server", "store"]
