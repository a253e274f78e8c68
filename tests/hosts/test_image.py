"""Whole files: random orders over several lines, and records of ours that lost their place."""

from datetime import timedelta
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hosts.files import END, PASSWORD, carried_out, first_group_of, half, image_of, plan_for, written
from tests.hosts.judge import KINDS, Kind, Seen, kind_of
from tests.hosts.lab import FOREIGN
from twinline.hosts.daemon import Trigger
from twinline.hosts.oscam import OSCam
from twinline.hosts.ports import Half, Wanted
from twinline.sandbox.oscam_parser import parse_users, render_users

NAMES: Final = ("alder22", "birch22", "cedar22", "elder22")
MULTICS, OSCAM = kind_of("multics"), kind_of("oscam")
LOWER: Final = b"# ----\n"


def secret(name: str, generation: int) -> str:
    return f"{name}pw{generation:02d}"


ORDERS: Final = st.lists(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(Wanted), st.integers(0, 2), st.integers(0, 3)),
        min_size=1,
        max_size=4,
        unique_by=lambda order: order[0],
    ),
    max_size=12,
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
@settings(max_examples=60, deadline=None)
@given(orders=ORDERS)
def test_after_any_orders_the_file_holds_what_is_wanted_and_everybody_elses_bytes(
    kind: Kind, orders: list[list[tuple[str, Wanted, int, int]]]
) -> None:
    above = FOREIGN[kind.protocol]
    data = carried_out(above, plan_for(kind.daemon, above, [half("yew2222222", 1)])) + LOWER
    lower = len(data) - len(LOWER)
    kept = image_of(kind.daemon, data)
    wanted: dict[str, Half] = {}
    for revision, batch in enumerate(orders, start=1):
        freed = [name for name, each in wanted.items() if each.wanted is Wanted.ABSENT]
        halves = [
            half(name, revision, password=secret(name, key), wanted=state, ends_at=END + timedelta(days=days))
            for name, state, key, days in batch
        ]
        wanted |= {each.username: each for each in halves}
        before = len(data)
        data = carried_out(data, kept.plan(halves, freed))
        assert bytes(kept.data) == data
        fresh = image_of(kind.daemon, data)
        assert (fresh.slots, fresh.free, fresh.foreign) == (kept.slots, sorted(kept.free, reverse=True), kept.foreign)
        assert data.startswith(above)
        assert data[lower : lower + len(LOWER)] == LOWER
        grown = len(data) - before
        assert grown == 0 or (grown - (-before % kind.daemon.width)) % kind.daemon.width == 0
        served = {seen.user: seen for seen in kind.served(data)}
        present = {name: each for name, each in wanted.items() if each.wanted is Wanted.PRESENT}
        assert served.keys() == present.keys() | {"oldtom", "oldeve", "yew2222222"}
        assert all(served[name].password == each.password for name, each in present.items())
        assert all(served[name].mark == each.mark for name, each in present.items())
        for name in set(freed) - {each.username for each in halves}:
            assert name.encode() not in data


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
def test_what_cannot_be_written_safely_stops_only_its_own_line(kind: Kind) -> None:
    above = FOREIGN[kind.protocol]
    bad = [
        half("birch22", password="a b"),
        half("cedar22", password="x\ny"),
        half("elder22", password="pass#word"),
        half("yew22222", password=""),
        half("ash22222", password="p" * 25),
        half("oak22222", password="påss"),
        half("Nameless"),
        half("elm22222", ends_at=None),
    ]
    plan = plan_for(kind.daemon, above, [*bad, half("alder22")])
    assert plan.unsafe == [each.line_id for each in bad]
    assert {seen.user for seen in kind.served(carried_out(above, plan))} == {"oldtom", "oldeve", "alder22"}


