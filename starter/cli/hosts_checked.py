"""Checks hosts for real: over SSH, against the ledger if it can be asked."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Final

from activities.host_ledger import LedgerOfHosts
from starter.cli.context import Context
from starter.cli.findings import exit_of, show_findings
from twinline.errors import TwinlineError
from twinline.hosts.check import About, Finding
from twinline.hosts.check_accounts import Expected, Ledgered
from twinline.hosts.inspection import inspect_host
from twinline.hosts.ports import HostLedger, Wanted
from twinline.inventory import Host, Inventory, load_inventory
from twinline.ledger import Ledger
from twinline.ledger.queries import Holding, holdings, last_proof

AT_A_TIME: Final = 8
"""Hosts that are looked at together."""


async def check_hosts(names: Sequence[str], *, prove_reload: bool, brief: bool, as_json: bool) -> int:
    """Check the named hosts, or all; raises UnknownHost, Misconfigured.

    With `prove_reload` the ledger has to be there, for its fencing tokens; raises Unavailable, KeyRingError too.
    """
    context = Context.load()
    inventory = load_inventory(context.settings.inventory)
    hosts = [inventory.host(name) for name in dict.fromkeys(names)] or inventory.hosts
    capacities = capacities_of(inventory)
    if prove_reload:
        async with context.ledger() as ledger:
            expected = await expected_on(ledger, hosts)
            found = await inspect_all(hosts, expected, capacities=capacities, prove_with=LedgerOfHosts(ledger))
        findings = list(chain.from_iterable(found))
    else:
        expected, findings = None, list[Finding]()
        try:
            async with context.ledger() as ledger:
                expected = await expected_on(ledger, hosts)
        except TwinlineError as error:
            message = f"{error.message}; hosts are checked without it"
            findings.append(About("ledger").warn("lines", message, hint=error.hint))
        findings += chain.from_iterable(await inspect_all(hosts, expected, capacities=capacities))
    show_findings(findings, as_json=as_json, brief=brief)
    return exit_of(findings)


def capacities_of(inventory: Inventory) -> dict[str, int]:
    """How many lines each host may hold, by its pair."""
    return {host: pair.capacity for pair in inventory.pairs for host in (pair.multics, pair.oscam)}


async def inspect_all(
    hosts: Sequence[Host],
    expected: Mapping[str, Ledgered] | None,
    *,
    capacities: Mapping[str, int] | None = None,
    prove_with: HostLedger | None = None,
) -> list[list[Finding]]:
    """Look at hosts side by side, a few at a time; the findings of each, in the same order."""
    places = asyncio.Semaphore(AT_A_TIME)

    async def one(host: Host) -> list[Finding]:
        async with places:
            ledgered = None if expected is None else expected[host.name]
            capacity = (capacities or {}).get(host.name)
            return await inspect_host(host, ledgered=ledgered, capacity=capacity, prove_with=prove_with)

    return await asyncio.gather(*(one(host) for host in hosts))


async def expected_on(ledger: Ledger, hosts: Sequence[Host]) -> dict[str, Ledgered]:
    """What the ledger wants on each host; raises KeyRingError, Misconfigured, Unavailable."""
    async with ledger.read() as tx:
        return {
            host.name: Ledgered(
                lines=[_expected(line) for line in await holdings(tx, host.name)],
                last_proof=await last_proof(tx, host.name),
            )
            for host in hosts
        }


def _expected(line: Holding) -> Expected:
    return Expected(username=line.username, wanted=Wanted(line.state), mark=line.mark, behind=line.proven < line.wanted)
