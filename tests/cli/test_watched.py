"""A worker as those who watch over it see it: really scraped, while things go well and while they do not."""

import asyncio
import json
from collections.abc import Mapping
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.cli.conftest import Cli
from tests.oncall.rules import names_in_rules
from twinline.sandbox.world import World

MULTICS, OSCAM = "mc-eu1", "os-eu1"
Labels = frozenset[tuple[str, str]]


def read(url: str) -> str:
    with urlopen(url, timeout=30) as answer:  # noqa: S310 - our own URL
        return answer.read().decode()


async def scraped(world: World) -> Mapping[tuple[str, Labels], float]:
    """Every sample that the worker shows, by name and labels."""
    text = await asyncio.to_thread(read, world.metrics_url)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Mapping[tuple[str, Labels], float], name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


async def test_orders_hosts_mails_and_the_ledger_are_counted(cli: Cli, world: World, line: str) -> None:
    before = await scraped(world)
    assert (await cli("renew", line, "--days", "1", "--order", "N-1")).code == 0
    assert (await cli("trial", "line@example.com", "--region", "eu", "--order", "N-2")).code == 4
    after = await scraped(world)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert grown("twinline_orders_total", kind="renewal", outcome="done") == 1
    assert grown("twinline_orders_total", kind="trial", outcome="refused") == 1
    assert grown("twinline_order_seconds_count", kind="renewal") == 1
    assert grown("twinline_mails_total", kind="extended", outcome="accepted") == 1
    for host in (MULTICS, OSCAM):
        assert grown("twinline_half_proven_seconds_count", host=host) == 1
        assert grown("twinline_host_edits_total", host=host) >= 1
        assert grown("twinline_host_reloads_total", host=host) >= 1
        assert grown("twinline_host_batches_total", host=host, outcome="done") >= 1
        assert value(after, "twinline_host_state", host=host, state="up", reason="") == 1
        assert value(after, "twinline_halves_waiting", host=host) == 0
    assert grown("twinline_ledger_transaction_seconds_count", mode="write") > 0
    assert value(after, "twinline_ledger_up") == 1
    assert value(after, "twinline_temporal_up") == 1
    # One place to look at: the SDK's own stand there too, with those that alerts need.
    names = {name for name, _ in after}
    assert {name for name in names_in_rules() if name.startswith("temporal_")} <= names
    # Neither a line nor an order is a label: each would be kept for ever.
    told = {label for _, labels in after for _, label in labels}
    assert not told & {line, "N-1", "N-2", "cli"}


async def test_a_host_that_is_away_shows_and_the_worker_stays_ready(cli: Cli, world: World, line: str) -> None:
    box = world.box(OSCAM)
    await box.refuse(on=True)
    box.drop_connections()
    try:
        assert (await cli("renew", line, "--days", "1", "--order", "N-3", "--no-wait")).code == 5
        while True:
            found = await scraped(world)
            if value(found, "twinline_host_state", host=OSCAM, state="down", reason="HostUnreachable"):
                break
        assert value(found, "twinline_halves_waiting", host=OSCAM) == 1
        assert value(found, "twinline_halves_waiting_oldest_seconds", host=OSCAM) > 0
        assert value(found, "twinline_host_batches_total", host=OSCAM, outcome="HostUnreachable") >= 1
        ready = json.loads(await asyncio.to_thread(read, world.metrics_url.replace("/metrics", "/readyz")))
        ok = dict.fromkeys(("ledger", "temporal", "workers", "keys", "mail"), "ok")
        assert ready == {"ready": True, **ok}
    finally:
        await box.refuse(on=False)
    assert (await cli("order", "retry", "N-3", "--json")).code == 0
    found = await scraped(world)
    assert value(found, "twinline_host_state", host=OSCAM, state="up", reason="") == 1
