"""Bulk runs from a program that has a token of the HTTP API.

What rows ask for stands sealed in the ledger and in no payload of Temporal, and a storefront has no ledger: so a run
goes through the API, and not through Temporal as single orders do.
"""

import asyncio
import contextlib
import http.client
import ipaddress
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlencode, urlsplit

from pydantic import Field, ValidationError

from starter.bulk_asked import BlockOptions, ExtendRun, ImportOptions
from starter.invalid import BadRows
from twinline.bulk import BulkKind, BulkPage, BulkPlan, BulkView, ItemPage, ItemView, RowProblem, RunState, Standing
from twinline.errors import (
    ORDER_ERRORS,
    InvalidOrder,
    InvalidRows,
    InvalidToken,
    Misconfigured,
    ScopeMissing,
    TooManyRequests,
    TwinlineError,
    Unavailable,
    UnknownBulk,
)
from twinline.messages import Message
from twinline.tokens import parse_token

LONGEST_WAIT: Final = timedelta(seconds=60)
"""The API waits no longer for the end of a run."""
_ANSWER_WITHIN: Final = 120.0
"""Seconds, on top of what the API was asked to wait: it looks at every row first."""
_ITEMS_A_PAGE: Final = 1000
_RUNS_A_PAGE: Final = 20
"""Of each run all items are counted."""
_RUN: Final = re.compile(r"[A-Za-z0-9._:-]{1,48}", re.ASCII)
_PATHS: Final = {BulkKind.BLOCK: "blocks", BulkKind.EXTEND: "extensions", BulkKind.IMPORT: "imports"}
_ERRORS: Final = {
    **ORDER_ERRORS,
    **{error.__name__: error for error in (InvalidRows, InvalidToken, ScopeMissing, UnknownBulk)},
}

Answer = TypeVar("Answer", bound=Message)
Page = TypeVar("Page", BulkPage, ItemPage)


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    retry_after: str


class BlockRow(Message):
    """One line to block."""

    line: str
    """A username or line id."""
    reason: str | None = None
    owner: str | None = None


class ImportRow(Message):
    """One line to take over; where it says neither region nor pair, the run does."""

    username: str
    password: str = Field(repr=False)
    email: str = Field(repr=False)
    ends_at: str
    """A moment with its zone."""
    region: str | None = None
    pair: str | None = None


class BlockRun(BlockOptions):
    """Block lines, each with the reason and owner of its row."""

    rows: tuple[BlockRow, ...]


class ImportRun(ImportOptions):
    """Take lines over from another system, each with its username, password, address and end."""

    rows: tuple[ImportRow, ...]


AnyRun = BlockRun | ExtendRun | ImportRun


