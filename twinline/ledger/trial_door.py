"""Who has asked for a trial lately, and from where: only keyed hashes, and of where from for a day.

Every request counts, whatever becomes of it: what is counted tells nothing about who is a customer.
"""

import hmac
import ipaddress
from datetime import datetime, timedelta
from typing import Final

from sqlmodel import col, delete, select, update

from twinline.errors import DisposableAddress, OrderConflict, TrialRangeUsed
from twinline.ledger import models
from twinline.ledger.filing import fingerprint_of, identity_of
from twinline.ledger.placement import refuse_without_room
from twinline.ledger.tx import ReadTx, WriteTx
from twinline.ledger.types import utc
from twinline.messages import Order, OrderKind, TrialOrder, order_kind, order_ref

DAY: Final = timedelta(hours=24)
"""For how long it is known from where a trial was asked for."""
V4_PREFIX: Final = 24
V6_PREFIX: Final = 56
"""Bits: what providers give to one home, or to a few."""


def range_of(address: str) -> str:
    """The range in which this address lies; raises ValueError."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(found), V6_PREFIX), strict=False))
        found = found.ipv4_mapped
    return str(ipaddress.ip_network((int(found), V4_PREFIX), strict=False))


async def admit_trial(
    tx: WriteTx,
    order: TrialOrder,
    *,
    person: str,
    client: str | None,
    per_range: int,
    disposable: bool,
    untold: bool,
    known: bool,
    now: datetime,
) -> None:
    """Let a request for a trial in, once for each order id; `client` is the customer's address, `person` is normalised.

    `known` says that the ledger has the order already, `disposable` that the mail address is one to throw away.
    `per_range` requests a day may come from the range of `client`; 0 allows any number. With `untold` the caller will
    not hear what becomes of the request: then its id stands for it for good, as if it were an order, and what would
    refuse it whoever asks is told now.

    Raises DisposableAddress, TrialRangeUsed, OrderConflict; with `untold` also UnknownRegion, RegionFull.
    """
    identity = _identity(order)
    await tx.alone("order", identity)
    fingerprint = fingerprint_of(tx, order)
    row = await tx.session.get(models.TrialRequest, identity)
    if row is not None:
        _refuse_other(row, fingerprint)
        if untold:
            row.fingerprint = fingerprint
        return
    if known:
        return
    if disposable:
        raise disposable_address()
    if untold:
        await refuse_without_room(tx, order.region)
    seen_from = None
    if client is not None and per_range:
        seen_from = tx.keys.mac("client-range", range_of(client))
        await _refuse_beyond(tx, seen_from, per_range, now=utc(now))
    tx.session.add(
        models.TrialRequest(
            identity=identity,
            fingerprint=fingerprint if untold else None,
            person_hash=tx.keys.mac("person", person),
            range_hash=seen_from,
            at=utc(now),
        )
    )


async def refuse_taken_id(tx: ReadTx, order: Order) -> None:
    """Refuse an order whose id stands for a request for a trial of which nothing was told; raises OrderConflict."""
    row = await tx.row(models.TrialRequest, _identity(order))
    if row is not None:
        _refuse_other(row, fingerprint_of(tx, order))


async def was_asked_for(tx: ReadTx, *, caller: str, ref: str) -> bool:
    """Whether this caller asked for a trial under that id, of which nothing was told."""
    row = await tx.row(models.TrialRequest, identity_of(OrderKind.TRIAL, caller, ref))
    return row is not None and row.fingerprint is not None


async def forget_ranges(tx: WriteTx, *, now: datetime) -> None:
    """Forget from where trials were asked for more than a day ago."""
    # Every host's sweep does this: two that lock the same rows in another order would wait for each other.
    await tx.alone("client-range")
    table = models.TrialRequest
    old = (col(table.range_hash).is_not(None), col(table.at) <= utc(now) - DAY)
    await tx.session.exec(update(table).where(*old).values(range_hash=None))


async def forget_person(tx: WriteTx, person_hash: bytes) -> None:
    """Forget every request of a person."""
    await tx.session.exec(delete(models.TrialRequest).where(col(models.TrialRequest.person_hash) == person_hash))


def disposable_address() -> DisposableAddress:
    """In the same words wherever it is noticed."""
    return DisposableAddress(
        "addresses of that domain get no trials", hint="Give another address, or order a purchase instead."
    )


def _identity(order: Order) -> str:
    return identity_of(order_kind(order), order.caller, order_ref(order))


def _refuse_other(row: models.TrialRequest, fingerprint: bytes) -> None:
    if row.fingerprint is not None and not hmac.compare_digest(row.fingerprint, fingerprint):
        raise OrderConflict(
            "this order id was used before for something else",
            hint="Take a new id for a new order; repeat an order with exactly the same contents.",
        )


async def _refuse_beyond(tx: WriteTx, seen_from: bytes, per_range: int, *, now: datetime) -> None:
    await tx.alone("client-range", seen_from.hex())
    table = models.TrialRequest
    query = select(table.at).where(table.range_hash == seen_from, table.at > now - DAY).order_by(col(table.at).desc())
    lately = (await tx.session.exec(query.limit(per_range))).all()
    if len(lately) == per_range:
        raise TrialRangeUsed(
            "enough trials were asked for from that address range within a day",
            hint="Wait as long as Retry-After says, or order a purchase instead.",
            wait=utc(lately[-1]) + DAY - now,
        )
