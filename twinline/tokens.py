"""API tokens as pure rules: what one looks like, what it allows, and until when.

A token is `twl_<id>_<secret>`, 16 and 64 hexadecimal digits: a fixed form, by which a leaked one can be found. The id
is no secret; of the secret, 256 random bits, only a keyed hash is kept.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from random import Random
from typing import Annotated, Final, Literal

from pydantic import Field

from twinline.messages import CallerName, Days, Message

SECRET_BITS: Final = 256
USE_NOTED_EVERY: Final = timedelta(minutes=1)
"""How far behind `last_used_at` may be: a write for every request would make reading as dear as ordering."""
_FORM: Final = re.compile(r"twl_([0-9a-f]{16})_([0-9a-f]{64})", re.ASCII)

DEFAULT_RATE: Final = 600
"""Requests a minute."""
Rate = Annotated[int, Field(ge=1, le=1_000_000)]

Standing = Literal["valid", "expired", "revoked"]


class Scope(StrEnum):
    """What a token allows; `admin` allows everything else but to read credentials."""

    TRIALS_CREATE = "trials:create"
    PURCHASES_CREATE = "purchases:create"
    RENEWALS_CREATE = "renewals:create"
    BLOCKS_WRITE = "blocks:write"
    LINES_READ = "lines:read"
    CREDENTIALS_READ = "credentials:read"
    BULK = "bulk"
    ADMIN = "admin"


class NewToken(Message):
    """What a token shall be; `reseller` binds it to the lines that its caller opened."""

    caller: CallerName
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    reseller: bool = False
    days: Days = 365
    rate: Rate = DEFAULT_RATE
    """Requests a minute."""


@dataclass(frozen=True)
class PresentedToken:
    """A token as somebody showed it; whether there is such a one is for the ledger to say."""

    token_id: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """The whole token, which is secret."""
        return f"twl_{self.token_id}_{self.secret}"


def new_secret(random: Random) -> str:
    """The secret half of a token."""
    return f"{random.getrandbits(SECRET_BITS):064x}"


def parse_token(text: str) -> PresentedToken | None:
    """Take a token apart; None when it has not the form of one."""
    found = _FORM.fullmatch(text)
    return None if found is None else PresentedToken(found[1], found[2])


def allows(scopes: Collection[Scope], needed: Scope) -> bool:
    """Whether a token with these scopes may do what `needed` names."""
    if needed in scopes:
        return True
    # Who runs the house need not see customers' passwords.
    return Scope.ADMIN in scopes and needed is not Scope.CREDENTIALS_READ


def standing(*, expires_at: datetime, revoked_at: datetime | None, now: datetime) -> Standing:
    """Whether a token counts at `now`; at the moment of its end it does no longer."""
    if revoked_at is not None:
        return "revoked"
    return "valid" if now < expires_at else "expired"


def use_is_due(last_used_at: datetime | None, now: datetime) -> bool:
    """Whether a use at `now` is to be written down."""
    return last_used_at is None or now - last_used_at >= USE_NOTED_EVERY


def end_after_rotation(*, expires_at: datetime, now: datetime, overlap: timedelta) -> datetime:
    """Until when a token counts that got a successor at `now`: never longer than before."""
    return min(expires_at, now + overlap)
