"""A ledger that was restored from a backup is obeyed by no host until somebody says that it counts."""

import asyncio
import sqlite3
from datetime import timedelta
from pathlib import Path

from tests.reconcile.conftest import HOSTS, House
from twinline.ledger import Ledger
from twinline.messages import HalfState, RenewalOrder, TrialOrder, order_workflow_id

SOON = timedelta(seconds=30)


def copy(source: Path, target: Path) -> None:
    """A consistent copy of a database, as a backup makes it."""
    with sqlite3.connect(source) as here, sqlite3.connect(target) as there:
        here.backup(there)
    here.close()
    there.close()


async def test_a_restored_ledger_writes_nothing_until_its_hosts_are_told_to_obey_it(house: House) -> None:
    (kept,) = await house.served(1)
    watching = await house.sessions([kept])
    backup = house.world.folder / "backup.db"
    copy(house.desk.path, backup)
    since = await house.twinline.place(
        TrialOrder(caller="shop", order="T-after", email="after@example.org", region="eu"), patience=SOON
    )
    assert since.receipt is not None
    await house.world.stop_worker()
    await house.desk.ledger.close()
    copy(backup, house.desk.path)
    house.desk.ledger = await Ledger.open(house.world.env["TWINLINE_DATABASE_URL"], keys=house.desk.keys)
    await house.world.start_worker()
    before = {host: house.world.read_accounts(host) for host in HOSTS}
    order = RenewalOrder(caller="shop", order="R-restored", line=kept.username, days=3)

    status = await house.twinline.place(order, patience=timedelta(seconds=3))

    assert status.receipt is not None
    assert {(half.last_error, half.state) for half in status.receipt.halves} == {("LedgerSetBack", HalfState.FAILING)}
    for host in HOSTS:
        assert (await house.reconcile(host)).error == "LedgerSetBack"
    said = await house.cli("drift", "repair", "--yes")
    assert (said.code, "twinline host refence" in said.err) == (4, True)
    assert {host: house.world.read_accounts(host) for host in HOSTS} == before

    # A host that is away keeps its epoch and holds up nobody.
    await house.world.box("os-eu1").refuse(on=True)
    try:
        some = await house.cli("host", "refence", "--all", "--yes", "--json")
    finally:
        await house.world.box("os-eu1").refuse(on=False)
    assert some.code == 6
    found = {each["host"]: each for each in some.json}
    assert (found["os-eu1"]["epoch"], found["os-eu1"]["error"]) == (None, "HostUnreachable")
    assert found["mc-eu1"]["unknown"] == [since.receipt.username]
    rest = await house.cli("host", "refence", "os-eu1", "--yes")
    assert rest.code == 0
    assert since.receipt.username in rest.err

    await house.twinline.retry_now(order_workflow_id(order), patience=SOON)
    done = await house.twinline.place(order, patience=SOON)
    assert done.done
    for host in HOSTS:
        report = await house.reconcile(host)
        assert report.found is not None
        # What was sold after the backup is told, and never taken away.
        assert [(line.username, line.error) for line in report.found.drift] == [
            (since.receipt.username, "NeedsAPerson")
        ]
        assert since.receipt.username.encode() in house.world.read_accounts(host)
    for session in watching:
        await session.ping()
    await asyncio.gather(*(session.leave() for session in watching))
