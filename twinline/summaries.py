"""Orders in words, for Temporal's own pages: ids, states and numbers, and nothing about a person."""

from datetime import UTC, datetime

from twinline.bulk import BulkBlock, BulkCounts, BulkExtend, BulkImport, NewBulk
from twinline.messages import (
    AnyOrder,
    BlockOrder,
    CancelOrder,
    CloseOrder,
    EraseStatus,
    ExtensionOrder,
    ImportOrder,
    MoveOrder,
    PasswordOrder,
    PurchaseOrder,
    RenewalOrder,
    TrialOrder,
    UnblockOrder,
    order_kind,
    order_ref,
)
from twinline.rebuild import STILL_TO_COME, RebuildStatus


def summary_of(order: AnyOrder) -> str:
    """What the order asks for, in one short line."""
    match order:
        case TrialOrder():
            return f"48 hours for a new customer in {order.region}"
        case PurchaseOrder(line=None):
            return f"{_days(order.days)} for a new customer in {order.region}"
        case PurchaseOrder():
            return f"{_days(order.days)} for a line"
        case RenewalOrder():
            return f"{_days(order.days)} more for a line"
        case BlockOrder():
            until = "" if order.until is None else f" until {moment(order.until)}"
            return f"{order.owner} block of a line{until}, case {order.case}"
        case UnblockOrder():
            return f"lift the {order.owner} block of case {order.case}"
        case PasswordOrder():
            return "a new password for a line"
        case MoveOrder():
            return f"move a line to pair {order.pair}"
        case CloseOrder():
            return "close a line for good"
        case CancelOrder():
            return f"take the {order.of} order {order.order} back"
        case ExtensionOrder():
            return f"{_days(order.days)} given to a line"
        case ImportOrder():
            return "a line from another system"


def details_of(order: AnyOrder) -> str:
    """Who asks, under which id, and where to look further (Markdown)."""
    own_id = order_ref(order).partition("/")[0]
    caller = "" if order.caller == "cli" else f" --caller {order.caller}"
    kind = f" --kind {order_kind(order)}" if isinstance(order, BlockOrder | UnblockOrder | CancelOrder) else ""
    return (
        f"Order **{own_id}** of caller **{order.caller}**.\n\n"
        f"`twinline order show {own_id}{kind}{caller}` tells more, in words."
    )


def bulk_summary(new: NewBulk, items: int) -> str:
    """What a bulk run asks for, in one short line."""
    lines = "1 line" if items == 1 else f"{items} lines"
    match new.job:
        case BulkBlock():
            until = "" if new.job.until is None else f" until {moment(new.job.until)}"
            return f"block {lines}{until}, case {new.job.case or new.run}"
        case BulkExtend():
            where = f"region {new.job.region}" if new.job.pair is None else f"pair {new.job.pair}"
            return f"give {_days(new.job.days)} to {lines} of {where}"
        case BulkImport():
            return f"take {lines} over from another system"


def counts_in_words(counts: BulkCounts) -> str:
    """How the items of a bulk run stand, without what there is none of."""
    names = ("waiting", "going", "stuck", "done", "refused", "cancelled")
    found = [f"{count} {name}" for name in names if (count := getattr(counts, name))]
    return f"{', '.join(found) or 'none'} of {counts.items}"


def rebuild_in_words(status: RebuildStatus) -> str:
    """How far a rebuild is (Markdown)."""
    lines = [
        f"Host `{status.host}`, asked for by **{status.actor}**" + (f": {status.reason}" if status.reason else ".")
    ]
    if status.should_hold is not None:
        lines += [
            "",
            f"File and daemon were seen to hold {status.held} of {status.should_hold} lines; "
            f"{status.changed} were written, taken off or driven on so far.",
        ]
    lines += [f"- {_left_in_words(each.code, each.lines, each.hint)}" for each in status.left]
    if status.last_error is not None:
        tries = "1 attempt" if status.attempts == 1 else f"{status.attempts} attempts"
        lines += ["", f"`{status.last_error}` after {tries}. To do: {status.hint.rstrip('.')}."]
    if status.done:
        lines += ["", "The host holds every line as it must."]
    elif status.stopped_by is not None:
        lines += ["", f"Stopped by {status.stopped_by}."]
    elif status.next_attempt is not None:
        who = "It **waits for a person**, and looks again" if status.asks is not None else "It looks again"
        lines += ["", f"{who} at {status.next_attempt.astimezone(UTC):%H:%M:%S} UTC, or at once after `retry_now`."]
    return "\n".join(lines)


def _left_in_words(code: str, lines: int, hint: str) -> str:
    many = "1 line" if lines == 1 else f"{lines} lines"
    if code == STILL_TO_COME:
        return f"{many} still to come"
    return f"{many} with `{code}`" + (f". To do: {hint.rstrip('.')}." if hint else "")


def erasure_in_words(status: EraseStatus) -> str:
    """Where a line is still looked for before it is forgotten (Markdown)."""
    waits = [host for host in status.hosts if host not in (*status.empty, *status.gone)]
    if status.done:
        then = "Nothing tells whose line it was any more."
    elif waits:
        then = "A host that is no more is named with `twinline erase … --host-is-gone HOST`."
    else:
        then = "Its orders' histories are deleted, and last the ledger forgets whose line it was."
    return "\n".join(
        (
            f"Line `{status.line}` on its hosts:",
            "",
            *(f"- **{host}**: seen to hold nothing of it" for host in status.empty),
            *(f"- **{host}**: said to be no more" for host in status.gone),
            *(f"- **{host}**: waited for, until it is seen to hold nothing of it" for host in waits),
            "",
            then,
        )
    )


def moment(when: datetime) -> str:
    """A moment to the minute, in UTC."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _days(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"
