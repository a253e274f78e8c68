"""What must hold of a twinline at rest: with all faults taken away, and all that waited for a retry tried again."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from typing import Final

from sqlmodel import col, select
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ListClosedWorkflowExecutionsRequest, ListOpenWorkflowExecutionsRequest
from temporalio.service import RPCError

from tests.whole.clock import ServerHangs
from tests.whole.house import FIRST
from tests.whole.picture import Broken, Line, Picture, identity
from tests.whole.world import World
from twinline.ledger import models
from twinline.ledger.lines import password_of
from twinline.mail import SHOWS_CREDENTIALS
from twinline.messages import REMINDERS, MailKind, MoveOrder, Order, order_workflow_id

SLACK: Final = timedelta(seconds=30)
NEXT_LOOKS: Final = timedelta(minutes=11)
"""After which everything that waits for a retry was tried again: orders every ten minutes, mails too."""
HEARD: Final = 30.0
"""Seconds of real time in which a caller hears of the end of an order; not a measure of speed."""
HOUR: Final = timedelta(hours=1)


async def rest(world: World, *, dead: str | None = None) -> None:
    """Take all faults away, but for one host that stays dead: everything else comes to be as it should be."""
    house = world.house
    house.lapses.ahead.clear()
    house.mails.heal()
    for box in house.boxes.values():
        if box.name != dead:
            box.heal()
    if dead is not None:
        house.boxes[dead].down = True
        house.boxes[dead].wake()
    await house.start("orders")
    await house.start("hosts")
    await house.clock.pass_time(NEXT_LOOKS)
    for box in house.boxes.values():
        if box.name != dead:
            done = await house.reconcile(box.name)
            if done.error is not None or (done.found is not None and done.found.behind):
                raise Broken(f"{box.name} is not brought in step: {done}")
            box.set_back = False
    # An order learns at its next look of what a Reconcile has brought about.
    await house.clock.pass_time(NEXT_LOOKS)
    if dead is None:
        await _tell_what_is_owed(world)
    await world.check()
    await _check_all(world, dead)
    _check_times(world)
    await _check_reminders(world)
    await _check_told_of_cancellations(world)
    if dead is None:
        await _check_settled(world)


async def _tell_what_is_owed(world: World) -> None:
    """The next Reconciles tell of what the ones before have brought in step, and everybody knows what there is to know.

    What a mail says is read as its customer reads it.
    """
    house = world.house
    await world.check()
    since = house.clock.now() - SLACK
    for box in house.boxes.values():
        await house.reconcile(box.name)
    await house.clock.pass_time(SLACK)
    await world.check()
    async with house.ledger.read() as tx:
        mails = list(await tx.session.exec(select(models.Mail).order_by(col(models.Mail.created_at))))
        names = {row.id: row.username for row in await tx.session.exec(select(models.Line))}
        taken_back = {row.id for row in await tx.session.exec(select(models.Order)) if row.cancelled_at is not None}
    lately = {name for at, _, name in world.changes if at > since}
    for line in world.picture.lines.values():
        mine = [mail for mail in mails if names[mail.line_id] == line.name and mail.ref not in taken_back]
        if line.name not in lately | world.doubled and line.move is None:
            _check_told(world, line, mine)


def _check_told(world: World, line: Line, mails: Sequence[models.Mail]) -> None:
    showing = [mail for mail in mails if mail.kind in SHOWS_CREDENTIALS]
    kinds = [mail.kind for mail in mails]
    if line.unserved and (showing or kinds.count(MailKind.UNSERVED) != 1):
        raise Broken(f"nobody could use {line.name}, and its customer was told {kinds}")
    if line.state != "present":
        return
    if not showing:
        raise Broken(f"{line.name} is served, and its customer has no credentials: {kinds}")
    if showing[-1].kind is MailKind.SECOND_HALF:
        world.counts["second halves told last"] += 1
    elif _text(world.body(showing[-1])).count("not ready yet, follows") == 1:
        raise Broken(f"{line.name} is served on both servers, and its customer waits for a mail about one: {kinds}")


def _text(body: bytes) -> str:
    part = message_from_bytes(body, policy=policy.default).get_body(("plain",))
    assert part is not None
    return str(part.get_content())


async def _check_all(world: World, dead: str | None) -> None:
    async with world.house.ledger.read() as tx:
        lines = list(await tx.session.exec(select(models.Line)))
        passwords = {line.username: password_of(tx.keys, line).get_secret_value() for line in lines}
    if passwords.keys() != world.picture.lines.keys():
        raise Broken(f"I7, I10: the ledger has {sorted(passwords)}, not {sorted(world.picture.lines)}")
    for box in world.house.boxes.values():
        if box.name != dead:
            for name, password in passwords.items():
                world.check_served(box, name, password, "should be" if dead is None else "(I8) should be")


def _check_times(world: World) -> None:
    """What had to happen by now has happened."""
    now = world.house.clock.now() - SLACK
    for line in world.picture.lines.values():
        for grant in line.open_grants:
            if grant.ends_at < now:
                raise Broken(f"{line.name} was to end at {grant.ends_at}, and it is {now}")
        for block in line.blocks.values():
            if block.until is not None and block.until < now and not line.closed:
                raise Broken(f"the block {block.case} of {line.name} was to end at {block.until}, and it is {now}")
        _check_first_proof(world, line.name)


def _check_first_proof(world: World, name: str) -> None:
    """A trial has its 48 hours from the moment at which the customer could use it."""
    line = world.picture.lines[name]
    (first, *rest) = line.grants.values()
    proofs = [box.first[name] for box in world.house.boxes.values() if name in box.first]
    if first.plan != "trial" or not proofs or rest or line.closed or world.disturbed or len(line.known) > 2:
        return
    late = min(proofs) - first.given_at > timedelta(seconds=120)
    if late and first.open and not first.late:
        raise Broken(f"the trial of {name} was first served at {min(proofs)}, and ends at {first.ends_at}")
    if first.late and first.ends_at > min(proofs) + timedelta(hours=48, minutes=10):
        raise Broken(f"the trial of {name} was first served at {min(proofs)}, and lasts until {first.ends_at}")


async def _check_told_of_cancellations(world: World) -> None:
    """Who had a mail about an order was told that it was cancelled, and nobody else."""
    async with world.house.ledger.read() as tx:
        mails = list(await tx.session.exec(select(models.Mail)))
        orders = list(await tx.session.exec(select(models.Order)))
    for order in orders:
        if order.identity not in world.picture.cancelled:
            continue
        ref = order.grant_id or order.id
        about = [mail for mail in mails if mail.ref.partition("/")[0] == ref]
        told = any(mail.kind is MailKind.CANCELLED for mail in about)
        before = any(mail.kind is not MailKind.CANCELLED for mail in about)
        # What was refused may have been so before or after.
        if told != before and (told or not world.refusing):
            raise Broken(f"I5: of {order.identity}, cancelled, was told: {[mail.kind for mail in about]}")


async def _check_reminders(world: World) -> None:
    """Who was served by its last grant at the time of a reminder got it, and nobody else."""
    if world.disturbed:
        return
    blocked = {name for version in world.versions for name, line in version.lines.items() if line.blocks}
    async with world.house.ledger.read() as tx:
        query = select(models.Mail).where(models.Mail.kind == MailKind.REMINDER)
        sent = {row.ref for row in await tx.session.exec(query)}
    now = world.house.clock.now() - SLACK
    for line in world.picture.lines.values():
        for grant_id, grant in line.grants.items():
            for ahead in REMINDERS["trial" if grant.plan == "trial" else "paid"]:
                moment, ref = grant.ends_at - ahead, f"{grant_id}/{ahead // HOUR}h"
                if grant.late or moment < max(grant.given_at, grant.moved_at or moment) + SLACK or moment > now:
                    continue
                then = _quiet_at(world, line.name, moment)
                if then is None:
                    continue
                before = then.lines[line.name]
                firsts = [box.first[line.name] for box in world.house.boxes.values() if line.name in box.first]
                served = bool(firsts) and min(firsts) < moment
                wanted = before.state == "present" and before.last is before.grants[grant_id] and served
                if wanted and (line.name in blocked or line.left or line.move or min(firsts) > moment - SLACK):
                    # Whether a server has proven since that it serves again is not in the picture.
                    continue
                if wanted != (ref in sent):
                    raise Broken(f"{line.name} was {'not ' if wanted else ''}reminded at {moment}")


def _quiet_at(world: World, name: str, moment: datetime) -> Picture | None:
    """The picture at that moment; None if something came to the line at about that time."""
    mine = [(at, number) for at, number, of in world.changes if of == name]
    if any(abs(at - moment) < SLACK for at, _ in mine):
        return None
    before = [number for at, number in mine if at < moment]
    return world.versions[max(before)] if before else None


async def _check_settled(world: World) -> None:
    """With everything repaired no order waits but those that wait for a moment to come."""
    for placed in world.placed:
        if placed.outcome.done():
            continue
        line = world.picture.lines.get(getattr(placed.order, "line", "") or "")
        moving = isinstance(placed.order, MoveOrder) and line is not None and line.move is not None
        if not moving:
            events = await _history(world, placed.order)
            if events[-1:] in (["WORKFLOW_EXECUTION_COMPLETED"], ["WORKFLOW_EXECUTION_FAILED"]):
                # Who waits for it hears of it a moment later.
                await asyncio.wait((placed.outcome,), timeout=HEARD)
                if placed.outcome.done():
                    continue
            if events[-1:] in (["WORKFLOW_TASK_SCHEDULED"], ["WORKFLOW_TASK_STARTED"]):
                raise ServerHangs("nobody was given a task", identity(placed.order))
            raise Broken(f"{identity(placed.order)} is not done, though nothing is in its way: {events[-12:]}")


async def _history(world: World, order: Order) -> list[str]:
    """What Temporal has noted of an order, in its own words."""
    handle = world.house.clients[FIRST].get_workflow_handle(order_workflow_id(order))
    events = [event async for event in handle.fetch_history_events()]
    return [EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in events]


async def check_secrets(world: World) -> None:
    """No password, address or name stands in what Temporal keeps."""
    async with world.house.ledger.read() as tx:
        lines = list(await tx.session.exec(select(models.Line)))
        secrets = {password_of(tx.keys, line).get_secret_value() for line in lines}
    secrets |= {
        password for box in world.house.boxes.values() for name, password in box.let_in if name not in box.others
    }
    secrets |= {line.username for line in lines} | {line.person for line in world.picture.lines.values()}
    service = world.house.clients[FIRST].workflow_service
    closed = await service.list_closed_workflow_executions(ListClosedWorkflowExecutionsRequest(namespace=FIRST))
    still_open = await service.list_open_workflow_executions(ListOpenWorkflowExecutionsRequest(namespace=FIRST))
    for each in (*closed.executions, *still_open.executions):
        found = each.execution
        for client in world.house.clients.values():
            handle = client.get_workflow_handle(found.workflow_id, run_id=found.run_id)
            with contextlib.suppress(RPCError):
                async for event in handle.fetch_history_events():
                    kept = event.SerializeToString()
                    if any(secret.encode() in kept for secret in secrets):
                        raise Broken(f"I6: a secret stands in the history of {found.workflow_id}")
                    world.counts["history events searched"] += 1
