"""A stand-in for MultiCS r82: its account file, reload, sessions, status pages, and nothing else of it.

Run it with `python -m twinline.sandbox.multics -C MAIN`. It binds loopback only. Source of every behaviour:
daemons.md, part *MultiCS* and *What a faithful stand-in for tests must reproduce*. Not reproduced: the shut-out of
an address after five failed logins (here every customer has the same address), telnet, the HTTP editor.
"""

import argparse
import asyncio
import os
import resource
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from twinline.sandbox import multics_pages as pages
from twinline.sandbox.control import Answer, AskStats, Command, ControlServer, Dropped, DropSession, Stats
from twinline.sandbox.httpd import HttpServer, Request, Response, basic_allows
from twinline.sandbox.multics_clients import (
    RELOGIN_SECONDS,
    Client,
    Mark,
    Roster,
    Server,
    judge_login,
)
from twinline.sandbox.multics_parser import Config, EndDate, parse
from twinline.sandbox.runtime import TRUE_TIME, EventLog, Gate, Jobs, Timescale, serve_until_told
from twinline.sandbox.sessions import Refused, Session, SessionListener
from twinline.sandbox.watches import POLL_SECONDS, FileWatches

SETTLE_SECONDS = 1.0  # Twice in a reload: before removed clients are freed, and before the watches return.
EXPIRY_TICK_SECONDS = 10.0
PARSE_COST = 1.7e-8  # Seconds per account squared, from the table of measured reloads.
_MOST_PARAMETERS = 9


@dataclass(frozen=True, slots=True)
class Options:
    """How one stand-in is run; `parse_cost` is in seconds per account squared, scaled like all times."""

    main: Path
    timescale: Timescale = TRUE_TIME
    control: Path | None = None
    log: Path | None = None
    parse_cost: float = PARSE_COST
    start_delay: float = 0.0


