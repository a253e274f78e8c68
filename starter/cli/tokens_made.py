"""Makes, lists and revokes API tokens."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import ValidationError

from starter.cli.context import Context
from starter.cli.render import Exit, cells, moment, plain_table, say, show_json, show_table, show_text
from twinline.errors import InvalidOrder
from twinline.ledger import tokens
from twinline.messages import RetryNow
from twinline.tokens import DEFAULT_RATE, NewToken, Scope

_RULES: Final = {
    "caller": "--caller must be 1 to 32 of a-z, 0-9, dot, hyphen and underscore, beginning with a letter or digit",
    "actor": "--actor must be 1 to 32 of a-z, 0-9, dot, hyphen and underscore, beginning with a letter or digit",
    "scopes": "--scope is missing: a token without one allows nothing",
    "days": "--days must be a whole number from 1 to 3660",
    "rate": "--rate must be a whole number of requests a minute from 1 to 1000000",
}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a person asked for: a token for a caller with scopes, or the successor of another."""

    caller: str | None
    scopes: frozenset[Scope]
    reseller: bool
    replaces: str | None
    overlap_hours: float
    days: int
    rate: int | None

    def checked(self, actor: str) -> NewToken | None:
        """The new token, None for a successor; raises InvalidOrder."""
        if self.replaces is not None and (self.caller is not None or self.scopes or self.reseller):
            raise InvalidOrder(
                "--replaces takes caller and scopes from the old token", hint="Leave out --caller, --scope, --reseller."
            )
        caller, scopes = self.caller, self.scopes
        if self.replaces is not None:
            # Only to have the number of days looked at.
            caller, scopes = "cli", frozenset({Scope.LINES_READ})
        elif caller is None:
            raise InvalidOrder("--caller is missing", hint="Say who will ask with the token, or use --replaces ID.")
        try:
            RetryNow(actor=actor)
            rate = DEFAULT_RATE if self.rate is None else self.rate
            new = NewToken(caller=caller, scopes=scopes, reseller=self.reseller, days=self.days, rate=rate)
        except ValidationError as error:
            sentences = [_RULES[str(detail["loc"][0])] for detail in error.errors(include_url=False)]
            raise InvalidOrder("\n  also: ".join(sentences), hint="No token was made.") from None
        return new if self.replaces is None else None


async def create_token(wanted: Wanted, *, actor: str, as_json: bool) -> int:
    """Make a token and show it; raises InvalidOrder, UnknownToken, TokenOver, Misconfigured, Unavailable."""
    new, now = wanted.checked(actor), datetime.now(UTC)
    async with Context.load().ledger() as ledger, ledger.write() as tx:
        if new is not None:
            made = await tokens.create_token(tx, new, actor=actor, now=now)
        else:
            made = await tokens.replace_token(
                tx,
                wanted.replaces or "",
                overlap=timedelta(hours=wanted.overlap_hours),
                days=wanted.days,
                rate=wanted.rate,
                actor=actor,
                now=now,
            )
    # Only what is committed may be shown.
    if as_json:
        show_json(made)
        return Exit.DONE
    show_text(made.token)
    say(f"Token {made.token_id} for {made.caller}, until {moment(made.expires_at)}: {', '.join(made.scopes)}.")
    say("Keep it now: it can't be shown again.", style="yellow")
    if made.replaces is not None:
        say(f"The old one, {made.replaces}, counts for {wanted.overlap_hours:g} h more at most.")
    return Exit.DONE


async def list_tokens(*, as_json: bool) -> int:
    """List tokens; raises Misconfigured, Unavailable."""
    async with Context.load().ledger() as ledger, ledger.read() as tx:
        found = await tokens.list_tokens(tx, now=datetime.now(UTC))
    if as_json:
        show_json(found)
        return Exit.DONE
    table = plain_table("token", "caller", "bound", "scopes", "rate", "state", "expires", "last used")
    for token in found.tokens:
        used = "never" if token.last_used_at is None else moment(token.last_used_at)
        bound = "own lines" if token.reseller else ""
        scopes = ", ".join(token.scopes)
        table.add_row(
            *cells(
                token.token_id,
                token.caller,
                bound,
                scopes,
                f"{token.rate}/min",
                token.standing,
                moment(token.expires_at),
                used,
            )
        )
    if found.tokens:
        show_table(table)
    else:
        say("There is no token yet.", hint="`twinline token create` makes one.")
    return Exit.DONE


async def revoke_token(token_id: str, *, actor: str, as_json: bool) -> int:
    """Revoke a token and show it; raises UnknownToken, InvalidOrder, Misconfigured, Unavailable."""
    try:
        RetryNow(actor=actor)
    except ValidationError:
        raise InvalidOrder(_RULES["actor"], hint="Nothing was revoked.") from None
    async with Context.load().ledger() as ledger, ledger.write() as tx:
        found = await tokens.revoke_token(tx, token_id, actor=actor, now=datetime.now(UTC))
    if as_json:
        show_json(found)
    elif found.revoked_at is not None:
        say(f"Token {found.token_id} of {found.caller} is revoked since {moment(found.revoked_at)}.")
    return Exit.DONE
