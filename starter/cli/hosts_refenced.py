"""Begins a new epoch of fencing tokens after the ledger was restored from a backup."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from starter.cli.context import Context
from starter.cli.render import Exit, out, say, show_json
from starter.cli.running import confirm
from twinline.errors import InvalidOrder
from twinline.hosts.factory import daemon_for, helper_for
from twinline.hosts.looking import read_file
from twinline.inventory import Host, load_inventory
from twinline.ledger import halves
from twinline.ledger.fences import FenceToken, refence
from twinline.messages import Message


class Refenced(Message):
    """One host's new epoch, and the lines that stand on it and that the ledger does not know."""

    host: str
    epoch: int
    unknown: tuple[str, ...]


async def refence_hosts(names: Sequence[str], *, every: bool, yes: bool, as_json: bool) -> int:
    """Raise the epoch of these hosts above all that they have seen; raises HostError, InvalidOrder, Misconfigured."""
    if every == bool(names):
        raise InvalidOrder("name the hosts, or give --all", hint="Example: twinline host refence mc-eu1 os-eu1")
    context = Context.load()
    inventory = load_inventory(context.settings.inventory)
    hosts = list(inventory.hosts) if every else [inventory.host(name) for name in dict.fromkeys(names)]
    confirm(
        f"Was the ledger restored from a backup, and shall it count from now on for {len(hosts)} hosts?",
        yes=yes,
    )
    seen = dict(await asyncio.gather(*(_seen(host) for host in hosts)))
    async with context.ledger() as ledger:
        async with ledger.read() as tx:
            known = {host.name: await halves.managed_usernames(tx, host.name) for host in hosts}
        async with ledger.write() as tx:
            tokens = {name: token for name, (token, _) in seen.items()}
            begun = await refence(tx, tokens, who="cli", now=datetime.now(UTC))
    done = [
        Refenced(host=name, epoch=begun[name].epoch, unknown=tuple(sorted(ours - known[name])))
        for name, (_, ours) in seen.items()
    ]
    for each in done:
        _tell(each, as_json=as_json)
    return Exit.DONE


async def _seen(host: Host) -> tuple[str, tuple[FenceToken, frozenset[str]]]:
    helper = await helper_for(host)
    try:
        epoch, number = helper.hello["token"]
        survey = daemon_for(host).survey((await read_file(helper)).data)
    finally:
        await helper.close()
    ours = frozenset(survey.slots) | {stray.username for stray in survey.strays}
    return host.name, (FenceToken(epoch=int(epoch), n=int(number)), ours)


def _tell(done: Refenced, *, as_json: bool) -> None:
    if as_json:
        show_json(done)
        return
    out().print(f"{done.host}: epoch {done.epoch} has begun; waiting orders go on by themselves within ten minutes.")
    if done.unknown:
        names = ", ".join(done.unknown[:5]) + (", …" if len(done.unknown) > 5 else "")
        say(
            f"  {len(done.unknown)} lines stand there that the ledger does not know: {names}",
            hint="They were made after the backup: repeat their orders, or take the records out by hand.",
            style="yellow",
        )
