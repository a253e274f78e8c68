"""Paths of what is no order: a grant's end with its reminders, Reconcile, a mail that is owed, and an erasure."""

from datetime import timedelta

from temporalio.client import WorkflowFailureError, WorkflowHandle

from tests.replay.paths import path
from tests.replay.paths_orders import AWAY, FOREIGN, OSCAM, SOON, asked_until_new, began, ended, late_trial, line
from tests.replay.studio import BRISK, FORGETFUL, Studio, until
from tests.workflows.house import OTHER_HOSTS
from tests.workflows.test_orders import order_id, trial
from twinline.messages import (
    ORDERS_QUEUE,
    TRIAL_LENGTH,
    CloseOrder,
    EraseStatus,
    EraseTask,
    HostGone,
    MailKind,
    MailTask,
    NameOf,
    PurchaseOrder,
    Receipt,
    Reconciled,
    ReconcileTask,
    RenewalOrder,
    TermDecision,
    erase_workflow_id,
    reconcile_workflow_id,
    tell_workflow_id,
)
from twinline.search_attributes import ATTENTION_REASON

AT_THE_END = TRIAL_LENGTH + timedelta(seconds=1)


async def _term(studio: Studio, opened: Receipt) -> str:
    """Let a line's whole term pass."""
    handle = await studio.term_of(opened)
    await studio.pass_time(handle)
    return await ended(studio, handle.id)


async def _stuck_at_the_end(studio: Studio) -> str:
    """A line has ended, and a person has to look at its OSCam half."""
    opened = await line(studio)
    handle = await studio.term_of(opened)
    studio.host(OSCAM).refuses[opened.username] = FOREIGN
    await studio.pass_time(handle, AT_THE_END)
    await until(lambda: _waits_for_a_person(handle))
    return handle.id


async def _waits_for_a_person(handle: WorkflowHandle[object, TermDecision]) -> bool:
    return (await handle.describe()).typed_search_attributes.get(ATTENTION_REASON) is not None


@path(NameOf.TERM)
async def ends_a_trial(studio: Studio) -> str:
    return await _term(studio, await line(studio))


@path(NameOf.TERM)
async def ends_paid_days(studio: Studio) -> str:
    number = order_id()
    bought = PurchaseOrder(order=number, email=f"{number}@example.org", region="eu", days=30)
    return await _term(studio, await studio.house.order(bought))


@path(NameOf.TERM)
async def ends_one_paid_day(studio: Studio) -> str:
    """Too short for any reminder."""
    number = order_id()
    bought = PurchaseOrder(order=number, email=f"{number}@example.org", region="eu", days=1)
    return await _term(studio, await studio.house.order(bought))


@path(NameOf.TERM)
async def overtaken(studio: Studio) -> str:
    """By a longer grant, of which reminders take no notice either."""
    opened = await line(studio)
    handle = await studio.term_of(opened)
    await studio.house.order(RenewalOrder(order=order_id(), line=opened.username, days=90))
    await studio.pass_time(handle)
    return await ended(studio, handle.id)


@path(NameOf.TERM, BRISK)
async def ends_later_because_the_trial_began_late(studio: Studio) -> str:
    order = await late_trial(studio)
    return await _term(studio, await studio.house.order(order))


@path(NameOf.TERM)
async def closed_before(studio: Studio) -> str:
    opened = await line(studio)
    await studio.house.order(CloseOrder(order=order_id(), line=opened.username))
    return await _term(studio, opened)


@path(NameOf.TERM)
async def reminder_never_taken(studio: Studio) -> str:
    opened = await line(studio)
    studio.house.mails.answer("banner", 421, "busy", once=False)
    return await _term(studio, opened)


@path(NameOf.TERM)
async def end_stuck_and_retried(studio: Studio) -> str:
    workflow_id = await _stuck_at_the_end(studio)
    studio.heal()
    await studio.house.twinline.retry_now(workflow_id, actor="olga", patience=SOON)
    return await ended(studio, workflow_id)


@path(NameOf.TERM)
async def end_with_a_half_given_up(studio: Studio) -> str:
    workflow_id = await _stuck_at_the_end(studio)
    await studio.house.twinline.abandon_half(workflow_id, host=OSCAM, reason="fire", actor="olga")
    return await ended(studio, workflow_id)


@path(NameOf.TERM, FORGETFUL)
async def end_long_wait(studio: Studio) -> str:
    workflow_id = await _stuck_at_the_end(studio)
    await asked_until_new(studio, workflow_id)
    studio.heal()
    await studio.house.twinline.retry_now(workflow_id, patience=SOON)
    return await ended(studio, workflow_id)


