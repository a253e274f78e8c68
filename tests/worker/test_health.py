"""A host that stops answering is noticed with no order and no Reconcile, told everywhere, and left out of placement."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from tests.cli.conftest import Cli
from tests.support.world import FAST
from twinline.keys import KeyRing
from twinline.ledger import Ledger
from twinline.ledger.host_views import host_views
from twinline.sandbox.sites import PairPlan
from twinline.sandbox.world import World

FIRST, SECOND = PairPlan("eu1", region="eu", capacity=3), PairPlan("eu2", region="eu", capacity=2)


async def test_a_host_that_goes_away_and_comes_back_is_noticed_by_everybody(tmp_path: Path) -> None:
    async with World(tmp_path / "world", pairs=(FIRST, SECOND), timescale=FAST, health_every=0.8) as world:
        await world.start_worker()
        cli = Cli(world.env)
        ledger = await Ledger.open(
            world.env["TWINLINE_DATABASE_URL"], keys=KeyRing.load(world.folder / "key-ring.json")
        )

        async def stands(name: str, code: str | None) -> None:
            """Wait until the last look ended so, and the host counts as what that means."""
            async with asyncio.timeout(60):
                while True:
                    async with ledger.read() as tx:
                        (found,) = await host_views(tx, [name])
                    if found.looked is not None and found.looked.last.code == found.down_code == code:
                        return
                    await asyncio.sleep(0.05)

        async def listed(name: str) -> dict[str, Any]:
            (found,) = (await cli("host", "list", name, "--json")).json["hosts"]
            return found

        # Only the daemon stops: the box answers, and nobody has ordered anything.
        await stands(FIRST.oscam, None)
        assert (await listed(FIRST.oscam))["answered"] == 1.0
        await world.daemon(FIRST.oscam).stop()
        await stands(FIRST.oscam, "StatusTrouble")
        said = await cli("host", "list", FIRST.oscam)
        assert "not for" in said.out
        assert "nothing gets through for" in said.out
        stuck = (await cli("order", "list", "--stuck", "--json")).json
        assert [(late["host"], late["reason"], late["halves"]) for late in stuck["late"]] == [
            (FIRST.oscam, "StatusTrouble", 0)
        ]
        metrics = (await asyncio.to_thread(urlopen, world.metrics_url)).read().decode()
        assert f'twinline_host_state{{host="{FIRST.oscam}",reason="StatusTrouble",state="down"}} 1.0' in metrics
        assert f'twinline_host_looked_timestamp_seconds{{host="{FIRST.oscam}"}}' in metrics
        assert f'twinline_host_probes_total{{host="{FIRST.oscam}",outcome="StatusTrouble"}}' in metrics
        # The emptier pair has a host that does not answer.
        trial = await cli("trial", "anna@example.org", "--region", "eu", "--order", "t-1", "--json")
        assert {half["host"] for half in trial.json["halves"]} == {SECOND.multics, SECOND.oscam}

        await world.daemon(FIRST.oscam).start()
        await stands(FIRST.oscam, None)
        assert 0 < (await listed(FIRST.oscam))["answered"] < 1
        await world.box(FIRST.multics).refuse(on=True)
        world.box(FIRST.multics).drop_connections()
        await stands(FIRST.multics, "HostUnreachable")
        await world.box(FIRST.multics).refuse(on=False)
        await stands(FIRST.multics, None)
        said_once = (world.folder / "worker" / "log").read_text()
        assert [said_once.count(words) for words in ("the host does not answer", "the host answers again")] == [2, 2]
        await ledger.close()
