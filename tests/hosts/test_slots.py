"""Every transition of a slot, stopped after every byte, judged by the stand-in's own parser.

What a daemon may see in between: our account as it was, as it will be, disabled, or not at all; with MultiCS, whose
date has no spare line to be written to, also an end in the year 9999, which the close at the end of the batch heals.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import permutations
from typing import Final

import pytest

from tests.hosts.files import (
    END,
    carried_out,
    every_state,
    first_group_of,
    half,
    image_of,
    ops_of,
    plan_for,
    written,
)
from tests.hosts.judge import KINDS, Kind
from tests.hosts.law import Law
from twinline.hosts import image
from twinline.hosts.ports import Half, Wanted

NEW_PASSWORD: Final = "Zother6789abcdef"
BLOCKED, ABSENT = Wanted.BLOCKED, Wanted.ABSENT


@dataclass(frozen=True)
class Neighbours:
    """Files around our slots: what stands above them, and what a human appends below them later."""

    name: str
    above: bytes
    below: bytes


MULTICS_ABOVE = b"# by hand\nF: bert bertpw\nF: ashtree1 foreignpw 0 { enddate=2033-03-03; name=Tree }"
MULTICS_BELOW = b"F: bertold evepass1\n"
OSCAM_ABOVE = (
    b"# by hand\n[account]\nuser = bert\npwd = bertpw\n\n[account]\nuser = ashtree1\npwd = foreignpw\ngroup = 1,2"
)
OSCAM_BELOW = b"[account]\nuser = bertold\npwd = evepass1\ngroup = 1\n"


def aligned(data: bytes, width: int) -> bytes:
    """The same with a comment in front that brings its end to a slot boundary."""
    return b"#" + b"x" * (-(len(data) + 2) % width) + b"\n" + data


def neighbours(kind: Kind) -> Sequence[Neighbours]:
    above, below = (MULTICS_ABOVE, MULTICS_BELOW) if kind.protocol == "multics" else (OSCAM_ABOVE, OSCAM_BELOW)
    width = kind.daemon.width
    return [
        Neighbours("a final newline", above + b"\n", below),
        Neighbours("no final newline", above, below.rstrip(b"\n")),
        Neighbours("a boundary without newline", aligned(above, width)[:-1] + b"y", below),
        Neighbours("a trailing backslash", aligned(above + b" \\\n", width), b"#\n" + below),
        Neighbours("a backslash before a comment", aligned(above + b" \\ # note\n", width), b"\n" + below),
        Neighbours("a NUL behind a backslash", aligned(above + b" \\\0note\n", width), below),
        Neighbours("CRLF", (above + b"\n").replace(b"\n", b"\r\n"), below.replace(b"\n", b"\r\n")),
    ]


@dataclass(frozen=True)
class Change:
    """One batch: what is wanted of a line, or whose slot is to be freed."""

    name: str
    wanted: Half | None
    scrub: tuple[str, ...] = ()


def life() -> Sequence[Change]:
    """Every transition of a slot, in one life."""
    name = "rosewood22"
    far = END + timedelta(days=400)
    return [
        Change("free to present", half(name, 1)),
        Change("renewed within the month", half(name, 2, ends_at=END + timedelta(days=20))),
        Change("renewed over a month of two digits", half(name, 3, ends_at=END.replace(month=12))),
        Change("renewed over the year", half(name, 4, ends_at=far)),
        Change("cut short", half(name, 8, ends_at=END.replace(month=9))),
        Change("only the mark", half(name, 9, ends_at=END.replace(month=9))),
        Change("mark from 9 to 10", half(name, 10, ends_at=END)),
        Change("password", half(name, 99, password=NEW_PASSWORD)),
        Change("mark from 99 to 100, password and date", half(name, 100, ends_at=far)),
        Change("a shorter password", half(name, 101, password="Q7", ends_at=far)),
        Change("blocked", half(name, 102, password="Q7", wanted=BLOCKED, ends_at=far)),
        Change("unblocked", half(name, 103, password="Q7", ends_at=far)),
        Change("blocked again", half(name, 104, password="Q7", wanted=BLOCKED, ends_at=far)),
        Change("renewed while blocked", half(name, 105, password="Q7", wanted=BLOCKED, ends_at=END)),
        Change("unblocked with another password", half(name, 106, ends_at=END)),
        Change("absent", half(name, 107, wanted=ABSENT)),
        Change("present again before it was scrubbed", half(name, 108, password=NEW_PASSWORD)),
        Change("absent for good", half(name, 109, wanted=ABSENT)),
        Change("scrubbed", None, (name,)),
        Change("its slot taken by a name that begins as a neighbour's", half("bertha2222", 1, password=NEW_PASSWORD)),
        Change("a second line", half("ashtree2", 1, ends_at=far)),
    ]


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - pytest uses it
    monkeypatch.setattr(image, "GROWTH", 1)


SHORT: Final = (
    "free to present",
    "renewed over the year",
    "password",
    "blocked",
    "unblocked",
    "absent for good",
    "scrubbed",
)
"""What is enough where only the neighbours are special."""

CASES: Final = [(kind, around) for kind in KINDS for around in neighbours(kind)]


@pytest.mark.parametrize(("kind", "around"), CASES, ids=[f"{kind.protocol}-{around.name}" for kind, around in CASES])
def test_no_byte_of_any_transition_shows_a_daemon_anything_wrong(kind: Kind, around: Neighbours) -> None:
    data = around.above
    kind_width = kind.daemon.width
    foreign = kind.see(data)
    ordinary = around.name == "no final newline"
    for number, change in enumerate(each for each in life() if ordinary or each.name in SHORT):
        halves = [change.wanted] if change.wanted else []
        name = change.wanted.username if change.wanted is not None else change.scrub[0]
        law = Law.of(kind, data, halves, change.scrub)
        plan = plan_for(kind.daemon, data, halves, change.scrub)
        assert not plan.conflicts
        assert not plan.unsafe
        for state in every_state(data, plan):
            law.check(state)
        if plan.groups[1]:
            law.check_unproven(first_group_of(data, plan))
        after = carried_out(data, plan)
        law.check_done(after)
        slots = image_of(kind.daemon, after).slots
        assert all(offset % kind_width == 0 for offset in slots.values())
        assert len(after) == len(data) or (len(after) % kind_width == 0 and after.startswith(data))
        assert not plan_for(kind.daemon, after, halves, change.scrub).groups[0]
        if number == 0:
            after += around.below
            foreign = [account for account in kind.see(after) if account.user != name]
        data = after
    assert [account for account in kind.see(data) if account in foreign] == foreign
    assert b"rosewood22" not in data
    assert data.startswith(around.above)
    assert around.below in data


WAITS: Final = {
    # What no page shows: a password of MultiCS, and the keys that an account of OSCam is given once.
    "multics": {
        "free to present",
        "password",
        "mark from 99 to 100, password and date",
        "a shorter password",
        "unblocked with another password",
        "present again before it was scrubbed",
        "its slot taken by a name that begins as a neighbour's",
        "a second line",
    },
    "oscam": {"free to present", "its slot taken by a name that begins as a neighbour's", "a second line"},
}


def torn_reads(states: Sequence[bytes]) -> Generator[bytes]:
    """What a reader gets that goes on from one state to another within a record, in either direction."""
    for before, after in permutations(states, 2):
        changed = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
        for cut in changed[1:]:
            yield before[:cut] + after[cut:]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
def test_a_change_without_a_pause_is_shown_only_by_who_has_read_all_of_it(kind: Kind) -> None:
    data = b""
    waits: set[str] = set()
    for change in life():
        halves = [change.wanted] if change.wanted else []
        plan = plan_for(kind.daemon, data, halves, change.scrub)
        after = carried_out(data, plan)
        if plan.groups[1]:
            waits.add(change.name)
        elif change.wanted is not None and change.wanted.wanted is Wanted.PRESENT:
            name = change.wanted.username
            right = [each for each in kind.served(after) if each.user == name]
            states = [data]
            for op in ops_of(plan):
                states.append(written(states[-1], op))
            for read in torn_reads(states):
                seen = [each for each in kind.served(read) if each.user == name]
                assert kind.pages_show(seen) != kind.pages_show(right) or seen == right
        data = after
    assert waits == WAITS[kind.protocol]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
def test_a_plan_for_what_the_file_already_holds_is_empty(kind: Kind) -> None:
    wanted = half("rosewood22", 3)
    data = carried_out(b"", plan_for(kind.daemon, b"", [wanted]))
    assert plan_for(kind.daemon, data, [wanted]).empty
    off = half("rosewood22", 4, wanted=BLOCKED)
    data = carried_out(data, plan_for(kind.daemon, data, [off]))
    assert plan_for(kind.daemon, data, [off]).empty
