"""Group commit: everything that waits for one host becomes one edit, one reload and one proof.

`HostWriter.bring` returns when the running daemon was seen to hold a revision, whoever proved it. One batch is
under way at a time, so a host that is down gets one probe at a time, however many orders wait.
"""

import asyncio
import contextlib
import logging
import uuid
import zlib
from collections.abc import Awaitable, Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, replace
from typing import Any

from twinline import metrics
from twinline.hosts.clocks import ClockFacts, apart
from twinline.hosts.daemon import Check, Daemon, Kick
from twinline.hosts.errors import (
    BlastGuard,
    ClocksApart,
    Fenced,
    FileTrouble,
    HelperFailed,
    HostError,
    LedgerSetBack,
    NotProven,
    RecordConflict,
    StatusTrouble,
    TracesLeft,
    named,
)
from twinline.hosts.image import Image, Plan
from twinline.hosts.looking import Access, Look, listed_accounts, loaded_accounts, read_file, see_alive
from twinline.hosts.losses import Loss, loss
from twinline.hosts.ports import Batch, Half, HostLedger, Proven, Token, Wanted
from twinline.hosts.reads import ProvenReads, no_half
from twinline.hosts.ssh import Changed, Helper, encode
from twinline.hosts.waiting import Waiters

log = logging.getLogger(__name__)

BATCH_LIMIT = 1_000
TRIES_AGAINST_CHANGE = 5
PROOF_TRIES = 4
CLOCK_SECONDS = 60.0
"""How long a look at the host's clock is good for."""
SECOND_LOOK_SECONDS = 0.5
"""After which a file that lost accounts is read again: OSCam's own save, and some editors, truncate it first."""
PROBE_SECONDS = 25.0
"""How long the helper of a host may take to see whether the daemon answers; two requests of it get ten seconds each."""
_SILENT = {
    "refused": "the daemon's status page refuses our user or password",
    "unreachable": "the daemon's status page does not answer",
}
"""What the helper says of a daemon that tells it nothing."""
_OTHERS_PASS = (StatusTrouble, ClocksApart, BlastGuard)
"""Under these the file is written all the same: the daemon is away, or some lines are held back."""


@dataclass(frozen=True)
class _Asked:
    """A question how the host stands, some lines looked at closely."""

    closely: Sequence[Half]
    answer: "asyncio.Future[Look]"


@dataclass(frozen=True)
class _Leaving:
    """A line of which the host must hold nothing any more, and who wants to know that."""

    half: Half
    answer: "asyncio.Future[None]"


