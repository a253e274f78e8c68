"""API tokens: who may ask for what over HTTP. Of a secret only its keyed hash is kept."""

import hmac
from datetime import datetime, timedelta
from typing import Final

from pydantic import AwareDatetime, Field
from sqlmodel import col, select

from twinline.errors import InvalidToken, TokenOver, UnknownToken
from twinline.keys import KeyRing
from twinline.ledger import models, rules
from twinline.ledger.lines import note
from twinline.ledger.tx import LOCKED, ReadTx, WriteTx
from twinline.ledger.types import utc
from twinline.messages import Message
from twinline.tokens import (
    NewToken,
    PresentedToken,
    Scope,
    Standing,
    end_after_rotation,
    new_secret,
    parse_token,
    standing,
    use_is_due,
)

_NO_HASH: Final = bytes(32)


class TokenView(Message):
    """A token as it may be shown; `standing` is as of the moment at which it was asked for."""

    token_id: str
    caller: str
    scopes: tuple[Scope, ...]
    reseller: bool
    rate: int
    """Requests a minute."""
    created_at: AwareDatetime
    expires_at: AwareDatetime
    last_used_at: AwareDatetime | None
    """To the minute."""
    revoked_at: AwareDatetime | None
    replaces: str | None
    standing: Standing


class CreatedToken(TokenView):
    """A new token with its text, which nobody can be told a second time."""

    token: str = Field(repr=False)


class TokenList(Message):
    """Tokens, the newest first."""

    tokens: tuple[TokenView, ...]


async def create_token(tx: WriteTx, new: NewToken, *, actor: str, now: datetime) -> CreatedToken:
    """Make a token."""
    return _create(tx, new, replaces=None, actor=actor, now=utc(now))


async def replace_token(
    tx: WriteTx,
    token_id: str,
    *,
    overlap: timedelta,
    days: int,
    rate: int | None = None,
    actor: str,
    now: datetime,
) -> CreatedToken:
    """Make the successor of a token, for the same caller and scopes; the old one counts for `overlap` more at most.

    Without `rate` it has the old one's. Raises UnknownToken, TokenOver.
    """
    old, now = await _token(tx, token_id), utc(now)
    if _view(old, now).standing != "valid":
        raise TokenOver(
            f"the token {token_id} is {_view(old, now).standing}", hint="Create a token without --replaces instead."
        )
    old.expires_at = end_after_rotation(expires_at=old.expires_at, now=now, overlap=overlap)
    new = NewToken(
        caller=old.caller,
        scopes=frozenset(_scopes(old)),
        reseller=old.reseller,
        days=days,
        rate=old.rate if rate is None else rate,
    )
    return _create(tx, new, replaces=token_id, actor=actor, now=now)


async def revoke_token(tx: WriteTx, token_id: str, *, actor: str, now: datetime) -> TokenView:
    """Let a token count no more from now on; once more changes nothing. Raises UnknownToken."""
    row, now = await _token(tx, token_id), utc(now)
    if row.revoked_at is None:
        row.revoked_at = now
        note(tx, at=now, who=actor, what="token.revoked", why=token_id)
    return _view(row, now)


async def list_tokens(tx: ReadTx, *, now: datetime) -> TokenList:
    """All tokens that there ever were."""
    table = models.ApiToken
    rows = await tx.session.exec(select(table).order_by(col(table.created_at).desc(), col(table.id)))
    return TokenList(tokens=tuple(_view(row, utc(now)) for row in rows))


async def check_token(tx: ReadTx, text: str, *, now: datetime) -> TokenView:
    """Who shows this token; raises InvalidToken, which tells nothing about ids to those who have no secret."""
    shown = parse_token(text) or PresentedToken("", "")
    row = await tx.row(models.ApiToken, shown.token_id)
    # Compared in any case, so that the time that it takes tells nothing about which ids there are.
    known = _NO_HASH if row is None else row.secret_mac
    if not hmac.compare_digest(known, _mac(tx.keys, shown)) or row is None:
        raise InvalidToken("this is no token of this service", hint="Check that it was copied whole: twl_…_….")
    view = _view(row, utc(now))
    if view.standing != "valid":
        raise InvalidToken(f"this token is {view.standing}", hint="Ask the operator for a new one.")
    return view


async def note_use(tx: WriteTx, token_id: str, *, now: datetime) -> None:
    """Write down that a token was used, unless that was done a moment ago; raises UnknownToken."""
    row = await _token(tx, token_id)
    if use_is_due(row.last_used_at, utc(now)):
        row.last_used_at = utc(now)


def _create(tx: WriteTx, new: NewToken, *, replaces: str | None, actor: str, now: datetime) -> CreatedToken:
    token = PresentedToken(rules.new_id(tx.random), new_secret(tx.random))
    row = models.ApiToken(
        id=token.token_id,
        secret_mac=_mac(tx.keys, token),
        caller=new.caller,
        scopes=" ".join(scope for scope in Scope if scope in new.scopes),
        reseller=new.reseller,
        rate=new.rate,
        created_at=now,
        expires_at=now + timedelta(days=new.days),
        replaces=replaces,
    )
    tx.session.add(row)
    note(tx, at=now, who=actor, what="token.created", why=token.token_id, after=new)
    return CreatedToken(**dict(_view(row, now)), token=token.text)


async def _token(tx: WriteTx, token_id: str) -> models.ApiToken:
    row = await tx.session.get(models.ApiToken, token_id, with_for_update=LOCKED)
    if row is None:
        # Not repeated: somebody may have pasted the whole of a token.
        raise UnknownToken("there is no token of that id", hint="`twinline token list` shows all of them.")
    return row


def _mac(keys: KeyRing, token: PresentedToken) -> bytes:
    return keys.mac("api_token", token.token_id, token.secret)


def _scopes(row: models.ApiToken) -> tuple[Scope, ...]:
    return tuple(Scope(scope) for scope in row.scopes.split())


def _view(row: models.ApiToken, now: datetime) -> TokenView:
    return TokenView(
        token_id=row.id,
        caller=row.caller,
        scopes=_scopes(row),
        reseller=row.reseller,
        rate=row.rate,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
        replaces=row.replaces,
        standing=standing(expires_at=row.expires_at, revoked_at=row.revoked_at, now=now),
    )
