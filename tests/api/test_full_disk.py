"""The API while the ledger's disk is full: who reads is answered, the rest comes again, and room repairs it."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from starter.client import Twinline
from starter.desk import Desk
from tests.api.conftest import EVERYTHING, Api, new_token, served
from tests.api.described import OF_TOKENS
from tests.ledger.support import take
from tests.support.mounts import fill, free, mount_small, with_own_mounts
from tests.support.temporal import dev_server
from tests.workflows.house import inventory
from twinline.keys import KeyRing
from twinline.ledger import Ledger
from twinline.ledger.setup import sync_inventory
from twinline.messages import TrialOrder
from twinline.tokens import NewToken
from twinline.visibility import register_search_attributes

ROOM = 3_000_000
"""Bytes."""


def test_every_operation_is_answered_while_the_ledgers_disk_is_full(tmp_path: Path, key_ring: KeyRing) -> None:
    with_own_mounts(lambda: asyncio.run(_ask_everything(tmp_path, key_ring)))


async def _ask_everything(disk: Path, keys: KeyRing) -> None:
    mount_small(disk, size=ROOM)
    ledger = await Ledger.open(f"sqlite:///{disk}/ledger.db", keys=keys)
    try:
        await ledger.migrate()
        now = datetime.now(UTC)
        async with ledger.write() as tx:
            await sync_inventory(tx, inventory(), now=now)
        trial = TrialOrder(caller="shop", order="T-1", email="full@example.com", region="eu")
        line = (await take(ledger, trial, now=now)).username
        async with dev_server() as server:
            temporal = await server.connect(keys)
            await register_search_attributes(temporal)
            async with served(Desk(ledger, Twinline(temporal))) as port:
                await _ask(Api(port, await new_token(ledger, NewToken(caller="shop", scopes=EVERYTHING))), disk, line)
    finally:
        await ledger.close()


async def _ask(api: Api, disk: Path, line: str) -> None:
    fill(disk)
    for operation in OF_TOKENS:
        body = None if operation.body is None else {**operation.body["example"]}
        if body is not None and "line" in body:
            body["line"] = line
        reply = await api(operation.method, operation.address(username=line, order_id="T-1"), body, Prefer="wait=0")
        told = (operation.name, reply.status, reply.body[:300])
        # What the ledger can't take is safe in Temporal.
        assert reply.status in ((200, 404) if operation.method == "GET" else (200, 202, 404, 409, 422, 503)), told
        if reply.status >= 400:
            assert reply.problem, told
        assert (reply.status == 503) == ("retry-after" in reply.headers), told
    begun = {"run": "full-1", "reason": "x" * 500, "rows": [{"line": line}]}
    reply = await api("POST", "/v1/bulk/blocks", begun)
    assert (reply.status, reply.problem) == (503, "Unavailable")
    assert (await api.get("/v1/bulk/runs/full-1")).problem == "UnknownBulk"
    free(disk)
    reply = await api("POST", "/v1/bulk/blocks", begun)
    assert (reply.status, reply.json["counts"]["items"]) == (202, 1)
