"""A stand-in for OSCam 2.26: its account file, reloads, sessions, account pages, and nothing else of it.

Run it with `python -m twinline.sandbox.oscam -c CONFDIR --pidfile F`. It binds loopback only. Source of every
behaviour: daemons.md, part *OSCam* and *What a faithful stand-in for tests must reproduce*. Not reproduced: the
monitor port, the restart supervisor, `uniq` 2 and 4, and the lock that makes web pages wait for each other.
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from twinline.sandbox import oscam_pages as pages
from twinline.sandbox.cfile import leading_number
from twinline.sandbox.control import Answer, AskStats, Command, ControlServer, Dropped, DropSession, Stats
from twinline.sandbox.httpd import Digest, HttpServer, Request, Response, Verdict, decoded
from twinline.sandbox.oscam_parser import Account, UserDb, apply_key, parse_conf, parse_users, render_users
from twinline.sandbox.runtime import TRUE_TIME, EventLog, Gate, Jobs, Timescale, serve_until_told
from twinline.sandbox.sessions import USER_BYTES, Refused, Session, SessionListener

KICK_SECONDS = 1.0  # From the swap of the lists until a client that may not stay is gone.
WEB_POLL_SECONDS = 0.1  # How long the web interface waits for more input before it answers.
PARSE_COST = 0.85e-8  # Seconds per account squared until "reloaded", from the table of measured reloads.
MERGE_COST = 1.5e-8  # And from there until "freed".
_REALM = "Forbidden"
_READONLY = "WebIf is in readonly mode. No changes are possible!"
_NOT_A_KEY = frozenset({"action", "user", "newuser", "part"})


@dataclass(frozen=True, slots=True)
class Options:
    """How one stand-in is run; costs are in seconds per account squared, scaled like all times."""

    confdir: Path
    pidfile: Path
    timescale: Timescale = TRUE_TIME
    control: Path | None = None
    log: Path | None = None
    parse_cost: float = PARSE_COST
    merge_cost: float = MERGE_COST


@dataclass(frozen=True, slots=True)
class Settings:
    """What `oscam.conf` says, as far as it matters here."""

    reload_useraccounts: bool
    http_port: int
    http_user: str
    http_password: str
    http_readonly: bool
    hides_idle: bool
    cccam_port: int

    @classmethod
    def read(cls, confdir: Path) -> "Settings":
        """Read the file; OSError if there is none."""
        conf = parse_conf((confdir / "oscam.conf").read_bytes())
        web, cccam, everything = (conf.get(name, {}) for name in ("webif", "cccam", "global"))
        return cls(
            reload_useraccounts=leading_number(everything.get("reload_useraccounts", "")) == 1,
            http_port=leading_number(web.get("httpport", "")),
            http_user=web.get("httpuser", ""),
            http_password=web.get("httppwd", ""),
            http_readonly=leading_number(web.get("httpreadonly", "")) == 1,
            hides_idle=leading_number(web.get("httphideidleclients", "1")) == 1,
            cccam_port=leading_number(cccam.get("port", "")),
        )


class OSCam:
    """One running daemon. `start` opens everything, `stop` closes everything."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._time = options.timescale
        self._settings = Settings.read(options.confdir)
        self.log = EventLog(options.log)
        self._started = time.time()
        self._accounts = (self._load() or UserDb(())).accounts
        self._sessions: dict[Session, Account] = {}
        self._traffic = Gate()
        self._web_traffic = Gate()
        self._before_merge = Gate()
        self._ignoring = False
        self._sighup_running = False
        self._running = 0
        self._reloads = 0
        self._lost = 0
        self._jobs = Jobs()
        settings = self._settings
        self._digest = (
            Digest(realm=_REALM, user=settings.http_user, password=settings.http_password)
            if settings.http_user and settings.http_password
            else None
        )
        self._web = HttpServer(settings.http_port, self._answer, gate=self._web_traffic, keep_alive=True)
        self._listener = SessionListener(
            settings.cccam_port, admit=self._admit, left=self._left, gate=self._traffic, reuse_port=True
        )
        self._control = None if options.control is None else ControlServer(options.control, self._obey)

    async def start(self) -> None:
        """Open the listeners and write the pid file; a taken web port is only logged, as the daemon does."""
        self._options.pidfile.write_text(f"{os.getpid()}\n")
        await self._listener.open()
        if self._settings.http_port:
            try:
                await self._web.open()
            except OSError as error:
                port = self._settings.http_port
                self.log(f"HTTP Server couldn't bind on port {port} (errno={error.errno}). Not starting HTTP!")
        if self._control is not None:
            await self._control.open()

    async def stop(self) -> None:
        """Close everything and remove the pid file."""
        try:
            await self._jobs.stop()
        finally:
            await self._listener.close()
            await self._web.close()
            if self._control is not None:
                await self._control.close()
            self._options.pidfile.unlink(missing_ok=True)
            self.log.close()

    # Reload

    @property
    def _user_file(self) -> Path:
        return self._options.confdir / "oscam.user"

    def _load(self) -> UserDb | None:
        try:
            users = parse_users(self._user_file.read_bytes())
        except OSError:
            # Absent or unreadable: no accounts, and no "reloaded" line.
            return None
        for warning in users.warnings:
            sys.stderr.write(f"{warning}\n")
        return users

    def sighup(self) -> None:
        """Take a SIGHUP: in silence if accounts are not to be reloaded by it, dropped while one runs."""
        if not self._settings.reload_useraccounts:
            return
        if self._ignoring or self._sighup_running:
            self._lost += 1
            return
        self._sighup_running = True
        self._traffic.shut("sighup")
        self._jobs.start(self._sighup_reload())

    async def _sighup_reload(self) -> None:
        try:
            await self._reload()
        finally:
            self._sighup_running = False
            self._traffic.open("sighup")

    async def _reload(self) -> None:
        self._running += 1
        try:
            users = await asyncio.to_thread(self._load)
            accounts = () if users is None else users.accounts
            size = max(len(accounts), len(self._accounts)) ** 2
            await self._time.pause(self._options.parse_cost * size)
            if users is not None:
                self.log(users.summary(time.time()))
            await self._before_merge.passed()
            await self._time.pause(self._options.merge_cost * size)
            freed, self._accounts = len(self._accounts), accounts
            self.log(f"userdb {freed} accounts freed")
            self._recheck_clients()
            self._reloads += 1
        finally:
            self._running -= 1

    def _recheck_clients(self) -> None:
        for session, before in list(self._sessions.items()):
            now = next((account for account in self._accounts if account.user == before.user), None)
            if now is None or now.disabled or now.password != before.password:
                self._jobs.start(self._kick(session))
            else:
                self._sessions[session] = now

    async def _kick(self, session: Session) -> None:
        await self._time.pause(KICK_SECONDS)
        session.close()

    # Sessions

    def _admit(self, session: Session) -> Refused | None:
        named = [a for a in self._accounts if a.user[:USER_BYTES] == session.user]
        if not named:
            self.log(f"account '{session.user}' not found!")
            return Refused("account not found")
        account = next((a for a in named if a.password == session.password), None)
        if account is None:
            self.log(f"password for '{session.user}' invalid!")
            return Refused("invalid access")
        if account.disabled:
            self.log(f"encrypted cccam-client {session.address} rejected (disabled account)")
            return Refused("disabled account")
        others = [other for other, owner in self._sessions.items() if owner.user == account.user]
        if account.uniq == 1 and len(others) >= account.max_connections:
            self.log(f"account '{account.user}' duplicate login, disconnect!")
            return Refused("duplicate login")
        if account.uniq == 3:
            for other in others:
                other.close()
        self._sessions[session] = account
        self.log(f"encrypted cccam-client {session.address} granted ({account.user}, au=off)")
        return None

    def _left(self, session: Session) -> None:
        account = self._sessions.pop(session)
        if not session.kicked:
            self.log(f"{account.user} disconnected from {session.address}")

    # Web interface

    async def _answer(self, request: Request) -> Response | None:
        await self._time.pause(WEB_POLL_SECONDS)
        if self._digest is None:
            return await self._page(request)
        now = asyncio.get_running_loop().time()
        verdict = self._digest.check(request, now)
        if verdict is Verdict.ALLOWED:
            answer = await self._page(request)
            info = f'nextnonce="{self._digest.next_nonce(now)}"'
            return replace(answer, headers=(*answer.headers, ("Authentication-Info", info)))
        challenge = self._digest.challenge(now, stale=verdict is Verdict.STALE)
        headers = (("WWW-Authenticate", challenge), ("Content-Type", "text/html"))
        return Response(b"Access denied.\n", status="401 Unauthorized", headers=headers)

    def _view(self) -> pages.View:
        return pages.View(
            accounts=self._accounts,
            sessions=[(account.user, session) for session, account in self._sessions.items()],
            loop_time=asyncio.get_running_loop().time(),
            scale=self._time.factor,
            wall_time=time.time(),
            started=self._started,
            readonly=self._settings.http_readonly,
            hides_idle=self._settings.hides_idle,
        )

    async def _page(self, request: Request) -> Response:
        asked = [(decoded(name), decoded(value)) for name, value in request.raw_query]
        # As the daemon looks parameters up: the first of equal names.
        first = dict(reversed(asked))
        match request.path:
            case "/oscamapi.html" | "/oscamapi.xml":
                return self._api(asked, first, as_json=False)
            case "/oscamapi.json":
                return self._api(asked, first, as_json=True)
            case "/userconfig.html":
                return await self._user_list_page(first)
            case "/user_edit.html":
                return self._user_edit_page(asked, first)
            case _:
                return pages.html("Status")

    def _api(self, asked: Sequence[tuple[str, str]], first: dict[str, str], *, as_json: bool) -> Response:
        part, user = first.get("part", ""), first.get("user", "")
        if part == "status":
            return pages.status_json(self._view()) if as_json else pages.status_xml(self._view())
        if part == "userstats" and not as_json:
            return pages.userstats(self._view(), first.get("label", ""))
        if part != "userconfig":
            return pages.api_error(self._view(), "part not found")
        saving = first.get("action") == "Save"
        if saving and self._settings.http_readonly:
            return pages.api_error(self._view(), "API is in readonly mode")
        if saving:
            self._save(user, asked)
        account = self._named(user)
        if account is None:
            return pages.api_error(self._view(), "user not exist")
        return pages.userconfig(self._view(), account)

    async def _user_list_page(self, first: dict[str, str]) -> Response:
        action, user = first.get("action", ""), first.get("user", "")
        if self._settings.http_readonly and action in {"reinit", "disable", "enable", "delete"}:
            return pages.html(_READONLY)
        if action == "reinit":
            self.log("Refresh Accounts requested by WebIF from 127.0.0.1")
            if self._ignoring:
                self._lost += 1
            else:
                await self._reload()
        elif action in {"disable", "enable", "delete"}:
            return self._change_from_list(action, user)
        return pages.html("Users")

    def _change_from_list(self, action: str, user: str) -> Response:
        account = self._named(user)
        if account is None:
            return pages.html("Sorry but the specified user doesn't exist. No deletion will be made!")
        if action != "enable":
            for session, owner in self._sessions.items():
                if owner.user == user:
                    session.close()
        if action == "delete":
            self._accounts = tuple(other for other in self._accounts if other is not account)
        else:
            self._exchange(account, replace(account, disabled=int(action == "disable")))
        self._write_users()
        return pages.html("Users")

    def _user_edit_page(self, asked: Sequence[tuple[str, str]], first: dict[str, str]) -> Response:
        if self._settings.http_readonly:
            return pages.html(_READONLY)
        user = first.get("user", "")
        if first.get("action") == "Save":
            self._save(user, asked)
            return pages.html("Account updated")
        if self._named(user) is None:
            self._create(user)
            return pages.html("New user has been added with default settings")
        return pages.html("Edit User")

    def _save(self, user: str, asked: Sequence[tuple[str, str]]) -> None:
        """Change memory, let the change take effect on sessions, then rewrite the file from memory."""
        before = self._named(user) or self._create(user)
        after = before
        for key, value in asked:
            if key not in _NOT_A_KEY:
                after = apply_key(after, key.lower(), value) or after
        self._exchange(before, after)
        self._recheck_clients()
        self._write_users()

    def _create(self, user: str) -> Account:
        account = Account(user=user[:63], disabled=1, group=(1,))
        self._accounts = (*self._accounts, account)
        self._write_users()
        return account

    def _exchange(self, before: Account, after: Account) -> None:
        self._accounts = tuple(after if account is before else account for account in self._accounts)

    def _named(self, user: str) -> Account | None:
        return next((a for a in reversed(self._accounts) if a.user == user), None)

    def _write_users(self) -> None:
        """Rewrite the file in place: same inode, not atomic, whatever stood in it kept as `.bak` only."""
        target = self._user_file
        fresh = target.with_name("oscam.user.tmp")
        fresh.write_bytes(render_users(self._accounts))
        if target.exists():
            shutil.copyfile(target, target.with_name("oscam.user.bak"))
        with target.open("wb") as file:
            file.write(fresh.read_bytes())
        fresh.unlink()

    # Fault injection

    def _obey(self, command: Command) -> Answer:
        match command:
            case DropSession(user=user):
                sessions = [session for session, owner in self._sessions.items() if owner.user == user]
                for session in sessions:
                    session.drop()
                return Dropped(dropped=len(sessions))
            case AskStats():
                return Stats(
                    reloads=self._reloads,
                    lost=self._lost,
                    sessions=sorted(account.user for account in self._sessions.values()),
                    accounts=len(self._accounts),
                    armed=not self._ignoring and not self._sighup_running,
                    reloading=self._running > 0,
                )
            case _:
                return self._switch(command.do, on=command.on)

    def _switch(self, what: str, *, on: bool) -> Answer:
        if what == "ignore_reloads":
            self._ignoring = on
            return Answer()
        gates = (self._traffic, self._web_traffic) if what == "hang" else (self._before_merge,)
        for gate in gates:
            (gate.shut if on else gate.open)("control")
        return Answer()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stand-in until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m twinline.sandbox.oscam", description=__doc__)
    parser.add_argument("-c", dest="confdir", type=Path, required=True, metavar="CONFDIR")
    parser.add_argument("--pidfile", type=Path, required=True)
    parser.add_argument("--timescale", type=float, default=1.0, help="1.0 is true time")
    parser.add_argument("--control", type=Path, help="unix socket for fault injection")
    parser.add_argument("--log", type=Path, help="log file (default: stderr)")
    parser.add_argument("--parse-cost", type=float, default=PARSE_COST, help="seconds per account squared")
    parser.add_argument("--merge-cost", type=float, default=MERGE_COST, help="seconds per account squared")
    given = parser.parse_args(arguments)
    options = Options(
        confdir=given.confdir,
        pidfile=given.pidfile,
        timescale=Timescale(given.timescale),
        control=given.control,
        log=given.log,
        parse_cost=given.parse_cost,
        merge_cost=given.merge_cost,
    )

    async def run() -> None:
        daemon = OSCam(options)
        # Set before anything else: the default action would end the process.
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, daemon.sighup)
        await serve_until_told(daemon.start, daemon.stop)

    asyncio.run(run())


if __name__ == "__main__":
    main()
