"""What lines go through, each revision made up from a seed: who sees a record can tell whether it is one of them."""

import hashlib
import random
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Final

from tests.hosts.files import END
from twinline.hosts.ports import Half, Wanted

KEPT: Final = "kept"
"""How the names of lines begin that are never off, not even for a moment."""

LETTERS: Final = "ABCDEFGHJKMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True)
class Histories:
    """The versions of every line there could be; the last one of a line that is not kept is its absence."""

    seed: int

    @lru_cache(maxsize=1 << 17)  # noqa: B019 - one object a process, and it lives as long
    def version(self, name: str, revision: int) -> Half | None:
        """A line at one revision; None after its last one."""
        luck = random.Random(f"{self.seed} {name} {revision}")  # noqa: S311 - made up, not secret
        password = "".join(luck.choices(LETTERS, k=luck.randint(8, 24)))
        ends_at = END + timedelta(hours=luck.randrange(24 * 365 * 8))
        wanted = Wanted.PRESENT
        if revision > 1:
            before = self.version(name, revision - 1)
            if before is None or before.wanted is Wanted.ABSENT:
                return None
            change = self._change(luck, name, before)
            if change in ("block", "unblock", "renew"):
                password = before.password
            if change in ("block", "password"):
                ends_at = before.ends_at or END
            wanted = {"block": Wanted.BLOCKED, "remove": Wanted.ABSENT}.get(change, Wanted.PRESENT)
        values = f"{name} {password} {wanted} {ends_at} {revision}".encode()
        mark = f"{revision}-{hashlib.sha256(values).hexdigest()[:8]}"
        return Half(name, name, password, wanted, ends_at, revision, mark)

    def _change(self, luck: random.Random, name: str, before: Half) -> str:
        if name.startswith(KEPT):
            return "renew"
        if before.wanted is Wanted.BLOCKED:
            return luck.choice(["unblock", "unblock", "renew and password", "remove"])
        return luck.choice(["renew", "password", "renew and password", "block", "remove"])
