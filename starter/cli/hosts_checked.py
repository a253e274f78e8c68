"""Checks hosts for real: over SSH, against the ledger if it can be asked."""

import asyncio
from collections.abc import Sequence
from typing import Final

from starter.cli.context import Context
from starter.cli.findings import exit_of, show_findings
from twinline.errors import TwinlineError
from twinline.hosts.check import About, Expected, Finding
from twinline.hosts.inspection import inspect_host
from twinline.hosts.ports import Wanted
from twinline.inventory import Host, load_inventory
from twinline.ledger import Ledger
from twinline.ledger.queries import Holding, holdings

AT_A_TIME: Final = 8
"""Hosts that are looked at together."""


async def check_hosts(names: Sequence[str], *, as_json: bool) -> int:
    """Check the named hosts, or all; raises Misconfigured for settings, inventory, and a name that it lacks."""
    context = Context.load()
    inventory = load_inventory(context.settings.inventory)
    hosts = [inventory.host(name) for name in dict.fromkeys(names)] or inventory.hosts
    expected, findings = None, list[Finding]()
    try:
        async with context.ledger() as ledger:
            expected = await expected_on(ledger, hosts)
    except TwinlineError as error:
        message = f"{error.message}; hosts are checked without it"
        findings.append(About("ledger").warn("lines", message, hint=error.hint))
    for found in await inspect_all(hosts, expected):
        findings += found
    show_findings(findings, as_json=as_json)
    return exit_of(findings)


async def inspect_all(hosts: Sequence[Host], expected: dict[str, list[Expected]] | None) -> list[list[Finding]]:
    """Look at hosts side by side, a few at a time; the findings of each, in the same order."""
    places = asyncio.Semaphore(AT_A_TIME)

    async def one(host: Host) -> list[Finding]:
        async with places:
            return await inspect_host(host, expected=None if expected is None else expected[host.name])

    return await asyncio.gather(*(one(host) for host in hosts))


async def expected_on(ledger: Ledger, hosts: Sequence[Host]) -> dict[str, list[Expected]]:
    """What the ledger wants on each host; raises KeyRingError, Misconfigured, Unavailable."""
    async with ledger.read() as tx:
        return {host.name: [_expected(line) for line in await holdings(tx, host.name)] for host in hosts}


def _expected(line: Holding) -> Expected:
    return Expected(username=line.username, wanted=Wanted(line.state), mark=line.mark, behind=line.proven < line.wanted)
