"""Shows lines as the ledger knows them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import get_args

from pydantic import Field, JsonValue
from rich.table import Table
from rich.text import Text

from starter.attention import RunningWorkflow, linked
from starter.cli.context import Context
from starter.cli.receipts import PROVEN, halves_table
from starter.cli.render import Exit, block_line, cells, moment, out, plain_table, say, show_json, show_table
from starter.explain import meaning
from twinline.errors import InvalidOrder
from twinline.ledger.events import line_events
from twinline.ledger.halves import HalfProgress
from twinline.ledger.queries import (
    GrantView,
    LineFilter,
    LineView,
    line_view,
    reveal_password,
)
from twinline.ledger.queries import list_lines as find_lines
from twinline.ledger.rules import LineState
from twinline.ledger.stuck import running_workflows
from twinline.messages import HalfState


class ShownLine(LineView):
    """What `line show --json` prints."""

    password: str | None = Field(default=None, repr=False, exclude_if=lambda password: password is None)
    """Only with `--reveal`."""
    workflows: tuple[RunningWorkflow, ...]
    """What goes on for the line."""


async def show_line(username: str, *, reveal: bool, as_json: bool) -> int:
    """Show one line; raises UnknownLine, Misconfigured, Unavailable."""
    context = Context.load()
    async with context.ledger() as ledger, ledger.read() as tx:
        view = await line_view(tx, username)
        running = await running_workflows(tx, view.line_id)
        password = (await reveal_password(tx, username)).get_secret_value() if reveal else None
    shown = ShownLine(**dict(view), password=password, workflows=linked(running, context.page()))
    if as_json:
        show_json(shown)
    else:
        _print_line(shown)
    return Exit.DONE


async def list_lines(
    *,
    region: str | None,
    pair: str | None,
    state: str | None,
    behind: bool | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
) -> int:
    """List lines; raises InvalidOrder for a state that there is not, Misconfigured, Unavailable."""
    wanted = LineFilter(region=region, pair=pair, state=_state(state), behind=behind)
    async with Context.load().ledger() as ledger, ledger.read() as tx:
        page = await find_lines(tx, wanted, cursor=cursor, limit=limit)
    if as_json:
        show_json(page)
        return Exit.DONE
    table = plain_table("line", "plan", "state", "until", "pair", "halves", "blocks")
    for view in page.lines:
        halves = "  ".join(_half_in_a_word(half) for half in view.halves if not half.done_with)
        blocks = ", ".join(f"{block.owner} {block.case}" for block in view.blocks)
        table.add_row(*cells(view.username, view.plan, view.state, moment(view.ends_at), view.pair, halves, blocks))
    if page.lines:
        show_table(table)
    else:
        say("No line is like that.")
    if page.cursor is not None:
        say(f"There are more: add --cursor {page.cursor}")
    return Exit.DONE


async def list_events(username: str, *, limit: int, cursor: str | None, as_json: bool) -> int:
    """List what happened to a line; raises UnknownLine, LineErased, InvalidOrder (no such cursor), Unavailable."""
    async with Context.load().ledger() as ledger, ledger.read() as tx:
        page = await line_events(tx, username, cursor=cursor, limit=limit)
    if as_json:
        show_json(page)
        return Exit.DONE
    table = plain_table("when", "who", "what", "why", "change")
    for event in page.events:
        changes = "\n".join(changes_in_words(event.before or {}, event.after or {}))
        table.add_row(*cells(moment(event.at), event.who, event.what, event.why, changes))
    show_table(table)
    if page.cursor is not None:
        say(f"There are more: add --cursor {page.cursor}")
    return Exit.DONE


def changes_in_words(before: Mapping[str, JsonValue], after: Mapping[str, JsonValue]) -> list[str]:
    """What differs between two pictures of something, each with its name."""
    return [
        f"{name}: {_shown(value)}" if name not in before else f"{name}: {_shown(before[name])} → {_shown(value)}"
        for name, value in after.items()
        if before.get(name) != value and (name in before or value)
    ]


def _shown(value: JsonValue) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, str):
        try:
            return moment(datetime.fromisoformat(value)) if "T" in value else value
        except ValueError:
            return value
    return "none" if value is None else str(value)


def _state(text: str | None) -> LineState | None:
    states: tuple[LineState, ...] = get_args(LineState)
    for state in states:
        if state == text:
            return state
    if text is None:
        return None
    raise InvalidOrder(
        f"a line's state is one of {', '.join(states)}", hint="Correct --state, or leave it out for all lines."
    )


def _half_in_a_word(half: HalfProgress) -> str:
    if half.wanted > half.proven:
        return f"{half.host} {half.state} ({half.proven} of {half.wanted})"
    return f"{half.host} {half.state}"


def _print_line(view: ShownLine) -> None:
    console = out()
    head = Table.grid(padding=(0, 2, 0, 0))
    head.add_row(*cells("line", view.username))
    if view.password is not None:
        head.add_row(*cells("password", view.password))
    head.add_row(*cells("plan", f"{view.plan}, until {moment(view.ends_at)}"))
    head.add_row(*cells("must be", f"{view.state}, on pair {view.pair} in region {view.region}"))
    head.add_row(*cells("revision", str(view.revision)))
    head.add_row(*cells("in Temporal", f"LineId = '{view.line_id}'"))
    for block in view.blocks:
        head.add_row(*cells("block", block_line(block)))
    for grant in view.grants:
        head.add_row(*cells("grant", _grant_in_words(grant)))
    head.add_row(*cells("since", moment(view.created_at)))
    if view.closed_at is not None:
        head.add_row(*cells("closed", moment(view.closed_at)))
    console.print(head)
    console.print()
    show_table(halves_table([half.receipt() for half in view.halves], now=datetime.now(UTC)))
    console.print()
    for each in view.workflows:
        console.print(Text(f"goes on  {each.temporal_ui or each.workflow_id}", style="dim"), soft_wrap=True)
    console.print(Text(_closing(view)), soft_wrap=True)


def _grant_in_words(grant: GrantView) -> str:
    ending = "over before it could be used" if grant.ending == "unserved" else grant.ending
    ended = "" if grant.ended_at is None else f", {ending} {moment(grant.ended_at)}"
    return f"{grant.plan}, {moment(grant.starts_at)} to {moment(grant.ends_at)}{ended}"


def _closing(view: LineView) -> str:
    behind = [half.host for half in view.halves if half.wanted > half.proven]
    given_up = [half.host for half in view.halves if half.state is HalfState.ABANDONED]
    if given_up:
        return f"Abandoned by an operator: {', '.join(given_up)}."
    stuck = [half.host for half in view.halves if half.last_error is not None and meaning(half.last_error).attention]
    if stuck:
        wait = "waits" if len(stuck) == 1 else "wait"
        retry = f"twinline order retry --line {view.username}"
        return f"{' and '.join(stuck)} {wait} for a person: repair what is said above, then `{retry}`."
    if behind:
        return f"{', '.join(behind)} still to be brought to revision {view.revision}; twinline keeps trying."
    proven = all(half.state in PROVEN for half in view.halves)
    return "Every half is proven to be as it must." if proven else "Not every half is proven yet."
