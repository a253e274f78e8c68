"""A throw-away PostgreSQL cluster on a Unix socket, from Debian's packages; nothing of it outlives the tests.

PostgreSQL refuses to run as root, so root runs it as the user that the package made for it.
"""

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg

from tests.support.proc import alive

SERVER_USER: Final = "postgres"
OWNER: Final = "twinline"
"""The role that owns every ledger; it needs no password."""
GUARDED: Final = "guarded"
"""A role that needs one: `PASSWORD`."""
PASSWORD: Final = "pg/23:45@secret"

_FOLDER: Final = re.compile(r"twlpg-(\d+)-\w+")
_SETTINGS: Final = {
    "listen_addresses": "",
    # Nothing here is about power cuts.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    # In the folder, which is removed, instead of files that a killed server leaves in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "autovacuum": "off",
    "max_wal_size": "256MB",
    "lc_messages": "C",
    "log_min_messages": "fatal",
}
# The kernel ends the server when pytest is killed, by the signal upon which it takes its children along. Done in a
# program of its own: code run between fork and exec may dead-lock beside our threads.
_LAUNCHER: Final = """
import ctypes, os, signal, sys
parent, user, group = map(int, sys.argv[1:4])
if user:
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
ctypes.CDLL(None).prctl(1, signal.SIGQUIT)
if os.getppid() == parent:
    os.execv(sys.argv[4], sys.argv[4:])
"""
_EMPTY: Final = """
DO $$
DECLARE one record;
BEGIN
    PERFORM pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    -- Without triggers: events can't be deleted otherwise.
    SET LOCAL session_replication_role = replica;
    FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version' LOOP
        EXECUTE format('DELETE FROM %I', one.tablename);
    END LOOP;
    FOR one IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' LOOP
        EXECUTE format('ALTER SEQUENCE %I RESTART', one.sequencename);
    END LOOP;
    PERFORM pg_stat_reset();
END $$"""
_ACCESS: Final = f"local all {GUARDED} scram-sha-256\nlocal all all trust\n"


