"""How workflows run: what Temporal's sandbox refuses is still refused where it does not import the module itself."""

import uuid
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import RestrictedWorkflowAccessError

from tests.support.temporal import DevServer
from twinline.keys import KeyRing
from twinline.runner import HouseRunner


@workflow.defn
class Opens:
    """Does what no workflow may."""

    @workflow.run
    async def run(self, path: str) -> str:
        with open(path) as file:  # noqa: ASYNC230, PTH123 - that is what is refused
            return file.read()


async def test_a_workflow_opens_no_file(tmp_path: Path, temporal_server: DevServer, key_ring: KeyRing) -> None:
    client = await temporal_server.connect(key_ring)
    path, queue = tmp_path / "file", str(uuid.uuid4())
    path.write_text("what stands in a file")
    worker = Worker(
        client,
        task_queue=queue,
        workflows=[Opens],
        workflow_runner=HouseRunner(__name__),
        workflow_failure_exception_types=[RestrictedWorkflowAccessError],
    )

    async with worker:
        with pytest.raises(WorkflowFailureError) as refusal:
            await client.execute_workflow(Opens.run, str(path), id=queue, task_queue=queue)

    assert "__builtins__.open" in str(refusal.value.cause)
