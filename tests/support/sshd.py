"""A real OpenSSH server on loopback with keys of its own, one per test session."""

import asyncio
import ctypes
import getpass
import os
import shutil
import signal
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from twinline.sandbox.processes import free_port

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Run in a child before exec: the kernel ends it when pytest is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(frozen=True)
class Sshd:
    """Where the server listens and what a client needs to get in."""

    port: int
    user: str
    key: Path
    known_hosts: Path
    other_key: Path
    """A key that the server does not accept."""
    pid: int


def _keys(folder: Path, name: str) -> Path:
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (folder / name).write_bytes(private)
    (folder / name).chmod(0o600)
    (folder / f"{name}.pub").write_bytes(public + b"\n")
    return folder / name


@asynccontextmanager
async def run_sshd(
    folder: Path,
    *,
    user: str | None = None,
    certify: Callable[[Path], Path] | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncGenerator[Sshd]:
    """Start sshd in `folder`; needs the Debian package openssh-server, which `make test` installs.

    The client's key is accepted for whoever runs the tests; for another `user` that user's own authorized_keys count,
    as strictly as by default. `certify` makes a certificate for the host key whose file it gets. `environment` is set
    for every session, in place of what a login on this machine would have.
    """
    program = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        raise RuntimeError("OpenSSH's sshd is missing: run `apt-get install -y openssh-server`, or `make test` as root")
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    host_key, client_key, other_key = _keys(folder, "host"), _keys(folder, "client"), _keys(folder, "other")
    authorized = folder / "authorized_keys"
    authorized.write_bytes(client_key.with_suffix(".pub").read_bytes())
    port = free_port()
    settings = folder / "sshd_config"
    certificate = "" if certify is None else f"HostCertificate {certify(host_key)}\n"
    keys = f"AuthorizedKeysFile {authorized}\nStrictModes no\n" if user is None else ""
    variables = "".join(f" {name}={value}" for name, value in (environment or {}).items())
    settings.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\n{certificate}{keys}"
        f"{'SetEnv' if variables else ''}{variables}\n"
        "PidFile none\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin prohibit-password\nLogLevel ERROR\nMaxStartups 100\nSubsystem sftp internal-sftp\n"
    )
    public = host_key.with_suffix(".pub").read_text().split()
    known_hosts = folder / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{port} {public[0]} {public[1]}\n")
    log = (folder / "log").open("wb")
    process = await asyncio.create_subprocess_exec(
        program, "-D", "-e", "-f", str(settings), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
        preexec_fn=die_with_parent,
    )  # fmt: skip
    try:
        await _answers(port, process)
        yield Sshd(port, user or getpass.getuser(), client_key, known_hosts, other_key, process.pid)
    finally:
        process.terminate()
        await process.wait()
        log.close()


async def _answers(port: int, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                if process.returncode is not None:
                    raise RuntimeError("sshd ended at once; see its log") from None
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
