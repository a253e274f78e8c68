"""End dates against the daemons' own comparison, in every kind of time zone and in both nights of a clock change."""

import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinline.hosts.multics import end_hour
from twinline.hosts.oscam import end_day, shown_day
from twinline.sandbox import multics_parser, oscam_parser

ZONES: Final = (
    *("UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Pacific/Apia", "Etc/GMT+12", "Etc/GMT-14"),
    *("Australia/Lord_Howe", "Pacific/Chatham", "Africa/Casablanca", "Antarctica/Troll"),
    # Their clocks go back at midnight, so the last hour of a day comes twice.
    *("America/Santiago", "Asia/Beirut", "Africa/Cairo", "America/Scoresbysund"),
)
HOUR: Final = timedelta(hours=1)
STEP: Final = timedelta(minutes=5)
WINDOW: Final = timedelta(hours=27)
SETTINGS: Final = settings(max_examples=80, deadline=None)
YEARS: Final = range(2024, 2034)


@cache
def clock_changes(zone: str) -> tuple[datetime, ...]:
    """Every instant at which a zone's clocks change, within the years of the tests."""
    found: list[datetime] = []
    moment = datetime(YEARS[0], 1, 1, tzinfo=UTC)
    while moment.year < YEARS[-1]:
        after = moment + timedelta(days=1)
        if moment.astimezone(ZoneInfo(zone)).utcoffset() != after.astimezone(ZoneInfo(zone)).utcoffset():
            found.append(_change_within(zone, moment, after))
        moment = after
    return tuple(found)


def _change_within(zone: str, low: datetime, high: datetime) -> datetime:
    before = low.astimezone(ZoneInfo(zone)).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        low, high = (middle, high) if middle.astimezone(ZoneInfo(zone)).utcoffset() == before else (low, middle)
    return high.replace(microsecond=0)


@st.composite
def ends(draw: st.DrawFn) -> tuple[datetime, str]:
    """An instant of whole seconds and a zone, half of the time around a change of its clocks."""
    zone = draw(st.sampled_from(ZONES))
    changes = clock_changes(zone)
    if changes and draw(st.booleans()):
        around = timedelta(minutes=draw(st.integers(-200, 200)), seconds=draw(st.sampled_from([-1, 0, 0, 1])))
        return draw(st.sampled_from(changes)) + around, zone
    start = datetime(YEARS[0], 1, 1, tzinfo=UTC)
    minutes = st.integers(0, 365 * 9 * 24 * 60)
    return start + timedelta(minutes=draw(minutes), seconds=draw(st.sampled_from([0, 0, 1, 59]))), zone


def reached(label: str, moment: datetime, zone: str) -> bool:
    """Whether MultiCS would call an account expired at this moment, by its own comparison of the wall clock."""
    end = multics_parser.parse_end_date(label)
    assert end is not None
    wall = moment.astimezone(ZoneInfo(zone))
    return end.reached(multics_parser.EndDate(wall.year, wall.month, wall.day, wall.hour))


def ever_before(label: str, moment: datetime, zone: str) -> bool:
    """Whether the label was reached at any time in the day before, up to the last second."""
    if reached(label, moment - timedelta(seconds=1), zone):
        return True
    at = moment - STEP
    while at > moment - WINDOW:
        if reached(label, at, zone):
            return True
        at -= STEP
    return False


def left_out(wall: datetime, zone: str) -> bool:
    """Whether clocks never show this hour; a label in the gap is reached when the clocks jump over it."""
    moment = wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) != wall


@SETTINGS
@given(ends())
def test_the_hour_for_multics_is_the_smallest_that_is_never_early(case: tuple[datetime, str]) -> None:
    end, zone = case
    label = end_hour(end, ZoneInfo(zone))
    assert not ever_before(label, end, zone)
    assert any(reached(label, end + late * STEP, zone) for late in range(26 + 12))
    hour_less = datetime.fromisoformat(f"{label}:00") - HOUR
    assert ever_before(hour_less.strftime("%Y-%m-%d %H"), end, zone) or left_out(hour_less, zone)