@dataclass(frozen=True)
class BulkRuns:
    """Begins and watches bulk runs of the token's caller, at the API that `url` names (`https://api.example.net`).

    The same run again is the same one: calling again is always safe. All raise Unavailable (the API does not answer),
    InvalidToken, ScopeMissing and TooManyRequests. A token is sent in the clear to this machine alone.
    """

    url: str
    token: str = field(repr=False)

    async def plan(self, run: AnyRun) -> BulkPlan:
        """Tell what a run would do, and change nothing.

        Raises OrderConflict, UnknownRegion, UnknownPair, InvalidRows (none, or too many), InvalidOrder.
        """
        return await self._ask(BulkPlan, "POST", f"{_PATHS[run.kind]}/dry-run", _body(run))

    async def begin(self, run: AnyRun, *, patience: timedelta = timedelta(0)) -> BulkView:
        """Begin a run and wait at most `patience` (a minute at most) for its end; gives how it stands by then.

        Raises as `plan` does, and BadRows for rows that can't be carried out unless they are to be skipped.
        """
        return await self._ask(BulkView, "POST", _PATHS[run.kind], _body(run), patience=patience)

    async def list(self, *, kind: BulkKind | None = None, state: RunState | None = None) -> AsyncIterator[BulkView]:
        """The caller's runs, the newest first."""
        wanted = {name: value for name, value in (("kind", kind), ("state", state)) if value is not None}
        async for page in self._pages(BulkPage, "runs", wanted, limit=_RUNS_A_PAGE):
            for run in page.runs:
                yield run

    async def show(self, run: str) -> BulkView:
        """How a run stands; raises UnknownBulk."""
        return await self._ask(BulkView, "GET", _run(run))

    async def items(self, run: str, *, state: Standing | None = None) -> AsyncIterator[ItemView]:
        """What became of each item, by number; raises UnknownBulk."""
        wanted = {} if state is None else {"state": state}
        async for page in self._pages(ItemPage, f"{_run(run)}/items", wanted, limit=_ITEMS_A_PAGE):
            for item in page.items:
                yield item

    async def cancel(self, run: str) -> BulkView:
        """Order nothing more of a run; what was ordered goes on. Raises UnknownBulk."""
        return await self._ask(BulkView, "POST", f"{_run(run)}/cancel")

    async def resume(self, run: str, *, patience: timedelta = timedelta(0)) -> BulkView:
        """Go on with a run that was stopped, and try again what may pass by now; raises UnknownBulk."""
        return await self._ask(BulkView, "POST", f"{_run(run)}/resume", patience=patience)

    async def _pages(
        self, model: type[Page], path: str, wanted: Mapping[str, str], *, limit: int
    ) -> AsyncIterator[Page]:
        cursor: str | None = None
        while True:
            query = {**wanted, "limit": str(limit)} | ({} if cursor is None else {"cursor": cursor})
            yield (page := await self._ask(model, "GET", f"{path}?{urlencode(query)}"))
            if (cursor := page.cursor) is None:
                return

    async def _ask(
        self,
        model: type[Answer],
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        patience: timedelta | None = None,
    ) -> Answer:
        wait = 0 if patience is None else int(min(patience, LONGEST_WAIT).total_seconds())
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        headers |= {} if body is None else {"Content-Type": "application/json"}
        headers |= {} if patience is None else {"Prefer": f"wait={wait}"}
        if parse_token(self.token) is None:
            raise InvalidToken("this is no token of the API", hint="Give one as `twinline token create` shows it.")
        answer = await asyncio.to_thread(self._send, method, path, body, headers, wait + _ANSWER_WITHIN)
        if answer.status not in (200, 201, 202):
            raise _refusal(answer)
        try:
            return model.model_validate_json(answer.body)
        except ValidationError:
            raise _not_ours(answer) from None

    def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float) -> _Answer:
        connection, base = self._connection(timeout)
        with contextlib.closing(connection):
            try:
                connection.request(method, f"{base}/v1/bulk/{path}", body, headers)
                response = connection.getresponse()
                return _Answer(response.status, response.read(), response.headers.get("retry-after", ""))
            except (OSError, http.client.HTTPException) as error:
                raise _unavailable(type(error).__name__) from None

    def _connection(self, timeout: float) -> tuple[http.client.HTTPConnection, str]:
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise _bad_url() from None
        if parts.scheme == "https" and host:
            return http.client.HTTPSConnection(host, port, timeout=timeout), parts.path.rstrip("/")
        if parts.scheme == "http" and _is_loopback(host):
            return http.client.HTTPConnection(host, port, timeout=timeout), parts.path.rstrip("/")
        raise _bad_url()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bad_url() -> Misconfigured:
    return Misconfigured(
        "the address of the API can't be used", hint="Give one with https, such as https://api.example.net."
    )


def _run(run: str) -> str:
    if not _RUN.fullmatch(run):
        raise UnknownBulk("there is no such bulk run", hint="Check the id: none of that form is ever taken.")
    return f"runs/{run}"


def _body(run: AnyRun) -> bytes:
    return run.model_dump_json(exclude_none=True).encode()


def _refusal(answer: _Answer) -> TwinlineError:
    try:
        problem: object = json.loads(answer.body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        return _not_ours(answer)
    told = cast("Mapping[str, Any]", problem)
    name = str(told.get("type", "")).rpartition("/")[2]
    message, hint = str(told.get("detail", "")), str(told.get("hint", ""))
    if name == InvalidRows.__name__ and told.get("rows"):
        return BadRows([RowProblem.model_validate(row) for row in told["rows"]], message=message, hint=hint)
    if name == TooManyRequests.__name__:
        wait = int(answer.retry_after) if answer.retry_after.isdecimal() else 60
        return TooManyRequests(message, hint=hint, wait=timedelta(seconds=wait))
    if (kind := _ERRORS.get(name)) is not None:
        return kind(message, hint=hint)
    return InvalidOrder(message, hint=hint) if 400 <= answer.status < 500 else _not_ours(answer)


def _not_ours(answer: _Answer) -> Unavailable:
    return _unavailable(f"its answer ({answer.status}) is none that can be used")


def _unavailable(what: str) -> Unavailable:
    return Unavailable(f"the API does not answer: {what}", hint="Nothing is lost: ask again, with the same run id.")
