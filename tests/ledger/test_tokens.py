"""API tokens in the ledger: who shows one is known, and who reads the ledger can't show one."""

import hmac
from datetime import timedelta

import pytest

from tests.ledger.support import DAY, HOUR, Desk
from twinline.errors import InvalidToken, TokenOver, UnknownToken
from twinline.ledger import models, tokens
from twinline.ledger.tokens import CreatedToken, TokenView
from twinline.tokens import NewToken, Scope

SHOP = NewToken(caller="shop", scopes=frozenset({Scope.LINES_READ, Scope.TRIALS_CREATE}), reseller=True, days=30)
MINUTE = timedelta(minutes=1)


async def create(desk: Desk, new: NewToken = SHOP) -> CreatedToken:
    async with desk.ledger.write() as tx:
        return await tokens.create_token(tx, new, actor="cli", now=desk.now)


async def check(desk: Desk, text: str) -> TokenView:
    async with desk.ledger.read() as tx:
        return await tokens.check_token(tx, text, now=desk.now)


async def test_who_shows_a_token_is_known_by_it(desk: Desk) -> None:
    made = await create(desk)
    other = await create(desk)
    found = await check(desk, made.token)
    assert (found.token_id, found.caller, found.reseller, found.standing) == (made.token_id, "shop", True, "valid")
    assert found.scopes == (Scope.TRIALS_CREATE, Scope.LINES_READ)
    assert (found.created_at, found.expires_at) == (desk.now, desk.now + 30 * DAY)
    assert other.token != made.token
    assert made.token not in repr(made)


async def test_the_ledger_keeps_nothing_by_which_a_token_could_be_shown(desk: Desk) -> None:
    made = await create(desk)
    raw, secret = desk.raw(), made.token.rpartition("_")[2]
    assert made.token_id.encode() in raw
    for form in (secret.encode(), bytes.fromhex(secret)):
        assert form not in raw
    events = await desk.rows(models.Event)
    assert secret not in "".join(event.model_dump_json() for event in events)
    assert [event.why for event in events if event.what == "token.created"] == [made.token_id]


async def test_anything_else_is_no_token_whoever_it_is_made_of(desk: Desk) -> None:
    made, other = await create(desk), await create(desk)
    secret = made.token.rpartition("_")[2]
    other_digit = "0" if secret[-1] != "0" else "1"
    wrong = (
        "",
        "twl_",
        made.token[:-1] + other_digit,
        f"twl_{other.token_id}_{secret}",
        f"twl_{'0' * 16}_{secret}",
        f"{made.token}\n",
        "twl_\ud800",
    )
    sentences: set[str] = set()
    for text in wrong:
        with pytest.raises(InvalidToken) as refused:
            await check(desk, text)
        sentences.add(refused.value.message)
    assert sentences == {"this is no token of this service"}


async def test_secrets_are_compared_in_constant_time_and_also_where_there_is_no_such_token(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, compared = await create(desk), list[tuple[int, int]]()

    class Watched:
        def compare_digest(self, one: bytes, other: bytes) -> bool:
            compared.append((len(one), len(other)))
            return hmac.compare_digest(one, other)

        def __getattr__(self, name: str) -> object:
            return getattr(hmac, name)

    monkeypatch.setattr(tokens, "hmac", Watched())
    await check(desk, made.token)
    for text in (made.token[:-1] + ("0" if made.token[-1] != "0" else "1"), f"twl_{'0' * 16}_{'0' * 64}", ""):
        with pytest.raises(InvalidToken):
            await check(desk, text)
    assert compared == [(32, 32)] * 4


async def test_a_token_ends_with_its_days(desk: Desk) -> None:
    made = await create(desk)
    desk.now += 30 * DAY - timedelta(microseconds=1)
    await check(desk, made.token)
    desk.now += timedelta(microseconds=1)
    with pytest.raises(InvalidToken, match="expired"):
        await check(desk, made.token)


async def test_a_revoked_token_counts_no_more_and_stays_revoked_since_then(desk: Desk) -> None:
    made = await create(desk)
    first = desk.now
    for _ in range(2):
        async with desk.ledger.write() as tx:
            revoked = await tokens.revoke_token(tx, made.token_id, actor="ops", now=desk.now)
        assert (revoked.standing, revoked.revoked_at) == ("revoked", first)
        desk.now += HOUR
    with pytest.raises(InvalidToken, match="revoked"):
        await check(desk, made.token)
    events = [event for event in await desk.rows(models.Event) if event.what == "token.revoked"]
    assert [(event.who, event.why) for event in events] == [("ops", made.token_id)]
    for unknown in ("0" * 16, made.token, ""):
        with pytest.raises(UnknownToken) as refused:
            async with desk.ledger.write() as tx:
                await tokens.revoke_token(tx, unknown, actor="ops", now=desk.now)
        assert made.token not in refused.value.message


async def test_both_tokens_count_during_a_rotation_and_only_the_new_one_after_it(desk: Desk) -> None:
    old = await create(desk)
    async with desk.ledger.write() as tx:
        new = await tokens.replace_token(tx, old.token_id, overlap=HOUR, days=90, actor="cli", now=desk.now)
    assert (new.caller, new.scopes, new.reseller, new.replaces) == ("shop", old.scopes, True, old.token_id)
    assert new.expires_at == desk.now + 90 * DAY
    assert {(await check(desk, each.token)).token_id for each in (old, new)} == {old.token_id, new.token_id}
    desk.now += HOUR
    await check(desk, new.token)
    with pytest.raises(InvalidToken, match="expired"):
        await check(desk, old.token)
    with pytest.raises(TokenOver):
        async with desk.ledger.write() as tx:
            await tokens.replace_token(tx, old.token_id, overlap=HOUR, days=90, actor="cli", now=desk.now)


async def test_the_last_use_is_written_at_most_once_a_minute(desk: Desk) -> None:
    made = await create(desk)
    start = desk.now
    uses = [timedelta(0), timedelta(seconds=59), MINUTE, MINUTE + timedelta(seconds=1), 3 * MINUTE]
    noted: list[timedelta] = []
    for use in uses:
        desk.now = start + use
        async with desk.ledger.write() as tx:
            await tokens.note_use(tx, made.token_id, now=desk.now)
        last_used_at = (await check(desk, made.token)).last_used_at
        assert last_used_at is not None
        noted.append(last_used_at - start)
    assert noted == [timedelta(0), timedelta(0), MINUTE, MINUTE, 3 * MINUTE]


async def test_all_tokens_are_listed_and_no_secret_with_them(desk: Desk) -> None:
    first = await create(desk)
    desk.now += HOUR
    second = await create(desk, NewToken(caller="desk", scopes=frozenset({Scope.ADMIN})))
    async with desk.ledger.read() as tx:
        found = await tokens.list_tokens(tx, now=desk.now)
    assert [token.token_id for token in found.tokens] == [second.token_id, first.token_id]
    text = found.model_dump_json()
    assert not any(made.token.rpartition("_")[2] in text for made in (first, second))
