"""Whether the time of an answer tells who is a customer: `python -m benchmarks.trial_answers [REQUESTS]` prints it.

A storefront that may not read lines asks for trials of people who had one, people who pay for a line, and new people,
in turn; and looks at each request right after. `twinline web`, workers, Temporal, ledger and hosts are real. The
figures are judged by people: docs/reliability.md.
"""

import asyncio
import math
import os
import random
import statistics
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Final

from benchmarks.callers import HOST, Question, ask
from benchmarks.script import say
from starter.client import Twinline
from twinline.errors import TrialAlreadyUsed
from twinline.keys import KeyRing
from twinline.ledger import Ledger, tokens
from twinline.messages import PurchaseOrder, TrialOrder
from twinline.sandbox.processes import Program, free_port, inherited_environment
from twinline.sandbox.world import World
from twinline.tokens import NewToken, Scope

REQUESTS: Final = 300
DOOR: Final = "door"
GROUPS: Final = ("had a trial", "pays for a line", "new")
AT_ONCE: Final = 8
PATIENCE: Final = timedelta(minutes=10)
SEED: Final = 7


async def measure(folder: Path, requests: int) -> dict[str, dict[str, list[float]]]:
    """Seconds until the answer to the request and to the look after it, for each group."""
    async with World(folder / "world", timescale=0.05) as world:
        await world.start_worker()
        keys, token = Path(world.env["TWINLINE_KEYS"]), await _token(world)
        os.environ.update(world.env)
        twinline = await Twinline.connect(keys)
        say(f"{requests} trials and {requests} purchases first …")
        await _customers(twinline, requests)
        port = free_port()
        web = _web(world, port)
        await web.start()
        try:
            return await _asked(port, token, twinline, requests)
        finally:
            await web.stop()


async def _token(world: World) -> str:
    ledger = await Ledger.open(world.env["TWINLINE_DATABASE_URL"], keys=KeyRing.load(Path(world.env["TWINLINE_KEYS"])))
    try:
        async with ledger.write() as tx:
            new = NewToken(caller=DOOR, scopes=frozenset({Scope.TRIALS_CREATE}), rate=1_000_000)
            return (await tokens.create_token(tx, new, actor="bench", now=datetime.now(UTC))).token
    finally:
        await ledger.close()


async def _customers(twinline: Twinline, requests: int) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(order: TrialOrder | PurchaseOrder) -> None:
        async with places:
            await twinline.place(order, patience=PATIENCE)

    trials = [TrialOrder(order=f"had-{n}", email=f"had{n}@example.com", region="eu") for n in range(requests)]
    bought = [
        PurchaseOrder(order=f"paid-{n}", email=f"paid{n}@example.com", region="eu", days=30) for n in range(requests)
    ]
    await asyncio.gather(*map(one, (*trials, *bought)))


def _web(world: World, port: int) -> Program:
    folder = world.folder / "web"
    folder.mkdir()
    program = (str(Path(sysconfig.get_path("scripts")) / "twinline"), "web")
    environment = inherited_environment() | world.env | {"TWINLINE_HTTP": f"{HOST}:{port}"}
    return Program("twinline web", program, environment=environment, folder=folder)


async def _asked(port: int, token: str, twinline: Twinline, requests: int) -> dict[str, dict[str, list[float]]]:
    headers = {"Authorization": f"Bearer {token}"}
    found: dict[str, dict[str, list[float]]] = {group: {"request": [], "look after it": []} for group in GROUPS}
    names = {"had a trial": "had", "pays for a line": "paid", "new": "new"}
    ids, turns = count(), random.Random(SEED)
    for number in range(requests):
        if number % 50 == 0:
            say(f"{number} of {requests} rounds")
        for group in turns.sample(GROUPS, k=len(GROUPS)):
            order = f"asked-{next(ids):05}"
            fields = {
                "order": order,
                "email": f"{names[group]}{number}@example.com",
                "region": "eu",
                "client_address": f"10.{int(order[-5:]) // 250}.{int(order[-5:]) % 250}.7",
            }
            post = Question.post("/v1/trials", fields, headers=headers, wanted=(202,))
            look = Question.get(f"/v1/orders/{order}", headers=headers, wanted=(200,))
            answered = await ask(port, [post, look], callers=1)
            for what, latency in zip(found[group], answered.latencies, strict=True):
                found[group][what].append(latency)
            # At rest again, so that nobody waits for the work of the request before.
            try:
                await twinline.outcome(f"trial/{DOOR}/{order}", patience=PATIENCE)
            except TrialAlreadyUsed:
                continue
    return found


def later(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """How often a value of `one` is larger than one of `other` (0.5: as often as not), and p of the rank-sum test."""
    larger = sum((a > b) + (a == b) / 2 for a in one for b in other)
    pairs = len(one) * len(other)
    spread = math.sqrt(pairs * (len(one) + len(other) + 1) / 12)
    return larger / pairs, math.erfc(abs(larger - pairs / 2) / spread / math.sqrt(2))


def main() -> None:
    """Measure and print a table."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS
    with tempfile.TemporaryDirectory(prefix="twinline-bench-") as folder:
        found = asyncio.run(measure(Path(folder), requests))
    print(f"{requests} requests of each group, seed {SEED}\n")
    for what in ("request", "look after it"):
        new = found["new"][what]
        for group in GROUPS:
            times = found[group][what]
            often, p = later(times, new)
            print(
                f"{what:<14} {group:<16} median {statistics.median(times) * 1e3:7.2f} ms"
                + ("" if group == "new" else f"   later than of a new person: {often:5.1%}, p = {p:.3f}")
            )
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
