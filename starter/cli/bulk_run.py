"""Begins, watches and stops bulk runs, and shows them to people and programs."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from starter import bulk
from starter.cli.context import CONNECT_PATIENCE, Context
from starter.cli.invalid import invalid_order
from starter.cli.render import Exit, cells, err, moment, out, plain_table, say, show_json, show_table
from starter.cli.running import confirm
from starter.client import Twinline
from twinline.bulk import (
    MOST_ITEMS,
    BulkChange,
    BulkCounts,
    BulkFilter,
    BulkKind,
    BulkPlan,
    BulkView,
    ItemPage,
    Job,
    LineGlimpse,
    NewBulk,
    RowProblem,
    Standing,
)
from twinline.errors import InvalidOrder, UnreadableFile
from twinline.ledger import Ledger
from twinline.ledger import bulk as in_ledger
from twinline.ledger.bulk_judged import Asked
from twinline.messages import Message
from twinline.rows import LARGEST_FILE, read_rows
from twinline.summaries import bulk_summary, counts_in_words

SHOWN: Final = 40
"""Changes and problems that a person is shown of each; --json has all."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What somebody wants done, as it was typed."""

    kind: BulkKind
    caller: str
    run: str
    job: Callable[[], Job]
    file: str | None = None
    """An extension has none."""
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def new(self) -> NewBulk:
        """The run; raises InvalidOrder."""
        try:
            return NewBulk(caller=self.caller, run=self.run, job=self.job())
        except ValidationError as error:
            raise invalid_order(error) from None

    def asked(self) -> tuple[Asked, ...]:
        """What its rows ask for; raises UnreadableFile."""
        if self.file is None:
            return ()
        columns, alone = bulk.COLUMNS[self.kind], bulk.ALONE.get(self.kind)
        rows = read_rows(_read(self.file), columns=columns, most=MOST_ITEMS + 1, alone=alone)
        return bulk.items_of(self.kind, rows, self.defaults)


@dataclass(frozen=True)
class Begin:
    """How a run is to be begun."""

    dry_run: bool
    skip_invalid: bool
    yes: bool
    timeout: float | None
    no_wait: bool
    as_json: bool


@dataclass(frozen=True, kw_only=True)
class Look:
    """Which items of a run to show."""

    state: str | None = None
    limit: int = 100
    cursor: str | None = None

    @property
    def standing(self) -> Standing | None:
        """Raises InvalidOrder for a state that there is not."""
        if self.state is None:
            return None
        for each in get_args(Standing):
            if each == self.state:
                return each
        raise InvalidOrder(
            f"an item's state is one of {', '.join(get_args(Standing))}", hint="Correct --state, or leave it out."
        )


class RunShown(Message):
    """What commands about one run print with `--json`."""

    bulk: BulkView
    items: ItemPage


def _read(name: str) -> bytes:
    try:
        if name == "-":
            return sys.stdin.buffer.read(LARGEST_FILE + 1)
        with Path(name).open("rb") as file:
            return file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UnreadableFile(
            f"{name} can't be read: {error.strerror}",
            hint="Give the path of a file that this user can read, or - to read what is piped in.",
        ) from None


async def begin_run(wanted: Wanted, begin: Begin) -> int:
    """Begin a run, or only tell what it would do; raises TwinlineError."""
    if begin.no_wait and begin.timeout is not None:
        raise InvalidOrder("--timeout and --no-wait contradict each other", hint="Give one of them.")
    new, asked = wanted.new(), wanted.asked()
    context = Context.load()
    async with context.ledger() as ledger:
        plan = await bulk.plan(ledger, new, asked)
        if begin.dry_run:
            return _show_plan(plan, as_json=begin.as_json)
        if not plan.known:
            if not begin.skip_invalid and not begin.as_json:
                _print_problems(plan.problems)
            rows = len(plan.changes) + len(plan.problems)
            bulk.refuse_invalid(plan.problems, of=rows, skip=begin.skip_invalid)
        if not plan.known and plan.changes and not begin.yes:
            if not begin.as_json:
                _print_changes(plan, err())
            summary = bulk_summary(new, len(plan.changes))
            confirm(f"{summary[0].upper()}{summary[1:]}?", yes=False, as_json=begin.as_json)
        twinline = Twinline(await context.temporal(patience=CONNECT_PATIENCE))
        _, known = await bulk.begin(ledger, twinline, new, asked, skip_invalid=begin.skip_invalid)
        if known and not begin.as_json:
            say("This run was begun before; here is how it stands.", style="dim")
        timeout = 0 if begin.no_wait else begin.timeout
        return await _watch_and_show(ledger, context, new.caller, new.run, timeout=timeout, as_json=begin.as_json)


