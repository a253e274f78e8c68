"""`twinline dev` and `twinline demo`: the embedded world, to stay or to be told about."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from starter.cli.render import Exit
from starter.cli.running import perform

DEFAULT_OUTPUT = Path("demo-output")
DEV_FOLDER = Path(".twinline")

Timescale = Annotated[
    float, typer.Option("--timescale", min=0.01, max=1.0, help="Clock of the stand-in daemons; 1 is true time.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(demo)
    app.command()(dev)


def demo(
    broken: Annotated[
        list[str] | None,
        typer.Option("--break", metavar="NAME", help="Break this, so that the demo has to notice; may be repeated."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Where the customer's mail is saved.")] = DEFAULT_OUTPUT,
    timescale: Timescale = 0.25,
) -> None:
    """Show one line's life on two daemons, in a world of its own on this machine, and check all of it.

    Example: twinline demo --break mail-swallowed
    """
    from starter.demo import BREAKS

    breaks = broken or []
    for name in breaks:
        if name in BREAKS:
            continue
        names = "\n".join(f"  {thing.name:<17} {thing.meaning}" for thing in BREAKS.values())
        typer.echo(f'there is nothing called "{name}" to break; choose one of\n{names}', err=True)
        raise typer.Exit(Exit.USAGE)
    perform(_demo(breaks, output, timescale), as_json=False)


async def _demo(broken: Sequence[str], output: Path, timescale: float) -> int:
    import tempfile

    from rich.console import Console

    from starter.demo import BREAKS, run_demo
    from starter.demo.show import Show

    breaks = [BREAKS[name] for name in broken]
    with tempfile.TemporaryDirectory(prefix="twinline-demo-") as folder:
        held = await run_demo(
            Path(folder) / "world", Show(Console()), broken=breaks, timescale=timescale, output=output
        )
    return Exit.DONE if held else 1


def dev(
    folder: Annotated[Path, typer.Option(help="Where the world keeps its files; taken up again next time.")] = (
        DEV_FOLDER
    ),
    timescale: Timescale = 0.25,
) -> None:
    """Start the embedded world and stay up: Temporal, two boxes with a daemon each, a mailbox, and the worker.

    Example: twinline dev
    """
    perform(_dev(folder, timescale), as_json=False, stopped="Stopped; the world's files stay where they are.")


async def _dev(folder: Path, timescale: float) -> int:
    import asyncio
    import contextlib
    import shlex
    import signal

    from twinline.messages import HEALTH_EVERY, RECONCILE_EVERY
    from twinline.sandbox.world import World

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    every, looked = RECONCILE_EVERY.total_seconds(), HEALTH_EVERY.total_seconds()
    async with World(folder, timescale=timescale, reconcile_every=every, health_every=looked, codec=True) as world:
        await world.start_worker()
        exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in world.env.items())
        settings = world.folder / "env.sh"
        settings.write_text(exports + "\n")
        settings.chmod(0o600)
        typer.echo(
            "The embedded world is up.\n"
            f"  Temporal UI    {world.temporal.ui_url}\n"
            f"  caught mail    {world.mail_catcher.web_url}\n"
            f"  inventory      {world.env['TWINLINE_INVENTORY']}\n"
            "\nIn another terminal:\n"
            f"  . {shlex.quote(str(settings))}\n"
            "  twinline trial you@example.org --region eu --order first-1\n"
            "  twinline host check\n"
            "\nCtrl-C stops it."
        )
        await stop.wait()
    typer.echo("Stopped; the world's files stay where they are.")
    return Exit.DONE
