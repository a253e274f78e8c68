"""Free TCP ports on loopback."""

import socket


def free_port() -> int:
    """A port that nobody listens on now; taken from the ephemeral range, so a clash is unlikely."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
