"""Prints what a host's operator has to paste, so that our key can start the helper there and nothing else."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import asyncssh

from starter.cli.render import Exit, say, show_json, show_text
from twinline.errors import InvalidOrder, Misconfigured
from twinline.hosts.factory import allowance_of
from twinline.hosts.forced import authorized_line, helper_hash
from twinline.inventory import Host, load_inventory
from twinline.messages import Message
from twinline.settings import Settings

_HASH: Final = re.compile(r"[0-9a-f]{64}")


class Authorized(Message):
    """A line for authorized_keys, and the SHA-256 of the helper that it allows first."""

    host: str
    user: str
    line: str
    helper: str


async def authorize(name: str, *, also: Sequence[str], as_json: bool) -> int:
    """Print the line for a host; raises UnknownHost, Misconfigured, InvalidOrder for what is no hash."""
    host = load_inventory(Settings.load().inventory).host(name)
    if wrong := [word for word in also if not _HASH.fullmatch(word)]:
        raise InvalidOrder(
            f"--also {wrong[0]} is not the SHA-256 of a helper",
            hint="Copy the 64 hexadecimal digits from the line that stands on the host now.",
        )
    hashes = tuple(dict.fromkeys((helper_hash(), *also)))
    try:
        line = authorized_line(f"{_public_key(host)} twinline {host.name}", allowance_of(host), hashes)
    except ValueError:
        raise Misconfigured(
            f'host "{host.name}": reload.argv has a word that can\'t stand in authorized_keys',
            hint="Put the command into a script on the host, and name that.",
        ) from None
    if as_json:
        show_json(Authorized(host=host.name, user=host.ssh.user, line=line, helper=hashes[0]))
        return Exit.DONE
    show_text(line)
    say(
        f"For ~{host.ssh.user}/.ssh/authorized_keys on {host.name}, instead of any other line with this key.",
        hint="It allows this version of the helper; docs/hosts.md says how to upgrade.",
    )
    return Exit.DONE


def _public_key(host: Host) -> str:
    path: Path = host.ssh.key
    try:
        kind, text, *_ = asyncssh.read_private_key(path).export_public_key().decode().split()
    except (OSError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise Misconfigured(
            f'host "{host.name}": ssh.key {path} can\'t be read ({type(error).__name__})',
            hint="Make one with `ssh-keygen -t ed25519 -N '' -f PATH`, or correct ssh.key in the inventory.",
        ) from None
    return f"{kind} {text}"