async def show(caller: str, run: str, look: Look, *, follow: bool, timeout: float | None, as_json: bool) -> int:
    """Show a run and its items; raises TwinlineError."""
    standing = look.standing
    context = Context.load()
    async with context.ledger() as ledger:
        if follow:
            await _watch(ledger, context, caller, run, timeout=timeout, as_json=as_json)
        async with ledger.read() as tx:
            found = await in_ledger.bulk_view(tx, caller, run)
            items = await in_ledger.bulk_items(tx, caller, run, cursor=look.cursor, limit=look.limit, standing=standing)
    _show_run(found, items, as_json=as_json)
    return exit_of(found)


async def list_all(wanted: BulkFilter, *, limit: int, cursor: str | None, as_json: bool) -> int:
    """List runs; raises TwinlineError."""
    async with Context.load().ledger() as ledger:
        page = await bulk.runs(ledger, wanted, cursor=cursor, limit=limit)
    if as_json:
        show_json(page)
        return Exit.DONE
    if not page.runs:
        say("No run is like that.")
        return Exit.DONE
    table = plain_table("run", "kind", "caller", "since", "state", "items")
    for run in page.runs:
        stands = counts_in_words(run.counts)
        table.add_row(*cells(run.run, run.kind, run.caller, moment(run.created_at), run.state, stands))
    show_table(table)
    if page.cursor is not None:
        say(f"There are more: add --cursor {page.cursor}")
    return Exit.DONE


async def resume(caller: str, run: str, *, actor: str, timeout: float | None, as_json: bool) -> int:
    """Go on with a run, and watch it; raises TwinlineError."""
    context = Context.load()
    async with context.ledger() as ledger:
        twinline = Twinline(await context.temporal(patience=CONNECT_PATIENCE))
        await bulk.resume(ledger, twinline, caller, run, actor=actor)
        return await _watch_and_show(ledger, context, caller, run, timeout=timeout, as_json=as_json)


async def cancel(caller: str, run: str, *, actor: str, as_json: bool) -> int:
    """Stop a run; raises TwinlineError."""
    async with Context.load().ledger() as ledger:
        found = await bulk.stop(ledger, caller, run, actor=actor)
        async with ledger.read() as tx:
            items = await in_ledger.bulk_items(tx, caller, run, standing="cancelled")
    _show_run(found, items, as_json=as_json)
    return Exit.DONE


def exit_of(found: BulkView) -> Exit:
    """0 when every item is done; 4 when nothing was or will be; 5 otherwise."""
    counts = found.counts
    if counts.done == counts.items:
        return Exit.DONE
    return Exit.REFUSED if counts.refused + counts.cancelled == counts.items else Exit.GOING_ON


async def _watch_and_show(
    ledger: Ledger, context: Context, caller: str, run: str, *, timeout: float | None, as_json: bool
) -> int:
    await _watch(ledger, context, caller, run, timeout=timeout, as_json=as_json)
    async with ledger.read() as tx:
        found = await in_ledger.bulk_view(tx, caller, run)
        items = await in_ledger.bulk_items(tx, caller, run)
    _show_run(found, items, as_json=as_json)
    return exit_of(found)


async def _watch(
    ledger: Ledger, context: Context, caller: str, run: str, *, timeout: float | None, as_json: bool
) -> None:
    """Wait until all is ordered and then, for as long as one order is waited for, until all is done."""
    console = err()
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[stands]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    shown = not as_json and console.is_terminal and timeout != 0
    began, following = time.monotonic(), bulk.follow(ledger, caller, run, grace=context.settings.grace)
    with progress if shown else nullcontext():
        bar = progress.add_task(run, total=None, stands="")
        async for found in following:
            counts = found.counts
            finished = counts.items - counts.open
            progress.update(bar, total=counts.items, completed=finished, stands=counts_in_words(counts))
            if timeout is not None and time.monotonic() - began >= timeout:
                return


