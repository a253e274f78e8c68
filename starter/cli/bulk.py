"""Commands for many lines at once."""

from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from starter.cli import completing, options
from starter.cli.orders import moment_option
from starter.cli.running import perform
from twinline.bulk import BulkBlock, BulkExtend, BulkFilter, BulkImport, BulkKind, RunState, Standing
from twinline.messages import BlockOwner

if TYPE_CHECKING:
    from starter.cli.bulk_run import Begin, Wanted

RunId = Annotated[str, typer.Option("--run", metavar="ID", help="Your own id of the run; the same run twice is one.")]
WhichRun = Annotated[str, typer.Argument(metavar="RUN", help="Your own id of the run.", autocompletion=completing.runs)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, line by line, and change nothing.")]
SkipInvalid = Annotated[bool, typer.Option("--skip-invalid", help="Begin without the rows that can't be carried out.")]

Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0,
        max=options.LONGEST_WAIT,
        help="How long to watch; by default until all is ordered.",
    ),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not watch it.")]

bulk_app = typer.Typer(help="Many lines at once: each becomes an ordinary order.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(bulk_app, name="bulk")


@bulk_app.command("block")
def block(
    *,
    file: Annotated[
        str, typer.Option("--file", metavar="F", help="Usernames or line ids, one a line; or CSV, JSON lines; - reads.")
    ],
    run: RunId,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Of rows without one; the customers read it.")
    ] = None,
    owner: Annotated[BlockOwner, typer.Option("--owner", help="Whose blocks, in rows without one.")] = BlockOwner.ABUSE,
    case: Annotated[
        str | None, typer.Option("--case", metavar="ID", help="Your own id of the case; by default that of the run.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="T", help="When they end by themselves: 2031-05-06T12:00+02:00.")
    ] = None,
    dry_run: DryRun = False,
    skip_invalid: SkipInvalid = False,
    yes: options.Yes = False,
    caller: options.Caller = "cli",
    timeout: Timeout = None,
    no_wait: NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Block the lines of a file. Columns of a CSV: line, and if need be reason and owner.

    Example: twinline bulk block --file leaked.txt --run leak-7 --reason "This line was shared." --dry-run
    """
    from starter.cli.bulk_run import Begin, Wanted

    defaults: dict[str, Any] = {"owner": owner} | ({} if reason is None else {"reason": reason})
    wanted = Wanted(
        kind=BulkKind.BLOCK,
        caller=caller,
        run=run,
        job=lambda: BulkBlock(case=case, until=moment_option(until)),
        file=file,
        defaults=defaults,
    )
    _begin(wanted, Begin(dry_run, skip_invalid, yes, timeout, no_wait, as_json))


@bulk_app.command("extend")
def extend(
    *,
    region: options.Region,
    days: Annotated[int, typer.Option("--days", metavar="N", help="How many days each line gets.")],
    run: RunId,
    pair: Annotated[str | None, options.pair_option("Only lines of this pair of the region.")] = None,
    tell: Annotated[bool, typer.Option("--mail", help="Mail each customer the new end.")] = False,
    dry_run: DryRun = False,
    yes: options.Yes = False,
    caller: options.Caller = "cli",
    timeout: Timeout = None,
    no_wait: NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Give days to every line of a region that runs now, such as after an outage; plans and blocks stay as they are.

    Example: twinline bulk extend --region eu --days 1 --run outage-7 --dry-run
    """
    from starter.cli.bulk_run import Begin, Wanted

    wanted = Wanted(
        kind=BulkKind.EXTEND,
        caller=caller,
        run=run,
        job=lambda: BulkExtend(days=days, region=region, pair=pair, tell=tell),
    )
    _begin(wanted, Begin(dry_run, False, yes, timeout, no_wait, as_json))


@bulk_app.command("import")
def import_lines(
    file: Annotated[str, typer.Argument(metavar="FILE", help="CSV with a header, or JSON lines; - reads.")],
    *,
    run: RunId,
    region: Annotated[str | None, options.region_option("Of rows that name neither region nor pair.")] = None,
    pair: Annotated[str | None, options.pair_option("The same; the pair that the receivers know.")] = None,
    dry_run: DryRun = False,
    skip_invalid: SkipInvalid = False,
    yes: options.Yes = False,
    caller: options.Caller = "cli",
    timeout: Timeout = None,
    no_wait: NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Take lines over from another system. Columns: username, password, email, ends_at, and region or pair.

    Example: twinline bulk import lines.csv --pair eu1 --run old-shop --dry-run
    """
    from starter.cli.bulk_run import Begin, Wanted

    given = {"region": region, "pair": pair}
    wanted = Wanted(
        kind=BulkKind.IMPORT,
        caller=caller,
        run=run,
        job=BulkImport,
        file=file,
        defaults={name: value for name, value in given.items() if value is not None},
    )
    _begin(wanted, Begin(dry_run, skip_invalid, yes, timeout, no_wait, as_json))


@bulk_app.command("show")
def show(
    run: WhichRun,
    *,
    follow: Annotated[bool, typer.Option("--follow", help="Watch it until all is ordered.")] = False,
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="STATE", help=f"Only items that are {', '.join(get_args(Standing))}."),
    ] = None,
    limit: options.Limit = 100,
    cursor: options.Cursor = None,
    caller: options.Caller = "cli",
    timeout: Timeout = None,
    as_json: options.AsJson = False,
) -> None:
    """Tell how a run stands, and what became of each of its items.

    Example: twinline bulk show leak-7 --state refused
    """
    from starter.cli.bulk_run import Look, show

    look = Look(state=state, limit=limit, cursor=cursor)
    work = show(caller, run, look, follow=follow, timeout=timeout, as_json=as_json)
    perform(work, as_json=as_json, stopped=watched(run, caller))


@bulk_app.command("list")
def list_all(
    *,
    caller: Annotated[str | None, typer.Option("--caller", metavar="NAME", help="Only runs of this caller.")] = None,
    kind: Annotated[BulkKind | None, typer.Option("--kind", help="Only runs of this kind.")] = None,
    state: Annotated[RunState | None, typer.Option("--state", help="Only runs that stand like this.")] = None,
    limit: options.Limit = 100,
    cursor: options.Cursor = None,
    as_json: options.AsJson = False,
) -> None:
    """List runs, the newest first.

    Example: twinline bulk list --state running
    """
    from starter.cli.bulk_run import list_all

    wanted = BulkFilter(caller=caller, kind=kind, state=state)
    perform(list_all(wanted, limit=limit, cursor=cursor, as_json=as_json), as_json=as_json)


@bulk_app.command("resume")
def resume(
    run: WhichRun,
    *,
    caller: options.Caller = "cli",
    actor: options.Actor = "cli",
    timeout: Timeout = None,
    no_wait: NoWait = False,
    as_json: options.AsJson = False,
) -> None:
    """Go on with a run that was stopped, and try again what was refused and may pass by now.

    Example: twinline bulk resume leak-7
    """
    from starter.cli.bulk_run import resume

    work = resume(caller, run, actor=actor, timeout=0 if no_wait else timeout, as_json=as_json)
    perform(work, as_json=as_json, stopped=watched(run, caller))


@bulk_app.command("cancel")
def cancel(
    run: WhichRun,
    *,
    caller: options.Caller = "cli",
    actor: options.Actor = "cli",
    as_json: options.AsJson = False,
) -> None:
    """Order nothing more of a run; what was ordered already goes on. `twinline bulk resume` goes on with the rest.

    Example: twinline bulk cancel leak-7
    """
    from starter.cli.bulk_run import cancel

    perform(cancel(caller, run, actor=actor, as_json=as_json), as_json=as_json)


def watched(run: str, caller: str) -> str:
    """What to say to who stops watching a run."""
    of = "" if caller == "cli" else f" --caller {caller}"
    return (
        f"Stopped watching. The run goes on without us: `twinline bulk show {run}{of} --follow` watches it, "
        f"`twinline bulk cancel {run}{of}` stops it. If it was not begun yet, the same command begins it."
    )


def _begin(wanted: "Wanted", begin: "Begin") -> None:
    from starter.cli.bulk_run import begin_run

    perform(begin_run(wanted, begin), as_json=begin.as_json, stopped=watched(wanted.run, wanted.caller))
