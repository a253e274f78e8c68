"""A receipt in words: what stands where, why something does not, and what that means for the customer."""

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from starter.cli.render import Exit, block_line, cells, moment, plain_table, show_table
from starter.explain import meaning
from twinline.messages import HalfReceipt, HalfState, MailReceipt, MailState, OrderKind, Receipt
from twinline.spans import span

DAEMONS = {"multics": "MultiCS", "oscam": "OSCam"}
PROVEN = (HalfState.APPLIED, HalfState.REMOVED)
_STYLES = {HalfState.APPLIED: "green", HalfState.REMOVED: "green", HalfState.FAILING: "red"}


def exit_of(receipt: Receipt, *, done: bool) -> Exit:
    """0 only when the order is done, every half proven and the mail, if there is one, accepted; 4 if cancelled.

    What was never to be had is not done.
    """
    if _was_cancelled(receipt):
        return Exit.REFUSED
    proven = all(half.state in PROVEN for half in receipt.halves)
    mailed = receipt.mail is None or receipt.mail.state is MailState.ACCEPTED
    return Exit.DONE if done and proven and mailed and not receipt.unserved else Exit.GOING_ON


def _was_cancelled(receipt: Receipt) -> bool:
    return receipt.cancelled is not None and receipt.kind is not OrderKind.CANCEL


def show_command(receipt: Receipt) -> str:
    """The command that tells how far this order is."""
    return _command("show", receipt)


def _command(verb: str, receipt: Receipt) -> str:
    caller = receipt.workflow_id.split("/")[1]
    words = [f"twinline order {verb}", receipt.order]
    if receipt.kind in (OrderKind.BLOCK, OrderKind.UNBLOCK):
        words.append(f"--kind {receipt.kind} --line {receipt.username}")
    if receipt.kind is OrderKind.CANCEL:
        words.append("--kind cancel")
    if caller != "cli":
        words.append(f"--caller {caller}")
    return " ".join(words)


def closing(receipt: Receipt, *, done: bool) -> str:
    """One sentence that says what the receipt means."""
    if _was_cancelled(receipt):
        shown = show_command(receipt.model_copy(update={"kind": OrderKind.CANCEL}))
        return f"The order was cancelled; `{shown}` tells how far its hosts have followed, and what the customer read."
    if receipt.unserved:
        again = "; the trial does not count, and can be asked for again" if receipt.kind is OrderKind.TRIAL else ""
        return f"The line's time was over before it could be used, which the customer is told{again}."
    kept = "" if done else _old_pair_in_words(receipt)
    return f"{_halves_in_words(receipt)}; {kept}{_mail_in_words(receipt.mail, done=done)}."


def show_receipt(console: Console, receipt: Receipt, *, done: bool, now: datetime, page: str | None = None) -> None:
    """Print a receipt for people; `page` is where its workflow can be looked at."""
    head = Table.grid(padding=(0, 2, 0, 0))
    head.add_row(*cells("order", f"{receipt.kind} {receipt.order}"))
    head.add_row(*cells("line", receipt.username))
    head.add_row(*cells("plan", f"{receipt.plan}, until {moment(receipt.ends_at)}"))
    if receipt.cancelled is not None:
        cancelled = receipt.cancelled
        head.add_row(*cells("cancelled", f"{moment(cancelled.at)} by {cancelled.actor}: {cancelled.reason}"))
    for block in receipt.blocks:
        head.add_row(*cells("block", block_line(block)))
    mail = receipt.mail
    head.add_row(*cells("mail", "none so far" if mail is None else f"{mail.kind}: {mail.state}"))
    console.print(head)
    if page is not None:
        # In one piece however narrow the terminal is: it is to be clicked at, or copied.
        console.print(Text(f"Temporal  {page}"), soft_wrap=True)
    console.print()
    show_table(halves_table(receipt.halves, now=now), console)
    console.print()
    style = "green" if exit_of(receipt, done=done) is Exit.DONE else "yellow"
    console.print(Text(closing(receipt, done=done), style=style), soft_wrap=True)


def halves_table(halves: Sequence[HalfReceipt], *, now: datetime) -> Table:
    """A row per half, with the meaning of its last error and what to do about it."""
    table = plain_table("host", "daemon", "state", "revision", "attempts", "")
    for half in halves:
        host, daemon, state, revision, attempts = cells(
            half.host, DAEMONS[half.protocol], half.state, str(half.revision), str(half.attempts)
        )
        state.style = _STYLES.get(half.state, "yellow")
        table.add_row(host, daemon, state, revision, attempts, _trouble(half, now=now))
    return table


def _trouble(half: HalfReceipt, *, now: datetime) -> Group:
    if half.last_error is None:
        return Group(Text(_leaving(half))) if half.leaving else Group()
    found = meaning(half.last_error)
    again = ""
    if half.next_attempt is not None:
        what = "looked at again" if found.attention else "next attempt"
        again = f"; {what} in {span((half.next_attempt - now).total_seconds())}"
    return Group(
        Text(f"{half.last_error}: {found.sentence}{again}"),
        Text(f"→ {found.hint}", style="dim"),
    )


