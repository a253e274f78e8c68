"""The rules, by properties."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from tests.ledger.support import DAY, START
from twinline.keys import KeyRing
from twinline.ledger.rules import (
    Desired,
    LineState,
    PairLoad,
    Period,
    decide_term,
    desired_state,
    mark,
    new_id,
    new_password,
    new_username,
    pick_pair,
    renewed_end,
    still_to_come,
    without,
)

moments = st.integers(-(10**9), 10**9).map(lambda seconds: START + timedelta(seconds=seconds))
seeds = st.integers(0, 2**32).map(Random)
loads = st.builds(
    PairLoad,
    name=st.sampled_from(["a", "b", "c", "d"]),
    capacity=st.integers(1, 50),
    lines=st.integers(0, 60),
    healthy=st.booleans(),
)


@given(ends=st.lists(moments, max_size=4), blocked=st.booleans(), closed=st.booleans())
def test_a_line_is_present_only_with_an_open_grant_and_without_a_block(
    ends: list[datetime], *, blocked: bool, closed: bool
) -> None:
    desired = desired_state(closed=closed, blocked=blocked, open_ends=ends)
    assert (desired.state == "present") == (bool(ends) and not blocked and not closed)
    assert (desired.state == "absent") == (closed or not ends)
    assert desired.ends_at == (None if desired.state == "absent" else max(ends))


@given(now=moments, ends_at=st.none() | moments, days=st.integers(1, 3660))
def test_a_renewal_never_takes_time_away_and_always_gives_its_days(
    now: datetime, ends_at: datetime | None, days: int
) -> None:
    renewed = renewed_end(now=now, ends_at=ends_at, days=days)
    assert renewed - now >= days * DAY
    if ends_at is not None:
        assert renewed - ends_at >= days * DAY
    assert renewed - days * DAY in {now, ends_at}


@given(now=moments, ends_at=moments, others=st.lists(moments, max_size=4))
def test_a_grant_ends_once_its_time_has_come_and_nothing_outlives_it(
    now: datetime, ends_at: datetime, others: list[datetime]
) -> None:
    outcome = decide_term(now=now, ends_at=ends_at, other_ends=others)
    assert (outcome == "later") == (now < ends_at)
    if outcome != "later":
        assert (outcome == "overtaken") == (max([ends_at, *others]) > ends_at)


@given(pairs=st.lists(loads, max_size=6, unique_by=lambda pair: pair.name))
def test_a_line_goes_to_the_emptiest_healthy_pair_and_to_an_unhealthy_one_only_if_it_must(
    pairs: list[PairLoad],
) -> None:
    chosen = pick_pair(pairs)
    with_room = [pair for pair in pairs if pair.lines < pair.capacity]
    if chosen is None:
        assert not with_room
        return
    pair = next(pair for pair in with_room if pair.name == chosen)
    rivals = [rival for rival in with_room if rival.healthy] or with_room
    assert pair in rivals
    assert all(pair.lines * rival.capacity <= rival.lines * pair.capacity for rival in rivals)


@given(random=seeds)
def test_credentials_are_typed_without_mistakes_and_taken_by_both_daemons(random: Random) -> None:
    username, password = new_username(random), new_password(random)
    assert len(username) == 10
    assert username[0].isalpha()
    assert len(password) == 16
    for text in (username, password):
        assert text.isascii()
        assert text.isalnum()
        assert text == text.lower()
        assert not set(text) & set("0o1il")


@given(random=seeds)
def test_ids_are_sixteen_hexadecimal_digits(random: Random) -> None:
    assert len(new_id(random)) == 16
    assert int(new_id(random), 16) >= 0


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a record on a host says."""

    line_id: str = "l1"
    username: str = "ann"
    password: str = "typed-by-hand"
    state: LineState = "present"
    ends_at: datetime | None = START
    revision: int = 3

    def mark(self, keys: KeyRing) -> str:
        return mark(
            keys,
            line_id=self.line_id,
            username=self.username,
            password=self.password,
            desired=Desired(state=self.state, ends_at=self.ends_at),
            revision=self.revision,
        )


def test_a_mark_changes_with_everything_that_a_record_on_a_host_says(keys: KeyRing) -> None:
    records = [
        Record(),
        Record(line_id="l2"),
        Record(username="bob"),
        Record(password="typed-by-foot"),
        Record(state="blocked"),
        Record(ends_at=START + timedelta(microseconds=1)),
        Record(state="absent", ends_at=None),
        Record(revision=4),
    ]
    assert len({record.mark(keys).partition("-")[2] for record in records}) == len(records)
    assert Record().mark(keys) == Record().mark(keys)
    assert re.fullmatch(r"3-[0-9a-f]{8}", Record().mark(keys))


@st.composite
def chains(draw: st.DrawFn) -> list[Period]:
    """Periods of one line as orders give them, one after the other."""
    periods: list[Period] = []
    for _ in range(draw(st.integers(1, 4))):
        now = draw(moments)
        start = max([now, *(period.ends_at for period in periods)])
        periods.append(Period(starts_at=start, ends_at=start + timedelta(seconds=draw(st.integers(1, 10**7)))))
    return periods


def cancel(periods: list[Period], number: int, now: datetime) -> list[Period]:
    return [without(periods[number], other, now=now) for at, other in enumerate(periods) if at != number]


@given(periods=chains(), pick=st.integers(0, 3), now=moments)
def test_a_cancellation_takes_back_what_is_left_of_one_period_and_nothing_of_the_others(
    periods: list[Period], pick: int, now: datetime
) -> None:
    number = pick % len(periods)
    left = cancel(periods, number, now)
    others = [period for at, period in enumerate(periods) if at != number]
    assert [one.ends_at - one.starts_at for one in left] == [one.ends_at - one.starts_at for one in others]
    back = still_to_come(periods[number], now=now)
    assert [old.ends_at - new.ends_at for old, new in zip(others, left, strict=True)] == [
        timedelta() if at < number else back for at in range(len(others))
    ]
    assert left == sorted(left, key=lambda period: period.starts_at)
    for one, next_one in pairwise(left):
        assert one.ends_at <= next_one.starts_at
    # Nobody is served later than before, and nothing that was served already is counted again.
    assert all(one.starts_at >= min(now, old.starts_at) for one, old in zip(left, others, strict=True))


@given(periods=chains(), picks=st.tuples(st.integers(0, 3), st.integers(0, 3)), now=moments)
def test_in_which_order_two_periods_are_cancelled_at_the_same_time_does_not_matter(
    periods: list[Period], picks: tuple[int, int], now: datetime
) -> None:
    first, second = sorted(pick % len(periods) for pick in picks)
    assume(first != second)
    assert cancel(cancel(periods, second, now), first, now) == cancel(cancel(periods, first, now), second - 1, now)
