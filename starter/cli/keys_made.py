"""Makes, rotates and shortens the key ring."""

from pathlib import Path

from starter.cli.context import Context
from starter.cli.render import Exit, show_json, show_text
from twinline.keys import KeyRing, KeyRingError
from twinline.ledger.sealing import reseal, sealed_with
from twinline.messages import Message


class RingMade(Message):
    """What `keys create --json` prints."""

    path: str
    primary: str


class RingRotated(Message):
    """What `keys rotate --json` prints: the new key, and how many rows of the ledger were sealed again with it."""

    path: str
    primary: str
    changed: int
    rows: int


class KeyRetired(Message):
    """What `keys retire --json` prints."""

    path: str
    retired: str


async def create_ring(path: Path, *, as_json: bool) -> int:
    """Make a ring; raises KeyRingError."""
    keys = KeyRing.create(path)
    if as_json:
        show_json(RingMade(path=str(path), primary=keys.primary))
    else:
        show_text(f"{path} holds a new key ring. Keep a copy where the ledger's backups are not.")
    return Exit.DONE


async def rotate_ring(*, as_json: bool) -> int:
    """Add a key and seal the ledger with it; raises KeyRingError, Misconfigured, Unavailable."""
    context = Context.load()
    async with context.ledger():
        pass  # a ledger that is away must be told before the ring is changed
    keys, path = KeyRing.rotate(context.settings.keys), context.settings.keys
    if not as_json:
        show_text(f'{path} has a new key, "{keys.primary}", which seals from now on.')
    async with Context(context.settings, keys).ledger() as ledger:
        done = await reseal(ledger)
    if as_json:
        show_json(RingRotated(path=str(path), primary=keys.primary, changed=done.changed, rows=done.rows))
        return Exit.DONE
    show_text(f"{done.changed} of {done.rows} rows of the ledger were sealed again with it.")
    show_text("Copy the ring to where you keep its backup. Old keys still open older backups of the ledger.")
    return Exit.DONE


async def retire_key(key: str, *, as_json: bool) -> int:
    """Destroy an old key; raises KeyRingError for one that is needed or not there, Misconfigured, Unavailable."""
    context = Context.load()
    async with context.ledger() as ledger:
        needed = await sealed_with(ledger, key)
    if needed:
        raise KeyRingError(
            f'the key "{key}" is still needed: {needed} secrets of the ledger are sealed with it',
            hint="`twinline keys rotate` seals them with a new one.",
        )
    KeyRing.retire(context.settings.keys, key)
    if as_json:
        show_json(KeyRetired(path=str(context.settings.keys), retired=key))
    else:
        show_text(
            f"{key} is destroyed, in this file. Replace every other copy of it, backups too: they still hold the key."
        )
    return Exit.DONE
