"""Looks at an accounts file and at what the running daemon has loaded, without writing or reloading anything."""

import html
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from twinline.hosts.daemon import Daemon, Listing
from twinline.hosts.errors import StatusTrouble
from twinline.hosts.ports import Half
from twinline.hosts.ssh import Helper, decode

PAGES_AT_ONCE: Final = 200
"""Pages that one request reads: so many take a slow daemon seconds."""


@dataclass(frozen=True)
class FileNow:
    """The accounts file as it stands, or will stand once what a crash left undone is completed."""

    data: bytes = field(repr=False)
    signature: list[int]
    recover: bool


@dataclass(frozen=True)
class Loaded:
    """How one account is loaded, as far as the daemon's pages tell; None for what they do not show."""

    mark: str | None
    end: str | None
    our_password: bool | None


class Access(StrEnum):
    """Whether somebody may log in on a loaded account; SHUT is off whatever is reloaded, until a person opens it."""

    OPEN = "open"
    OFF = "off"
    SHUT = "shut"


@dataclass(frozen=True)
class Look:
    """What was seen on a host at about the same time."""

    data: bytes = field(repr=False)
    listed: Mapping[str, Access] | None
    """Every loaded account, and whether somebody may log in on it; None when the daemon does not tell."""
    loaded: Mapping[str, Loaded]
    """By name, those that were looked at closely."""


async def read_file(helper: Helper) -> FileNow:
    """Read the accounts file; raises FileTrouble, LockHeld, HelperFailed."""
    answer = await helper.ask("read")
    return FileNow(zlib.decompress(decode(answer["body"])), answer["signature"], answer["recover"])


async def see_alive(helper: Helper, daemon: Daemon) -> None:
    """See that the daemon runs and answers us, by its lightest page; raises StatusTrouble, HelperFailed."""
    page = daemon.sign_of_life()
    (sign,) = page.must
    answer = await helper.ask("scan", {"path": page.path, "pattern": sign})
    if answer["code"] != 200 or not answer["found"]:
        raise StatusTrouble(f"the daemon's page is not what it must be (HTTP status {answer['code']})")


async def listed_accounts(helper: Helper, daemon: Daemon) -> dict[str, Access]:
    """Every loaded account, and whether somebody may log in on it; raises StatusTrouble, HelperFailed."""
    listing = daemon.listing()
    answer = await helper.ask("scan", {"path": listing.path, "pattern": listing.pattern})
    if answer["code"] != 200:
        raise StatusTrouble(f"the daemon answers with HTTP status {answer['code']}")
    # OSCam's pages are XML, which escapes names; no name that MultiCS can load looks like an entity.
    return {html.unescape(name): _access(listing, state) for name, state in answer["found"]}


def _access(listing: Listing, state: str) -> Access:
    if re.fullmatch(listing.shut, state):
        return Access.SHUT
    return Access.OFF if re.fullmatch(listing.off, state) else Access.OPEN


async def loaded_accounts(helper: Helper, daemon: Daemon, halves: Sequence[Half]) -> dict[str, Loaded]:
    """How these accounts are loaded, by name; raises StatusTrouble, HelperFailed."""
    found: dict[str, Loaded] = {}
    for start in range(0, len(halves), PAGES_AT_ONCE):
        some = halves[start : start + PAGES_AT_ONCE]
        wishes = [daemon.details(half) for half in some]
        request = [
            {"path": wish.path, "patterns": [wish.mark, wish.end, *([wish.password] if wish.password else [])]}
            for wish in wishes
        ]
        answer = await helper.ask("values", {"wishes": request})
        for half, (mark, end, *password) in zip(some, answer["found"], strict=True):
            found[half.username] = Loaded(mark, end, password[0] is not None if password else None)
    return found


async def look(helper: Helper, daemon: Daemon, closely: Sequence[Half]) -> Look:
    """Read the file and what the daemon tells, some accounts closely; raises FileTrouble, LockHeld, HelperFailed."""
    now = await read_file(helper)
    try:
        listed = await listed_accounts(helper, daemon)
        loaded = await loaded_accounts(helper, daemon, closely)
    except StatusTrouble:
        return Look(now.data, None, {})
    return Look(now.data, listed, loaded)
