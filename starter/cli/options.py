"""Options that several commands share, so that each means the same everywhere."""

from typing import Annotated, Any

import typer

from starter.cli import completing


def line_option(help: str) -> Any:
    """`--line LINE`, with what it means there."""
    return typer.Option("--line", metavar="LINE", help=help, autocompletion=completing.lines)


def host_option(help: str) -> Any:
    """`--host HOST`, with what it means there."""
    return typer.Option("--host", metavar="HOST", help=help, autocompletion=completing.hosts)


def pair_option(help: str) -> Any:
    """`--pair PAIR`, with what it means there."""
    return typer.Option("--pair", metavar="PAIR", help=help, autocompletion=completing.pairs)


def region_option(help: str) -> Any:
    """`--region REGION`, with what it means there."""
    return typer.Option("--region", metavar="REGION", help=help, autocompletion=completing.regions)


AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON value on standard output, errors of twinline included.")
]
Caller = Annotated[str, typer.Option("--caller", metavar="NAME", help="Who asks; order ids count per caller.")]
Region = Annotated[str, region_option("Where the line shall live.")]
OrderId = Annotated[str, typer.Option("--order", metavar="ID", help="Your own id; the same order twice is one order.")]
Days = Annotated[int, typer.Option("--days", metavar="N", help="How many days are paid for.")]
Line = Annotated[str, typer.Argument(metavar="LINE", help="The line's username.", autocompletion=completing.lines)]
Case = Annotated[str, typer.Option("--case", metavar="ID", help="Your own id of the case.")]
LONGEST_WAIT = 31 * 24 * 3600
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0,
        max=LONGEST_WAIT,
        help="How long to wait; by default TWINLINE_GRACE and a little more.",
    ),
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Wait half a second only, long enough for most refusals to be told.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody can be asked.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1000, help="At most so many.")]
Cursor = Annotated[str | None, typer.Option("--cursor", metavar="CURSOR", help="Go on where the last list ended.")]
Host = Annotated[str, typer.Argument(metavar="HOST", help="A name of the inventory.", autocompletion=completing.hosts)]
Hosts = Annotated[
    list[str] | None,
    typer.Argument(metavar="HOST", help="Names of the inventory; all by default.", autocompletion=completing.hosts),
]
Actor = Annotated[str, typer.Option("--actor", metavar="NAME", help="Who asks, for the record.")]
