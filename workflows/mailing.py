"""How a workflow mails: the message that is true now is stored first, then handed over until its outcome is known."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy

from workflows.halves import HEARTBEAT_TIMEOUT
from workflows.ledger import in_ledger

with workflow.unsafe.imports_passed_through():
    from twinline.messages import MailChoice, MailState, MailStored, MailTask, NameOf

MAIL_TIMEOUT = timedelta(minutes=2)
MAIL_RETRY = RetryPolicy(initial_interval=timedelta(seconds=2), maximum_interval=timedelta(minutes=10))


async def choose_mail(task: MailTask) -> MailChoice:
    """Keep the message before anybody sees it, if by now there is something true to say."""
    return await in_ledger(NameOf.STORE_MAIL, task, MailChoice, summary=f"write the {task.kind} mail")


async def store_mail(task: MailTask) -> MailStored | None:
    """Keep the message before anybody sees it; None when by now there is nothing true to say."""
    return (await choose_mail(task)).stored


async def hand_over(
    stored: MailStored, *, at_most: timedelta | None = None, priority: Priority = Priority.default
) -> MailState:
    """Hand a stored message to the mail server; raises ActivityError when `at_most` was not enough."""
    return await workflow.execute_activity(
        NameOf.HAND_OVER_MAIL,
        stored.mail_id,
        result_type=MailState,
        start_to_close_timeout=MAIL_TIMEOUT,
        schedule_to_close_timeout=at_most,
        heartbeat_timeout=HEARTBEAT_TIMEOUT,
        retry_policy=MAIL_RETRY,
        # What the mail server is being told is told to the end: cut off, nobody would know whether it took the mail.
        cancellation_type=workflow.ActivityCancellationType.ABANDON,
        summary=f"hand over the {stored.kind} mail",
        priority=priority,
    )
