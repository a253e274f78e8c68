"""The console script as a process of its own: how it starts, how it ends, and what it never shows."""

import asyncio
import os
import pty
import signal
from collections.abc import Mapping
from datetime import timedelta

import pytest

from starter import client
from starter.cli import orders
from tests.cli.conftest import SCRIPT, Cli, WorkerProcess, start_script
from twinline.sandbox.world import World

BROKEN = """
from starter.cli import app, main

@app.command()
def broken() -> None:
    secret = "hunter" + "2"
    raise RuntimeError("a mistake of ours")

main()
"""

HEAVY = ("temporalio", "asyncssh", "sqlalchemy", "sqlmodel", "cryptography", "jinja2", "aiosmtplib", "worker")


async def run(script: str, *words: str, env: Mapping[str, str] | None = None) -> tuple[int | None, str, str]:
    process = await start_script(script, *words, env=env or {})
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_help_needs_none_of_the_heavy_parts() -> None:
    script = f"import sys; from starter.cli import app; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert await run(script) == (0, "[]\n", "")
    code, out, err = await run(SCRIPT, "--help")
    assert (code, err) == (0, "")
    for command in ("trial", "purchase", "renew", "block", "unblock", "order", "line", "host", "doctor", "worker"):
        assert f" {command} " in out
    assert "Exit codes: 0 done, 2 usage, 3 not found, 4 refused or conflict, 5 partly done" in out


async def test_a_slip_in_the_options_is_usage() -> None:
    code, out, err = await run(SCRIPT, "trial", "anna@example.com", "--order", "T-1")
    assert (code, out) == (2, "")
    assert "--region" in err


async def test_a_mistake_of_ours_shows_where_it_is_and_no_local_values() -> None:
    code, out, err = await run(BROKEN, "broken")
    assert (code, out) == (1, "")
    assert "a mistake of ours" in err
    assert "Traceback" in err
    assert "hunter2" not in err


async def test_colours_are_left_out_where_they_are_not_wanted(cli: Cli, line: str) -> None:
    forced = cli.with_env(FORCE_COLOR="1", TERM="xterm-256color")
    assert "\x1b[3" in (await forced("line", "show", line)).out
    assert "\x1b[3" not in (await forced.with_env(NO_COLOR="1")("line", "show", line)).out


async def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    process = await start_script(f"import os; os.dup2({write}, 1); {SCRIPT}", "--help", env={}, inherited=(write,))
    os.close(write)
    _, err = await process.communicate()
    assert err == b""


async def test_an_order_that_no_worker_has_taken_is_safe_and_ctrl_c_stops_only_the_waiting(
    cli: Cli, world: World, worker: WorkerProcess, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "QUERY_TIMEOUT", timedelta(seconds=0.3))
    words = ("renew", line, "--days", "1", "--order", "R-idle")
    assert await worker.stop() == 0
    try:
        placed = await cli(*words, "--no-wait", "--json")
        assert (placed.code, placed.json["type"], placed.json["retryable"]) == (5, "NotTakenYet", True)
        shown = await cli("order", "show", "R-idle")
        assert (shown.code, shown.out) == (5, "")
        assert "no worker has taken the order yet; it is safe in Temporal" in shown.err
        code, said = await interrupted(*words, "--timeout", "60", env=world.env)
        assert code == 130
        assert said.endswith(orders.STOPPED)
    finally:
        await worker.start()
    assert (await cli(*words, "--timeout", "20")).code == 0


async def interrupted(*words: str, env: Mapping[str, str]) -> tuple[int, str]:
    """Run a command at a terminal and press Ctrl-C when it says that it waits."""
    terminal, behind = pty.openpty()
    process = await start_script(SCRIPT, *words, env={**env, "TERM": "xterm"}, stderr=behind)
    os.close(behind)
    try:
        await read_until(terminal, "waiting for the proof of both halves")
        process.send_signal(signal.SIGINT)
        said = await read_until(terminal, orders.STOPPED)
        return await process.wait(), said
    finally:
        os.close(terminal)


async def read_until(terminal: int, words: str) -> str:
    """What the terminal shows up to and with these words, however it breaks its lines."""
    seen = ""
    while words not in (said := " ".join(seen.split())):
        seen += (await asyncio.to_thread(os.read, terminal, 4096)).decode()
    return said
