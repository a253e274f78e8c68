"""The worker process: it is away and misconfigured, and no order is lost by that; tests/chaos kill it."""

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from starter.client import Twinline
from twinline.codec import data_converter
from twinline.keys import KeyRing
from twinline.messages import PurchaseOrder
from twinline.sandbox.world import World

NOW = timedelta(0)
SOON = timedelta(seconds=60)


async def _door(world: World) -> Twinline:
    from temporalio.client import Client

    keys = KeyRing.load(Path(world.env["TWINLINE_KEYS"]))
    return Twinline(await Client.connect(world.temporal.address, data_converter=data_converter(keys)))


async def test_an_order_without_any_worker_is_kept_until_there_is_one(tmp_path: Path) -> None:
    order = PurchaseOrder(caller="shop", order="p-1", days=30, email="person@example.org", region="eu")
    async with World(tmp_path / "world", timescale=0.05) as world:
        twinline = await _door(world)

        kept = await twinline.place(order, patience=NOW)
        await world.start_worker()
        done = await twinline.place(order, patience=SOON)

        assert (kept.done, kept.receipt) == (False, None)
        assert done.done


@pytest.mark.parametrize(
    ("variable", "value", "code", "sentence"),
    [
        ("TWINLINE_KEYS", "/nowhere/keys.json", 2, "/nowhere/keys.json"),
        ("TWINLINE_INVENTORY", "/nowhere/inventory.toml", 2, "/nowhere/inventory.toml"),
        ("TWINLINE_SMTP_URL", "smtp+plain://mail.example.net:25", 2, "TWINLINE_SMTP_URL"),
        ("TWINLINE_DATABASE_URL", "mysql://somewhere/ledger", 2, "TWINLINE_DATABASE_URL"),
    ],
)
async def test_a_wrong_setting_stops_the_worker_with_a_sentence(
    world: World, variable: str, value: str, code: int, sentence: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "worker"),
        env={**os.environ, **world.env, variable: value},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )

    said, complained = await process.communicate()

    assert said == b""
    assert sentence in complained.decode()
    assert "Traceback" not in complained.decode()
    assert process.returncode == code
