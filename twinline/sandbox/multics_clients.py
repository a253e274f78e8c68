"""The accounts that a running MultiCS holds: what a reload, the expiry check and a login do to them."""

from dataclasses import dataclass, field
from enum import Flag, auto

from twinline.sandbox.multics_parser import Config, EndDate, Record
from twinline.sandbox.sessions import Refused, Session

RELOGIN_SECONDS = 60.0


class Mark(Flag):
    """Flags of a client; their values times two are the numbers of the status pages (2, 4, 8)."""

    DISABLED = auto()
    EXPIRED = auto()
    REMOVED = auto()


UNMARKED = Mark(0)


@dataclass(eq=False, slots=True)
class Client:
    """One loaded record and what has happened on it since it was first loaded."""

    id: int
    record: Record
    marks: Mark = UNMARKED
    session: Session | None = field(default=None, repr=False)
    logins: int = 0
    failed_logins: int = 0

    @property
    def status(self) -> int:
        """The number of the status pages: 1 while connected, whatever else; else 2, 4 and 8 added up."""
        return 1 if self.session is not None else self.marks.value * 2


@dataclass(eq=False, slots=True)
class Server:
    """One `CCCAM PORT`; one that a reload has opened goes by the id 0, as seen on the real daemon."""

    id: int
    port: int
    listening: bool = False


class Roster:
    """Servers and clients in the daemon's own order; the first of equal names is the one that counts."""

    def __init__(self, config: Config) -> None:
        self.servers = [Server(number, port) for number, port in enumerate(config.ports, start=1)]
        self.clients: list[Client] = []
        self._last_id = 0
        self.merge(config)

    def merge(self, config: Config) -> None:
        """Take over a new reading: matched by port and name, in order; new ones at the end, others marked.

        A matched client keeps session, counters and flags, and takes every value of its new record.
        """
        unmatched: dict[tuple[int, str], list[Client]] = {}
        for client in reversed(self.clients):
            unmatched.setdefault((client.record.port, client.record.user), []).append(client)
        for record in config.records:
            same_name = unmatched.get((record.port, record.user))
            if same_name:
                same_name.pop().record = record
            else:
                self._last_id += 1
                self.clients.append(Client(self._last_id, record))
        for clients in unmatched.values():
            for client in clients:
                client.marks |= Mark.REMOVED

    def free_removed(self) -> list[Client]:
        """Forget the clients that were marked as removed, and return them."""
        removed = [client for client in self.clients if Mark.REMOVED in client.marks]
        self.clients = [client for client in self.clients if Mark.REMOVED not in client.marks]
        return removed

    def check_expiry(self, now: EndDate) -> tuple[list[Client], list[Client]]:
        """Set and clear the expired flag by the hour; return who has just expired and who may come again.

        A client without a date is left as it is: taking the date away does not revive it.
        """
        expired: list[Client] = []
        revived: list[Client] = []
        for client in self.clients:
            end = client.record.end
            if end is None:
                continue
            if end.reached(now) and Mark.EXPIRED not in client.marks:
                client.marks |= Mark.EXPIRED
                expired.append(client)
            elif not end.reached(now) and Mark.EXPIRED in client.marks:
                client.marks &= ~Mark.EXPIRED
                revived.append(client)
        return expired, revived

    def named(self, port: int, user: str) -> Client | None:
        """Return the first client of that name on that port."""
        found = (c for c in self.clients if c.record.port == port and c.record.user == user)
        return next(found, None)

    def on(self, server: Server) -> list[Client]:
        """Return a server's clients in order."""
        return [client for client in self.clients if client.record.port == server.port]


@dataclass(frozen=True, slots=True)
class Admission:
    """A login that is right: whose it is, and the older session that has to go first, if any."""

    client: Client
    replaces: Session | None


def judge_login(roster: Roster, session: Session, *, relogin_after: float) -> Admission | Refused:
    """Decide on a login; `relogin_after` is how old (seconds) a session must be to be replaced."""
    if any(not "!" <= letter <= "~" and letter != "\x7f" for letter in session.user) or not session.user:
        return Refused("bad username")
    client = roster.named(session.listener_port, session.user)
    if client is None:
        return Refused("Unknown Client")
    if client.marks:
        return Refused("client disabled")
    if client.record.password != session.password:
        client.failed_logins += 1
        return Refused("login failed")
    older = client.session
    if older is not None and (session.since - older.since <= relogin_after or older.address != session.address):
        client.failed_logins += 1
        if session.since - older.since > relogin_after:
            older.close()
        return Refused("just connected")
    return Admission(client, older)
