"""Commands about drift: where hosts differ from the ledger."""

from typing import Annotated

import typer

from starter.cli import options
from starter.cli.running import perform

drift_app = typer.Typer(help="See and repair where hosts differ from the ledger.", no_args_is_help=True)

PATIENCE = 300.0
"""Seconds; a host with thousands of lines that all have to be written again takes minutes."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(drift_app, name="drift")


@drift_app.command("check")
def check(hosts: options.Hosts = None, *, as_json: options.AsJson = False) -> None:
    """Compare ledger, accounts file and running daemon line by line, and change nothing.

    Exit code 4 if something differs, 6 if a host can't be reached.

    Example: twinline drift check mc-eu1
    """
    from starter.cli.drift_checked import check_drift

    perform(check_drift(hosts or [], as_json=as_json), as_json=as_json)


@drift_app.command("repair")
def repair(
    hosts: options.Hosts = None,
    *,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Go on though a file has lost accounts that its daemon still serves.")
    ] = False,
    yes: options.Yes = False,
    timeout: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", min=0, max=options.LONGEST_WAIT, help="How long to wait for it."),
    ] = PATIENCE,
    as_json: options.AsJson = False,
) -> None:
    """Run Reconcile now: end what is past its end, drive on what is behind, write again what differs.

    It asks first when somebody would lose access. Exit code 4 if a person has to repair something on a host first, 5
    if something is not in step yet, 6 if a host can't be reached.

    Example: twinline drift repair mc-eu1
    """
    from starter.cli.drift_checked import repair_drift

    work = repair_drift(hosts or [], accept_loss=accept_loss, yes=yes, patience=timeout, as_json=as_json)
    perform(work, as_json=as_json)
