"""Begins a new epoch of fencing tokens after the ledger was restored from a backup."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from starter.cli.context import Context
from starter.cli.render import Exit, out, say, show_json
from starter.cli.running import confirm
from twinline.errors import InvalidOrder
from twinline.hosts.errors import HostError
from twinline.hosts.factory import daemon_for, helper_for
from twinline.hosts.looking import read_file
from twinline.inventory import Host, load_inventory
from twinline.ledger import halves
from twinline.ledger.fences import FenceToken, refence
from twinline.messages import Message

SHOWN = 5


class Refenced(Message):
    """One host's new epoch, and the lines that stand on it and that the ledger does not know.

    A host that could not be asked keeps its epoch (None), and `error` is the code of what kept us from it.
    """

    host: str
    epoch: int | None
    unknown: tuple[str, ...]
    error: str | None = None


@dataclass(frozen=True)
class _Seen:
    token: FenceToken
    ours: frozenset[str]


async def refence_hosts(names: Sequence[str], *, every: bool, yes: bool, as_json: bool) -> int:
    """Raise the epoch of these hosts above all that they have seen; raises InvalidOrder, Misconfigured, Unavailable.

    A host that does not answer keeps no other from it.
    """
    if every == bool(names):
        raise InvalidOrder(
            "--all goes without names of hosts" if every else "name the hosts, or give --all",
            hint="Example: twinline host refence mc-eu1 os-eu1",
        )
    context = Context.load()
    inventory = load_inventory(context.settings.inventory)
    hosts = list(inventory.hosts) if every else [inventory.host(name) for name in dict.fromkeys(names)]
    confirm(
        f"Was the ledger restored from a backup, and shall it count from now on for {len(hosts)} hosts?",
        yes=yes,
        as_json=as_json,
    )
    found = dict(
        zip([host.name for host in hosts], await asyncio.gather(*(_look(host) for host in hosts)), strict=True)
    )
    seen = {name: each for name, each in found.items() if isinstance(each, _Seen)}
    async with context.ledger() as ledger:
        async with ledger.read() as tx:
            known = {name: await halves.managed_usernames(tx, name) for name in seen}
        async with ledger.write() as tx:
            begun = await refence(
                tx, {name: each.token for name, each in seen.items()}, who="cli", now=datetime.now(UTC)
            )
    done = [
        Refenced(host=name, epoch=begun[name].epoch, unknown=tuple(sorted(each.ours - known[name])))
        if isinstance(each, _Seen)
        else Refenced(host=name, epoch=None, unknown=(), error=each.code)
        for name, each in found.items()
    ]
    if as_json:
        show_json(done)
    else:
        for each in done:
            _tell(each, found[each.host])
    return Exit.DONE if len(seen) == len(hosts) else Exit.UNAVAILABLE


async def _look(host: Host) -> _Seen | HostError:
    try:
        helper = await helper_for(host)
        try:
            epoch, number = helper.hello["token"]
            survey = daemon_for(host).survey((await read_file(helper)).data)
        finally:
            await helper.close()
    except HostError as error:
        return error
    ours = frozenset(survey.slots) | {stray.username for stray in survey.strays}
    return _Seen(FenceToken(epoch=int(epoch), n=int(number)), ours)


def _tell(done: Refenced, found: _Seen | HostError) -> None:
    if isinstance(found, HostError):
        say(f"{done.host}: {found}; its epoch stays as it is", hint=found.hint, style="yellow")
        return
    out().print(f"{done.host}: epoch {done.epoch} has begun; what waits goes on by itself within ten minutes.")
    if done.unknown:
        names = ", ".join(done.unknown[:SHOWN]) + (", …" if len(done.unknown) > SHOWN else "")
        say(
            f"  {len(done.unknown)} lines stand there that the ledger does not know: {names}",
            hint="They were made after the backup: repeat their orders, or take the records out by hand.",
            style="yellow",
        )