class MultiCS:
    """One running daemon. `start` opens everything, `stop` closes everything."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._time = options.timescale
        self.log = EventLog(options.log)
        self._config = self._parse()
        if not self._config.profiles:
            _crash()
        self._roster = Roster(self._config)
        self._traffic = Gate()
        self._before_merge = Gate()
        self._ignoring = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._reloads = 0
        self._lost = 0
        self._owners: dict[Session, Client] = {}
        self._listeners: dict[int, SessionListener] = {}
        self._watches = FileWatches(self._written, self._time, on_rewatch=self._log_rewatch)
        # Sees what the deaf daemon misses; nothing but the counter of lost triggers depends on it.
        self._missed = FileWatches(self._count_lost, self._time, on_rewatch=lambda _path, _found: None)
        self._jobs = Jobs()
        self._http = HttpServer(self._config.http_port, self._answer, gate=self._traffic, keep_alive=False)
        self._control = None if options.control is None else ControlServer(options.control, self._obey)

    async def start(self) -> None:
        """Open all listeners and watches; OSError if a port is taken."""
        if self._config.http_port:
            await self._http.open()
        if self._control is not None:
            await self._control.open()
        await self._time.pause(self._options.start_delay)
        await self._open_ports()
        self._watches.arm(self._watched())
        self._jobs.start(self._expiry_thread())

    async def stop(self) -> None:
        """Close all listeners, sessions and watches."""
        self._watches.disarm()
        self._missed.disarm()
        try:
            await self._jobs.stop()
        finally:
            await self._http.close()
            if self._control is not None:
                await self._control.close()
            for listener in self._listeners.values():
                await listener.close()
            self.log.close()

    # Reload

    async def idle(self) -> None:
        """Wait until no reload runs, that is, until the watches are set."""
        await self._idle.wait()

    def _parse(self) -> Config:
        def read(path: str) -> bytes | None:
            try:
                return Path(path).read_bytes()
            except OSError:
                # Absent or unreadable is the same to the daemon: it reads nothing from this file.
                return None

        config = parse(str(self._options.main), read)
        for source in config.files:
            self.log(f"config: parsing file '{source.path}'")
        for complaint in config.complaints:
            self.log(complaint)
        return config

    def _watched(self) -> Sequence[str]:
        return [source.path for source in self._config.files if source.watched]

    def _written(self) -> None:
        if self._ignoring:
            self._count_lost()
        elif self._idle.is_set():
            self._idle.clear()
            self._jobs.start(self._reload())

    def _log_rewatch(self, path: str, found: bool) -> None:  # noqa: FBT001 - the form of the callback
        outcome = "watching what stands at the path now" if found else "nothing at the path, not watched"
        self.log(f"inode of '{path}' is gone: {outcome}")

    def _count_lost(self) -> None:
        self._lost += 1

    async def _reload(self) -> None:
        await self._time.pause(POLL_SECONDS)
        self._watches.disarm()
        self.log("Config file Changed...")
        self._missed.arm(self._watched())
        config = await asyncio.to_thread(self._parse)
        await self._time.pause(self._options.parse_cost * len(config.records) ** 2)
        await self._before_merge.passed()
        if not config.profiles:
            _crash()
        self._config = config
        self._roster.merge(config)
        await self._time.pause(SETTLE_SECONDS)
        for client in self._roster.free_removed():
            if client.session is not None:
                client.session.close()
        await self._time.pause(SETTLE_SECONDS)
        await self._open_ports()
        self._missed.disarm()
        self._reloads += 1
        self._watches.arm(self._watched())
        self._idle.set()

    async def _open_ports(self) -> None:
        known = {server.port for server in self._roster.servers}
        self._roster.servers += [Server(0, port) for port in self._config.ports if port not in known]
        for server in list(self._roster.servers):
            if server.port not in self._config.ports:
                self._roster.servers.remove(server)
                await self._listeners.pop(server.port).close()
            elif not server.listening:
                listener = SessionListener(server.port, admit=self._admit, left=self._left, gate=self._traffic)
                await listener.open()
                self._listeners[server.port] = listener
                server.listening = True

    # Expiry

    async def _expiry_thread(self) -> None:
        while True:
            await self._time.pause(EXPIRY_TICK_SECONDS)
            moment = time.localtime()
            now = EndDate(moment.tm_year, moment.tm_mon, moment.tm_mday, moment.tm_hour)
            expired, revived = self._roster.check_expiry(now)
            for client in expired:
                self.log(f"Client '{client.record.user}' Expired")
                if client.session is not None:
                    client.session.close()
            for client in revived:
                self.log(f"Client '{client.record.user}' Enabled")

    # Sessions

    def _admit(self, session: Session) -> Refused | None:
        verdict = judge_login(self._roster, session, relogin_after=self._time.scaled(RELOGIN_SECONDS))
        server = next(s.id for s in self._roster.servers if s.port == session.listener_port)
        if isinstance(verdict, Refused):
            if verdict.reason != "bad username":
                self.log(f"CCcam{server}: {_refusal_line(verdict, session)}")
            return verdict
        if verdict.replaces is not None:
            self._release(verdict.replaces)
            verdict.replaces.close()
        client = verdict.client
        client.session = session
        client.logins += 1
        self._owners[session] = client
        self.log(f"CCcam{server}: client '{session.user}' connected")
        return None

    def _left(self, session: Session) -> None:
        client = self._release(session)
        if client is not None and not session.kicked:
            self.log(f"CCcam: client '{session.user}' disconnected")

    def _release(self, session: Session) -> Client | None:
        client = self._owners.pop(session, None)
        if client is not None and client.session is session:
            client.session = None
        return client

    # HTTP

    async def _answer(self, request: Request) -> Response | None:
        if request.method not in {"GET", "POST"}:
            return None
        user = self._config.http_user
        if user and not basic_allows(request, user, self._config.http_password):
            return pages.unauthorised()
        # The daemon does not decode %XX, and takes the first of equal names.
        asked = dict(reversed(request.raw_query[:_MOST_PARAMETERS]))
        view = pages.View(self._roster, asyncio.get_running_loop().time(), self._time.factor)
        match request.path:
            case "/":
                return pages.index(view)
            case "/cccam":
                return self._list_page(view, asked)
            case "/cccamclient":
                client = self._client(asked, server_key="srvid", name_key="name", id_key="id")
                return None if client is None else self._client_page(view, client, asked.get("action", ""))
            case _:
                return None

    def _list_page(self, view: pages.View, asked: dict[str, str]) -> Response | None:
        server = self._server(asked.get("id", ""))
        match asked.get("action"):
            case "json":
                return pages.json_list(view, server)
            case "xml":
                return pages.xml_list(view, server)
            case "row":
                client = self._client(asked, server_key="id", name_key="clname", id_key="clid")
                return None if client is None else pages.row(view, client)
            case _:
                return None

    def _client_page(self, view: pages.View, client: Client, action: str) -> Response:
        match action:
            case "xml":
                return pages.client_xml(view, client)
            case "disable":
                client.marks |= Mark.DISABLED
                if client.session is not None:
                    client.session.close()
                    self._release(client.session)
                return pages.done()
            case "enable":
                client.marks &= ~Mark.DISABLED
                return pages.done()
            case _:
                return pages.client_page(view, client)

    def _server(self, number: str) -> Server | None:
        return next((server for server in self._roster.servers if str(server.id) == number), None)

    def _client(self, asked: dict[str, str], *, server_key: str, name_key: str, id_key: str) -> Client | None:
        if name_key in asked and server_key in asked:
            server = self._server(asked[server_key])
            return None if server is None else self._roster.named(server.port, asked[name_key])
        return next((c for c in self._roster.clients if str(c.id) == asked.get(id_key)), None)

    # Fault injection

    def _obey(self, command: Command) -> Answer:
        match command:
            case DropSession(user=user):
                sessions = [session for session in self._owners if session.user == user]
                for session in sessions:
                    session.drop()
                return Dropped(dropped=len(sessions))
            case AskStats():
                return Stats(
                    reloads=self._reloads,
                    lost=self._lost,
                    sessions=sorted(session.user for session in self._owners),
                    accounts=len(self._roster.clients),
                    armed=self._watches.armed and not self._ignoring,
                    reloading=not self._idle.is_set(),
                )
            case _:
                return self._switch(command.do, on=command.on)

    def _switch(self, what: str, *, on: bool) -> Answer:
        if what == "ignore_reloads":
            self._ignoring = on
        else:
            gate = self._traffic if what == "hang" else self._before_merge
            (gate.shut if on else gate.open)("control")
        return Answer()


def _refusal_line(refused: Refused, session: Session) -> str:
    match refused.reason:
        case "Unknown Client":
            return f"Unknown Client '{session.user}' ({session.address})"
        case "client disabled":
            return f"connection refused for client '{session.user}' ({session.address}), client disabled"
        case "just connected":
            return f"Client '{session.user}' just connected, new connection closed ({session.address})"
        case _:
            return f"login failed from client '{session.user}'"


def _crash() -> None:
    """Die as r82 does when it finds no profile: by a segmentation fault, without a core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stand-in until SIGTERM. SIGHUP kills it, as it kills the real daemon."""
    parser = argparse.ArgumentParser(prog="python -m twinline.sandbox.multics", description=__doc__)
    parser.add_argument("-C", dest="main", type=Path, required=True, metavar="MAIN", help="main config file")
    parser.add_argument("--timescale", type=float, default=1.0, help="1.0 is true time")
    parser.add_argument("--control", type=Path, help="unix socket for fault injection")
    parser.add_argument("--log", type=Path, help="log file (default: stderr)")
    parser.add_argument("--parse-cost", type=float, default=PARSE_COST, help="seconds per account squared")
    parser.add_argument("--start-delay", type=float, default=0.0, help="the real daemon takes 8 s to serve clients")
    given = parser.parse_args(arguments)
    options = Options(
        main=given.main,
        timescale=Timescale(given.timescale),
        control=given.control,
        log=given.log,
        parse_cost=given.parse_cost,
        start_delay=given.start_delay,
    )

    async def run() -> None:
        daemon = MultiCS(options)
        await serve_until_told(daemon.start, daemon.stop)

    asyncio.run(run())


if __name__ == "__main__":
    main()
