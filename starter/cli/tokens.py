"""Commands for API tokens."""

from typing import Annotated

import typer

from starter.cli import options
from starter.cli.running import confirm, perform
from twinline.tokens import Scope

TokenId = Annotated[str, typer.Argument(metavar="ID", help="The token's id, the part between twl_ and the second _.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    tokens = typer.Typer(help="Make and revoke tokens of the HTTP API.", no_args_is_help=True)
    tokens.command()(create)
    tokens.command("list")(list_all)
    tokens.command()(revoke)
    app.add_typer(tokens, name="token")


def create(
    *,
    caller: Annotated[
        str | None, typer.Option("--caller", metavar="NAME", help="Who will ask; order ids count per caller.")
    ] = None,
    scopes: Annotated[list[Scope] | None, typer.Option("--scope", help="What it allows; repeat for several.")] = None,
    reseller: Annotated[
        bool, typer.Option("--reseller", help="It sees and touches only the lines that this caller opened.")
    ] = False,
    replaces: Annotated[
        str | None, typer.Option("--replaces", metavar="ID", help="Take over caller and scopes of this token.")
    ] = None,
    overlap: Annotated[
        float,
        typer.Option("--overlap", metavar="HOURS", min=0, max=24 * 31, help="How long the replaced one still counts."),
    ] = 24.0,
    days: Annotated[int, typer.Option("--days", metavar="N", help="After how many days it expires.")] = 365,
    rate: Annotated[
        int | None,
        typer.Option("--rate", metavar="N", help="How many requests a minute it may send: 600, or the replaced one's."),
    ] = None,
    actor: options.Actor = "cli",
    as_json: options.AsJson = False,
) -> None:
    """Make a token. It is shown this once, and nobody can be told it again.

    Example: twinline token create --caller shop --scope trials:create --scope lines:read
    """
    from starter.cli.tokens_made import Wanted, create_token

    wanted = Wanted(
        caller=caller,
        scopes=frozenset(scopes or ()),
        reseller=reseller,
        replaces=replaces,
        overlap_hours=overlap,
        days=days,
        rate=rate,
    )
    perform(create_token(wanted, actor=actor, as_json=as_json), as_json=as_json)


def list_all(*, as_json: options.AsJson = False) -> None:
    """List all tokens, the newest first, without their secrets.

    Example: twinline token list --json
    """
    from starter.cli.tokens_made import list_tokens

    perform(list_tokens(as_json=as_json), as_json=as_json)


def revoke(
    token: TokenId, *, yes: options.Yes = False, actor: options.Actor = "cli", as_json: options.AsJson = False
) -> None:
    """Let a token count no more, from now on and for good.

    Example: twinline token revoke 5f0c9a1e2b3d4c5e --yes
    """
    from starter.cli.tokens_made import revoke_token

    confirm("Revoke this token? Whoever uses it is refused at once.", yes=yes, as_json=as_json)
    perform(revoke_token(token, actor=actor, as_json=as_json), as_json=as_json)
