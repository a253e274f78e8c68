"""What the test server does not do when a worker ends: let another one have the workflows that it had cached.

Both servers put a task for such a workflow into a queue of the worker's own. The full one takes it back when nobody
asks for it within seconds, or when it is told that the worker ends; the test server does neither, and knows no
ResetStickyTaskQueue. The name of that queue is made up in the SDK's core, and stands in what the worker sends.
"""

import asyncio
import contextlib
import re
from typing import Final

from temporalio.api.enums.v1 import QueryResultType, TaskQueueKind, WorkflowTaskFailedCause
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    PollWorkflowTaskQueueRequest,
    RespondQueryTaskCompletedRequest,
    RespondWorkflowTaskFailedRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

PIECE: Final = 1 << 16
NOBODY: Final = "nobody"


class Wire:
    """The connection of one worker to its server, on which the name of the worker's own queue is read."""

    def __init__(self, identity: str, port: int) -> None:
        self.identity = identity
        self.address = ""
        self.queue: str | None = None
        """Known as soon as the worker has asked for a task of it."""
        self._name = re.compile(re.escape(identity.encode()) + rb"-[0-9a-f]{32}")
        self._port = port
        self._ways: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen for the worker, which must not compress what it sends."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._ways, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._ways |= {
            asyncio.create_task(self._pass_on(reader, back, look=True)),
            asyncio.create_task(self._pass_on(there, writer, look=False)),
        }

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, look: bool) -> None:
        with contextlib.closing(sink), contextlib.suppress(OSError):
            while piece := await source.read(PIECE):
                if look and self.queue is None and (found := self._name.search(piece)) is not None:
                    self.queue = found.group().decode()
                sink.write(piece)
                await sink.drain()


async def hand_back(client: Client, queue: str, normal: str) -> None:
    """Take every task from the queue of a worker that has ended, until cancelled, and have another worker do it."""
    service, namespace = client.workflow_service, client.namespace
    ask = PollWorkflowTaskQueueRequest(
        namespace=namespace,
        task_queue=TaskQueue(name=queue, kind=TaskQueueKind.TASK_QUEUE_KIND_STICKY, normal_name=normal),
        identity=NOBODY,
    )
    while True:
        with contextlib.suppress(RPCError):
            task = await service.poll_workflow_task_queue(ask)
            if task.HasField("query"):
                await service.respond_query_task_completed(
                    RespondQueryTaskCompletedRequest(
                        namespace=namespace,
                        task_token=task.task_token,
                        completed_type=QueryResultType.QUERY_RESULT_TYPE_FAILED,
                        error_message=NOBODY,
                    )
                )
            elif task.task_token:
                await service.respond_workflow_task_failed(
                    RespondWorkflowTaskFailedRequest(
                        namespace=namespace,
                        task_token=task.task_token,
                        identity=NOBODY,
                        cause=WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_STICKY_TASK_QUEUE,
                    )
                )