@pytest.mark.parametrize("wanted", [Wanted.BLOCKED, Wanted.ABSENT])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
def test_a_line_is_switched_off_even_if_its_values_could_not_be_written(kind: Kind, wanted: Wanted) -> None:
    data = carried_out(b"", plan_for(kind.daemon, b"", [half("alder22", 1)]))
    plan = plan_for(kind.daemon, data, [half("alder22", 2, wanted=wanted, ends_at=None, password="a b")])
    assert not plan.unsafe
    assert kind.served(carried_out(data, plan)) == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
def test_a_foreign_record_of_the_same_name_keeps_ours_from_being_served_but_not_from_being_blocked(kind: Kind) -> None:
    twin = b"F: alder22 handmade\n" if kind is KINDS[0] else b"[account]\nuser = alder22\npwd = handmade\n"
    twin = twin.ljust(kind.daemon.width - 1, b"#") + b"\n"
    data = twin + carried_out(b"", plan_for(kind.daemon, b"", [half("alder22", 1)]))
    renewed = plan_for(kind.daemon, data, [half("alder22", 2, ends_at=END + timedelta(days=9))])
    assert (renewed.conflicts, renewed.empty) == (["alder22"], True)
    blocked = plan_for(kind.daemon, data, [half("alder22", 3, wanted=Wanted.BLOCKED)])
    assert blocked.conflicts == ["alder22"]
    after = carried_out(data, blocked)
    assert [seen.password for seen in kind.served(after)] == ["handmade"]
    assert after.startswith(twin)


@pytest.mark.parametrize("end", [b"", b"\n", b"\n#\n", b" # note"], ids=repr)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_however_many_backslashes_end_somebodys_last_line_none_joins_ours_to_it(count: int, end: bytes) -> None:
    data = FOREIGN["multics"] + b" " + b"\\" * count + end
    after = carried_out(data, plan_for(MULTICS.daemon, data, [half("alder22")]))
    assert [seen.user for seen in MULTICS.see(after)] == [*(seen.user for seen in MULTICS.see(data)), "alder22"]


# --- MultiCS: what a human moved


def multics_line(username: str, revision: int = 1) -> bytes:
    data = carried_out(b"", plan_for(MULTICS.daemon, b"", [half(username, revision)]))
    offset = image_of(MULTICS.daemon, data).slots[username]
    return data[offset : offset + MULTICS.daemon.width]


@pytest.mark.parametrize(
    "moved",
    [
        b"# a line more\n" + multics_line("alder22"),
        b"  \t" + multics_line("alder22").replace(b" 0 ", b"   0 "),
        multics_line("alder22").strip(),
        multics_line("alder22").strip() + b" # Tom's\r\n",
        multics_line("birch22") + multics_line("birch22") + b"#\n" + multics_line("alder22"),
    ],
    ids=["moved", "indented", "without padding", "with a comment", "beside a copy of another"],
)
def test_a_multics_record_out_of_place_gets_a_slot_and_its_old_place_becomes_a_comment(moved: bytes) -> None:
    data = FOREIGN["multics"] + b"\n" + moved
    wanted = half("alder22", 2, ends_at=END + timedelta(days=3))
    plan = plan_for(MULTICS.daemon, data, [wanted])
    after = carried_out(data, plan)
    assert after.startswith(FOREIGN["multics"])
    served = [seen for seen in MULTICS.see(after) if seen.user == "alder22"]
    assert [(seen.password, seen.mark) for seen in served] == [(PASSWORD, wanted.mark)]
    assert after.count(b"alder22") == 1
    assert "alder22" in image_of(MULTICS.daemon, after).slots
    assert not plan.kicks


def test_a_record_out_of_place_is_switched_off_by_one_byte_and_emptied_after_a_pause() -> None:
    data = b"# a line more\n" + multics_line("alder22")
    for number, wanted in enumerate((half("alder22", 2), half("alder22", 2, wanted=Wanted.ABSENT))):
        plan = plan_for(MULTICS.daemon, data, [wanted])
        off = [op for group in plan.groups[:2] for op in group if op.old and op.offset < len(data)]
        assert [(op.old, op.new) for op in off] == [(b"F", b"#")]
        assert len(plan.groups[2]) == 1
        assert off[0] in plan.groups[1 - number]


