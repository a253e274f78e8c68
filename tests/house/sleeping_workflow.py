"""A workflow that only sleeps."""

from datetime import timedelta

from temporalio import workflow


@workflow.defn
class Sleeping:
    """Sleeps as long as it is told and answers how long it was."""

    def __init__(self) -> None:
        self._awake = False

    @workflow.run
    async def run(self, length: timedelta) -> timedelta:
        """Sleep on the workflow's clock."""
        begin = workflow.now()
        await workflow.sleep(length)
        self._awake = True
        return workflow.now() - begin

    @workflow.query
    def awake(self) -> bool:
        """Whether the sleep is over."""
        return self._awake
