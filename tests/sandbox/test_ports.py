"""A port of ours is nobody else's, even while nothing listens on it."""

import socket

import pytest

from twinline.sandbox.processes import free_port


def test_a_port_that_was_given_is_free_for_our_server_and_for_nobody_who_looks_for_one() -> None:
    port = free_port()
    for _ in range(2):
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)) as server:
            assert server.getsockname()[1] == port
    assert free_port() != port
