"""Takes the inventory over into the ledger."""

from datetime import datetime

from sqlmodel import col, delete, select

from twinline.errors import Misconfigured
from twinline.inventory import Inventory
from twinline.ledger import models
from twinline.ledger.lines import done_with, listed, note
from twinline.ledger.tx import WriteTx
from twinline.ledger.types import utc
from twinline.messages import Message, Protocol


class HostSnapshot(Message):
    """What an event shows of a host."""

    protocol: Protocol


class PairSnapshot(Message):
    """What an event shows of a pair."""

    region: str
    multics: str
    oscam: str
    capacity: int

    @property
    def hosts(self) -> tuple[str, str]:
        """Both hosts, MultiCS first."""
        return (self.multics, self.oscam)


async def sync_inventory(tx: WriteTx, inventory: Inventory, *, now: datetime) -> None:
    """Make the ledger's hosts and pairs those of the inventory.

    Raises Misconfigured, and changes nothing, when a host would change its protocol, or when a pair or host that
    has lines would disappear or a pair change its hosts: their records would be left behind on the old hosts.
    A line that was moved away and is proven to be gone holds nothing up, and its old half goes with the host.
    """
    hosts = {host.name: HostSnapshot(protocol=host.protocol) for host in inventory.hosts}
    pairs = {
        pair.name: PairSnapshot(region=pair.region, multics=pair.multics, oscam=pair.oscam, capacity=pair.capacity)
        for pair in inventory.pairs
    }
    # Of workers that start together each finds what the one before has done.
    await tx.alone("inventory")
    old_hosts = {host.name: host for host in await tx.session.exec(select(models.Host))}
    locked = select(models.Pair).order_by(models.Pair.name).with_for_update()
    old_pairs = {pair.name: pair for pair in await tx.session.exec(locked)}
    _refuse_other_protocols(old_hosts, hosts)
    await _refuse_lost_lines(tx, old_pairs, pairs, gone_hosts=old_hosts.keys() - hosts.keys())
    # Each step needs the one before: pairs refer to hosts.
    await _add_hosts(tx, old_hosts, hosts, now=utc(now))
    await _sync_pairs(tx, old_pairs, pairs, now=utc(now))
    await _remove_hosts(tx, old_hosts, hosts, now=utc(now))


def _refuse_other_protocols(old: dict[str, models.Host], new: dict[str, HostSnapshot]) -> None:
    for name, host in new.items():
        if name in old and old[name].protocol != host.protocol:
            raise Misconfigured(
                f'host "{name}": protocol is "{host.protocol}", but this host was set up as "{old[name].protocol}"',
                hint="Give the other daemon a host name of its own; what stands on this host is in the old form.",
            )


async def _refuse_lost_lines(
    tx: WriteTx, old: dict[str, models.Pair], new: dict[str, PairSnapshot], *, gone_hosts: set[str]
) -> None:
    hosts_in_use = await _hosts_in_use(tx)
    pairs_in_use = set(await tx.session.exec(select(models.Line.pair).distinct()))
    pairs_in_use |= {pair.name for pair in old.values() if {pair.multics, pair.oscam} & hosts_in_use}
    for name in sorted(old.keys() & pairs_in_use):
        if name not in new:
            raise Misconfigured(
                f'pair "{name}" is missing, but lines live on it',
                hint="Put it back into the inventory; a pair stays as long as the ledger has lines on it.",
            )
        if new[name].hosts != (old[name].multics, old[name].oscam):
            raise Misconfigured(
                f'pair "{name}": its hosts are {" and ".join(new[name].hosts)}, but lines live on it on '
                f"{old[name].multics} and {old[name].oscam}",
                hint="Put its hosts back, and declare the new hosts as a pair of their own.",
            )
    if lost := gone_hosts & hosts_in_use:
        raise Misconfigured(
            f"hosts are missing, but lines live on them: {listed([*lost])}",
            hint="Put them back into the inventory; a host stays as long as the ledger has lines on it.",
        )


async def _hosts_in_use(tx: WriteTx) -> set[str]:
    half = models.Half
    hosts = set(await tx.session.exec(select(half.host).where(col(half.left_at).is_(None)).distinct()))
    moved_away = await tx.session.exec(select(half).where(col(half.left_at).is_not(None)))
    return hosts | {each.host for each in moved_away if not done_with(each)}


async def _add_hosts(tx: WriteTx, old: dict[str, models.Host], new: dict[str, HostSnapshot], *, now: datetime) -> None:
    for name in sorted(new.keys() - old.keys()):
        tx.session.add(models.Host(name=name, protocol=new[name].protocol, created_at=now))
        if await tx.session.get(models.Fence, name) is None:
            tx.session.add(models.Fence(host=name))
        _note(tx, "host.added", name, now=now, after=new[name])
    await tx.session.flush()


async def _sync_pairs(tx: WriteTx, old: dict[str, models.Pair], new: dict[str, PairSnapshot], *, now: datetime) -> None:
    for name, pair in old.items():
        before = PairSnapshot(region=pair.region, multics=pair.multics, oscam=pair.oscam, capacity=pair.capacity)
        after = new.get(name)
        if after is None:
            await tx.session.delete(pair)
            _note(tx, "pair.removed", name, now=now, before=before)
        elif after != before:
            pair.sqlmodel_update(after.model_dump())
            _note(tx, "pair.changed", name, now=now, before=before, after=after)
    for name in sorted(new.keys() - old.keys()):
        tx.session.add(models.Pair(name=name, created_at=now, **new[name].model_dump()))
        _note(tx, "pair.added", name, now=now, after=new[name])
    await tx.session.flush()


async def _remove_hosts(
    tx: WriteTx, old: dict[str, models.Host], new: dict[str, HostSnapshot], *, now: datetime
) -> None:
    for name in sorted(old.keys() - new.keys()):
        for table in (models.Half, models.HealthSample):
            await tx.session.exec(delete(table).where(col(table.host) == name))
        await tx.session.delete(old[name])
        _note(tx, "host.removed", name, now=now, before=HostSnapshot(protocol=old[name].protocol))


def _note(
    tx: WriteTx,
    what: str,
    name: str,
    *,
    now: datetime,
    before: Message | None = None,
    after: Message | None = None,
) -> None:
    note(tx, at=now, who="inventory", what=what, why=name, before=before, after=after)
