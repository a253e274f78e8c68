"""`twinline web` as a process: it says when it listens, takes an order, and ends in good order."""

import asyncio
import json
import subprocess
import sys
from typing import Any

from tests.api.conftest import Api
from tests.cli.conftest import SCRIPT, Cli, start_script
from tests.cli.test_watched import read
from twinline.sandbox.processes import free_port
from twinline.sandbox.world import World


async def test_it_serves_until_it_is_asked_to_end(cli: Cli, world: World) -> None:
    made = await cli(
        "token", "create", "--caller", "shop", "--scope", "trials:create", "--scope", "lines:read", "--json"
    )
    port = free_port()
    process = await start_script(SCRIPT, "web", env={**world.env, "TWINLINE_HTTP": f"127.0.0.1:{port}"})
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    api = Api(port, made.json["token"])
    assert (await api.get("/readyz")).json["ready"] is True
    fields: dict[str, Any] = {
        "order": "W-1",
        "email": "web@example.com",
        "region": "eu",
        "client_address": "203.0.113.7",
    }
    placed = await api.post("trials", **fields)
    assert placed.status == 201, placed.body
    blind = Api(port, (await cli("token", "create", "--caller", "shop", "--scope", "bulk", "--json")).json["token"])
    refused = await blind.get(f"/v1/lines/{placed.json['receipt']['username']}?email=web@example.com")
    assert refused.status == 403
    fields |= {"order": "W-2", "email": "next@example.com"}
    neighbour = await api.post("trials", **fields)
    assert (neighbour.status, neighbour.problem) == (429, "TrialRangeUsed")
    # The same functions: what came in by one door is seen through the other.
    shown = await cli("order", "show", "W-1", "--caller", "shop", "--json")
    receipt = shown.json
    # Where Temporal's pages are is for who runs the house.
    assert receipt.pop("temporal_ui").endswith("/trial%2Fshop%2FW-1")
    assert receipt == placed.json["receipt"]
    taken = await start_script(SCRIPT, "web", env={**world.env, "TWINLINE_HTTP": f"127.0.0.1:{port}"})
    _, said = await taken.communicate()
    assert (taken.returncode, b"can't be listened at" in said) == (2, True)
    watched = world.env["TWINLINE_WEB_METRICS"]
    counted = await asyncio.to_thread(read, f"http://{watched}/metrics")
    assert 'twinline_api_requests_total{method="POST",route="/v1/trials",status="201"} 1.0' in counted
    assert 'twinline_api_requests_total{method="GET",route="/v1/lines/{username}",status="403"} 1.0' in counted
    assert placed.json["receipt"]["username"] not in counted
    assert json.loads(await asyncio.to_thread(read, f"http://{watched}/readyz"))["workers"] == "ok"
    # Not for strangers.
    assert (await api.get("/metrics")).status == 404
    process.terminate()
    _, logged = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    told = [json.loads(line) for line in logged.splitlines()]
    (placing,) = [line for line in told if line["route"] == "/v1/trials" and line["status"] == 201]
    token_id = made.json["token"].split("_")[1]
    assert {name: placing[name] for name in ("level", "order", "kind", "caller", "token_id", "status")} == (
        {"level": "info", "order": "W-1", "kind": "trial", "caller": "shop", "token_id": token_id, "status": 201}
    )
    assert placing["request_id"] == placed.headers["x-request-id"]
    assert (shown.json["username"].encode() in logged, b"web@example.com" in logged) == (False, False)


def test_neither_the_client_nor_help_loads_the_web_server() -> None:
    look = "import sys, starter.client, starter.cli; print({'fastapi', 'starlette', 'uvicorn'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True)
    assert said.stdout == "set()\n"
