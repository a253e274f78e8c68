"""What commands work with: settings, key ring, ledger and Temporal, opened when they are needed."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from twinline.errors import Misconfigured
from twinline.keys import KeyRing
from twinline.ledger import Ledger
from twinline.ledger.schema import require_current
from twinline.settings import Settings

if TYPE_CHECKING:
    from temporalio.client import Client
    from temporalio.runtime import Runtime

    from twinline.ui import Page

CONNECT_PATIENCE: Final = 5.0
"""Seconds that a command waits for Temporal; a person who waits longer had better be told."""


@dataclass(frozen=True)
class Context:
    """Settings and the key ring, which every command but `worker` needs."""

    settings: Settings
    keys: KeyRing

    @classmethod
    def load(cls) -> Self:
        """Read both; raises Misconfigured."""
        settings = Settings.load()
        return cls(settings, KeyRing.load(settings.keys))

    @asynccontextmanager
    async def ledger(self, *, of_any_version: bool = False) -> AsyncGenerator[Ledger]:
        """The ledger, which must be there already, with the tables of this version; raises Misconfigured, Unavailable.

        A newer version may mean something else by what it keeps, so nothing is read of one unless that is asked for.
        """
        url = self.settings.database_url.get_secret_value()
        _require_file(url)
        ledger = await Ledger.open(url, keys=self.keys)
        try:
            if not of_any_version:
                await require_current(ledger)
            yield ledger
        finally:
            await ledger.close()

    def page(self) -> "Page | None":
        """What leads to workflows in Temporal's web interface; raises Misconfigured."""
        if self.settings.temporal_ui is None:
            return None
        from twinline.connect import page_link

        return page_link(self.settings)

    async def temporal(self, *, patience: float = CONNECT_PATIENCE, runtime: "Runtime | None" = None) -> "Client":
        """A client with our sealed payloads; raises Misconfigured, Unavailable after `patience` seconds."""
        # Temporal's SDK is half of what a command loads, and many never ask it.
        from twinline.connect import connect_temporal

        return await connect_temporal(keys=self.keys, patience=patience, runtime=runtime)


def _require_file(url: str) -> None:
    """Opening SQLite creates a missing file, and an empty ledger from a slip in a path is worse than an error."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return  # `Ledger.open` says what is wrong with it
    if parsed.get_backend_name() == "sqlite" and parsed.database and not Path(parsed.database).exists():
        raise Misconfigured(
            f"the ledger {parsed.database} does not exist",
            hint="Start `twinline worker`, which creates it, or correct TWINLINE_DATABASE_URL.",
        )
