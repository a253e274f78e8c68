"""The ledger of more than one machine: a PostgreSQL database, whose writers work side by side.

They read what others have committed (READ COMMITTED) and rely on what they have locked. To wait for nobody in a
circle, everybody takes locks in the same order:

1. by name (`WriteTx.alone`), for what has no row yet: an order's identity, a person, a range of addresses;
2. a host's fence: whoever changes halves of many lines on one host holds it, so each host has one such writer;
3. lines, one to a transaction that also changes their halves;
4. halves, of one line by protocol and host, of one host by line;
5. pairs by name, hosts, and what nobody else waits for.
"""

import re
from contextlib import nullcontext
from functools import partial
from typing import Final

import psycopg
from sqlalchemy import text
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.event import listen
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from twinline.errors import Misconfigured, TwinlineError, Unavailable
from twinline.ledger.database import Database
from twinline.ledger.faults import away, lacks_tables, taken

OLDEST: Final = 14
TELL_OF_PERSONS: Final = ("line", "half", "block", "mail", "trial", '"order"', "bulk_item", "trial_request")
"""Tables with what an erasure takes out."""
_CONNECTIONS: Final = 10
"""Of one process; a server takes a hundred unless told otherwise."""
_CONNECT_SECONDS: Final = 10
_IDLE_SECONDS: Final = 60
"""After which the server undoes the transaction of a client that has gone without a goodbye, and frees its locks."""

# SQLSTATE codes and their classes (PostgreSQL manual, appendix A) that pass, or that somebody can repair meanwhile.
_PASSING: Final = {
    "40001": "was changed by somebody else at the same moment",
    "40P01": "was changed by somebody else at the same moment",
    "55P03": "is locked by another process",
    "57014": "is locked by another process",
    "53100": "has no space left on its disk",
    "53300": "takes no more connections",
    "25006": "is read-only",
    "25P03": "has undone what stood still for too long",
    "42501": "does not let our user do that",
    "28": "refuses our user or password",
    "08": "does not answer",
    "53": "lacks resources",
    "57P": "is shutting down or starting up",
    "58": "has an error of its system",
    "XX": "is damaged",
}
_TAKEN: Final = "23505"
_NO_TABLE: Final = frozenset({"42P01", "42703"})

# A connection that was refused has no SQLSTATE, only the server's words (in English, or they tell us nothing).
_REFUSALS: Final = (
    (re.compile("password authentication failed|no password supplied"), "refuses our user or password"),
    (re.compile('role ".*" does not exist'), "does not know our user"),
    (re.compile("no pg_hba.conf entry"), "does not let us in from this machine (pg_hba.conf)"),
    (re.compile('database ".*" does not exist'), "has no database of that name"),
)


def open_postgresql(url: URL, *, patience: float) -> Database:
    """Prepare connections; none is opened yet. `patience` seconds a writer waits for another."""
    engine = create_async_engine(
        url.set(drivername="postgresql+psycopg").difference_update_query(["options"]),
        # Parameters are names, addresses and sealed secrets; an error text must not carry them.
        hide_parameters=True,
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=max(patience, 1.0),
        # A server that was restarted is noticed before an order is.
        pool_pre_ping=True,
        connect_args=_arguments(url, patience),
    )
    listen(engine.sync_engine, "handle_error", _hide_values)
    listen(engine.sync_engine, "handle_error", _give_up_what_fails_at_once)
    return Database(
        reader=engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True),
        writer=engine.execution_options(isolation_level="READ COMMITTED"),
        turn=nullcontext,
        check=_check,
        forget=partial(_forget, engine),
        driver_errors=(DBAPIError, PoolTimeout, psycopg.Error),
        translated=_translated,
    )