def _leaving(half: HalfReceipt) -> str:
    return f"the line {'left' if half.state is HalfState.REMOVED else 'leaves'} this host"


def standing_in_words(receipt: Receipt, *, now: datetime) -> str:
    """How an order's halves and its mail stand, in a line."""
    parts = [_half_in_words(half, now=now) for half in receipt.halves]
    parts.append("no mail yet" if receipt.mail is None else f"mail {receipt.mail.state}")
    return " · ".join(parts)


def _half_in_words(half: HalfReceipt, *, now: datetime) -> str:
    trouble = "" if half.last_error is None or half.state in PROVEN else f" ({half.last_error})"
    again = ""
    if trouble and half.next_attempt is not None:
        again = f", again in {span((half.next_attempt - now).total_seconds())}"
    return f"{half.host} {half.state}{trouble}{again}"


def needs_a_person(half: HalfReceipt) -> bool:
    """Whether this half goes on only after a person has acted."""
    open_half = half.state not in (*PROVEN, HalfState.ABANDONED)
    return open_half and half.last_error is not None and meaning(half.last_error).attention


def _halves_in_words(receipt: Receipt) -> str:
    if not receipt.halves:
        return "The order is recorded and its halves come next"
    serve = [half.host for half in receipt.halves if half.state is HalfState.APPLIED]
    refuse = [half.host for half in receipt.halves if half.state is HalfState.REMOVED]
    given_up = [half.host for half in receipt.halves if half.state is HalfState.ABANDONED]
    open_halves = [half for half in receipt.halves if half.state not in (*PROVEN, HalfState.ABANDONED)]
    stuck = [half.host for half in open_halves if needs_a_person(half)]
    follow = [half.host for half in open_halves if not needs_a_person(half)]
    left = [half.host for half in receipt.halves if half.state is HalfState.REMOVED and half.leaving]
    everybody = _all_of(receipt.halves)
    if len(serve) == len(receipt.halves):
        return f"{everybody} serve the line"
    if len(refuse) == len(receipt.halves):
        return f"{everybody} refuse the line{_because(receipt)}"
    refuse = [host for host in refuse if host not in left]
    parts = [
        f"{_listed(serve)} {_verb(serve, 'serve')} the line" if serve else "",
        f"{_listed(refuse)} {_verb(refuse, 'refuse')} the line{_because(receipt)}" if refuse else "",
        f"{_listed(left)} {_verb(left, 'hold')} it no longer" if left else "",
        f"{_listed(given_up)} {'was' if len(given_up) == 1 else 'were'} abandoned" if given_up else "",
        f"{_listed(follow)} {_verb(follow, 'follow')}: twinline keeps trying, and `{show_command(receipt)}` tells "
        "how far it is"
        if follow
        else "",
        f"{_listed(stuck)} {_verb(stuck, 'wait')} for a person: repair what is said above, then "
        f"`{_command('retry', receipt)}`, or give it up with "
        f"`{_command('abandon', receipt)} --host {stuck[0]} --reason …`"
        if stuck
        else "",
    ]
    return "; ".join(part for part in parts if part)


def _old_pair_in_words(receipt: Receipt) -> str:
    old = [half.host for half in receipt.halves if half.leaving and half.state is HalfState.APPLIED]
    if receipt.old_until is None or not old:
        return ""
    return (
        f"the old pair ({_listed(old)}) is kept until {moment(receipt.old_until)} and left then, which ends the order "
        f"(`{show_command(receipt)}` tells how far it is); "
    )


def _mail_in_words(mail: MailReceipt | None, *, done: bool) -> str:
    if mail is None:
        return "no mail was due" if done else "no mail has gone yet"
    match mail.state:
        case MailState.ACCEPTED:
            return "the mail was accepted"
        case MailState.STORED:
            return "the mail is written, and the mail server has not taken it yet"
        case MailState.REFUSED:
            return "the mail server refused the mail for good, so tell the customer another way"
        case MailState.UNKNOWN:
            return "nobody can tell yet whether the mail server took the mail, so the same mail is handed over again"


def _because(receipt: Receipt) -> str:
    blocks = receipt.blocks
    if not blocks or receipt.kind is OrderKind.CLOSE:
        return ""
    owners = dict.fromkeys(str(block.owner) for block in blocks)
    return f" (blocked by {_listed(list(owners))})"


def _all_of(halves: Sequence[HalfReceipt]) -> str:
    return "Both halves" if len(halves) == 2 else f"All {len(halves)} halves"


def _verb(subjects: Sequence[str], verb: str) -> str:
    return f"{verb}s" if len(subjects) == 1 else verb


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