class HostWriter:
    """The only writer of one host in this process."""

    def __init__(
        self, host: str, *, daemon: Daemon, ledger: HostLedger, start_helper: Callable[[], Awaitable[Helper]]
    ) -> None:
        self.host = host
        self._daemon = daemon
        self._ledger = ledger
        self._start_helper = start_helper
        self._proven = ProvenReads(host, ledger)
        self._helper: Helper | None = None
        self._image: Image | None = None
        self._maybe_repaired = False
        """Whether a person may have changed the file since it was pictured."""
        self._waiters = Waiters()
        self._asked: list[_Asked] = []
        self._leaving: list[_Leaving] = []
        self._probes: list[asyncio.Future[ClocksApart | None]] = []
        self._lost: set[str] = set()
        """Lines that the daemon serves and the file has lost: they go along with the next batch, before its reload."""
        self._others: frozenset[str] | None = None
        """Names of others that the file is known to have held; None until the host was asked."""
        self._accepting_losses = 0
        self._clock_good_until = 0.0
        self._apart: ClocksApart | None = None
        """What is wrong with the host's clock, as far as we know."""
        self._held: dict[str, int] = {}
        """Revisions that the last batch left out because of the clock, by line id."""
        self._scrub: set[str] = set()
        self._stubborn: dict[str, int] = {}
        """Revisions that could not be proven, by line id: asking for more reloads did not help."""
        self._woken = asyncio.Event()
        self._deaf_until = 0.0
        self._trouble: str | None = None
        """Why nothing gets through, as far as the log was told."""
        self._task: asyncio.Task[None] | None = None

    async def bring(self, line_id: str, revision: int, *, recheck: bool = False) -> Proven:
        """Wait until the host is proven to hold at least this revision.

        A half that waits for a person is tried all the same; with `recheck` only when it is due to be looked at.
        Raises the HostError that prevents it, or UnknownLine when the line has no half here.
        """
        known = await self._proven.of(line_id)
        if known.revision >= revision:
            return known
        if known.attention is not None:
            if not await self._ledger.ask_again(line_id, self.host, due_only=recheck):
                raise _still_waits(known.attention)
            self._maybe_repaired = True
        answer = self._waiters.add(line_id, revision)
        self._wake()
        return await answer

    async def restore(self, line_ids: Collection[str]) -> dict[str, HostError | None]:
        """Write these lines again, at the revision that they have, and wait until the daemon is seen to hold them.

        In batches, in this order, so that what is asked for meanwhile is proven before the rest. Gives the error that
        prevents it, or None, by line id. Raises UnknownLine for a line that has no half here.
        """
        outcomes: dict[str, HostError | None] = {}
        waiting = list(dict.fromkeys(line_ids))
        while waiting:
            some, waiting = waiting[:BATCH_LIMIT], waiting[BATCH_LIMIT:]
            told = await self._restore(some)
            outcomes |= told
            if (error := _in_the_way(told)) is not None:
                return outcomes | dict.fromkeys(waiting, error)
        return outcomes

    async def _restore(self, line_ids: Sequence[str]) -> dict[str, HostError | None]:
        answers = {line_id: self._waiters.add(line_id, 0, afresh=True) for line_id in line_ids}
        self._wake()
        outcomes: dict[str, HostError | None] = {}
        ended = await asyncio.gather(*answers.values(), return_exceptions=True)
        for line_id, outcome in zip(answers, ended, strict=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, HostError):
                raise outcome
            outcomes[line_id] = outcome if isinstance(outcome, HostError) else None
        return outcomes

    async def vacate(self, half: Half) -> None:
        """See that the host holds nothing of a line that must be absent: neither the daemon, nor any file of ours.

        Raises TracesLeft, or the HostError in the way.
        """
        if (error := (await self.restore([half.line_id]))[half.line_id]) is not None:
            raise error
        self._scrub.add(half.username)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._leaving.append(_Leaving(half, answer))
        self._wake()
        await answer

    async def look(self, closely: Sequence[Half] = ()) -> Look:
        """See between two batches how file and daemon stand, some lines closely; raises the HostError in the way."""
        answer: asyncio.Future[Look] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(closely, answer))
        self._wake()
        return await answer

    async def probe(self) -> ClocksApart | None:
        """See between two batches whether helper and daemon answer; gives what is wrong with the clock, if anything.

        Raises the HostError in the way, and reports it to nobody: one failure may be a reload.
        """
        answer: asyncio.Future[ClocksApart | None] = asyncio.get_running_loop().create_future()
        self._probes.append(answer)
        self._wake()
        return await answer

    @contextlib.contextmanager
    def accepting_losses(self) -> Generator[None]:
        """Go on, for as long as this lasts, although the file has lost accounts that the daemon serves."""
        self._accepting_losses += 1
        try:
            yield
        finally:
            self._accepting_losses -= 1

    @property
    def daemon(self) -> Daemon:
        """The daemon of this host, as the engine knows it."""
        return self._daemon

    async def close(self) -> None:
        """Stop, and end the connection; what is under way on the host ends well there or is recovered later."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._waiters.cancel()
        for answer in (*(asked.answer for asked in (*self._asked, *self._leaving)), *self._probes):
            answer.cancel()
        self._asked.clear()
        self._leaving.clear()
        self._probes.clear()
        await self._drop_helper()

    # -- the loop

    def _wake(self) -> None:
        self._woken.set()
        if self._task is None or self._task.done():
            # In a context of its own: it serves whoever comes, and logs in nobody's name.
            self._task = asyncio.create_task(self._work(), name=f"writer {self.host}", context=Context())

    async def _work(self) -> None:
        while self._waiters or self._asked or self._scrub or self._leaving or self._probes:
            try:
                await self._round()
            except Exception as error:  # noqa: BLE001 - whatever keeps the ledger away: nobody may wait for ever
                log.warning("writer interrupted", extra={"host": self.host, "error": type(error).__name__})
                self._scrub.clear()
                await self._drop_helper()
                self._waiters.fail_all(self._waiters.lines, error)
                self._refuse_questions(error)

    async def _round(self) -> None:
        if self._probes and not (self._waiters or self._asked or self._leaving):
            await self._only_probe()
            return
        tried = self._waiters.wanted()
        self._woken.clear()
        trouble: HostError | None = None
        try:
            if self._asked:
                trouble = await self._answer_questions()
            await self._quiet(interruptible=not tried)
            if tried:
                trouble = await self._batch()
            elif not self._waiters and self._scrub:
                await self._tidy()
            if self._leaving and not self._scrub:
                await self._look_for_traces()
            if self._probes and (tried or not self._waiters):
                # Last: whoever waits for a change must not wait for a page that does not answer.
                await self._only_probe()
        except HostError as error:
            await self._drop_helper()
            told = await self._told_apart(error)
            self._tell(told.code)
            metrics.BATCHES.labels(self.host, told.code).inc()
            self._refuse_questions(told)
            await self._fail(tried, told)
        else:
            self._tell(None if trouble is None else trouble.code)

    def _tell(self, trouble: str | None) -> None:
        """Log once that nothing gets through to the host, and once that it does again."""
        if trouble == self._trouble:
            return
        self._trouble = trouble
        what = "the host is well again" if trouble is None else "the host can't be brought up to date"
        log.warning(what, extra={"host": self.host, "error": trouble})

    async def _told_apart(self, error: HostError) -> HostError:
        """A refusal by fencing token, as what it is: overtaken by a newer writer, or a ledger that was set back."""
        if isinstance(error, Fenced) and error.has is not None:
            return await self._set_back(Token(*error.has)) or error
        return error

    async def _set_back(self, seen: Token) -> LedgerSetBack | None:
        """The error that stands for a token on the host which this ledger never gave out."""
        given = await self._ledger.fence(self.host)
        if seen <= given:
            return None
        return LedgerSetBack(
            f"the host has seen batch {seen.epoch}/{seen.number}, and the ledger's last is {given.epoch}/{given.number}"
        )

    async def _quiet(self, *, interruptible: bool) -> None:
        """Wait out the time in which the daemon would miss a trigger; what arrives meanwhile joins the batch."""
        left = self._deaf_until - asyncio.get_running_loop().time()
        if left > 0 and interruptible:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), left)
        elif left > 0:
            await asyncio.sleep(left)

    async def _batch(self) -> HostError | None:
        """Bring about what is behind; gives what is wrong with the host itself, if its helper answered all the same."""
        trouble: HostError | None = None
        helper = await self._connected()
        if self._maybe_repaired:
            self._maybe_repaired, self._image = False, None
        await self._see_clock(helper)
        waiting, restoring = self._waiters.wanted(), self._waiters.afresh()
        batch = await self._open(BATCH_LIMIT)
        if batch.halves:
            batch, failed = await self._carry_out(helper, batch, BATCH_LIMIT)
            trouble = next((error for error in failed.values() if not error.of_one_line), None)
            metrics.BATCHES.labels(self.host, "done" if trouble is None else trouble.code).inc()
            tried = {half.line_id: half.revision for half in batch.halves}
            for line_id, error in failed.items():
                await self._fail({line_id: tried[line_id]}, error)
        if stopped := {line_id: revision for line_id, revision in batch.withheld.items() if line_id in waiting}:
            await self._fail(stopped, _blast_guard(len(batch.withheld)))
        if self._apart is not None:
            # Said once more: for the ledger a host is well again when a batch gets through.
            await self._ledger.note_clock(self.host, right=False)
            await self._fail(self._held, self._apart)
        # Whoever still waits was proven by somebody else, or was taken too late for this batch.
        taken = {half.line_id for half in batch.halves}
        left = self._waiters.lines
        if not left:
            return trouble
        proven = await self._ledger.proven(self.host, left)
        full = len(batch.halves) + len(self._held) >= BATCH_LIMIT
        for line_id in left:
            known = proven.get(line_id)
            if known is None:
                self._waiters.fail_all([line_id], no_half(line_id, self.host))
                continue
            self._waiters.answer(known, afresh=False)
            if full or line_id in taken or (line_id not in restoring and known.revision >= waiting.get(line_id, 0)):
                continue
            if known.attention is not None:
                # Another worker's batch has stopped it since.
                self._waiters.fail_all([line_id], _still_waits(known.attention))
                continue
            # A ledger that was set back: asking it again and again would never end.
            revision = waiting.get(line_id, 0)
            self._waiters.fail_all([line_id], ValueError(f"line {line_id} has no revision {revision}"))
        return trouble

    async def _open(self, limit: int) -> Batch:
        """Open a batch, with the lines that have to be written again beyond its limit.

        While the clocks are apart nobody is let in by it, but for those whom its reload would else drop.
        """
        also = self._waiters.afresh() | self._lost
        batch = await self._ledger.open_batch(self.host, limit + len(also), also)
        self._held = {}
        if self._apart is None:
            return batch
        let_in = [half for half in batch.halves if half.wanted is Wanted.PRESENT and half.line_id not in self._lost]
        self._held = {half.line_id: half.revision for half in let_in}
        return replace(batch, halves=tuple(half for half in batch.halves if half.line_id not in self._held))

    async def _see_clock(self, helper: Helper) -> None:
        """Compare the host's clock with the ledger's, unless that was done just now and found right."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        if self._apart is None and started < self._clock_good_until:
            return
        asked = await self._ledger.now()
        theirs = await helper.clock()
        # Not asked for again: the ledger's clock may be as far away as the host's.
        facts = ClockFacts(asked=asked, theirs=theirs, answered=asked + loop.time() - started)
        self._apart, before = apart(facts), self._apart
        self._clock_good_until = loop.time() + CLOCK_SECONDS
        metrics.CLOCK.labels(self.host).set(facts.off)
        if (self._apart is None) is not (before is None):
            log.warning("%s", self._apart or "the host's clock is right again", extra={"host": self.host})
        await self._ledger.note_clock(self.host, right=self._apart is None)

    async def _record(self, batch: Batch, proven: Sequence[Proven]) -> None:
        """Note what was proven and wake who waits for it; what is not proven yet keeps nobody else waiting."""
        await self._ledger.close_batch(self.host, batch.token, proven)
        names = {half.line_id: half.username for half in batch.halves}
        self._scrub |= {names[one.line_id] for one in proven if one.wanted is Wanted.ABSENT}
        for one in proven:
            self._waiters.answer(one, afresh=True)

    async def _tidy(self) -> None:
        """Scrub freed slots of their secrets while nobody waits; what fails is found again with the next connection."""
        try:
            helper = await self._connected()
            await self._carry_out(helper, await self._open(0), 0)
        except HostError as error:
            self._scrub.clear()
            await self._drop_helper()
            log.warning("freed slots not scrubbed yet", extra={"host": self.host, "error": error.code})

    # -- who waits

    async def _answer_questions(self) -> HostError | None:
        """Look for all who ask at this moment; gives what is wrong with the daemon, if the file could be read."""
        trouble: StatusTrouble | None = None
        helper = await self._connected()
        await self._see_clock(helper)
        self._image = None
        while self._asked:
            image, listed = await self._read_safely(helper)
            asked = self._asked[0]
            try:
                loaded = await loaded_accounts(helper, self._daemon, asked.closely) if listed is not None else {}
            except StatusTrouble:
                listed, loaded = None, {}
            if listed is None:
                trouble = StatusTrouble("the daemon's status pages do not answer, or refuse our user and password")
            self._asked.remove(asked)
            if not asked.answer.done():
                asked.answer.set_result(Look(bytes(image.data), listed, loaded))
        if trouble is not None:
            await self._ledger.report_failure(self.host, {}, trouble.code)
        elif self._apart is None:
            await self._ledger.note_well(self.host)
        return trouble

    async def _only_probe(self) -> None:
        """Probe for nobody but those who asked for that: what came of it is theirs to tell."""
        try:
            await self._answer_probes()
        except HostError as error:
            await self._drop_helper()
            self._refuse_questions(error)

    async def _answer_probes(self) -> None:
        """Probe once for all who ask at this moment; a daemon that does not answer is no reason to connect anew."""
        if all(probe.done() for probe in self._probes):
            self._probes.clear()
            return
        helper = await self._connected()
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await see_alive(helper, self._daemon)
        except StatusTrouble as error:
            self._refuse_probes(error)
            return
        except TimeoutError:
            raise HelperFailed(f"the helper did not answer within {PROBE_SECONDS:.0f} s") from None
        await self._see_clock(helper)
        for probe in self._probes:
            if not probe.done():
                probe.set_result(self._apart)
        self._probes.clear()

    def _refuse_probes(self, error: Exception) -> None:
        for probe in self._probes:
            if not probe.done():
                probe.set_exception(error)
        self._probes.clear()

    async def _look_for_traces(self) -> None:
        """Tell all who wait for it whether anything of their line is left."""
        helper = await self._connected()
        for leaving in tuple(self._leaving):
            words = [leaving.half.username, leaving.half.password]
            found: list[str] = (await helper.ask("traces", {"words": words}))["found"]
            self._leaving.remove(leaving)
            if leaving.answer.done():
                continue
            if found:
                leaving.answer.set_exception(TracesLeft(f"the line still stands in {', '.join(found)}"))
            else:
                leaving.answer.set_result(None)

    def _refuse_questions(self, error: Exception) -> None:
        asked: list[_Asked | _Leaving] = [*self._asked, *self._leaving]
        self._asked, self._leaving = [], []
        for one in asked:
            if not one.answer.done():
                one.answer.set_exception(error)
        self._refuse_probes(error)

    async def _fail(self, tried: Mapping[str, int], error: HostError) -> None:
        """Report it and tell those who wait; who came meanwhile for a later revision is none of them."""
        try:
            await self._ledger.report_failure(self.host, tried, error.code)
        finally:
            self._waiters.fail(tried, error)

    # -- one batch on the host

    async def _connected(self) -> Helper:
        if self._helper is None or self._helper.closed:
            self._image, self._clock_good_until = None, 0.0
            self._helper = await self._start_helper()
            # Asked before a batch is opened: each one raises the token, and would in time hide what was lost.
            if (set_back := await self._set_back(Token(*self._helper.hello["token"]))) is not None:
                raise set_back
        return self._helper

    async def _drop_helper(self) -> None:
        helper, self._helper, self._image = self._helper, None, None
        self._lost.clear()
        if helper is not None:
            await helper.close()

    async def _read(self, helper: Helper, token: Token) -> Image:
        """Read the accounts file, and bring records of ours that lost their place back into slots."""
        if self._image is not None:
            return self._image
        for _ in range(TRIES_AGAINST_CHANGE):
            image, _ = await self._read_safely(helper)
            better = image.relayout()
            if better is None:
                break
            with contextlib.suppress(Changed):
                await self._lay_out(helper, token, image, better)
        else:
            raise HelperFailed("somebody else keeps changing the accounts file")
        self._scrub |= await self._ledger.absent_usernames(self.host, sorted(image.parked))
        self._image = image
        return image

    async def _read_safely(self, helper: Helper) -> tuple[Image, dict[str, Access] | None]:
        """The file, and the daemon's own listing; raises ShrunkenFile when a reload would drop too many accounts."""
        image, listed, lost = await self._compare(helper)
        if lost.too_great and not self._accepting_losses:
            await asyncio.sleep(SECOND_LOOK_SECONDS)
            image, listed, lost = await self._compare(helper)
            if lost.too_great:
                raise lost.error()
        self._lost |= lost.lines
        others = frozenset(image.foreign)
        if not self._daemon.sole_file and self._others != others:
            self._others = others
            await helper.ask("remember", {"others": sorted(others)})
        return image, listed

    async def _compare(self, helper: Helper) -> tuple[Image, dict[str, Access] | None, Loss]:
        now = await read_file(helper)
        image = await asyncio.to_thread(Image, self._daemon, now.data, now.signature, recover=now.recover)
        try:
            listed = await listed_accounts(helper, self._daemon)
        except StatusTrouble:
            # A daemon that is away drops nobody; when it starts it takes what it finds.
            return image, None, Loss()
        missing = listed.keys() - image.names()
        lines = await self._ledger.lines_named(self.host, sorted(missing))
        others = None if self._daemon.sole_file else await self._known_others(helper)
        return image, listed, loss(missing, served=len(listed), lines=lines, others=others)

    async def _known_others(self, helper: Helper) -> frozenset[str]:
        if self._others is None:
            answer = await helper.ask("recall")
            self._others = None if answer["others"] is None else frozenset(answer["others"])
        return self._others or frozenset()

    async def _lay_out(self, helper: Helper, token: Token, image: Image, better: bytes) -> None:
        """Put the new layout in place; a batch that was cut short has to be completed in the old one first."""
        if image.recover:
            await self._ask(helper, "apply", token, (), 0.0, trigger=False, extra=_edit(image, Plan(), []))
            return
        body = {"token": _as_list(token), "signature": image.signature, "body": encode(zlib.compress(better, 1))}
        await helper.ask("replace", body)

    async def _carry_out(self, helper: Helper, batch: Batch, limit: int | None) -> tuple[Batch, dict[str, HostError]]:
        """Bring a whole batch about; the batch as it was tried, and why halves could not be proven, by line id.

        It is opened again, up to `limit`, when the file turns out to have lost lines; never if that is None.
        """
        for _ in range(TRIES_AGAINST_CHANGE):
            image = await self._read(helper, batch.token)
            if limit is not None and not self._lost <= {half.line_id for half in batch.halves} | batch.withheld.keys():
                batch = await self._open(limit)
            plan = image.plan(batch.halves, self._scrub)
            failed = {line: _conflict() for line in plan.conflicts} | {line: _unsafe() for line in plan.unsafe}
            halves = [half for half in batch.halves if half.line_id not in failed]
            try:
                failed |= await self._commit(helper, batch, image, plan, halves)
            except Changed:
                self._image = None
                continue
            except FileTrouble as error:
                # A full disk holds up those who need room, and nobody who is to lose access or has a slot.
                rest = tuple(half for half in batch.halves if half.line_id not in plan.growing)
                if not plan.growing or not rest:
                    raise
                self._image = None
                _, failed = await self._carry_out(helper, replace(batch, halves=rest), None)
                return batch, failed | dict.fromkeys(plan.growing, error)
            if failed:
                # A person may have to repair the file, and the next try has to see that.
                self._image = None
            self._lost.clear()
            return batch, failed
        raise HelperFailed("somebody else keeps changing the accounts file")

    async def _commit(
        self, helper: Helper, batch: Batch, image: Image, plan: Plan, halves: Sequence[Half]
    ) -> dict[str, HostError]:
        """Write the plan if there is anything to write, then have the daemon prove every half."""
        probes = {half.line_id: {"id": half.line_id, "checks": checks_of(self._daemon, half)} for half in halves}
        waiting = {half.line_id: half for half in halves}
        deadline = self._daemon.deadline
        edited = not plan.empty or image.recover
        if edited:
            kicks = [
                kick_of(self._daemon, half, plan.kicks[half.line_id]) for half in halves if half.line_id in plan.kicks
            ]
            # The picture already shows what is being written; until the host says so it must not be trusted.
            self._image = None
            scrubbed, self._scrub = self._scrub, set()
            edit = _edit(image, plan, kicks)
            metrics.EDITS.labels(self.host).inc()
            metrics.KICKS.labels(self.host).inc(len(kicks))
            try:
                answer = await self._ask(
                    helper, "apply", batch.token, probes.values(), deadline, trigger=True, extra=edit
                )
            except Changed:
                self._scrub |= scrubbed
                raise
            image.signature, image.recover = answer["signature"], False
            self._image = image
        else:
            self._scrub.clear()
            seen = {"signature": image.signature}
            answer = await self._ask(helper, "probe", batch.token, probes.values(), 0.0, trigger=False, extra=seen)
        await self._take(answer, waiting, batch)
        for tried in range(PROOF_TRIES - 1):
            if tried >= self._tries_left(waiting, edited=edited):
                break
            open_probes = [probes[line_id] for line_id in waiting]
            seen = {"signature": image.signature}
            answer = await self._ask(helper, "probe", batch.token, open_probes, deadline, trigger=True, extra=seen)
            await self._take(answer, waiting, batch)
            deadline *= 2
        self._stubborn |= {line_id: half.revision for line_id, half in waiting.items()}
        metrics.UNPROVEN.labels(self.host).inc(len(waiting))
        return {line_id: self._not_proven(str(answer["status_error"])) for line_id in waiting}

    def _tries_left(self, waiting: dict[str, Half], *, edited: bool) -> int:
        """How often a batch asks for the reload again; once in all when nothing but old failures waits for it."""
        if all(self._stubborn.get(line_id) == half.revision for line_id, half in waiting.items()):
            return int(bool(waiting) and not edited)
        return PROOF_TRIES - 1

    def _not_proven(self, status_error: str) -> HostError:
        if status_error in _SILENT:
            return StatusTrouble(_SILENT[status_error])
        text = "written, and the reload asked for, but the daemon does not show it"
        return NotProven(text, hint=self._daemon.unproven_hint)

    async def _ask(
        self,
        helper: Helper,
        do: str,
        token: Token,
        probes: Iterable[dict[str, Any]],
        deadline: float,
        *,
        trigger: bool,
        extra: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Ask, and wait first as long as the daemon would miss the trigger."""
        wish = self._daemon.trigger()
        request: dict[str, Any] = {
            "token": _as_list(token),
            "probes": list(probes),
            "deadline": deadline,
            "trigger": {"method": wish.method, "path": wish.path, "pid_file": wish.pid_file, "argv": list(wish.argv)}
            if trigger
            else None,
            **(extra or {}),
        }
        while True:
            answer = await helper.ask(do, request, patience=deadline)
            if "proven" in answer:
                metrics.RELOADS.labels(self.host).inc(int(trigger))
                self._deaf_until = asyncio.get_running_loop().time() + answer["wait_ms"] / 1000
                return answer
            await asyncio.sleep(answer["wait_ms"] / 1000)

    async def _take(self, answer: dict[str, Any], waiting: dict[str, Half], batch: Batch) -> None:
        halves = [waiting.pop(line_id) for line_id in answer["proven"]]
        for half in halves:
            self._stubborn.pop(half.line_id, None)
        # A daemon that is away took nothing, although its file was written: its host is no better than before.
        if batch.halves and (halves or answer["status_error"] not in _SILENT):
            await self._record(batch, [Proven(half.line_id, half.revision, half.wanted) for half in halves])


def _in_the_way(told: Mapping[str, HostError | None]) -> HostError | None:
    """What keeps a host from taking any line."""
    first = next(iter(told.values()))
    if first is None or first.of_one_line or isinstance(first, _OTHERS_PASS):
        return None
    return first if all(type(each) is type(first) for each in told.values()) else None


def _blast_guard(count: int) -> HostError:
    return BlastGuard(f"{count} lines would lose access here, and no event says why")


def _still_waits(code: str) -> HostError:
    kind = named(code) or HostError
    return kind("it waits for a person since an earlier try")


def checks_of(daemon: Daemon, half: Half) -> list[dict[str, Any]]:
    """What the helper looks for to prove a half."""
    return [_as_request(check) for check in daemon.checks(half)]


def kick_of(daemon: Daemon, half: Half, kick: Kick) -> dict[str, Any]:
    """A kick for the helper; over when the account is seen to be on again, or gone because it was blocked meanwhile."""
    gone = checks_of(daemon, replace(half, wanted=Wanted.ABSENT))
    return {
        "id": half.line_id,
        "off": kick.off,
        "on": kick.on,
        "ready": checks_of(daemon, half),
        "settled": [[_as_request(kick.enabled)], gone],
    }


def _edit(image: Image, plan: Plan, kicks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "batch": uuid.uuid4().hex,
        "signature": image.signature,
        "groups": [[[op.offset, encode(op.old), encode(op.new)] for op in group] for group in plan.groups],
        "kicks": list(kicks),
    }


def _as_list(token: Token) -> list[int]:
    return [token.epoch, token.number]


def _as_request(check: Check) -> dict[str, Any]:
    return {"path": check.path, "must": list(check.must), "must_not": list(check.must_not)}


def _conflict() -> HostError:
    return RecordConflict("the accounts file holds a record of that name that twinline did not write")


def _unsafe() -> HostError:
    return RecordConflict("the record can't be written safely at this record_width")