@dataclass
class Cluster:
    """A running server."""

    folder: Path
    programs: Path
    process: "subprocess.Popen[bytes]"
    spare: list[str] = field(default_factory=list[str])
    """Databases with nothing in them but the schema."""
    _count: int = 0

    def url(self, database: str, *, user: str = OWNER, password: str | None = None) -> str:
        """What TWINLINE_DATABASE_URL is to be."""
        secret = "" if password is None else f":{password}"
        return f"postgresql://{user}{secret}@/{database}?host={self.folder}"

    def admin(self, database: str = "postgres") -> "psycopg.Connection[tuple[object, ...]]":
        """A superuser's connection, outside of transactions."""
        return psycopg.connect(host=str(self.folder), user=SERVER_USER, dbname=database, autocommit=True)

    def create(self, name: str | None = None, *, template: str = "template0", encoding: str = "UTF8") -> str:
        """Make a database, as a copy of `template`; its name."""
        self._count += 1
        name = name or f"ledger_{self._count}"
        with self.admin() as admin:
            # Two thirds faster for small databases than by the write-ahead log.
            how = f"TEMPLATE {template} ENCODING {encoding} STRATEGY file_copy"
            admin.execute(f"CREATE DATABASE {name} OWNER {OWNER} {how}".encode())
        return name

    def files_of(self, database: str) -> bytes:
        """The files in which the server keeps a database, as they are on the disk after all was written there."""
        with self.admin(database) as admin:
            admin.execute(b"CHECKPOINT")
            found = admin.execute(b"SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()
        assert found is not None
        folder = self.folder / "data" / "base" / str(found[0])
        return b"".join(file.read_bytes() for file in folder.iterdir() if file.is_file())

    def empty(self, database: str) -> None:
        """Remove every row but the schema's version, and what was counted, whoever is connected."""
        with self.admin(database) as admin:
            admin.execute(_EMPTY.encode())

    def drop(self, database: str) -> None:
        """Remove a database, whoever is connected to it."""
        with self.admin() as admin:
            admin.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())

    @contextlib.contextmanager
    def database(self, *, template: str = "template0") -> Generator[str]:
        """The URL of a database that lasts as long as the block."""
        name = self.create(template=template)
        try:
            yield self.url(name)
        finally:
            self.drop(name)

    def start(self) -> None:
        """Start the server, if it does not run, and wait until it answers."""
        if self.process.poll() is not None:
            self.process = _started(self.programs, self.folder)
        _wait_until_it_answers(self)

    def stop(self) -> None:
        """End the server, whoever is connected, as `systemctl stop` does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait()


@contextlib.contextmanager
def run_postgresql() -> Generator[Cluster]:
    """Run a server of its own until the block ends; a killed session takes it along, and the next one its folder."""
    programs = _programs()
    parent = _memory() or Path(tempfile.gettempdir())
    _remove_orphans(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"twlpg-{os.getpid()}-", dir=parent))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, SERVER_USER, SERVER_USER)
        data = folder / "data"
        initdb = [programs / "initdb", "-D", data, "-U", SERVER_USER, "--no-sync", "-E", "UTF8", "--locale=C"]
        done = subprocess.run(_as_server_user(initdb), check=False, capture_output=True, text=True, cwd="/")
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed: {done.stderr[-2000:]}")
        (data / "pg_hba.conf").write_text(_ACCESS)
        cluster = Cluster(folder, programs, _started(programs, folder))
        try:
            cluster.start()
            with cluster.admin() as admin:
                admin.execute(f"CREATE ROLE {OWNER} LOGIN".encode())
                admin.execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{PASSWORD}' IN ROLE {OWNER}".encode())
            yield cluster
        finally:
            cluster.process.send_signal(signal.SIGQUIT)
            cluster.process.wait()
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    program = shutil.which("postgres")
    if program is None:
        raise RuntimeError("PostgreSQL is missing: run `apt-get install -y postgresql`, or `make test` as root")
    return Path(program).parent


def _memory() -> Path | None:
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None


def _remove_orphans(parent: Path) -> None:
    for folder in parent.iterdir():
        match = _FOLDER.fullmatch(folder.name)
        if match is not None and not alive(int(match[1])):
            _remove_segment(folder / "data" / "postmaster.pid")
            shutil.rmtree(folder, ignore_errors=True)


def _remove_segment(pid_file: Path) -> None:
    """Remove the few bytes of shared memory that a server which was cut off leaves to the kernel."""
    try:
        _, number = pid_file.read_text().splitlines()[6].split()
    except (FileNotFoundError, IndexError):
        return  # it came to its end, or never began
    subprocess.run(["ipcrm", "-m", number], check=False, capture_output=True)


def _as_server_user(command: list[str | Path]) -> list[str]:
    entry = pwd.getpwnam(SERVER_USER) if os.geteuid() == 0 else None
    user, group = (0, 0) if entry is None else (entry.pw_uid, entry.pw_gid)
    launcher = [sys.executable, "-I", "-c", _LAUNCHER, str(os.getpid()), str(user), str(group)]
    return launcher + [str(word) for word in command]


def _started(programs: Path, folder: Path) -> "subprocess.Popen[bytes]":
    settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            _as_server_user([programs / "postgres", "-D", folder / "data", "-k", folder, *settings]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
        )


def _wait_until_it_answers(cluster: Cluster) -> None:
    for _ in range(3000):
        try:
            cluster.admin().close()
        except psycopg.OperationalError:
            if cluster.process.poll() is not None:
                raise RuntimeError(f"postgres ended at once: {(cluster.folder / 'log').read_text()[-2000:]}") from None
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"postgres does not answer: {(cluster.folder / 'log').read_text()[-2000:]}")
