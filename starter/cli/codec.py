"""`twinline codec`: lets people read in Temporal's web interface what orders and activities handed to it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from starter.cli.render import Exit
from starter.cli.running import stay_up

OF_THE_DEV_SERVER = ("http://localhost:8233", "http://127.0.0.1:8233")


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command()(codec)


def codec(
    *,
    keys: Annotated[Path, typer.Option("--keys", envvar="TWINLINE_KEYS", help="The key ring file.")],
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where to listen.")] = "127.0.0.1:8234",
    ui: Annotated[
        list[str] | None,
        typer.Option(
            "--ui", metavar="ORIGIN", help="Where Temporal's web interface is, as its address in the browser."
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="A file (mode 0600) with a token that whoever asks must show as bearer."),
    ] = None,
) -> None:
    """Open sealed payloads for Temporal's web interface and its `temporal` program until SIGTERM or Ctrl-C.

    Give its address there as codec endpoint. It prints `ready` once it listens; away from this machine it wants a
    token.

    Example: twinline codec --ui https://temporal.example.net --listen 127.0.0.1:8234
    """
    host, port = _where(listen)
    stay_up(lambda: _codec(keys, host, port, ui or OF_THE_DEV_SERVER, token_file))


async def _codec(keys_file: Path, host: str, port: int, origins: Sequence[str], token_file: Path | None) -> int:
    import asyncio
    import signal

    from twinline.codec_server import CodecServer
    from twinline.keys import KeyRing, private_line

    token = None if token_file is None else private_line(token_file, "the token")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    with CodecServer(KeyRing.load(keys_file), host=host, port=port, origins=origins, token=token):
        typer.echo("ready")
        await stop.wait()
    return Exit.DONE


def _where(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise typer.BadParameter("--listen takes HOST:PORT, such as 127.0.0.1:8234")
    return host.strip("[]"), int(port)