def test_an_end_in_the_second_of_two_equal_hours_waits_for_the_next_hour() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    first, second = (datetime(2026, 10, 25, hour, 0, tzinfo=UTC) for hour in (0, 1))
    assert end_hour(first, berlin) == "2026-10-25 02"
    assert end_hour(second, berlin) == "2026-10-25 03"


def test_an_end_before_a_day_that_a_zone_left_out_is_never_early() -> None:
    apia = ZoneInfo("Pacific/Apia")
    for minutes in range(-180, 200, 20):
        end = datetime(2011, 12, 30, 10, 0, tzinfo=UTC) + timedelta(minutes=minutes)
        assert not ever_before(end_hour(end, apia), end, "Pacific/Apia")
        assert end_day(end, apia) != "2011-12-30"


@contextmanager
def c_zone(name: str) -> Generator[None]:
    """The zone of the C library, which the stand-in asks as the daemon does."""
    before = os.environ.get("TZ")
    # By path: the machine may have no zone database of its own.
    os.environ["TZ"] = f":{resources.files('tzdata').joinpath('zoneinfo', *name.split('/'))}"
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


@SETTINGS
@given(ends())
def test_the_day_for_oscam_is_the_one_that_contains_the_end_or_the_next_if_that_could_be_early(
    case: tuple[datetime, str],
) -> None:
    end, zone = case
    day = end_day(end, ZoneInfo(zone))
    with c_zone(zone):
        account = oscam_parser.Account(expires=oscam_parser.end_of_day(day))
    assert not account.expired(end.timestamp() - 1)
    assert account.expired(end.timestamp() + timedelta(hours=26).total_seconds())
    assert shown_day(end, ZoneInfo(zone)) == oscam_parser.api_date(account.expires)
    containing = end.astimezone(ZoneInfo(zone)).replace(hour=23, minute=59, second=59, fold=0)
    assert day == f"{containing:%Y-%m-%d}" or containing.timestamp() < end.timestamp() - 1


@pytest.mark.parametrize("zone", ["America/Santiago", "Asia/Beirut"])
def test_an_end_in_a_repeated_last_hour_of_a_day_is_given_the_next_day(zone: str) -> None:
    back = next(each for each in clock_changes(zone) if each.astimezone(ZoneInfo(zone)).hour == 23)
    first, second = back - timedelta(minutes=30), back + timedelta(minutes=30)
    assert first.astimezone(ZoneInfo(zone)).date() == second.astimezone(ZoneInfo(zone)).date()
    assert end_day(first, ZoneInfo(zone)) < end_day(second, ZoneInfo(zone))


NIGHTS: Final = (
    # As in design.md: west and east of Greenwich, and as far east as a day can be.
    ("Etc/GMT+8", "2026-11-30"),
    ("Etc/GMT-3", "2026-11-30"),
    ("Etc/GMT-14", "2026-12-31"),
    ("America/Los_Angeles", "2026-03-08"),
    ("America/Los_Angeles", "2026-11-01"),
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("Europe/Helsinki", "2026-10-25"),
)
OF_THE_DAY: Final = ("00:00:00", "00:59:59", "01:30:00", "02:00:00", "02:30:00", "03:00:00", "23:00:00", "23:59:59")


@pytest.mark.parametrize(("zone", "day"), NIGHTS)
@pytest.mark.parametrize("wall", OF_THE_DAY)
@pytest.mark.parametrize("fold", [0, 1])
def test_no_back_stop_is_early_or_more_than_a_day_late(zone: str, day: str, wall: str, fold: int) -> None:
    end = datetime.fromisoformat(f"{day}T{wall}").replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)
    hour, last_day = end_hour(end, ZoneInfo(zone)), end_day(end, ZoneInfo(zone))
    assert not ever_before(hour, end, zone)
    assert any(reached(hour, end + late * STEP, zone) for late in range(24 + 1))
    with c_zone(zone):
        account = oscam_parser.Account(expires=oscam_parser.end_of_day(last_day))
    assert not account.expired((end - timedelta(seconds=1)).timestamp())
    assert account.expired((end + timedelta(hours=25)).timestamp())
