"""A workflow whose activity fails once for good and once works, to see what history keeps of their words."""

from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from twinline.messages import Message


class Words(Message):
    """What goes in and comes back; all of it would be secret."""

    asked: str
    noted: tuple[str, ...] = ()


class Refused(Exception):
    """Raised by the activity with a text that must not stay readable."""


@activity.defn
async def answer(words: Words) -> Words:
    """Notes what was asked, or fails with it."""
    if not words.noted:
        raise Refused(f"no answer to {words.asked}")
    return words.model_copy(update={"asked": f"answer to {words.asked}"})


@workflow.defn
class Sealed:
    """Asks twice, keeps what it heard, waits for a signal, then ends as the signal says."""

    def __init__(self) -> None:
        self._last: str | None = None

    @workflow.run
    async def run(self, words: Words) -> Words:
        """Ends with the answer, or fails when the signal's text ends with an exclamation mark."""
        heard: list[str] = []
        for noted in ((), (words.asked,)):
            try:
                got = await workflow.execute_activity(
                    answer,
                    words.model_copy(update={"noted": noted}),
                    start_to_close_timeout=timedelta(seconds=30),
                    retry_policy=RetryPolicy(maximum_attempts=1),
                    summary=f"about {words.asked}",
                )
                heard.append(got.asked)
            except ActivityError as error:
                heard.append(str(error.cause))
        await workflow.wait_condition(lambda: self._last is not None)
        if (self._last or "").endswith("!"):
            raise ApplicationError(f"failed for {words.asked}", words.asked)
        return Words(asked=words.asked, noted=tuple(heard))

    @workflow.signal
    def last_word(self, word: str) -> None:
        """Let the workflow end."""
        self._last = word

    @workflow.query
    def asked(self) -> str | None:
        """The last word so far."""
        return self._last
