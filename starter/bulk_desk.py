"""Bulk runs for callers that showed a token: what `starter.bulk` does, within what the token allows."""

import asyncio
import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from starter import bulk
from starter.access import refuse_others_blocks, require
from starter.client import Twinline
from starter.discretion import plan_for
from starter.order_ids import OrderId
from twinline.bulk import (
    BlockItem,
    BulkFilter,
    BulkKind,
    BulkPage,
    BulkPlan,
    BulkView,
    ItemPage,
    NewBulk,
    RunState,
    Standing,
)
from twinline.errors import ScopeMissing, UnknownBulk
from twinline.ledger import Ledger
from twinline.ledger import bulk as in_ledger
from twinline.ledger.bulk_judged import Asked
from twinline.ledger.tokens import TokenView
from twinline.messages import GRACE
from twinline.tokens import Scope

# Not all that a database is asked for can be in one: PostgreSQL takes no NUL.
_RUN: Final = re.compile(r"[A-Za-z0-9._:-]{1,48}", re.ASCII)


@dataclass(frozen=True)
class Begun:
    """A run that was begun; `known` when it had been before."""

    view: BulkView
    known: bool


class BulkDesk:
    """Takes runs and questions about them; a run belongs to the caller that the token names."""

    def __init__(self, ledger: Ledger, twinline: Twinline) -> None:
        self._ledger = ledger
        self._twinline = twinline

    def refuse(self, kind: BulkKind, who: TokenView) -> None:
        """Raises ScopeMissing for who may begin no run of this kind, whatever it asks for."""
        require(who, Scope.BULK)
        if who.reseller and kind is BulkKind.IMPORT:
            # It would be told of every name whether somebody else's line has it.
            raise ScopeMissing(
                "a token that is bound to its caller's lines takes none over",
                hint="Let the operator import them, as this caller.",
            )

    async def plan(self, new: NewBulk, asked: Sequence[Asked], who: TokenView) -> BulkPlan:
        """What a run would do; raises as `bulk.plan` does, and ScopeMissing."""
        plan = await bulk.plan(self._ledger, self._allowed(new, asked, who), asked)
        return plan_for(plan) if who.reseller else plan

    async def begin(
        self, new: NewBulk, asked: Sequence[Asked], who: TokenView, *, skip_invalid: bool, patience: timedelta
    ) -> Begun:
        """Begin a run and wait at most `patience` until nothing of it is open.

        Raises as `bulk.begin` does, and ScopeMissing.
        """
        new = self._allowed(new, asked, who)
        view, known = await bulk.begin(self._ledger, self._twinline, new, asked, skip_invalid=skip_invalid)
        return Begun(await self._awaited(view, patience), known)

    async def runs(
        self, who: TokenView, *, kind: BulkKind | None, state: RunState | None, cursor: str | None, limit: int
    ) -> BulkPage:
        """List the runs of this caller; raises ScopeMissing, InvalidOrder (no such cursor)."""
        require(who, Scope.BULK)
        # Of a reseller's own name another token may have begun some, and they may tell of others' lines.
        wanted = BulkFilter(caller=who.caller, kind=kind, state=state, own=who.reseller)
        return await bulk.runs(self._ledger, wanted, cursor=cursor, limit=limit)

    async def run(self, run: str, who: TokenView) -> BulkView:
        """How a run of this caller stands; raises UnknownBulk, ScopeMissing."""
        require(who, Scope.BULK)
        return await self._view(run, who)

    async def items(
        self, run: str, who: TokenView, *, standing: Standing | None, cursor: str | None, limit: int
    ) -> ItemPage:
        """What became of each item, and by which `id` its order is asked for; raises UnknownBulk, InvalidOrder."""
        await self.run(run, who)
        async with self._ledger.read() as tx:
            page = await in_ledger.bulk_items(tx, who.caller, run, cursor=cursor, limit=limit, standing=standing)
        items = [
            item if item.order is None else item.model_copy(update={"order": OrderId.of_workflow(item.order).text})
            for item in page.items
        ]
        return page.model_copy(update={"items": tuple(items)})

    async def stop(self, run: str, who: TokenView) -> BulkView:
        """Order nothing more of a run; raises UnknownBulk, ScopeMissing."""
        await self.run(run, who)
        return await bulk.stop(self._ledger, who.caller, run, actor=who.caller)

    async def resume(self, run: str, who: TokenView, *, patience: timedelta) -> BulkView:
        """Go on with a run and wait at most `patience` for its end; raises UnknownBulk, ScopeMissing."""
        await self.run(run, who)
        await bulk.resume(self._ledger, self._twinline, who.caller, run, actor=who.caller)
        return await self._awaited(await self._view(run, who), patience)

    def _allowed(self, new: NewBulk, asked: Sequence[Asked], who: TokenView) -> NewBulk:
        """The run as this token may have it: of a reseller's, other lines are as if there were none."""
        self.refuse(new.job.kind, who)
        for one in asked:
            if isinstance(one.item, BlockItem):
                refuse_others_blocks(who, one.item)
        return new.model_copy(update={"job": new.job.model_copy(update={"own": who.reseller})})

    async def _view(self, run: str, who: TokenView) -> BulkView:
        if not _RUN.fullmatch(run):
            raise _unknown_run()
        try:
            found = await bulk.view(self._ledger, who.caller, run)
        except UnknownBulk:
            raise _unknown_run() from None
        if who.reseller and not found.job.own:
            # Begun by another token of this caller, it may tell of lines that are somebody else's.
            raise _unknown_run()
        return found

    async def _awaited(self, view: BulkView, patience: timedelta) -> BulkView:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience.total_seconds()):
                async for found in bulk.follow(self._ledger, view.caller, view.run, grace=GRACE):
                    view = found
        return view


def _unknown_run() -> UnknownBulk:
    """In the same words whatever the reason."""
    return UnknownBulk("there is no such bulk run of this caller", hint="Check the id; ids count per caller.")
