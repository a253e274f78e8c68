"""What those who watch over the house are told of it, in numbers."""

from tests.ledger.support import DAY, HOUR, Desk
from twinline.ledger import mails
from twinline.ledger.standing import HostStanding, PairStanding, Standing, standing
from twinline.messages import MailKind, MailState

MULTICS, OSCAM = "mc-eu1", "os-eu1"


async def now(desk: Desk) -> Standing:
    async with desk.ledger.read() as tx:
        return await standing(tx, now=desk.now)


async def test_a_quiet_house(desk: Desk) -> None:
    found = await now(desk)
    up = [HostStanding(host=host, state="up", reason="", waiting=0, oldest=None, stuck=0) for host in (MULTICS, OSCAM)]
    assert found.hosts == tuple(up)
    assert found.pairs == (PairStanding(pair="eu1", lines=0, capacity=1000),)
    assert (found.mails_waiting, found.oldest_mail, found.grants_overdue, found.oldest_overdue) == (0, None, 0, None)


async def test_what_waits_is_counted_by_host_with_the_oldest_and_the_reason(desk: Desk) -> None:
    begun = desk.now
    ann = await desk.trial("ann@example.com")
    desk.now += HOUR
    bob = await desk.trial("bob@example.com")
    await desk.prove(MULTICS)
    multics, oscam = (await now(desk)).hosts
    assert (multics.state, multics.waiting, multics.oldest) == ("up", 0, None)
    assert (oscam.state, oscam.waiting, oscam.oldest, oscam.stuck) == ("up", 2, begun, 0)

    await desk.fail(OSCAM, ann.line_id, code="HostUnreachable", host_down=True)
    _, oscam = (await now(desk)).hosts
    assert (oscam.state, oscam.reason, oscam.stuck) == ("down", "HostUnreachable", 0)
    await desk.fail(OSCAM, ann.line_id, code="HostKeyMismatch", host_down=True, host_asks=True)
    _, oscam = (await now(desk)).hosts
    assert (oscam.state, oscam.reason, oscam.stuck) == ("stopped", "HostKeyMismatch", 2)
    await desk.prove(OSCAM)
    assert [host.state for host in (await now(desk)).hosts] == ["up", "up"]

    await desk.renew(bob.username)
    await desk.stop(OSCAM, bob.line_id, revision=2)
    _, oscam = (await now(desk)).hosts
    assert (oscam.state, oscam.reason, oscam.waiting, oscam.stuck) == ("degraded", "RecordConflict", 1, 1)
    assert (await now(desk)).pairs[0].lines == 2


async def test_mails_that_no_server_took_and_grants_past_their_end_are_told(desk: Desk) -> None:
    ann = await desk.trial()
    async with desk.ledger.write() as tx:
        stored = await mails.store_mail(
            tx, ann.line_id, kind=MailKind.CREDENTIALS, ref="x", message_id="<x@y>", body=b"hello", now=desk.now
        )
    assert stored is not None
    for state, waits in ((MailState.STORED, 1), (MailState.UNKNOWN, 1), (MailState.REFUSED, 0)):
        async with desk.ledger.write() as tx:
            await mails.record_handover(tx, stored.mail_id, state=state, now=desk.now, error=None)
        found = await now(desk)
        assert (found.mails_waiting, found.oldest_mail) == (waits, desk.now if waits else None)
    desk.now += 3 * DAY
    found = await now(desk)
    assert (found.grants_overdue, found.oldest_overdue) == (1, desk.now - DAY)
    await desk.end(ann)
    assert (await now(desk)).grants_overdue == 0