def _arguments(url: URL, patience: float) -> dict[str, object]:
    options = url.query.get("options", "")
    settings = {
        "lock_timeout": f"{int(patience * 1000)}ms",
        "idle_in_transaction_session_timeout": f"{_IDLE_SECONDS}s",
        "TimeZone": "UTC",
    }
    ours = " ".join(f"-c {name}={value}" for name, value in settings.items())
    arguments: dict[str, object] = {"options": f"{ours} {options if isinstance(options, str) else ' '.join(options)}"}
    defaults = {
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": "twinline",
        "client_encoding": "UTF8",
        # A network that swallows packets is noticed in half a minute and not in two hours.
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
    return arguments | {name: value for name, value in defaults.items() if name not in url.query}


async def _check(connection: AsyncConnection) -> None:
    asked = "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), pg_is_in_recovery()"
    number, encoding, standby = (await connection.execute(text(asked))).one()
    if number < OLDEST * 10_000:
        raise Misconfigured(
            f"the ledger's PostgreSQL is version {number // 10_000}, and twinline needs {OLDEST} or newer",
            hint="Upgrade the server, or move the ledger to a newer one with pg_dump.",
        )
    if encoding != "UTF8":
        raise Misconfigured(
            f"the ledger's database is encoded in {encoding}",
            hint="Make one with `createdb --encoding=UTF8 --template=template0`.",
        )
    if standby:
        raise Misconfigured(
            "the ledger's PostgreSQL is a standby, which takes no orders",
            hint="Let TWINLINE_DATABASE_URL name the primary, or add target_session_attrs=read-write to it.",
        )


async def _forget(engine: AsyncEngine) -> bool:
    """Write the tables anew: without this older rows stay in free space of their pages, even after a plain VACUUM."""
    try:
        async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            await connection.execute(text(f"VACUUM FULL {', '.join(TELL_OF_PERSONS)}"))
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            return False
        raise
    return True


def _hide_values(context: ExceptionContext) -> None:
    """Leave the first line of what the server said: the others quote rows."""
    origin = context.original_exception
    if isinstance(origin, psycopg.Error) and origin.args:
        short = str(origin.args[0]).partition("\n")[0]
        whole, origin.args = str(origin.args[0]), (short, *origin.args[1:])
        wrapped = context.sqlalchemy_exception
        if wrapped is not None and wrapped.args:
            wrapped.args = (str(wrapped.args[0]).replace(whole, short), *wrapped.args[1:])


def _give_up_what_fails_at_once(context: ExceptionContext) -> None:
    """Take a new connection, whatever is wrong with one that the pool has kept.

    A task that was cancelled may leave one in the middle of a statement, which the driver calls our mistake.
    """
    if context.is_pre_ping:
        context.is_disconnect = True


def _translated(error: Exception) -> TwinlineError | None:
    origin = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(origin, psycopg.Error):
        return away() if isinstance(error, PoolTimeout) else None
    state = origin.sqlstate
    if state is None:
        # No statement came to the server, or no answer from it.
        return _not_connected(str(origin)) if isinstance(origin, psycopg.OperationalError) else None
    if state == _TAKEN:
        return taken()
    if state in _NO_TABLE:
        return lacks_tables()
    said = next((_PASSING[part] for part in (state, state[:3], state[:2]) if part in _PASSING), None)
    return None if said is None else _passing(said)


def _passing(said: str) -> Unavailable:
    return Unavailable(f"the ledger's database {said}", hint="Check PostgreSQL; the same order can be repeated then.")


def _not_connected(said: str) -> Unavailable:
    # The server's own words are not repeated: they name users, addresses and files.
    for words, meaning in _REFUSALS:
        if words.search(said):
            hint = "Check the user, password and database in TWINLINE_DATABASE_URL, and pg_hba.conf of the server."
            return Unavailable(f"the ledger's database {meaning}", hint=hint)
    return Unavailable(
        "the ledger's database does not answer",
        hint="See that PostgreSQL runs, and that it can be reached at the host and port of TWINLINE_DATABASE_URL.",
    )
