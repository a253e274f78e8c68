"""The worker process: it is killed, stopped and misconfigured, and no order is lost by that."""

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from starter.client import Twinline
from twinline.codec import data_converter
from twinline.keys import KeyRing
from twinline.messages import HalfState, MailState, PurchaseOrder
from twinline.sandbox.world import World

NOW = timedelta(0)
SOON = timedelta(seconds=60)


async def _door(world: World) -> Twinline:
    from temporalio.client import Client

    keys = KeyRing.load(Path(world.env["TWINLINE_KEYS"]))
    return Twinline(await Client.connect(world.temporal.address, data_converter=data_converter(keys)))


def _orders(count: int) -> list[PurchaseOrder]:
    return [
        PurchaseOrder(caller="shop", order=f"p-{n}", days=30, email=f"person{n}@example.org", region="eu")
        for n in range(count)
    ]


async def test_orders_outlive_a_worker_that_is_killed_in_their_middle(tmp_path: Path) -> None:
    orders = _orders(12)
    async with World(tmp_path / "world", timescale=0.05) as world:
        await world.start_worker()
        twinline = await _door(world)
        await asyncio.gather(*(twinline.place(order, patience=NOW) for order in orders))
        await world.mail_catcher.wait_for(lambda _: True)
        await world.kill_worker()
        await world.start_worker()

        done = await asyncio.gather(*(twinline.place(order, patience=SOON) for order in orders))

        receipts = [status.receipt for status in done if status.done and status.receipt is not None]
        assert len(receipts) == len(orders)
        assert len({receipt.line for receipt in receipts}) == len(orders)
        assert {half.state for receipt in receipts for half in receipt.halves} == {HalfState.APPLIED}
        assert {receipt.mail.state for receipt in receipts if receipt.mail is not None} == {MailState.ACCEPTED}
        # A message whose outcome the dead worker did not learn may come twice, but only as the same message.
        messages = {str(mail.message["To"]): set[str]() for mail in world.mails}
        for mail in world.mails:
            messages[str(mail.message["To"])].add(str(mail.message["Message-ID"]))
        assert all(len(ids) == 1 for ids in messages.values())
        assert len(messages) == len(orders)


async def test_an_order_without_any_worker_is_kept_until_there_is_one(tmp_path: Path) -> None:
    (order,) = _orders(1)
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
