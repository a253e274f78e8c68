"""The embedded Temporal server: what it keeps, and for whom."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from tests.support.proc import alive, listening
from twinline.sandbox.processes import WorldFailed
from twinline.sandbox.temporal_server import TemporalServer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[TemporalServer]:
    server = TemporalServer(tmp_path / "temporal")
    await server.start()
    yield server
    await server.kill()


def pid_of(server: TemporalServer) -> int:
    assert server.pid is not None
    return server.pid


async def test_a_started_workflow_outlives_a_restart_and_a_crash(server: TemporalServer) -> None:
    client = await Client.connect(server.address)
    handle = await client.start_workflow("Nobody's", id="kept", task_queue="nobody")
    address, first = server.address, pid_of(server)

    await server.restart()

    assert not alive(first)
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
    await server.kill()
    await server.start()
    assert (await handle.describe()).run_id == handle.first_execution_run_id
    assert server.address == address


async def test_the_database_and_every_port_are_for_this_machine_and_its_owner_only(
    server: TemporalServer, tmp_path: Path
) -> None:
    assert (tmp_path / "temporal").stat().st_mode & 0o777 == 0o700
    databases = list((tmp_path / "temporal").glob("temporal.db*"))
    assert tmp_path / "temporal" / "temporal.db" in databases
    assert {path.stat().st_mode & 0o777 for path in databases} == {0o600}
    ports = listening([pid_of(server)])
    assert {address for address, _ in ports} == {"127.0.0.1"}
    assert int(server.ui_url.rpartition(":")[2]) in {port for _, port in ports}


async def test_a_server_that_cannot_start_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    folder = tmp_path / "temporal"
    folder.mkdir()
    (folder / "temporal.db").write_bytes(b"this was never a database, and it is long enough to be looked at" * 40)
    server = TemporalServer(folder)

    with pytest.raises(WorldFailed, match=r"(?s)the Temporal server did not start: it ended with .*not a database"):
        await server.start()

    assert server.pid is None
