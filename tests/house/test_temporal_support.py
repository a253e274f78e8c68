"""The tests' own Temporal server: it skips time, and never outlives the process that started it."""

import asyncio
import os
import signal
import sys
import uuid
from datetime import timedelta

from temporalio.testing import TimeSkipper
from temporalio.worker import Worker

from tests.house.sleeping_workflow import Sleeping

START_AND_WAIT = """
import asyncio
from tests.support.temporal import dev_server

async def main():
    async with dev_server() as server:
        print(server.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_two_days_pass_on_the_workflows_own_clock(temporal_env: TimeSkipper) -> None:
    queue = f"sleeping-{uuid.uuid4()}"
    async with Worker(temporal_env.client, task_queue=queue, workflows=[Sleeping]):
        slept = await temporal_env.client.execute_workflow(
            Sleeping.run, timedelta(hours=48), id=str(uuid.uuid4()), task_queue=queue
        )
    assert slept >= timedelta(hours=48)


async def test_a_workflow_can_be_moved_to_just_before_its_timer(temporal_env: TimeSkipper) -> None:
    queue = f"sleeping-{uuid.uuid4()}"
    async with Worker(temporal_env.client, task_queue=queue, workflows=[Sleeping]):
        with temporal_env.with_time_skipping_disabled():
            handle = await temporal_env.client.start_workflow(
                Sleeping.run, timedelta(hours=48), id=str(uuid.uuid4()), task_queue=queue
            )
        begin = await temporal_env.get_current_time(handle)
        assert await temporal_env.fast_forward(handle, timedelta(hours=47))
        assert await temporal_env.get_current_time(handle) - begin >= timedelta(hours=47)
        assert not await handle.query(Sleeping.awake)
        assert await temporal_env.fast_forward(handle, timedelta(hours=2)) in (True, False)
        assert await handle.result() >= timedelta(hours=48)


async def test_the_server_dies_with_the_process_that_started_it() -> None:
    starter = await asyncio.create_subprocess_exec(sys.executable, "-c", START_AND_WAIT, stdout=asyncio.subprocess.PIPE)
    assert starter.stdout is not None
    server = os.pidfd_open(int(await starter.stdout.readline()))
    try:
        gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(server, gone.set)
        starter.send_signal(signal.SIGKILL)
        await starter.wait()
        async with asyncio.timeout(30):
            await gone.wait()
    finally:
        asyncio.get_running_loop().remove_reader(server)
        os.close(server)