def test_what_is_left_of_a_removed_line_is_taken_out_wherever_it_stands() -> None:
    line = multics_line("alder22")
    data = b"# a line more\n#" + line[1:] + b"# and\n" + multics_line("birch22")
    image = image_of(MULTICS.daemon, data)
    assert image.parked == {"alder22"}
    after = carried_out(data, image.plan([], ["alder22", "birch22"]))
    assert b"alder22" not in after
    assert after.count(PASSWORD.encode()) == 1
    # It is served: that it should not be is for somebody else to find out.
    assert after.endswith(multics_line("birch22"))
    assert bytes(image.data) == after
    assert image.plan([], ["alder22", "birch22"]).empty


def test_a_multics_record_that_swallowed_the_next_line_is_not_ours_to_change() -> None:
    swallowed = multics_line("alder22").strip() + b" \\\nF: oldann annpass1\n"
    plan = plan_for(MULTICS.daemon, swallowed, [half("alder22", 2)])
    assert (plan.conflicts, plan.empty) == (["alder22"], True)


def test_a_new_password_closes_the_session_on_a_record_that_was_moved() -> None:
    data = b"#\n" + multics_line("alder22")
    plan = plan_for(MULTICS.daemon, data, [half("alder22", 2, password="another23")])
    assert list(plan.kicks) == ["alder22"]


# --- OSCam: what a human or the web pages moved


def oscam_file(*halves: Half) -> bytes:
    above = FOREIGN["oscam"]
    return carried_out(above, plan_for(OSCAM.daemon, above, halves))


def others(data: bytes) -> list[Seen]:
    return [seen for seen in OSCAM.see(data) if seen.user.startswith("old")]


def laid_out(data: bytes) -> bytes:
    """The file after a new layout, which must be the last one that it needs."""
    image = image_of(OSCAM.daemon, data)
    better = image.relayout()
    assert better is not None
    assert image_of(OSCAM.daemon, better).relayout() is None
    assert others(better) == others(data)
    return better


def test_what_the_web_pages_made_of_our_slots_is_laid_out_again() -> None:
    ours = [half("alder22", 1), half("birch22", 7), half("cedar22", 2)]
    data = oscam_file(*ours)
    data = carried_out(data, plan_for(OSCAM.daemon, data, [half("birch22", 8, wanted=Wanted.BLOCKED)]))
    saved = render_users(parse_users(data).accounts)

    better = laid_out(saved)

    assert set(image_of(OSCAM.daemon, better).slots) == {"alder22", "birch22", "cedar22"}
    assert [(a.user, a.password, a.enabled) for a in OSCAM.see(better) if not a.user.startswith("old")] == [
        ("alder22", PASSWORD, True),
        ("birch22", PASSWORD, False),
        ("cedar22", PASSWORD, True),
    ]


def test_slots_that_a_line_at_the_top_pushed_off_their_places_leave_nothing_behind() -> None:
    data = oscam_file(half("alder22", 1, password="firstpass1"))
    data = carried_out(data, plan_for(OSCAM.daemon, data, [half("alder22", 2, password="secondpass")]))

    better = laid_out(b"# one line more\n" + data)

    assert b"firstpass1" in data
    assert better.count(b"secondpass") == 1
    assert better.count(b"alder22") == 1
    assert better.startswith(b"# one line more\n" + FOREIGN["oscam"])
    assert b"~~~~" not in better


def test_keys_behind_a_slot_go_with_it_and_never_to_the_account_above() -> None:
    data = oscam_file(half("alder22", 1))
    offset = image_of(OSCAM.daemon, data).slots["alder22"]
    end = offset + OSCAM.daemon.width
    data = data[:end] + b"disabled = 1\npwd = stolen\n" + data[end:]

    better = laid_out(data)

    assert b"stolen" in better
    assert [(a.user, a.password, a.enabled) for a in OSCAM.see(better) if a.user == "alder22"] == [
        ("alder22", "stolen", False)
    ]


