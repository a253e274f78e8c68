"""Commands about hosts and this machine."""

from typing import Annotated

import typer

from starter.cli import options
from starter.cli.running import perform

GOES_ON = "Stopped waiting. The rebuild goes on without us; the same command again tells how far it is."

host_app = typer.Typer(help="Look at hosts.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(host_app, name="host")
    app.command("doctor")(doctor)


@host_app.command("list")
def list_hosts(hosts: options.Hosts = None, *, as_json: options.AsJson = False) -> None:
    """List hosts with what the ledger knows of them: lines served, halves behind, whether they answer, what is wrong.

    Example: twinline host list
    """
    from starter.cli.hosts_shown import list_hosts

    perform(list_hosts(hosts or [], as_json=as_json), as_json=as_json)


@host_app.command("check")
def check(
    hosts: options.Hosts = None,
    *,
    prove_reload: Annotated[
        bool,
        typer.Option("--prove-reload", help="Have a record that nobody can use written, loaded, and taken away again."),
    ] = False,
    brief: Annotated[bool, typer.Option("--brief", help="Leave out what is as it must be.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Connect to hosts (all by default) and say whether everything that a line needs is there.

    Writes and reloads nothing, unless you ask for the proof of the reload; nobody who is connected is dropped by it.
    Exit code 4 if something has to be repaired, 6 if a host can't be reached.

    Example: twinline host check mc-eu1 --prove-reload
    """
    from starter.cli.hosts_checked import check_hosts

    perform(
        check_hosts(hosts or [], prove_reload=prove_reload, brief=brief, as_json=as_json),
        as_json=as_json,
    )


@host_app.command("refence")
def refence(
    hosts: options.Hosts = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every host of the inventory.")] = False,
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """After the ledger was restored from a backup: let hosts obey it again, although they have seen later batches.

    Says which lines stand on a host that the ledger does not know.

    Example: twinline host refence --all --yes
    """
    from starter.cli.hosts_refenced import refence_hosts

    perform(refence_hosts(hosts or [], every=every, yes=yes, as_json=as_json), as_json=as_json)


@host_app.command("rebuild")
def rebuild(
    host: options.Host,
    *,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss",
            help="Go on though the file has lost accounts, of others too, that the daemon still serves.",
        ),
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End the rebuild that goes on, as far as it is.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")] = None,
    actor: options.Actor = "cli",
    yes: options.Yes = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            min=0,
            max=options.LONGEST_WAIT,
            help="How long to wait for it; by default five minutes.",
        ),
    ] = None,
    no_wait: options.NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """See that a host holds every line that it should: its box was replaced, its file lost, or is years old.

    Says first what it would write and take off. It goes on by itself, through every outage, until file and daemon are
    seen to hold all of it; the same command again tells how far it is, and has it try at once. Exit code 4 if a person
    has to repair something first, 5 while it goes on.

    Example: twinline host rebuild mc-eu1 --reason "new disk"
    """
    from starter.cli.hosts_rebuilt import Asked, rebuild_host, stop_rebuild
    from starter.cli.placing import Waiting

    asked = Asked(host, actor=actor, reason=reason, waiting=Waiting(timeout, no_wait), as_json=as_json)
    work = stop_rebuild(asked) if stop else rebuild_host(asked, accept_loss=accept_loss, yes=yes)
    perform(work, as_json=as_json, stopped=GOES_ON)


@host_app.command("authorize")
def authorize(
    host: options.Host,
    *,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="SHA256", help="Allow another version's helper too, while you upgrade."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Print the line for authorized_keys on a host that lets our key start the helper for its files, and nothing else.

    Example: twinline host authorize mc-eu1
    """
    from starter.cli.hosts_authorized import authorize as print_line

    perform(print_line(host, also=also or [], as_json=as_json), as_json=as_json)


def doctor(*, as_json: options.AsJson = False) -> None:
    """Say whether everything that twinline needs is there, from the settings to the hosts.

    Exit code 4 if something has to be repaired, 6 if something does not answer.

    Example: twinline doctor
    """
    from starter.cli.doctor import examine

    perform(examine(as_json=as_json), as_json=as_json)
