"""The rules of API tokens, for whatever moments and scopes there may be."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from twinline.tokens import (
    USE_NOTED_EVERY,
    PresentedToken,
    Scope,
    allows,
    end_after_rotation,
    new_secret,
    parse_token,
    standing,
    use_is_due,
)

MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds
SPANS = st.timedeltas(timedelta(0), timedelta(days=400))


@given(st.integers(0, 2**64 - 1), st.integers())
def test_a_token_reads_back_as_what_it_was_made_of_and_shows_its_secret_nowhere(token_id: int, seed: int) -> None:
    token = PresentedToken(f"{token_id:016x}", new_secret(Random(seed)))  # noqa: S311 - to be drawn again
    assert parse_token(token.text) == token
    assert token.secret not in repr(token)


@given(st.text() | st.from_regex(r"twl_[0-9a-f]{16}_[0-9a-f]{64}"))
def test_only_the_exact_form_is_a_token(text: str) -> None:
    token = parse_token(text)
    assert token is None or token.text == text


def test_what_surrounds_a_token_is_not_taken_for_a_part_of_it() -> None:
    text = PresentedToken("0" * 16, "1" * 64).text
    for other in (f" {text}", f"{text}\n", text.upper(), text[:-1], text.replace("_", "-"), f"{text}1"):
        assert parse_token(other) is None


@given(st.sets(st.sampled_from(Scope)), st.sampled_from(Scope))
def test_a_scope_allows_itself_and_admin_all_but_credentials(scopes: set[Scope], needed: Scope) -> None:
    admin = Scope.ADMIN in scopes and needed is not Scope.CREDENTIALS_READ
    assert allows(scopes, needed) == (needed in scopes or admin)


@given(MOMENTS, st.none() | MOMENTS, MOMENTS)
def test_a_token_counts_until_its_end_and_never_once_revoked(
    expires_at: datetime, revoked_at: datetime | None, now: datetime
) -> None:
    found = standing(expires_at=expires_at, revoked_at=revoked_at, now=now)
    assert (found == "valid") == (revoked_at is None and now < expires_at)
    assert (found == "revoked") == (revoked_at is not None)


@given(MOMENTS, MOMENTS, SPANS)
def test_a_rotation_never_lengthens_a_token(expires_at: datetime, now: datetime, overlap: timedelta) -> None:
    end = end_after_rotation(expires_at=expires_at, now=now, overlap=overlap)
    assert end <= expires_at
    assert end <= now + overlap
    assert end in (expires_at, now + overlap)


@given(MOMENTS, st.lists(SPANS, max_size=30))
def test_uses_are_noted_at_most_once_a_minute_and_never_further_behind(start: datetime, steps: list[timedelta]) -> None:
    noted: list[datetime] = []
    now = start
    for step in steps:
        now += step
        if use_is_due(noted[-1] if noted else None, now):
            noted.append(now)
        assert now - noted[-1] < USE_NOTED_EVERY
    assert all(later - sooner >= USE_NOTED_EVERY for sooner, later in pairwise(noted))
