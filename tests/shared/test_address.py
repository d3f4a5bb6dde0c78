"""Addresses in settings are host:port, and only loopback is this machine."""

import pytest

from crow_shared.address import is_loopback, valid_address


@pytest.mark.parametrize(
    ("address", "local"),
    [("127.0.0.1:1", True), ("[::1]:1", True), ("localhost:1", True), ("10.0.0.1:1", False), ("0.0.0.0:1", False)],
)
def test_only_loopback_counts_as_this_machine(address: str, local: bool) -> None:
    assert is_loopback(address) is local


@pytest.mark.parametrize("address", ["127.0.0.1:7443", "[::1]:0", "receiver.example:65535"])
def test_host_and_port_are_an_address(address: str) -> None:
    assert valid_address(address) == address


@pytest.mark.parametrize("address", ["", "8015", "host", "host:", ":1", "host:65536", "host:-1", "host:\u0661"])
def test_anything_else_is_no_address(address: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        valid_address(address)
