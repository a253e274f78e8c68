"""What must hold for any bytes of an accounts file, and for any values of a line: AssertionError where it does not."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from tests.hosts.files import END, PASSWORD, carried_out, half, image_of, ops_of
from tests.hosts.judge import MAIN, Kind, Seen, end_in, kind_of
from twinline.hosts import multics, oscam
from twinline.hosts.image import Plan
from twinline.hosts.ports import Half, Wanted
from twinline.sandbox import multics_parser, oscam_parser

MULTICS, OSCAM = kind_of("multics"), kind_of("oscam")
NEW: Final = half("fuzz222222", 7)


def text(word: bytes) -> str:
    """Bytes as the stand-ins hold them."""
    return word.decode("latin-1")


def once(files: dict[str, bytes]) -> Callable[[str], bytes | None]:
    """Files that can be read once: an include of the file itself would be read in it again and again.

    What another include brings is no part of the accounts file: we leave it alone.
    """
    left = dict(files)
    return lambda path: left.pop(path, None)


def check_multics_reading(data: bytes) -> None:
    """Our reading of an accounts file is the stand-in's."""
    config = multics_parser.parse("main", once({"main": MAIN, "accounts": data}))
    ours = multics.parse(data)
    assert [
        (text(each.user), text(each.password), [(text(key), text(value)) for key, value in each.keys]) for each in ours
    ] == [(each.user, each.password, list(reversed(each.info))) for each in config.records]
    check_spans(data, [(each.start, each.end) for each in ours])


def check_oscam_reading(data: bytes) -> None:
    """Our reading of an accounts file is the stand-in's."""
    ours = oscam.parse(data)
    theirs = oscam_parser.parse_users(data).accounts
    assert [(text(each.user), text(each.password), each.disabled) for each in ours] == [
        (each.user, each.password, each.disabled) for each in theirs
    ]
    assert [text(each.values.get(b"description", b"")) for each in ours] == [each.description for each in theirs]
    assert [oscam_parser.end_of_day(text(each.values.get(b"expdate", b""))) for each in ours] == [
        each.expires for each in theirs
    ]
    check_spans(data, [(each.start, each.end) for each in ours])


def check_spans(data: bytes, spans: Sequence[tuple[int, int]]) -> None:
    """Records stand one after the other, each of whole lines as the daemon takes them."""
    position = 0
    for start, end in spans:
        assert position <= start < end <= len(data)
        position = end


def check_editing(kind: Kind, data: bytes) -> None:
    """Nothing to do writes nothing; what is to be done touches no byte of anybody else, and no account."""
    assert image_of(kind.daemon, data).plan([], []).empty
    if NEW.username.encode() in data:
        return
    check_addition(kind, data)
    picture = image_of(kind.daemon, data)
    for name in sorted(set(picture.slots) - set(picture.strays) - picture.foreign):
        check_switching_off(kind, data, name)


def check_addition(kind: Kind, data: bytes) -> None:
    """A new line is served as wanted beside everybody else, and only a slot of ours was written."""
    picture = image_of(kind.daemon, data)
    free = sorted(picture.free)
    plan = picture.plan([NEW], [])
    assert not plan.conflicts
    assert not plan.unsafe
    check_places(kind, data, plan, free)
    after = carried_out(data, plan)
    end = end_in(kind.protocol, NEW.ends_at or END)
    wanted = Seen(NEW.username, NEW.password, enabled=True, end=end, mark=NEW.mark)
    seen = kind.see(after)
    assert seen.count(wanted) == 1
    seen.remove(wanted)
    assert seen == kind.see(data)
    assert image_of(kind.daemon, after).plan([NEW], []).empty


def check_switching_off(kind: Kind, data: bytes, name: str) -> None:
    """A line of ours goes off in its slot, and nobody else notices."""
    picture = image_of(kind.daemon, data)
    off = Half(name, name, PASSWORD, Wanted.ABSENT, None, 9, "9-0badc0de")
    slot = picture.slots[name]
    plan = picture.plan([off], [])
    check_places(kind, data, plan, [slot])
    after = carried_out(data, plan)
    kept = [seen for seen in kind.served(data) if seen.user != name]
    assert [seen for seen in kind.served(after) if seen.user != name] == kept


def check_places(kind: Kind, data: bytes, plan: Plan, slots: Sequence[int]) -> None:
    """Every write is an append, or inside one of these slots or of what was appended."""
    for op in ops_of(plan):
        if not op.old:
            assert op.offset == len(data)
        elif op.offset < len(data):
            end = op.offset + len(op.old)
            assert any(slot <= op.offset and end <= slot + kind.daemon.width for slot in slots)


def check_multics(data: bytes) -> None:
    """Everything about a MultiCS accounts file."""
    check_multics_reading(data)
    if b"include" not in data.lower():
        check_editing(MULTICS, data)


def check_oscam(data: bytes) -> None:
    """Everything about an `oscam.user`."""
    check_oscam_reading(data)
    check_editing(OSCAM, data)


def check_values(data: bytes) -> None:
    """What either daemon would not read back literally is refused; what is written is read back as it was given."""
    username, _, rest = data.partition(b"\0")
    password, _, number = rest.partition(b"\0")
    hours = int.from_bytes(number[:4], "big") % (24 * 365 * 90)
    ends_at = datetime(1980, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
    values = Half("line", text(username), text(password), Wanted.PRESENT, ends_at, 7, "7-0badc0de")
    for kind in (MULTICS, OSCAM):
        check_value(kind, values)


def check_value(kind: Kind, values: Half) -> None:
    """One daemon's side of it."""
    picture = image_of(kind.daemon, b"")
    plan = picture.plan([values], [])
    after = carried_out(b"", plan)
    if plan.unsafe:
        assert kind.see(after) == []
        return
    assert values.ends_at is not None
    end = end_in(kind.protocol, values.ends_at)
    assert kind.see(after) == [Seen(values.username, values.password, enabled=True, end=end, mark=values.mark)]


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "multics": check_multics,
    "oscam": check_oscam,
    "values": check_values,
}
