"""The line in authorized_keys that lets our key start this helper, for these files, and nothing else.

Our client sends the helper program anyway, so nothing but the line is installed: a launcher in it compares what was
sent with the SHA-256 that the line names, and runs nothing else. The words behind the hash are what that program then
keeps itself to (`Bounds` in helper_program.py). Python's `-I` keeps environment, user packages and the working
directory out, `-B` writes nothing.
"""

import hashlib
import shlex
from collections.abc import Sequence
from typing import Final

from twinline.hosts.ssh import REFUSED, helper_source

LAUNCHER: Final = (
    "import hashlib,hmac,os,sys;"
    "s=sys.stdin.buffer;"
    # A shell, another command and sftp are told at once, instead of being waited for.
    'n=s.readline(7)if b"twinline-helper"in os.environb.get(b"SSH_ORIGINAL_COMMAND",b"")else b"";'
    'p=s.read(int(n))if n.strip().isdigit()else b"";'
    'any([hmac.compare_digest(hashlib.sha256(p).hexdigest(),h)for h in sys.argv[1].split(",")])'
    f'or sys.exit("{REFUSED}: this key starts one version of the helper of twinline, and nothing else");'
    'exec(compile(p,"twinline-helper","exec"))'
)
"""Reads length and text of the program as `ssh.BOOTSTRAP` does; the length is bounded before anything is read."""


def helper_hash() -> str:
    """SHA-256 of the helper program of this version."""
    return hashlib.sha256(helper_source()).hexdigest()


def forced_command(words: Sequence[str], hashes: Sequence[str]) -> str:
    """The command for sshd to run whatever was asked for; `words` are `factory.allowance_of` the host."""
    arguments = shlex.join([",".join(hashes), *words])
    return f"exec python3 -IBc {shlex.quote(LAUNCHER)} {arguments}"


def authorized_line(public_key: str, words: Sequence[str], hashes: Sequence[str]) -> str:
    """The whole line, without an end; raises ValueError for a word that can't stand in one line."""
    command = forced_command(words, hashes)
    if not command.isprintable():
        raise ValueError("a word that is not printable")
    # In authorized_keys only the double quote has to be escaped.
    escaped = command.replace('"', r"\"")
    return f'restrict,command="{escaped}" {public_key}'
