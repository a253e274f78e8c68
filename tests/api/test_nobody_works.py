"""The API while no worker runs: orders are safe, ids still stand for one order, and what is missing is told."""

import os
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.service import RetryConfig

from starter import client
from starter.client import Twinline
from starter.desk import Desk
from tests.api.conftest import EVERYTHING, Api, new_token, served
from tests.support.temporal import dev_server
from twinline.connect import IMPATIENT
from twinline.keys import KeyRing
from twinline.ledger import Ledger
from twinline.tokens import NewToken
from twinline.visibility import register_search_attributes


async def test_orders_wait_in_temporal_and_an_id_is_one_order_all_the_same(
    tmp_path: Path, key_ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    # There is nobody who could answer, however long one waits.
    monkeypatch.setattr(client, "QUERY_TIMEOUT", timedelta(seconds=0.2))
    ledger = await Ledger.open(f"sqlite:///{tmp_path}/ledger.db", keys=key_ring)
    await ledger.migrate()
    try:
        # A server of its own: that of the session has workers.
        async with dev_server() as server:
            # By default each call to a server that is away is tried for ten seconds.
            temporal = await server.connect(key_ring, retries=RetryConfig(max_retries=2))
            await register_search_attributes(temporal)
            desk = Desk(ledger, Twinline(temporal), grace=timedelta(0))
            async with served(desk) as port:
                api = Api(port, await new_token(ledger, NewToken(caller="shop", scopes=EVERYTHING)))
                other = Api(port, await new_token(ledger, NewToken(caller="other", scopes=EVERYTHING)))
                body: dict[str, Any] = {"order": "safe-1", "email": "safe@example.com", "region": "eu"}
                with monkeypatch.context() as patched:
                    # Who does not wait for a new order does not wait for the answer of a worker either.
                    patched.setattr(Twinline, "progress", None)
                    placed = await api.post("trials", wait=0, **body)
                assert (placed.status, placed.json["receipt"]) == (202, None)
                reply = await api.post("trials", wait=0, **{**body, "email": "another@example.com"})
                assert (reply.status, reply.problem) == (422, "OrderConflict")
                for name in ("safe-1", "trial~safe-1"):
                    shown = await api.get(f"/v1/orders/{name}")
                    assert (shown.status, shown.json) == (200, placed.json)
                    assert (await other.get(f"/v1/orders/{name}")).problem == "UnknownOrder"
                # Temporal's list is a moment behind.
                while (found := (await other.get("/v1/attention")).json)["untaken"]["orders"] == 0:
                    pass
                assert (found["temporal"], found["untaken"]["orders"], found["untaken"]["workers"]) == ("ok", 1, False)
                assert (await api.get("/v1/orders")).json == {"orders": [], "cursor": None}
                # It can be taken back before anybody took it, and whoever takes it up later finds that.
                taken_back = await api("POST", "/v1/orders/safe-1/cancel", {"reason": "Refunded."}, Prefer="wait=0")
                assert (taken_back.status, taken_back.json["id"]) == (202, "cancel~safe-1~trial")
                for name in ("cancel~safe-1~trial", "cancel~safe-1"):
                    shown = await api.get(f"/v1/orders/{name}")
                    assert (shown.status, shown.json) == (200, taken_back.json)
        async with served(desk) as port:
            api = Api(port, api.token)
            ready = await api.get("/readyz")
            assert (ready.status, ready.json["temporal"]) == (503, "does not answer")
            reply = await api.post("trials", wait=0, **{**body, "order": "safe-2"})
            assert (reply.status, reply.problem, reply.json["retryable"]) == (503, "Unavailable", True)
            assert reply.headers["retry-after"]
            found = (await api.get("/v1/attention")).json
            assert (found["temporal"], found["untaken"], found["halves"]) == ("does not answer", None, [])
            # It may stand in Temporal, so that nobody can say that there is none.
            unknown = await api.get("/v1/orders/safe-1")
            assert (unknown.status, unknown.problem) == (503, "Unavailable")
    finally:
        await ledger.close()


async def test_a_server_that_hangs_is_told_and_the_order_sent_again_is_one_order(
    tmp_path: Path, key_ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "DOUBTS_AFTER", timedelta(seconds=0.1))
    monkeypatch.setattr(client, "ANSWER_TIMEOUT", timedelta(seconds=0.2))
    monkeypatch.setattr(client, "DESCRIBE_TIMEOUT", timedelta(seconds=0.2))
    # Who waits for the end of a start waits here for ever.
    monkeypatch.setattr(client, "START_TIMEOUT", timedelta(days=1))
    ledger = await Ledger.open(f"sqlite:///{tmp_path}/ledger.db", keys=key_ring)
    await ledger.migrate()
    try:
        async with dev_server() as server:
            temporal = await server.connect(key_ring, retries=IMPATIENT)
            async with served(Desk(ledger, Twinline(temporal))) as port:
                api = Api(port, await new_token(ledger, NewToken(caller="shop", scopes=EVERYTHING)))
                body = {"order": "hung-1", "email": "hung@example.com", "region": "eu"}
                os.kill(server.pid, signal.SIGSTOP)
                for reply in [
                    await api("POST", "/v1/trials", body),
                    await api("POST", "/v1/trials", body, Prefer="wait=0"),
                    await api.get("/v1/orders/hung-1"),
                    await api("POST", "/v1/orders/hung-1/cancel", {"reason": "Refunded."}),
                ]:
                    assert (reply.status, reply.problem, reply.json["retryable"]) == (503, "Unavailable", True)
                    assert reply.headers["retry-after"]
                ready = await api.get("/readyz")
                assert (ready.status, ready.json["temporal"], ready.json["ledger"]) == (503, "does not answer", "ok")
                for path in ("/v1/lines", "/v1/orders", "/v1/attention", "/livez"):
                    assert (await api.get(path)).status == 200
                os.kill(server.pid, signal.SIGCONT)
                while (placed := await api("POST", "/v1/trials", body, Prefer="wait=0")).status == 503:
                    pass
                assert (placed.status, placed.json["id"]) == (202, "trial~hung-1")
                listed = temporal.list_workflows("WorkflowType = 'Trial'")
                # Temporal's list is a moment behind.
                while not (found := [each.id async for each in listed]):
                    listed = temporal.list_workflows("WorkflowType = 'Trial'")
                assert found == ["trial/shop/hung-1"]
    finally:
        await ledger.close()
