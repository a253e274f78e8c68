"""The worker of the no-op workflow, in a process of its own as twinline's is: `python -m benchmarks.noop_worker`.

Takes the address of the Temporal server and the path of the key ring; says `ready`, and runs until SIGTERM.
"""

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from temporalio.client import Client
from temporalio.worker import Worker

from benchmarks.noop import ACTIVITIES, ORDERS_QUEUE, PAIRS, WORKFLOWS, host_queues
from twinline.codec import data_converter
from twinline.keys import KeyRing
from twinline.runner import HouseRunner


async def serve(address: str, keys: Path) -> None:
    """One worker for workflows, one for each host queue, as in worker.py."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    client = await Client.connect(address, data_converter=data_converter(KeyRing.load(keys)))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            Worker(
                client,
                task_queue=ORDERS_QUEUE,
                workflows=WORKFLOWS,
                activities=ACTIVITIES,
                workflow_runner=HouseRunner("benchmarks.noop"),
            )
        )
        for queue in (queue for pair in range(PAIRS) for queue in host_queues(pair)):
            await stack.enter_async_context(Worker(client, task_queue=queue, activities=ACTIVITIES))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await told.wait()


def main() -> None:
    """Leave without interpreter finalisation, which the SDK may abort."""
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2])))
    os._exit(0)


if __name__ == "__main__":
    main()
