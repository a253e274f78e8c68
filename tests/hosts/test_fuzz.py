"""The fuzzer's own targets, briefly: every seed file, inputs from a fixed seed, and values of every kind."""

import random
from datetime import UTC, datetime
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz import inputs, values
from tests.fuzz.targets import MULTICS, OSCAM, TARGETS, check_value
from twinline.hosts.ports import Half, Wanted
from twinline.messages import Protocol

SEED: Final = 20_261_125
ROUNDS: Final = 150
EXAMPLES: Final = settings(max_examples=100, deadline=None)


@pytest.mark.parametrize("protocol", ["multics", "oscam"])
def test_every_seed_file_passes_its_target(protocol: Protocol) -> None:
    for data in inputs.seeds(protocol):
        TARGETS[protocol](data)


@pytest.mark.parametrize("protocol", ["multics", "oscam"])
def test_made_up_files_pass_their_target(protocol: Protocol) -> None:
    luck = random.Random(SEED)  # noqa: S311 - made up, not secret
    for number in range(ROUNDS):
        data = inputs.made_up(protocol, luck)
        try:
            TARGETS[protocol](data)
        except BaseException as error:
            error.add_note(f"input {number} of seed {SEED}: {data!r}")
            raise


def test_made_up_values_pass_their_target() -> None:
    luck = random.Random(SEED)  # noqa: S311 - made up, not secret
    for _ in range(ROUNDS):
        TARGETS["values"](values.made_up(luck))


ENDS: Final = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(minute=0, second=0, microsecond=0))


@EXAMPLES
@example("alder22222", "pw234567", datetime.max.replace(tzinfo=UTC, minute=0, second=0, microsecond=0))
@example("alder22222", "pw234567", datetime(1900, 1, 1, tzinfo=UTC))
@example("alder22222", "pw\u0663", datetime(2031, 1, 1, tzinfo=UTC))
@given(
    st.one_of(st.text(), st.from_regex(r"[a-z0-9]{4,20}")), st.one_of(st.text(), st.from_regex(r"[!-~]{1,24}")), ENDS
)
def test_any_username_password_and_end_is_refused_or_read_back_as_it_is(
    username: str, password: str, ends_at: datetime
) -> None:
    half = Half("line", username, password, Wanted.PRESENT, ends_at, 7, "7-0badc0de")
    check_value(MULTICS, half)
    check_value(OSCAM, half)
