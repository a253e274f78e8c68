"""The least that a FastAPI endpoint can do that starts a workflow: `python -m benchmarks.bare_api`.

No token, no ledger, no rules. Takes the address of the Temporal server, the path of the key ring and a port; says
`ready`, and serves until SIGTERM.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Response
from pydantic import BaseModel
from temporalio.client import Client

from benchmarks.callers import HOST
from benchmarks.noop import ORDERS_QUEUE, PAIRS, NoopOrder
from starter.api.serving import listen, serve, stop_on_signals
from twinline.codec import data_converter
from twinline.keys import KeyRing

PATH: Final = "/noops"


class Asked(BaseModel):
    """As many fields as a purchase has."""

    order: str
    email: str
    region: str
    days: int


class Placed(BaseModel):
    """The answer."""

    id: str


def workflow_id(order: str) -> str:
    """The workflow that an order starts."""
    return f"noop/api/{order}"


def create_app(client: Client) -> FastAPI:
    """Two routes: one starts a workflow, the other does nothing."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.post(PATH, status_code=202)
    async def place(asked: Asked, response: Response) -> Placed:
        await client.start_workflow(
            NoopOrder.run, len(asked.order) % PAIRS, id=workflow_id(asked.order), task_queue=ORDERS_QUEUE
        )
        response.headers["location"] = f"{PATH}/{asked.order}"
        return Placed(id=asked.order)

    @app.get(f"{PATH}/{{order}}")
    async def show(order: str) -> Placed:
        return Placed(id=order)

    del place, show  # the app has them
    return app


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


async def run(address: str, keys: Path, port: int) -> None:
    """Serve as `twinline web` serves."""
    stop = stop_on_signals()
    client = await Client.connect(address, data_converter=data_converter(KeyRing.load(keys)))
    await serve(create_app(client), listen(HOST, port), ready=_say_ready, stop=stop)


def main() -> None:
    """Leave without interpreter finalisation, which the SDK may abort."""
    asyncio.run(run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
    os._exit(0)


if __name__ == "__main__":
    main()
