"""Temporal's own server, from the installed `temporal` program, for tests that need the real thing."""

import asyncio
import os
import sys
import sysconfig
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RetryConfig, RPCError

from twinline.codec import data_converter
from twinline.keys import KeyRing
from twinline.sandbox.processes import free_port

FLAGS: Final[Mapping[str, str]] = {
    # Without it every start of a time-skipping workflow fails.
    "frontend.WorkflowTimeSkippingEnabled": "true",
    # Default 100: the 101st timer would wait for real.
    "frontend.WorkflowTimeSkippingMaxSkipPerSession": "10000",
    # Defaults are made for big clusters and cost a single workflow most of its time.
    "history.timerProcessorMaxTimeShift": '"10ms"',
    "history.transferProcessorMaxPollRPS": "2000",
    "history.workflowIdReuseMinimalInterval": '"0s"',
    # A history is deleted only when this has noticed that its workflow closed; default 30 s.
    "history.transferProcessorUpdateAckInterval": '"100ms"',
}

# The SDK's own WorkflowEnvironment leaves its server behind when pytest is killed. This asks the kernel to end
# the server with us, in a program of its own: code run between fork and exec may dead-lock beside our threads.
_LAUNCHER: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class DevServer:
    """A running server; the namespace is `default`."""

    address: str
    pid: int

    async def connect(self, keys: KeyRing, *, retries: RetryConfig | None = None) -> Client:
        """A client with twinline's own data converter, by default as patient with a server that is away as the SDK."""
        return await Client.connect(self.address, data_converter=data_converter(keys), retry_config=retries)


@asynccontextmanager
async def dev_server(
    *,
    search_attributes: Mapping[str, str] | None = None,
    database: Path | None = None,
    flags: Mapping[str, str] | None = None,
) -> AsyncGenerator[DevServer]:
    """Run a server on a free port until the block ends; `search_attributes` maps a name to its type.

    `flags` are further dynamic configuration. Without `database` it keeps everything in memory.
    """
    port = free_port()
    arguments = ["--ip", "127.0.0.1", "--port", str(port), "--headless", "--log-level", "error"]
    if database is not None:
        arguments += ["--db-filename", str(database)]
    for name, kind in (search_attributes or {}).items():
        arguments += ["--search-attribute", f"{name}={kind}"]
    for key, value in {**FLAGS, **(flags or {})}.items():
        arguments += ["--dynamic-config-value", f"{key}={value}"]
    program = Path(sysconfig.get_path("scripts")) / "temporal"
    with TemporaryFile() as log:
        process = await launched(program, "server", "start-dev", *arguments, output=log)
        try:
            if not await _answers(process, f"127.0.0.1:{port}"):
                log.seek(0)
                raise RuntimeError(f"the Temporal server ended at once: {log.read().decode()[-2000:]}")
            yield DevServer(f"127.0.0.1:{port}", process.pid)
        finally:
            if process.returncode is None:
                # Nothing of it is kept, and an orderly end would wait for every open long poll.
                process.kill()
            await process.wait()


async def launched(program: Path, *arguments: str, output: IO[bytes] | int) -> Process:
    """Start a program that ends with us, however we end."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-c", _LAUNCHER, str(os.getpid())),
        *(str(program), *arguments),
        stdin=DEVNULL,
        stdout=output,
        stderr=STDOUT,
    )


async def _answers(process: Process, address: str) -> bool:
    request = DescribeNamespaceRequest(namespace="default")
    async with asyncio.timeout(20):
        while process.returncode is None:
            try:
                client = await Client.connect(address)
                await client.workflow_service.describe_namespace(request)
            except (RuntimeError, RPCError):
                # The port opens before the namespace is there, and neither can be waited for.
                await asyncio.sleep(0.02)
            else:
                return True
    return False
