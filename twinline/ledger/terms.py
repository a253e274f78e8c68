"""Commands about a grant's time: starting a trial late, and carrying out a grant's end."""

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import col, delete, select

from twinline.ledger import models, rules
from twinline.ledger.lines import LineRows, Snapshot, line_by_id, note, settle
from twinline.ledger.tx import ReadTx, WriteTx
from twinline.ledger.types import utc
from twinline.messages import TRIAL_LENGTH, HalfRef, LateTrial, TermDecision, TermStart, term_workflow_id


@dataclass(frozen=True, kw_only=True)
class LateStart:
    """Whether the trial's time starts at its first proof, and what the halves must reach because of it."""

    moved: bool
    ends_at: datetime
    revision: int
    halves: tuple[HalfRef, ...]


async def start_late_trial(tx: WriteTx, late: LateTrial, *, now: datetime) -> LateStart:
    """Let a trial's 48 hours start at its first proof, once; never to an earlier end. Raises UnknownLine.

    Nothing moves when the grant is no trial, has ended, or is no longer the line's last: then its end decides
    nothing. A repeat tells that the trial was moved, with the line's revision by then.
    """
    rows = await line_by_id(tx, late.line_id)
    grant = rows.grant(late.grant_id)
    start_with_proof(tx, rows, grant, proven_at=late.proven_at, now=now, who="trial")
    return LateStart(
        moved=grant.started_late_at is not None,
        ends_at=grant.ends_at,
        revision=rows.line.revision,
        halves=rows.half_refs(),
    )


def start_with_proof(
    tx: WriteTx, rows: LineRows, grant: models.Grant, *, proven_at: datetime, now: datetime, who: str
) -> None:
    """Let this grant, if it is a trial that may, count from its first proof."""
    if grant.started_late_at is not None or not _may_start_late(rows, grant, proven_at):
        return
    before = rows.snapshot()
    grant.started_late_at = utc(now)
    grant.starts_at = utc(proven_at)
    grant.ends_at = grant.starts_at + TRIAL_LENGTH
    settle(rows, now=utc(now))
    _note(tx, rows, grant, now=now, who=who, what="grant.started_late", before=before)


def _may_start_late(rows: LineRows, grant: models.Grant, proven_at: datetime) -> bool:
    return (
        grant.plan == "trial"
        and grant.ended_at is None
        and rows.line.closed_at is None
        and rows.last_grant is grant
        and proven_at + TRIAL_LENGTH > grant.ends_at
    )


async def overdue(tx: ReadTx, host: str, *, now: datetime, limit: int) -> tuple[TermStart, ...]:
    """Grants of lines on this host whose end has come and was not carried out, the oldest first."""
    grant = models.Grant
    query = select(grant).join(models.Half, col(models.Half.line_id) == grant.line_id)
    query = query.where(models.Half.host == host, col(grant.ended_at).is_(None), grant.ends_at <= utc(now))
    found = await tx.session.exec(query.order_by(col(grant.ends_at), col(grant.id)).limit(limit))
    return tuple(TermStart(line_id=each.line_id, grant_id=each.id, ends_at=each.ends_at) for each in found)


async def end_grant(tx: WriteTx, term: TermStart, *, now: datetime, who: str = "term") -> TermDecision:
    """Carry out a grant's end, if it has come and no other grant outlives it. Raises UnknownLine.

    A trial whose customer never had the credentials by then does not count. What was decided once is the answer for
    ever; only "later" may be followed by another.
    """
    rows = await line_by_id(tx, term.line_id)
    grant = rows.grant(term.grant_id)
    if grant.ending is None:
        outcome = rules.decide_term(now=now, ends_at=grant.ends_at, other_ends=[other.ends_at for other in rows.grants])
        if outcome == "later":
            return TermDecision(outcome="later", ends_at=grant.ends_at)
        before = rows.snapshot()
        ending: models.GrantEnding = "unserved" if outcome == "ended" and rows.untold else outcome
        _end(rows, grant, ending, now=utc(now))
        if ending == "unserved":
            await _give_trial_back(tx, rows)
        _note(tx, rows, grant, now=now, who=who, what=f"grant.{ending}", before=before)
    if grant.ending in ("overtaken", "cancelled"):
        return TermDecision(outcome=grant.ending, ends_at=grant.ends_at)
    return TermDecision(
        outcome="ended", ends_at=grant.ends_at, revision=grant.ended_revision or 0, halves=rows.half_refs()
    )


async def _give_trial_back(tx: WriteTx, rows: LineRows) -> None:
    """Let the line's person have a trial again: of this one nothing was to be had."""
    trial = models.Trial
    mine = col(trial.order_id).in_([grant.order_id for grant in rows.grants])
    await tx.session.exec(delete(trial).where(col(trial.person_hash) == rows.line.person_hash, mine))


def _end(rows: LineRows, grant: models.Grant, ending: models.GrantEnding, *, now: datetime) -> None:
    grant.ended_at, grant.ending = now, ending
    if ending != "overtaken":
        # The last grant takes the earlier ones along: left open, one whose Term is late would keep the line up.
        for other in rows.open_grants:
            other.ended_at, other.ending = now, "overtaken"
    settle(rows, now=now)
    grant.ended_revision = rows.line.revision


def _note(
    tx: WriteTx, rows: LineRows, grant: models.Grant, *, now: datetime, who: str, what: str, before: Snapshot
) -> None:
    note(
        tx,
        at=utc(now),
        who=who,
        what=what,
        why=term_workflow_id(rows.line.id, grant.id),
        line_id=rows.line.id,
        before=before,
        after=rows.snapshot(),
    )
