"""A bulk run whose starter dies once the ledger has it, and before Temporal hears of it, goes on by itself, once."""

import signal
from datetime import UTC, datetime

from temporalio.service import RPCError, RPCStatusCode

from tests.cli.conftest import start_script
from tests.reconcile.conftest import HOSTS, House
from twinline.bulk import bulk_workflow_id
from twinline.ledger import models

DIES = """
import os, signal
from starter.cli import main
from starter.client import Twinline

async def run_bulk(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

Twinline.run_bulk = run_bulk
main()
"""
"""The command line, killed where it would tell Temporal."""


async def test_a_run_of_which_temporal_never_heard_is_taken_up_by_the_next_reconcile(house: House) -> None:
    house.desk.now = datetime.now(UTC)
    lines = await house.desk.trials(3)
    await _begin_and_die(house, "orphan", lines=[line.username for line in lines])
    assert await _execution(house, "orphan") is None
    waiting = (await house.cli("bulk", "list", "--state", "running", "--json")).json["runs"]
    assert [(run["run"], run["counts"]["waiting"]) for run in waiting] == [("orphan", 3)]

    await house.reconcile(HOSTS[0])

    followed = await house.cli("bulk", "show", "orphan", "--follow", "--json")
    assert (followed.code, followed.json["bulk"]["counts"]["done"]) == (0, 3), followed.out
    worked_on = await _execution(house, "orphan")
    await house.reconcile(HOSTS[0])
    assert await _execution(house, "orphan") == worked_on is not None, "what is over is not taken up again"
    ours = {line.line_id for line in lines}
    blocks = [row.line_id for row in await house.desk.rows(models.Block) if row.line_id in ours]
    assert sorted(blocks) == sorted(ours), "every item was ordered once"


async def _begin_and_die(house: House, run: str, *, lines: list[str]) -> None:
    file = house.world.folder / f"{run}.txt"
    file.write_text("\n".join(lines))
    words = ("bulk", "block", "--file", str(file), "--run", run, "--reason", "Shared.", "--yes")
    process = await start_script(DIES, *words, env=house.world.env)
    _, said = await process.communicate()
    assert process.returncode == -signal.SIGKILL, said.decode()


async def _execution(house: House, run: str) -> str | None:
    """Which execution in Temporal works, or has worked, on a run; None if there never was one."""
    try:
        return (await house.client.get_workflow_handle(bulk_workflow_id("cli", run)).describe()).run_id
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return None
