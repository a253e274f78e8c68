"""Has a host rebuilt, and tells how far that is."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

from pydantic import ValidationError
from rich.text import Text

from starter.cli.context import Context
from starter.cli.drift_checked import HostDrift, compare_all
from starter.cli.invalid import lasting_option
from starter.cli.placing import Waiting
from starter.cli.render import Exit, moment, out, say, show_json, show_refusal
from starter.cli.running import confirm
from starter.cli.watching import shown_while
from starter.explain import meaning
from starter.rebuilds import Rebuilds, waits_for_a_person
from twinline.hosts.drift import Drift
from twinline.inventory import Host, load_inventory
from twinline.messages import Refusal
from twinline.rebuild import STILL_TO_COME, RebuildStatus, RebuildTask, StopRebuild

PATIENCE: Final = timedelta(minutes=5)
"""A host with thousands of lines that all have to be written again takes minutes."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Asked:
    """Who asks for which host, and how long he waits."""

    host: str
    actor: str
    reason: str | None
    waiting: Waiting
    as_json: bool


async def rebuild_host(asked: Asked, *, accept_loss: bool, yes: bool) -> int:
    """Have it rebuilt, or tell how far that is; raises UnknownHost, InvalidOrder, Misconfigured, Unavailable."""
    patience = asked.waiting.patience(PATIENCE)
    context = Context.load()
    host = load_inventory(context.settings.inventory).host(asked.host)
    task = _checked(
        lambda: RebuildTask(host=host.name, actor=asked.actor, reason=asked.reason, accept_loss=accept_loss)
    )
    rebuilds = Rebuilds(await context.temporal())
    if not yes and not (await rebuilds.running(host.name) and not accept_loss):
        await _ask_first(context, host, accept_loss=accept_loss, as_json=asked.as_json)
    await rebuilds.ask(task)
    return await _wait(rebuilds, asked, patience)


async def stop_rebuild(asked: Asked) -> int:
    """Stop it, and tell how far it came; raises UnknownRebuild too."""
    patience = asked.waiting.patience(PATIENCE)
    context = Context.load()
    host = load_inventory(context.settings.inventory).host(asked.host)
    stop = _checked(lambda: StopRebuild(actor=asked.actor, reason=asked.reason))
    rebuilds = Rebuilds(await context.temporal())
    await rebuilds.stop(host.name, stop)
    return await _wait(rebuilds, asked, patience, until_over=True)


def _checked(build: Callable[[], _T]) -> _T:
    """Raises InvalidOrder."""
    try:
        return build()
    except ValidationError as error:
        raise lasting_option(error) from None


async def _ask_first(context: Context, host: Host, *, accept_loss: bool, as_json: bool) -> None:
    (found,) = await compare_all(context, [host])
    if found.drift is not None and not accept_loss and not found.drift.lines and not found.drift.behind:
        return
    losing = (
        " Accounts that its file has lost, those of others too, will be dropped if its daemon still serves them."
        if accept_loss
        else ""
    )
    confirm(f"{_plan(found)}{losing} Rebuild it?", yes=False, as_json=as_json)


def _plan(found: HostDrift) -> str:
    """What a rebuild would do."""
    if found.drift is None:
        why = meaning(found.error or "").sentence
        return f"{found.host} can't be looked at yet: {why}. What differs is written and taken off once that is over."
    drift = found.drift
    parts = [f"{_lines(_to_write(drift))} to write again", f"{_lines(_to_take_off(drift))} to take off"]
    parts += [f"{_lines(len(drift.behind))} to drive on"] if drift.behind else []
    parts += [f"{_lines(count)} for a person to look at"] if (count := _for_a_person(drift)) else []
    others = "the 1 account" if drift.others == 1 else f"the {drift.others} accounts"
    return f"{found.host}: {', '.join(parts)}; {others} of others in its file will not be touched."


def _to_write(drift: Drift) -> int:
    return sum(line.repaired and not line.loses_access for line in drift.lines)


def _to_take_off(drift: Drift) -> int:
    return sum(line.repaired and line.loses_access for line in drift.lines)


def _for_a_person(drift: Drift) -> int:
    return sum(not line.repaired for line in drift.lines)


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count} lines"


async def _wait(rebuilds: Rebuilds, asked: Asked, patience: timedelta, *, until_over: bool = False) -> int:
    async def look() -> str | None:
        status = await rebuilds.status(asked.host)
        return None if status is None else _standing(status)

    async with shown_while(f"rebuilding {asked.host}", quiet=asked.as_json or asked.waiting.no_wait, look=look):
        status = await rebuilds.wait(asked.host, patience=patience, until_over=until_over)
    if status is None:
        show_refusal(_not_taken(), as_json=asked.as_json)
        return Exit.GOING_ON
    if asked.as_json:
        show_json(status)
    else:
        _tell(status)
    return _exit(status, stopped=until_over)


def _exit(status: RebuildStatus, *, stopped: bool) -> Exit:
    if status.done or (stopped and status.over):
        return Exit.DONE
    return Exit.REFUSED if waits_for_a_person(status) else Exit.GOING_ON


def _not_taken() -> Refusal:
    return Refusal(
        type="NotTakenYet",
        message="no worker tells how it stands; what you asked for is safe in Temporal and done once a worker runs",
        hint="Start `twinline worker`; `twinline doctor` says what else is missing. Asking again is safe.",
        retryable=True,
    )


# -- words


def _standing(status: RebuildStatus) -> str:
    if status.last_error is not None:
        return f"{status.host}: {meaning(status.last_error).sentence}"
    if status.should_hold is None:
        return f"{status.host} is being looked at"
    return f"{status.host}: seen to hold {status.held} of {_lines(status.should_hold)}"


def _tell(status: RebuildStatus) -> None:
    style = "green" if status.done else "yellow"
    out().print(Text(_head(status), style=style), soft_wrap=True)
    for left in status.left:
        why = meaning(left.code)
        hint = "" if left.code == STILL_TO_COME else left.hint or why.hint
        say(f"  {_lines(left.lines)}: {why.sentence}", hint=hint, style="yellow")
    if status.last_error is not None and not status.over:
        say(f"  {meaning(status.last_error).sentence}", hint=status.hint, style="yellow")
    if status.next_attempt is not None and not status.over:
        say(
            f"  It looks again by itself at {moment(status.next_attempt)}.",
            hint=f"`twinline host rebuild {status.host}` tries at once; with --stop it ends.",
        )


def _head(status: RebuildStatus) -> str:
    changed = f"{_lines(status.changed)} written, taken off or driven on"
    if status.done:
        return f"{status.host} holds all of its {_lines(status.should_hold or 0)}, seen in file and daemon; {changed}."
    far = (
        "it could not be looked at yet"
        if status.should_hold is None
        else f"seen to hold {status.held} of {_lines(status.should_hold)}; {changed}"
    )
    if status.stopped_by is not None:
        return f"The rebuild of {status.host} was stopped by {status.stopped_by}: {far}."
    return f"{status.host} is being rebuilt: {far}."
