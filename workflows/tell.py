"""A message that a customer still has to get although no order sends it any more."""

from temporalio import workflow

from workflows.mailing import hand_over, store_mail
from workflows.steadily import steadily

with workflow.unsafe.imports_passed_through():
    from twinline.messages import MailReceipt, MailState, MailStored, MailTask, NameOf


@workflow.defn(name=NameOf.TELL)
class Tell:
    """One such message; its id lets nobody else hand it over meanwhile."""

    def __init__(self) -> None:
        self._mail: MailReceipt | None = None

    @workflow.query
    def progress(self) -> MailReceipt | None:
        """The message and how far it is; None while, or if, there is none."""
        return self._mail

    @workflow.run
    async def run(self, task: MailTask) -> MailReceipt | None:
        """Store what is true by now, if anything is left to say, and hand it over until its outcome is known."""
        return await steadily(self._tell(task), asked=self._asked_to_cancel)

    @staticmethod
    def _asked_to_cancel() -> None:
        workflow.set_current_details("A customer waits for this message: it is not cancelled.")

    async def _tell(self, task: MailTask) -> MailReceipt | None:
        workflow.set_current_details(f"Line `{task.line_id}` is owed a {task.kind} mail.")
        stored = await store_mail(task.model_copy(update={"at": workflow.now()}))
        if stored is None:
            workflow.set_current_details("There is nothing true to say any more.")
            return None
        self._is(stored, stored.state)
        self._is(stored, await hand_over(stored))
        return self._mail

    def _is(self, stored: MailStored, state: MailState) -> None:
        self._mail = MailReceipt(kind=stored.kind, state=state, message_id=stored.message_id)
        workflow.set_current_details(f"Mail: {stored.kind}, {state}.")
