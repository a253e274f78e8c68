"""Has a customer's lines erased and tells how far that is."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import ValidationError

from starter.cli.context import CONNECT_PATIENCE, Context
from starter.cli.placing import Waiting
from starter.cli.render import Exit, out, show_json
from starter.cli.watching import shown_while
from starter.client import Twinline
from starter.explain import meaning
from twinline.errors import InvalidOrder, Unavailable, UnknownHalf, UnknownLine
from twinline.ledger import Ledger
from twinline.ledger.erasure import (
    OfPerson,
    forget_items,
    hosts_of,
    line_named,
    lineless_items,
    lines_of_person,
    refuse_unready,
)
from twinline.ledger.tx import ReadTx
from twinline.mail import AddressError, normalise_person, parse_address
from twinline.messages import EraseTask, Message, erase_workflow_id
from twinline.problems import bounded

LOOKS_AT_LEDGER: Final = 50
BETWEEN_LOOKS: Final = 0.2
"""Seconds: somebody who reads keeps a write-ahead log from beginning anew."""


class HostLeft(Message):
    """A host that was not seen to hold nothing of the line yet, and what keeps it."""

    host: str
    attempts: int
    last_error: str | None


class Erasure(Message):
    """How far the erasure of one line is; `line` is its id, which is all that stays."""

    line: str
    done: bool
    hosts: tuple[str, ...]
    gone: tuple[str, ...] = ()
    """Those that somebody answers for, because nobody can look there any more."""
    left: tuple[HostLeft, ...]
    workflow_id: str


class Erasures(Message):
    """What `erase --json` prints."""

    lines: tuple[Erasure, ...]
    items: int = 0
    """Rows of bulk runs that held something of the customer and belonged to no line; they are forgotten."""


async def erase(who: str, waiting: Waiting, *, gone: Sequence[str], caller: str, as_json: bool) -> int:
    """Have the lines erased that are meant, and show how far that is; raises TwinlineError."""
    _check(caller)
    context = Context.load()
    patience = waiting.patience(context.settings.grace)
    async with context.ledger() as ledger:
        found = await _find(ledger, who)
        lines = [line.line_id for line in found]
        async with ledger.read() as tx:
            await _check_hosts(tx, found, gone)
            # All or none: who is refused must not find half of it done.
            for line in found:
                if not line.erased:
                    await refuse_unready(tx, line.line_id)
        items = await _forget_items(ledger, who, lines, actor=caller)
    todo = [line for line in found if not line.erased]
    done = [_done(line.line_id, ()) for line in found if line.erased]
    if todo:
        twinline = Twinline(await context.temporal(patience=CONNECT_PATIENCE))
        async with shown_while("waiting until each host is seen to hold nothing of it", quiet=as_json):
            done += await asyncio.gather(*(_erase(twinline, line.line_id, gone, caller, patience) for line in todo))
    _show(Erasures(lines=tuple(done), items=items), again=not todo, as_json=as_json)
    return Exit.DONE if all(one.done for one in done) else Exit.GOING_ON


def _check(caller: str) -> None:
    try:
        EraseTask(line_id="", actor=caller)
    except ValidationError:
        raise InvalidOrder("--caller is not a name", hint="1 to 32 of a-z, 0-9, dot, hyphen and underscore.") from None


async def _check_hosts(tx: ReadTx, lines: Sequence[OfPerson], gone: Sequence[str]) -> None:
    known = {host for line in lines if not line.erased for host in await hosts_of(tx, line.line_id)}
    for host in gone:
        if host not in known:
            raise UnknownHalf(
                f"no line that is to be erased was ever on a host {bounded(host)}",
                hint=f"They were on: {_listed(sorted(known)) or 'none'}.",
            )


async def _find(ledger: Ledger, who: str) -> Sequence[OfPerson]:
    person = _person(who)
    async with ledger.read() as tx:
        if person is None:
            return [await line_named(tx, who)]
        try:
            return await lines_of_person(tx, person)
        except UnknownLine:
            if await lineless_items(tx, person) == 0:
                raise
            return ()


def _person(who: str) -> str | None:
    if "@" not in who:
        return None
    try:
        return normalise_person(parse_address(who))
    except AddressError as error:
        raise InvalidOrder(str(error), hint="Give a username, or one plain mail address.") from None


async def _forget_items(ledger: Ledger, who: str, lines: Collection[str], *, actor: str) -> int:
    """Forget what was to be imported of a customer who has no line of it yet: no host and no history has it."""
    if (person := _person(who)) is None:
        return 0
    async with ledger.write() as tx:
        count = await forget_items(tx, person, known=lines, actor=actor, now=datetime.now(UTC))
    if count:
        await _forget_deleted(ledger)
    return count


async def _forget_deleted(ledger: Ledger) -> None:
    for looks_left in reversed(range(LOOKS_AT_LEDGER)):
        try:
            await ledger.forget_deleted()
        except Unavailable:
            if not looks_left:
                raise
            await asyncio.sleep(BETWEEN_LOOKS)
        else:
            return


async def _erase(twinline: Twinline, line_id: str, gone: Sequence[str], caller: str, patience: timedelta) -> Erasure:
    status = await twinline.erase(line_id, gone=gone, actor=caller, patience=patience)
    hosts = () if status is None else status.hosts
    if status is not None and status.done:
        return _done(line_id, status.empty, gone=status.gone)
    workflow_id = erase_workflow_id(line_id)
    tried = {step.step: step for step in await twinline.waits_for(workflow_id)}
    left = [host for host in hosts if status is not None and host not in (*status.empty, *status.gone)]
    return Erasure(
        line=line_id,
        done=False,
        hosts=hosts,
        left=tuple(
            HostLeft(host=host, attempts=tried[host].attempts, last_error=tried[host].last_error)
            if host in tried
            else HostLeft(host=host, attempts=0, last_error=None)
            for host in left
        ),
        workflow_id=workflow_id,
    )


def _done(line_id: str, empty: tuple[str, ...], *, gone: tuple[str, ...] = ()) -> Erasure:
    workflow_id = erase_workflow_id(line_id)
    hosts = tuple(sorted((*empty, *gone)))
    return Erasure(line=line_id, done=True, hosts=hosts, gone=gone, left=(), workflow_id=workflow_id)


def _show(done: Erasures, *, again: bool, as_json: bool) -> None:
    if as_json:
        show_json(done)
        return
    if done.items:
        rows = "1 row of a bulk run" if done.items == 1 else f"{done.items} rows of bulk runs"
        out().print(f"What {rows} held of this customer is forgotten, and never ordered.", soft_wrap=True)
    for one in done.lines:
        for sentence in _sentences(one, again=again):
            out().print(sentence, soft_wrap=True)


def _sentences(one: Erasure, *, again: bool) -> Sequence[str]:
    if again:
        return [f"Line {one.line} was erased before."]
    if one.done:
        seen = [host for host in one.hosts if host not in one.gone]
        held = f"{_listed(seen)} {'holds' if len(seen) == 1 else 'hold'} nothing of it" if seen else ""
        unseen = f"nobody looked at {_listed(one.gone)}" if one.gone else ""
        hosts = ", ".join(part for part in (held, unseen) if part)
        return [f"Line {one.line} is erased: {hosts}, and its histories are deleted."]
    if not one.hosts:
        return ["No worker has taken it up yet; it goes on by itself once `twinline worker` runs."]
    if not one.left:
        return [f"Line {one.line} is being erased: no host holds it; its histories are being deleted."]
    return [
        f"Line {one.line} is being erased, and waits until {_listed([left.host for left in one.left])} "
        f"{'is' if len(one.left) == 1 else 'are'} seen to hold nothing of it.",
        *(
            f"  {left.host}: {meaning(left.last_error).sentence}; {meaning(left.last_error).hint}"
            for left in one.left
            if left.last_error is not None
        ),
        "  A host whose disk is destroyed or wiped need not be waited for: --host-is-gone HOST.",
    ]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)
