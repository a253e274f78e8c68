"""`twinline erase`: forgets a customer."""

from typing import Annotated

import typer

from starter.cli import completing, options
from starter.cli.running import confirm, perform

STOPPED = "Stopped waiting. What has begun goes on without us; the same command again tells how far it is."


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(erase)


def erase(
    who: Annotated[
        str, typer.Argument(metavar="USERNAME|EMAIL", help="One line, or a customer with all lines of his address.")
    ],
    *,
    gone: Annotated[
        list[str] | None,
        typer.Option(
            "--host-is-gone",
            metavar="HOST",
            help="Do not wait for this host: you answer for it that its disk is destroyed or wiped. May be repeated.",
            autocompletion=completing.hosts,
        ),
    ] = None,
    yes: options.Yes = False,
    caller: options.Caller = "cli",
    timeout: options.Timeout = None,
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Forget a customer for good: whatever tells whose a line was, and what it was called.

    Only of lines that are over: `twinline close` ends one. Each of its hosts is first seen to hold nothing of it; one
    that is down is waited for. The same command again is always safe. Where copies may be left: docs/erasure.md.

    Example: twinline erase jane@example.org --yes
    """
    unseen = f" Nobody will look at {' and '.join(gone)}." if gone else ""
    confirm(f"Forget {who} for good? Nobody can bring it back.{unseen}", yes=yes, as_json=as_json)
    from starter.cli.erased import erase
    from starter.cli.placing import Waiting

    work = erase(who, Waiting(timeout, no_wait), gone=gone or (), caller=caller, as_json=as_json)
    perform(work, as_json=as_json, stopped=STOPPED)
