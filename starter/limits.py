"""How many requests may come: token buckets in the memory of this process, so two processes allow twice as many.

A bucket holds what may come in a minute, and fills up again evenly.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

WINDOW: Final = 60
"""Seconds in which a full rate comes back."""
MOST_BUCKETS: Final = 10_000
"""Of one kind; who was not seen for the longest time is forgotten, as if nothing had come from there."""
FAILURES_A_MINUTE: Final = 30
"""Requests without a token that counts, from one address."""
_NETWORK_OF_ONE: Final = 64
"""Bits of an IPv6 address that name a customer's network; whoever has one has all addresses in it."""


@dataclass(frozen=True)
class Allowance:
    """What a bucket says: whether one more may pass, how many are left, and when."""

    rate: int
    """A minute."""
    left: int
    wait: timedelta
    """Until the next one may pass; nothing while some are left."""

    @property
    def exceeded(self) -> bool:
        """Whether this one was one too many."""
        return self.wait > timedelta(0)


class Buckets:
    """One bucket for each key; `clock` gives seconds, and never goes back."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, most: int = MOST_BUCKETS) -> None:
        self._clock = clock
        self._most = most
        self._filled: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """How much there was, and when."""

    def __contains__(self, key: str) -> bool:
        return key in self._filled

    def take(self, key: str, rate: int) -> Allowance:
        """Take one, if there is one; `rate` is how many come back a minute, and as many lie in a full bucket."""
        level, now = self._level(key, rate)
        allowed = level >= 1
        self._filled[key] = (level - 1 if allowed else level, now)
        self._filled.move_to_end(key)
        while len(self._filled) > self._most:
            self._filled.popitem(last=False)
        return _allowance(level - 1, rate)

    def look(self, key: str, rate: int) -> Allowance:
        """What `take` would say, without taking any."""
        return _allowance(self._level(key, rate)[0] - 1, rate)

    def _level(self, key: str, rate: int) -> tuple[float, float]:
        now = self._clock()
        level, since = self._filled.get(key, (float(rate), now))
        return min(float(rate), level + (now - since) * rate / WINDOW), now


def _allowance(left: float, rate: int) -> Allowance:
    missing = max(0.0, -left)
    return Allowance(rate=rate, left=max(0, int(left)), wait=timedelta(seconds=missing * WINDOW / rate))


def sender_of(address: str) -> str:
    """Who sends from this address, as far as an address tells: an IPv4 address, the network of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found), _NETWORK_OF_ONE), strict=False))
    return str(found)
