"""Runs the API under uvicorn until it is asked to end."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Generator
from typing import Final

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from starter.api.problems import MEDIA_TYPE, not_http
from twinline.errors import Misconfigured

SECONDS_TO_END: Final = 75
"""A request waits for an order for 60 s at most."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to us: uvicorn would end the process by the signal, and not with an exit code."""
        yield


class _Protocol(H11Protocol):
    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        """Answer bytes that are no HTTP by a problem, as everything else."""
        body = not_http().encode()
        headers = [("content-type", MEDIA_TYPE), ("content-length", str(len(body))), ("connection", "close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def listen(host: str, port: int) -> socket.socket:
    """Take the address; raises Misconfigured."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise Misconfigured(
            f"TWINLINE_HTTP {host}:{port} can't be listened at: {error.strerror}",
            hint="Give another address of this machine, or end the program that has it.",
        ) from None


async def serve(
    app: ASGIApp,
    listener: socket.socket,
    *,
    ready: Callable[[], None],
    stop: asyncio.Event,
    proxies: str = "127.0.0.1,::1",
) -> None:
    """Serve until `stop` is set, then let requests under way end; calls `ready` once it answers.

    Of `proxies`, addresses and networks with commas between, the field X-Forwarded-For is believed.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        # Addresses hold names of lines.
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        proxy_headers=True,
        forwarded_allow_ips=proxies,
        http=_Protocol,
        timeout_graceful_shutdown=SECONDS_TO_END,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        # The socket listens already: what comes before uvicorn has started waits in its queue.
        ready()
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    finally:
        stopping.cancel()
        listener.close()


def stop_on_signals() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop
