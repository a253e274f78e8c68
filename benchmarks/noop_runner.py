"""Runs the no-op workflow, its worker in a process of its own as twinline's is."""

import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from temporalio.client import Client

from benchmarks.arena import Measured
from benchmarks.history import read
from benchmarks.noop import ORDERS_QUEUE, PAIRS, NoopOrder
from twinline.sandbox.processes import Program, inherited_environment
from twinline.sandbox.world import World


class NoopRunner:
    """Runs no-op orders on a world's Temporal server, on the pairs in turn."""

    def __init__(self, client: Client, worker: Program) -> None:
        self._client = client
        self._worker = worker
        self._number = 0

    @property
    def worker_pid(self) -> int | None:
        """The process id of its worker."""
        return self._worker.pid

    async def stop(self) -> None:
        """Stop its worker; what is started from now on waits."""
        await self._worker.stop()

    async def run(self) -> str:
        """One no-op order from call to answer; its workflow id."""
        self._number += 1
        workflow_id = f"noop/{self._number}"
        handle = await self._client.start_workflow(
            NoopOrder.run, self._number % PAIRS, id=workflow_id, task_queue=ORDERS_QUEUE
        )
        await handle.result()
        return workflow_id

    async def measured(self) -> Measured:
        """One no-op order with its history."""
        called = time.time()
        workflow_id = await self.run()
        answered = time.time()
        return Measured(called, answered, read(await self._client.get_workflow_handle(workflow_id).fetch_history()))


@asynccontextmanager
async def run_noop(world: World, client: Client) -> AsyncGenerator[NoopRunner]:
    """Start the no-op worker, and send one workflow through."""
    worker = Program(
        "the no-op worker",
        (
            *(sys.executable, "-P", "-m", "benchmarks.noop_worker"),
            *(world.temporal.address, world.env["TWINLINE_KEYS"]),
        ),
        environment=inherited_environment(),
        folder=world.folder,
    )
    await worker.start()
    try:
        runner = NoopRunner(client, worker)
        await runner.run()
        yield runner
    finally:
        await worker.stop()
