"""When a host counts as away or well, and how much of a time it answered: whatever the looks bring."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinline.health.rule import AWAY, DOUBT, SHUT_OUT, Seen, Tempo, after
from twinline.health.uptime import Mark, answered_share
from twinline.messages import HealthSoFar, HealthStanding

START = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
MINUTE = Tempo(timedelta(minutes=1))
WELL, AWAY_, UNKNOWN = HealthStanding.WELL, HealthStanding.AWAY, HealthStanding.UNKNOWN

codes = st.sampled_from((None, None, "StatusTrouble", "HostUnreachable"))
pauses = st.floats(min_value=0.0, max_value=120.0).map(lambda seconds: timedelta(seconds=seconds))


def told(looks: list[tuple[timedelta, str | None]], tempo: Tempo = MINUTE) -> list[HealthSoFar]:
    """What is known after each of these looks, each so long after the one before."""
    at, so_far, found = START, HealthSoFar(), list[HealthSoFar]()
    for pause, code in looks:
        at += pause
        so_far = after(so_far, Seen(at=at, code=code), tempo)
        found.append(so_far)
    return found


def pause_after(so_far: HealthSoFar, tempo: Tempo, *, shut_out: bool = False) -> timedelta:
    assert so_far.looked_at is not None
    return tempo.pause_after(so_far, Seen(at=so_far.looked_at, code=so_far.code, shut_out=shut_out))


@given(st.lists(st.tuples(pauses, codes), min_size=1))
def test_it_is_well_after_each_success_and_away_only_after_failures_apart(
    looks: list[tuple[timedelta, str | None]],
) -> None:
    failing: list[datetime] = []
    before = HealthSoFar()
    for so_far, (_, code) in zip(told(looks), looks, strict=True):
        assert so_far.looked_at is not None
        failing = [*failing, so_far.looked_at] if code is not None else []
        if not failing:
            assert (so_far.standing, so_far.failing_since, so_far.code) == (WELL, None, None)
        elif failing[-1] - failing[0] >= MINUTE.apart:
            assert (so_far.standing, so_far.since, so_far.code) == (AWAY_, failing[0], code)
        else:
            assert (so_far.standing, so_far.since) == (before.standing, before.since)
        # Since when changes with the standing and with nothing else.
        assert so_far.standing is not before.standing or so_far.since == before.since
        before = so_far


@given(st.lists(st.tuples(pauses, codes), min_size=1), st.floats(min_value=0.01, max_value=1e6))
def test_no_pause_is_longer_than_the_usual_one_nor_a_doubt_longer_than_it_must_be(
    looks: list[tuple[timedelta, str | None]], every: float
) -> None:
    tempo = Tempo(timedelta(seconds=every))
    for so_far in told(looks, tempo):
        pause = pause_after(so_far, tempo)
        assert timedelta(0) < pause <= tempo.every
        assert (pause == tempo.every) if so_far.code is None else (pause <= max(DOUBT, AWAY))
        # Who keeps to the pauses is certain after the second failure.
        if so_far.failing_since == so_far.looked_at:
            assert so_far.looked_at is not None
            again = after(so_far, Seen(at=so_far.looked_at + pause, code="HostUnreachable"), tempo)
            assert again.standing is AWAY_


def test_who_turns_our_key_away_is_asked_seldom_once_that_is_certain() -> None:
    once, twice = told([(timedelta(0), "HostLoginRefused"), (DOUBT, "HostLoginRefused")])
    assert [pause_after(each, MINUTE, shut_out=True) for each in (once, twice)] == [DOUBT, SHUT_OUT]
    assert pause_after(twice, Tempo(2 * SHUT_OUT), shut_out=True) == 2 * SHUT_OUT


def test_a_person_is_called_when_it_is_certain_and_until_it_is_over() -> None:
    key = Seen(at=START, code="HostKeyMismatch", attention="HostKeyMismatch", hint="find out why")
    once = after(HealthSoFar(), key, MINUTE)
    assert (once.standing, once.attention, once.hint) == (UNKNOWN, None, "find out why")
    later = START + DOUBT
    twice = after(once, Seen(at=later, code=key.code, attention=key.attention, hint=key.hint), MINUTE)
    assert (twice.standing, twice.since, twice.attention) == (AWAY_, START, "HostKeyMismatch")
    other = after(twice, Seen(at=later, code="HostUnreachable"), MINUTE)
    assert (other.standing, other.since, other.attention) == (AWAY_, START, None)
    # A host that answers may have a clock that is wrong.
    apart = after(other, Seen(at=later, attention="ClocksApart"), MINUTE)
    assert (apart.standing, apart.attention) == (WELL, "ClocksApart")
    doubt = after(apart, Seen(at=later, code="StatusTrouble"), MINUTE)
    assert (doubt.standing, doubt.attention) == (WELL, "ClocksApart")
    assert after(doubt, Seen(at=later), MINUTE).attention is None


# --- how much of a time it answered


def marks(*looks: tuple[float, bool]) -> list[Mark]:
    return [Mark(START + timedelta(minutes=minutes), answered) for minutes, answered in looks]


@pytest.mark.parametrize(
    ("looks", "share"),
    [
        ([], None),
        ([(0, True)], 1.0),
        ([(0, False)], 0.0),
        ([(0, True), (1, False), (2, True), (3, True)], 0.75),
        # Looks that come closer together count for no more time.
        ([(0, True), (3, False), (3.25, False), (3.5, False), (3.75, False)], 0.75),
        # Nobody looked for an hour: what is not known counts for neither.
        ([(-63, False), (0, True)], 0.5),
    ],
)
def test_each_look_speaks_for_the_time_up_to_the_next(looks: list[tuple[float, bool]], share: float | None) -> None:
    found = answered_share(marks(*looks), until=START + timedelta(minutes=4), holds=timedelta(minutes=3))
    assert found == (None if share is None else pytest.approx(share))


@given(st.lists(st.tuples(st.floats(min_value=0, max_value=1440), st.booleans())), st.floats(0.01, 100))
def test_a_share_is_a_share_and_its_rest_is_that_of_the_other_looks(
    looks: list[tuple[float, bool]], holds: float
) -> None:
    looks = sorted(looks)
    until, longest = START + timedelta(minutes=1441), timedelta(minutes=holds)
    share = answered_share(marks(*looks), until=until, holds=longest)
    other = answered_share(marks(*((at, not well) for at, well in looks)), until=until, holds=longest)
    if share is None or other is None:
        assert not looks
        return
    assert 0 <= share <= 1
    assert share + other == pytest.approx(1)