async def _reconcile(studio: Studio, host: str) -> str:
    workflow_id = reconcile_workflow_id(host)
    await studio.client.execute_workflow(
        NameOf.RECONCILE,
        ReconcileTask(host=host),
        id=workflow_id,
        task_queue=ORDERS_QUEUE,
        result_type=Reconciled,
    )
    return workflow_id


@path(NameOf.RECONCILE)
async def brought_in_step(studio: Studio) -> str:
    return await _reconcile(studio, OTHER_HOSTS[0])


@path(NameOf.RECONCILE)
async def host_away(studio: Studio) -> str:
    studio.host(OTHER_HOSTS[1]).trouble = AWAY
    return await _reconcile(studio, OTHER_HOSTS[1])


async def _owed(studio: Studio) -> MailTask:
    """A trial whose OSCam half was given up, and the mail that its customer gets once it is repaired."""
    order = trial()
    studio.host(OSCAM).trouble = AWAY
    workflow_id = await began(studio, order, lambda receipt: receipt.halves[1].last_error is not None)
    await studio.house.twinline.abandon_half(workflow_id, host=OSCAM, reason="fire", actor="olga")
    opened = await studio.house.order(order)
    (grant,) = (await studio.house.line(opened.username)).grants
    return MailTask(
        line_id=opened.line,
        kind=MailKind.SECOND_HALF,
        ref=grant.grant_id,
        reference=order.order,
        at=grant.starts_at,
        hosts=(OSCAM,),
    )


@path(NameOf.TELL, BRISK)
async def repaired(studio: Studio) -> str:
    """A Reconcile brings the half in step, and the next one finds that the customer waits to hear of it."""
    owed = await _owed(studio)
    studio.heal()
    for _ in range(2):
        await _reconcile(studio, OSCAM)
    return await ended(studio, _told(owed))


@path(NameOf.TELL, BRISK)
async def nothing_true_to_say(studio: Studio) -> str:
    owed = await _owed(studio)
    await studio.house.twinline.tell(owed)
    return await ended(studio, _told(owed))


@path(NameOf.TELL, BRISK)
async def cancel_asked_in_temporal(studio: Studio) -> str:
    """While the mail server takes nothing."""
    owed = await _owed(studio)
    studio.heal()
    await _reconcile(studio, OSCAM)
    studio.house.mails.answer("banner", 421, "busy", once=False)
    await studio.house.twinline.tell(owed)
    handle = studio.client.get_workflow_handle(_told(owed))
    await until(lambda: studio.happened(handle.id, "activity_task_scheduled"))
    await handle.cancel()
    await until(lambda: studio.happened(handle.id, "workflow_execution_cancel_requested"))
    studio.heal()
    return await ended(studio, handle.id)


def _told(owed: MailTask) -> str:
    return tell_workflow_id(owed.line_id, owed.kind, owed.ref)


async def _erasure(studio: Studio, opened: Receipt) -> WorkflowHandle[object, EraseStatus]:
    return await studio.client.start_workflow(
        NameOf.ERASE,
        EraseTask(line_id=opened.line),
        id=erase_workflow_id(opened.line),
        task_queue=ORDERS_QUEUE,
        result_type=EraseStatus,
    )


@path(NameOf.ERASE, BRISK)
async def erased(studio: Studio) -> str:
    opened = await line(studio)
    await studio.house.order(CloseOrder(order=order_id(), line=opened.username))
    return await ended(studio, (await _erasure(studio, opened)).id)


@path(NameOf.ERASE, BRISK)
async def host_gone(studio: Studio) -> str:
    """A host is away, and then said to be no more."""
    opened = await line(studio)
    await studio.house.order(CloseOrder(order=order_id(), line=opened.username))
    studio.host(OSCAM).free.clear()
    handle = await _erasure(studio, opened)
    await until(lambda: _empty_but_one(handle))
    await handle.signal(NameOf.SIGNAL_HOST_GONE, HostGone(host=OSCAM, actor="privacy"))
    return await ended(studio, handle.id)


async def _empty_but_one(handle: WorkflowHandle[object, EraseStatus]) -> bool:
    progress = await handle.query("progress", result_type=EraseStatus)
    return progress is not None and len(progress.empty) == 1


@path(NameOf.ERASE, BRISK)
async def erasure_refused(studio: Studio) -> str:
    """The line is not over yet."""
    handle = await _erasure(studio, await line(studio))
    try:
        await handle.result()
    except WorkflowFailureError:
        return handle.id
    raise AssertionError("a line that is served was erased")
