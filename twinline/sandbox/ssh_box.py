"""A box of the embedded world: a real SSH server on loopback that runs commands, and nothing else of a machine.

There is one user and one key; no shell, terminal, file transfer or forwarding.
"""

import asyncio
import contextlib
import shlex
import signal
import sys
import sysconfig
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Final

import asyncssh
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from twinline.sandbox.processes import WorldFailed, dying_with_us, free_port, signal_group

HOST: Final = "127.0.0.1"
END_SECONDS: Final = 1.0
"""How long a command whose connection is gone may take to end by itself, and again to end after a SIGHUP."""
_CHUNK: Final = 65_536


class SshBox:
    """One SSH server with keys of its own; started and stopped as often as wanted, always on the same port.

    `folder` keeps the host key over runs, and commands run in its `home`. `client_key` is the file of the private
    key that lets a client in; it is made if it does not exist.
    """

    def __init__(self, folder: Path, *, client_key: Path, user: str = "twinline") -> None:
        self.user = user
        self.client_key = client_key
        self.clock_ahead = 0.0
        """Seconds by which the clock of the box is ahead for Python programs that are started from now on."""
        self._home = folder / "home"
        self._programs = folder / "programs"
        self._host_key_file = folder / "host_key"
        self._host_key: asyncssh.SSHKey | None = None
        self._welcome: asyncssh.SSHKey | None = None
        self.port = free_port()
        self._listener: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._commands: set[asyncio.Task[None]] = set()

    @property
    def known_hosts_line(self) -> str:
        """What a client's known_hosts file says about this box, once started."""
        if self._host_key is None:
            raise RuntimeError("the box was never started")
        return f"[{HOST}]:{self.port} {self._host_key.export_public_key().decode().strip()}\n"

    async def start(self) -> None:
        """Listen; raises WorldFailed when the port is taken."""
        for made in (self._home, self._programs):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._host_key = _key(self._host_key_file)
        self._welcome = _key(self.client_key).convert_to_public()
        await self.refuse(on=False)

    async def stop(self) -> None:
        """Stop listening, cut every connection, and end every command."""
        await self.refuse(on=True)
        self.drop_connections()
        await asyncio.gather(*self._commands, return_exceptions=True)

    async def refuse(self, *, on: bool) -> None:
        """Refuse new connections, as a machine that is down does, or take them again; open ones stay."""
        if on:
            listener, self._listener = self._listener, None
            if listener is not None:
                # Not awaited: from Python 3.12 on that would wait for the open connections too.
                listener.close()
        elif self._listener is None:
            self._listener = await self._listen()

    def drop_connections(self) -> None:
        """Cut every connection without a goodbye."""
        for connection in tuple(self._connections):
            connection.abort()

    async def _listen(self) -> asyncssh.SSHAcceptor:
        try:
            return await asyncssh.listen(
                HOST,
                self.port,
                server_factory=lambda: _Gate(self._connections, self.user, self._welcome),
                server_host_keys=[self._host_key],
                process_factory=self._take,
                encoding=None,
                allow_pty=False,
                line_editor=False,
                agent_forwarding=False,
                x11_forwarding=False,
                allow_scp=False,
            )
        except OSError as error:
            raise WorldFailed(
                f"an SSH box cannot listen on {HOST}:{self.port}: {error.strerror}", hint="Try again."
            ) from None

    def _take(self, channel: "asyncssh.SSHServerProcess[bytes]") -> None:
        """Serve one request in a task that a lost connection does not end: the command's end is its own."""
        task = asyncio.create_task(self._serve(channel))
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)

    async def _serve(self, channel: "asyncssh.SSHServerProcess[bytes]") -> None:
        if channel.command is None or channel.subsystem is not None:
            channel.stderr.write(b"This box runs commands only.\n")
            channel.exit(1)
            return
        child = await asyncio.create_subprocess_exec(
            *dying_with_us(("/bin/sh", "-c", channel.command)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            cwd=self._home,
            env=self._environment(),
            start_new_session=True,
        )
        if child.stdin is None or child.stdout is None or child.stderr is None:
            raise RuntimeError("started without pipes")
        feeding = asyncio.create_task(_feed(channel, child.stdin, child.pid))
        done = asyncio.gather(child.wait(), _bring(child.stdout, channel.stdout), _bring(child.stderr, channel.stderr))
        gone = asyncio.create_task(channel.wait_closed())
        try:
            await asyncio.wait((done, gone), return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                _say_status(channel, done.result()[0])
        finally:
            feeding.cancel()
            gone.cancel()
            child.stdin.close()
            await _end(child, done)

    def _environment(self) -> dict[str, str]:
        # Our own Python first: the machine may have none by the name of python3.
        path = f"{sysconfig.get_path('scripts')}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        if self.clock_ahead:
            path = f"{self._with_other_clock()}:{path}"
        home = str(self._home)
        return {"PATH": path, "HOME": home, "USER": self.user, "LOGNAME": self.user, "SHELL": "/bin/sh"}

    def _with_other_clock(self) -> Path:
        """A folder whose python3 runs `-c` programs by the box's own clock."""
        changed = f"import sys,time;t=time.time;time.time=lambda:t()+{self.clock_ahead};exec(sys.argv.pop(1))"
        program = self._programs / "python3"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$1" {shlex.quote(changed)} "$2"\n')
        program.chmod(0o700)
        return self._programs


class _Gate(asyncssh.SSHServer):
    """Lets in one user with one key, and keeps account of the connections."""

    def __init__(
        self, connections: set[asyncssh.SSHServerConnection], user: str, welcome: asyncssh.SSHKey | None
    ) -> None:
        self._connections = connections
        self._user = user
        self._welcome = welcome
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncssh's signature
        if self._connection is not None:
            self._connections.discard(self._connection)

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == self._user and key == self._welcome


def _key(path: Path) -> asyncssh.SSHKey:
    if not path.exists():
        path.touch(mode=0o600, exist_ok=False)
        key = Ed25519PrivateKey.generate()
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return asyncssh.read_private_key(path)


async def _feed(channel: "asyncssh.SSHServerProcess[bytes]", stdin: asyncio.StreamWriter, leader: int) -> None:
    """Carry the client's bytes to the child until either end closes; signals that it asks for are sent."""
    with contextlib.suppress(asyncssh.Error, ConnectionError):
        while True:
            try:
                data = await channel.stdin.read(_CHUNK)
            except asyncssh.SignalReceived as asked:
                signal_group(leader, getattr(signal, f"SIG{asked.signal}", signal.SIGTERM))
                continue
            if not data:
                break
            # A child that has closed its input still has a client that must get rid of its bytes.
            if not stdin.is_closing():
                stdin.write(data)
                with contextlib.suppress(ConnectionError):
                    await stdin.drain()
    stdin.close()


async def _bring(source: asyncio.StreamReader, target: "asyncssh.SSHWriter[bytes]") -> None:
    """Carry a child's output to the client until the child closes it; what a lost client misses is dropped."""
    listening = True
    while data := await source.read(_CHUNK):
        if listening:
            try:
                target.write(data)
                await target.drain()
            except (asyncssh.Error, OSError):
                listening = False


def _say_status(channel: "asyncssh.SSHServerProcess[bytes]", code: int) -> None:
    # The client may have gone at this very moment.
    with contextlib.suppress(OSError):
        if code < 0:
            channel.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
        else:
            channel.exit(code)


async def _end(child: Process, done: "asyncio.Future[tuple[int, None, None]]") -> None:
    """Wait for a child whose input is closed, then end it, and all that it started, by SIGHUP and SIGKILL."""
    for number in (signal.SIGHUP, signal.SIGKILL):
        if not done.done():
            await asyncio.wait((done,), timeout=END_SECONDS)
        signal_group(child.pid, number)
    await child.wait()
    done.cancel()
