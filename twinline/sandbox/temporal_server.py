"""Temporal's own development server with a file database, on loopback only."""

import asyncio
import sysconfig
from pathlib import Path
from typing import Final

from twinline.sandbox.processes import Program, free_port, inherited_environment

HOST: Final = "127.0.0.1"
_POLL_SECONDS: Final = 0.02

# The defaults are made for big clusters: they cost a single workflow most of its time, and priorities their
# exactness (reference/temporal.md, *The embedded server*; *Queues, priority, fairness*).
DYNAMIC_CONFIG: Final = {
    "history.transferProcessorMaxPollRPS": "2000",
    "history.timerProcessorMaxTimeShift": '"10ms"',
    "history.workflowIdReuseMinimalInterval": '"0s"',
    # A history that is to be deleted waits until these have noted how far they are, by default every half minute.
    "history.transferProcessorUpdateAckInterval": '"1s"',
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
    "matching.enableFairness": "true",
}
_PRAGMAS: Final = {"journal_mode": "WAL", "synchronous": "NORMAL"}


class TemporalServer:
    """One server; stopped and started again it goes on with the same file, on the same ports.

    `folder` is for the owner only: the database holds a copy of every workflow's history.
    """

    def __init__(self, folder: Path, *, codec_endpoint: str | None = None) -> None:
        """`codec_endpoint` is where the web interface has payloads opened; without one it shows them sealed."""
        self._folder = folder
        self._port, self._ui_port, self._http_port = free_port(), free_port(), free_port()
        self._metrics_port = free_port()
        arguments = [
            *("--db-filename", str(folder / "temporal.db"), "--log-level", "error"),
            *("--ip", HOST, "--port", str(self._port), "--http-port", str(self._http_port)),
            *("--ui-ip", HOST, "--ui-port", str(self._ui_port), "--ui-disable-news-fetch"),
            *("--metrics-port", str(self._metrics_port)),
        ]
        if codec_endpoint is not None:
            arguments += ["--ui-codec-endpoint", codec_endpoint]
        for key, value in DYNAMIC_CONFIG.items():
            arguments += ["--dynamic-config-value", f"{key}={value}"]
        for key, value in _PRAGMAS.items():
            arguments += ["--sqlite-pragma", f"{key}={value}"]
        # Its settings stand above; a person's own profiles for the `temporal` program do not matter here.
        home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        self._program = Program(
            "the Temporal server",
            (str(Path(sysconfig.get_path("scripts")) / "temporal"), "server", "start-dev", *arguments),
            environment=inherited_environment() | home,
            folder=folder,
        )

    @property
    def address(self) -> str:
        """What TEMPORAL_ADDRESS is to be."""
        return f"{HOST}:{self._port}"

    @property
    def ui_url(self) -> str:
        """Temporal's web interface."""
        return f"http://{HOST}:{self._ui_port}"

    @property
    def metrics_url(self) -> str:
        """What Temporal counts, in Prometheus' format."""
        return f"http://{HOST}:{self._metrics_port}/metrics"

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._program.pid

    async def start(self) -> None:
        """Start it and wait until it serves the namespace `default`; raises WorldFailed."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._program.start(self._answers)

    async def stop(self) -> None:
        """End it in good order, or by force when that takes too long."""
        await self._program.stop()

    async def kill(self) -> None:
        """End it as a power cut would."""
        await self._program.kill()

    async def restart(self) -> None:
        """Stop it and start it again with what it has stored."""
        await self.stop()
        await self.start()

    async def _answers(self) -> None:
        while True:
            if await self._serves_namespace():
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _serves_namespace(self) -> bool:
        """Ask over its HTTP interface, which stands in front of the same service as gRPC."""
        try:
            reader, writer = await asyncio.open_connection(HOST, self._http_port)
        except OSError:
            # Nobody listens yet.
            return False
        try:
            writer.write(f"GET /api/v1/namespaces/default HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
            return b" 200 " in await reader.readline()
        except ConnectionError:
            return False
        finally:
            writer.close()