def _show_plan(plan: BulkPlan, *, as_json: bool) -> int:
    if as_json:
        show_json(plan)
    elif plan.known:
        say(f"This run was begun before: `twinline bulk show {plan.run}` tells how it stands.")
    else:
        _print_changes(plan, out())
        _print_problems(plan.problems)
        say("Nothing was changed.", style="dim")
    return Exit.REFUSED if plan.problems else Exit.DONE


def _print_changes(plan: BulkPlan, console: Console) -> None:
    table = plain_table("row", "line", "now", "then", "")
    for change in plan.changes[:SHOWN]:
        table.add_row(Text(str(change.row)), Text(change.line), *_difference(change), Text(change.note, style="yellow"))
    if plan.changes:
        show_table(table, console)
    if len(plan.changes) > SHOWN:
        console.print(Text(f"… and {len(plan.changes) - SHOWN} more; --json shows all"))
    changed = sum(change.before != change.after for change in plan.changes)
    console.print(Text(f"{changed} of {len(plan.changes) + len(plan.problems)} lines would change."))


def _difference(change: BulkChange) -> Sequence[Text]:
    if change.before == change.after:
        return [Text(_glimpse(change.before)), Text("the same", style="dim")]
    return [Text(_glimpse(change.before), style="red"), Text(_glimpse(change.after), style="green")]


def _glimpse(line: LineGlimpse | None) -> str:
    if line is None:
        return "not there"
    blocks = f" ({', '.join(line.blocks)})" if line.blocks else ""
    return f"{line.state}{blocks} until {line.ends_at:%Y-%m-%d %H:%M}"


def _print_problems(problems: Sequence[RowProblem]) -> None:
    for problem in problems[:SHOWN]:
        say(f"row {problem.row}: {problem.message}", hint=problem.hint, style="red")
    if len(problems) > SHOWN:
        say(f"… and {len(problems) - SHOWN} more rows; --json shows all")


def _show_run(found: BulkView, items: ItemPage, *, as_json: bool) -> None:
    if as_json:
        show_json(RunShown(bulk=found, items=items))
        return
    console = out()
    head = Table.grid(padding=(0, 2, 0, 0))
    head.add_row(*cells("run", f"{found.kind} {found.run}"))
    head.add_row(*cells("caller", found.caller))
    head.add_row(*cells("since", moment(found.created_at)))
    head.add_row(*cells("state", _state(found)))
    head.add_row(*cells("items", counts_in_words(found.counts)))
    console.print(head)
    if items.items:
        table = plain_table("row", "line", "state", "")
        for item in items.items:
            why = "" if item.problem is None else f"{item.problem.type}: {item.problem.message}"
            table.add_row(*cells(str(item.row), item.line, item.state, why or item.note))
        console.print()
        show_table(table, console)
    if items.cursor is not None:
        say(f"There are more: `twinline bulk show {found.run} --cursor {items.cursor}`")
    console.print()
    console.print(Text(closing(found)), soft_wrap=True)


def _state(found: BulkView) -> str:
    if found.cancelled_at is not None:
        return f"cancelled {moment(found.cancelled_at)} by {found.cancelled_by}"
    return "every item was ordered" if found.settled_at is not None else "running"


def closing(found: BulkView) -> str:
    """What the counts mean, and what helps on."""
    of = "" if found.caller == "cli" else f" --caller {found.caller}"
    counts: BulkCounts = found.counts
    if found.state == "cancelled" and counts.cancelled:
        return f"{counts.cancelled} were not ordered; `twinline bulk resume {found.run}{of}` goes on with them."
    if found.state == "running":
        return f"It goes on by itself: `twinline bulk show {found.run}{of} --follow` watches it."
    sentences: list[str] = []
    if counts.done == counts.items:
        sentences.append("Everything is done.")
    if counts.refused:
        sentences.append(f"`twinline bulk show {found.run}{of} --state refused` tells why some were refused.")
    if counts.stuck:
        sentences.append("`twinline order list --stuck` tells what waits for a person.")
    if counts.going:
        sentences.append("Orders that still go on do so by themselves.")
    return " ".join(sentences)
