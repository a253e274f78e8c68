"""What a person on call has to know of: what waits for a person, and what is late and goes on by itself."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from pydantic import AwareDatetime, Field

from starter.client import Twinline
from starter.explain import meaning
from twinline.ledger import Ledger
from twinline.ledger.stuck import AskingHost, LateHost, StuckHalf, asking_hosts, late_hosts, require_host, stuck_halves
from twinline.messages import Message, health_workflow_id
from twinline.ui import Page

OTHERS_AT_MOST: Final = 1000


class OtherWorkflow(Message):
    """A workflow that waits for a person although the ledger does not say so."""

    workflow_id: str
    reason: str


class Untaken(Message):
    """Orders that stand in Temporal and that no worker has taken up; the first of them tells since when."""

    orders: int
    since: AwareDatetime | None
    workers: bool
    """Whether a worker takes orders, or did so a moment ago."""


class RunningWorkflow(Message):
    """A workflow that goes on, and its page in Temporal's web interface where it is known where that is."""

    workflow_id: str
    temporal_ui: str | None = Field(default=None, exclude_if=lambda page: page is None)


class Explained(Message):
    """What a code means, and what to do about it."""

    code: str
    meaning: str
    hint: str


class StuckList(Message):
    """What waits: `halves`, `hosts` and `others` for a person; `late` and `untaken` go on by themselves."""

    halves: tuple[StuckHalf, ...]
    hosts: tuple[AskingHost, ...]
    others: tuple[OtherWorkflow, ...]
    late: tuple[LateHost, ...]
    untaken: Untaken | None
    """None where nothing waits for a worker."""
    temporal: Literal["ok", "not asked", "does not answer"] = "not asked"
    """Without it `others` and `untaken` are empty; who asks for one host or one line needs it not."""
    explained: tuple[Explained, ...]
    links: dict[str, str] = Field(default={}, exclude_if=lambda links: not links)
    """By workflow id, its page in Temporal's web interface; left out where nobody told where that is."""

    @property
    def asks(self) -> bool:
        """Whether anything waits for a person."""
        return bool(self.halves or self.hosts or self.others)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to be told."""
        return not self.asks and not self.late and self.untaken is None


async def what_waits(
    ledger: Ledger, *, now: datetime, grace: timedelta, host: str | None = None, line: str | None = None, limit: int
) -> StuckList:
    """What the ledger knows to wait; halves are late after `grace`, or at once where their host is down.

    Raises UnknownHost, Unavailable.
    """
    async with ledger.read() as tx:
        if host is not None:
            await require_host(tx, host)
        halves = await stuck_halves(tx, host=host, username=line, limit=limit)
        hosts = () if line else await asking_hosts(tx, host=host)
        late = await late_hosts(tx, before=now - grace, host=host, username=line, limit=limit)
    return _explained(StuckList(halves=halves, hosts=hosts, others=(), late=late, untaken=None, explained=()))


async def with_temporal(found: StuckList, twinline: Twinline, *, now: datetime, grace: timedelta) -> StuckList:
    """The same with what only Temporal knows; raises Unavailable."""
    known = set(workflows_of(found.halves))
    # Who watches a host asks for what the host is listed with.
    told = {each.host for each in found.hosts} | {half.host for half in found.halves if half.of_the_host}
    known |= {health_workflow_id(host) for host in told}
    asking = await twinline.waiting_for_a_person(limit=OTHERS_AT_MOST)
    others = tuple(
        OtherWorkflow(workflow_id=workflow_id, reason=reason)
        for workflow_id, reason in asking
        if workflow_id not in known
    )
    orders, since = await twinline.untaken_orders(before=now - grace)
    workers = await twinline.workers_poll()
    untaken = Untaken(orders=orders, since=since, workers=workers) if orders or not workers else None
    return _explained(found.model_copy(update={"others": others, "untaken": untaken, "temporal": "ok"}))


def with_links(found: StuckList, page: Page | None) -> StuckList:
    """The same with links to all workflows in it."""
    if page is None:
        return found
    ids = [*workflows_of(found.halves), *(other.workflow_id for other in found.others)]
    for late in found.late:
        ids += [*(order.workflow_id for order in late.orders), *late.terms]
    return found.model_copy(update={"links": {workflow_id: page(workflow_id) for workflow_id in dict.fromkeys(ids)}})


def linked(workflow_ids: Sequence[str], page: Page | None) -> tuple[RunningWorkflow, ...]:
    """Workflows with their pages."""
    return tuple(
        RunningWorkflow(workflow_id=each, temporal_ui=None if page is None else page(each)) for each in workflow_ids
    )


def workflows_of(halves: Sequence[StuckHalf]) -> Iterator[str]:
    """The workflows that wait for these halves, some of them more than once."""
    for half in halves:
        yield from (order.workflow_id for order in half.orders)
        yield from half.terms


def _explained(found: StuckList) -> StuckList:
    codes = dict.fromkeys(each.reason for each in (*found.halves, *found.hosts, *found.others, *found.late))
    meanings = [(code, meaning(code)) for code in codes if code]
    explained = tuple(Explained(code=code, meaning=known.sentence, hint=known.hint) for code, known in meanings)
    return found.model_copy(update={"explained": explained})
