"""Cursors as callers see them: opaque, so that what is in them stays ours to change."""

import base64
import binascii
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from twinline.errors import InvalidOrder

_VERSION: Final = "1:"


class PageQuery(BaseModel):
    """Which part of a list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = Field(default=None, max_length=200, description="Go on where the last page ended.")

    @property
    def position(self) -> str | None:
        """What the cursor stands for; raises InvalidOrder."""
        return None if self.cursor is None else opened(self.cursor)


def closed(position: str | None) -> str | None:
    """The cursor for a position in a list; None behind the last page."""
    if position is None:
        return None
    return base64.urlsafe_b64encode(f"{_VERSION}{position}".encode()).decode().rstrip("=")


def opened(cursor: str) -> str:
    """The position that a cursor stands for; raises InvalidOrder."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    if not text.startswith(_VERSION) or not text.isprintable():
        raise InvalidOrder("the cursor is not one that a list gave", hint="Start again without a cursor.")
    return text.removeprefix(_VERSION)