def test_a_free_slot_before_keys_of_the_account_above_is_never_filled() -> None:
    data = oscam_file(half("alder22", 1))
    data = carried_out(data, plan_for(OSCAM.daemon, data, [half("alder22", 2, wanted=Wanted.ABSENT)]))
    data = carried_out(data, plan_for(OSCAM.daemon, data, [], ["alder22"])) + b"description = of oldeve\nuniq = 1\n"
    eve = others(data)[-1]
    assert eve.mark == "of oldeve"

    plan = plan_for(OSCAM.daemon, data, [half("birch22", 1)])

    after = carried_out(data, plan)
    assert others(after)[-1] == eve
    assert image_of(OSCAM.daemon, after).slots["birch22"] > len(data)


def test_of_two_records_of_a_line_the_later_revision_stays() -> None:
    older, newer = oscam_file(half("alder22", 1)), oscam_file(half("alder22", 12, password="another23"))
    offset = image_of(OSCAM.daemon, older).slots["alder22"]
    copy = older[offset : offset + OSCAM.daemon.width]

    better = laid_out(newer + b"#\n" + copy)

    ours = [seen for seen in OSCAM.see(better) if not seen.user.startswith("old")]
    assert [(seen.user, seen.password) for seen in ours] == [("alder22", "another23")]


def test_a_slot_behind_a_foreign_account_of_its_name_stays_where_it_is() -> None:
    data = oscam_file(half("alder22", 1))
    data = b"[account]\nuser = alder22\npwd = handmade\n".ljust(OSCAM.daemon.width - 1, b"#") + b"\n" + data
    image = image_of(OSCAM.daemon, data)
    assert image.relayout() is None
    assert image.plan([half("alder22", 2)], []).conflicts == ["alder22"]


@pytest.mark.parametrize(
    "change",
    [(b"expdate = 2031-05-06", b"expdate = "), (PASSWORD.encode(), b"two words of it")],
    ids=["without an end", "with another password"],
)
def test_a_record_that_became_what_no_slot_may_hold_is_left_alone_and_reported(change: tuple[bytes, bytes]) -> None:
    saved = render_users(parse_users(oscam_file(half("alder22", 1))).accounts)
    old, new = (part.replace(b"expdate = ", b"expdate                       = ") for part in change)
    assert old in saved
    image = image_of(OSCAM.daemon, saved.replace(old, new))
    assert image.relayout() is None
    assert image.plan([half("alder22", 2)], []).conflicts == ["alder22"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
def test_the_longest_record_fits_the_smallest_width_that_the_inventory_takes(kind: Kind) -> None:
    longest = half("a" * 20, 9_999_999_999, password="P" * 24)
    zone = ZoneInfo("UTC")
    groups = tuple(range(1, 65))
    widest = OSCam(width=512, zone=zone, groups=groups, reload=Trigger("get"), deadline=1.0)
    daemon = kind.daemon if kind.protocol == "multics" else widest
    plan = plan_for(daemon, b"", [longest])
    assert not plan.unsafe
    assert [seen.user for seen in kind.served(carried_out(b"", plan))] == ["a" * 20]


def test_a_width_that_cannot_hold_an_empty_record_is_refused() -> None:
    with pytest.raises(ValueError, match="record_width 128 is too small"):
        OSCam(width=128, zone=ZoneInfo("UTC"), groups=(1,), reload=Trigger("get"), deadline=1.0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.protocol)
def test_who_loses_access_does_so_before_anybody_gains_it(kind: Kind) -> None:
    data = carried_out(b"", plan_for(kind.daemon, b"", [half("alder22"), half("birch22")]))
    halves = [half("cedar22"), half("birch22", 2, wanted=Wanted.ABSENT), half("alder22", 2, wanted=Wanted.BLOCKED)]
    plan = plan_for(kind.daemon, data, halves)
    data = first_group_of(data, plan)
    assert kind.served(data) == []
    for op in plan.groups[1]:
        data = written(data, op)
    assert [seen.user for seen in kind.served(data)] == ["cedar22"]
