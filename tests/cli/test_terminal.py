"""The command line at a real terminal: what a person sees there, and what never gets there."""

import asyncio
import contextlib
import json
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from tests.cli.alone import Alone
from tests.cli.conftest import Cli, WorkerProcess
from tests.cli.warm import Warm
from tests.support.sshd import die_with_parent
from tests.support.terminal import CTRL_C, CTRL_D, TAB, Terminal, environment
from twinline.sandbox.ssh_box import SshBox
from twinline.sandbox.world import World

ROOT = Path(__file__).resolve().parents[2]
TWINLINE = Path(sys.executable).parent / "twinline"
PLAIN: Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]] = {
    "NO_COLOR": ((), {"NO_COLOR": "1"}),
    "--no-color": (("--no-color",), {}),
    "TERM=dumb": ((), {"TERM": "dumb"}),
}


@pytest_asyncio.fixture(scope="session")
async def warm() -> AsyncIterator[Warm]:
    """An interpreter that has everything imported."""
    running = await Warm.start()
    yield running
    await running.stop()


@pytest_asyncio.fixture
async def terminal() -> AsyncIterator[Terminal]:
    """A terminal of 100 columns."""
    opened = Terminal()
    yield opened
    opened.close()


async def test_a_terminal_gets_colours_and_none_of_the_escape_codes_that_stand_in_the_ledger(
    warm: Warm, terminal: Terminal, alone: Alone
) -> None:
    assert await warm.run("line", "show", alone.line, terminal=terminal, env=alone.env) == 0
    assert b"\x1b[2m" in terminal.raw
    # What rich writes itself, and nothing else that a terminal obeys.
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", re.sub(r"\x1b\[[0-9;]*m", "", _text(terminal)))
    assert "�31m�shared� by" in terminal.text


@pytest.mark.parametrize("way", PLAIN)
async def test_who_wants_no_colours_gets_no_escape_code_at_all(
    warm: Warm, terminal: Terminal, alone: Alone, way: str
) -> None:
    words, env = PLAIN[way]
    for rest in (("line", "show", alone.line), ("--help",), ("line", "show"), ("line", "show", "nobody99")):
        await warm.run(*words, *rest, terminal=terminal, env={**alone.env, **env})
    assert b"\x1b" not in terminal.raw
    assert "there is no line" in terminal.text


async def test_orders_are_links_on_a_terminal_that_knows_colours_and_words_everywhere_else(
    warm: Warm, terminal: Terminal, alone: Alone
) -> None:
    env = {**alone.env, "TWINLINE_TEMPORAL_UI": "https://temporal.example.net", "TWINLINE_GRACE": "0.001"}
    page = "https://temporal.example.net/namespaces/default/workflows/trial%2Fcli%2FT-alone"
    stuck = ("order", "list", "--stuck")
    # So wide that no cell of the table is broken.
    terminal.resize(160)

    await warm.run(*stuck, terminal=terminal, env=env)
    link = re.search(
        r"\x1b\]8;[^;]*;([^\x1b]*)\x1b\\\x1b\[[0-9;]*mtrial T-alone\x1b\[0m\x1b\]8;;\x1b\\", _text(terminal)
    )
    assert link is not None, terminal.raw
    assert link[1] == page
    assert "mc-eu1 is behind since" in terminal.words
    assert "2 halves wait" not in terminal.words
    assert "trial T-alone" in terminal.words
    assert page not in terminal.words

    # An order that is shown has it in words, to be copied.
    await warm.run("order", "show", "T-alone", terminal=terminal, env=env)
    assert page in terminal.text.replace("\n", "")
    # Of one host the ledger alone is asked, and nobody waits for a Temporal that is away.
    of_one_host = (*stuck, "--host", "mc-eu1")
    piped = await Cli(env)(*of_one_host)
    assert "trial T-alone" in piped.out
    assert "\x1b" not in piped.out
    terminal.raw = b""
    for words, others in PLAIN.values():
        terminal.clear()
        await warm.run(*words, *of_one_host, terminal=terminal, env={**env, **others})
        assert "trial T-alone" in terminal.words
    await warm.run(*of_one_host, "--json", terminal=terminal, env={**env, "NO_COLOR": "1"})
    assert b"\x1b" not in terminal.raw
    assert page in _text(terminal)


@pytest.mark.parametrize(
    ("keys", "code", "last"),
    [
        ("n\n", 4, "Nothing was done."),
        ("\n", 4, "Nothing was done."),
        ("yes please\n", 4, "Nothing was done."),
        (CTRL_D, 4, "Nothing was done."),
        (CTRL_C, 130, "Nothing was done."),
        ("y\n", 3, "there is no line"),
    ],
)
async def test_a_question_is_asked_and_only_a_yes_goes_on(
    warm: Warm, terminal: Terminal, alone: Alone, keys: str, code: int, last: str
) -> None:
    before = alone.state()
    running = asyncio.create_task(warm.run("erase", "nobody99", terminal=terminal, env=alone.env))
    await terminal.see("Forget nobody99 for good? Nobody can bring it back. [y/N]")
    terminal.type(keys)
    assert await running == code
    assert last in terminal.text.splitlines()[-1 if code != 3 else -2]
    assert alone.state() == before


async def test_a_question_can_not_command_the_terminal(warm: Warm, terminal: Terminal, alone: Alone) -> None:
    asking = warm.run("erase", "\x1b]0;owned\x07\x1b[2J", terminal=terminal, env=alone.env)
    running = asyncio.create_task(asking)
    await terminal.see("for good?")
    terminal.type("n\n")
    await running
    assert b"\x1b]" not in terminal.raw
    assert b"\x1b[2J" not in terminal.raw


async def test_without_a_standard_input_nobody_can_be_asked(warm: Warm, terminal: Terminal, alone: Alone) -> None:
    assert await warm.run("erase", "nobody99", terminal=terminal, env=alone.env, stdin=False) == 2
    assert "add --yes if this is meant" in terminal.text


@pytest.mark.parametrize("columns", [40, 60, 200])
async def test_tables_fit_the_terminal_and_no_id_is_cut(warm: Warm, alone: Alone, columns: int) -> None:
    terminal = Terminal(columns=columns, lines=200)
    try:
        for words in (("line", "list"), ("order", "list"), ("line", "show", alone.line), ("order", "show", "T-alone")):
            await warm.run(*words, terminal=terminal, env=alone.env)
        assert "…" not in terminal.text.replace("waiting…", "")
        ids = (alone.line, "T-alone", "outage:7:1", "mc-eu1", "abuse A-alone", "2026-", "still goes on")
        assert {name for name in ids if name not in terminal.text} == set()
    finally:
        terminal.close()


async def test_waiting_shows_how_the_halves_stand_and_ctrl_c_stops_only_the_waiting(
    cli: Cli, world: World, worker: WorkerProcess, warm: Warm, terminal: Terminal
) -> None:
    async with unreachable(world.box("os-eu1")):
        words = ("trial", "watched@example.com", "--region", "eu", "--order", "T-watched", "--timeout", "60")
        running = asyncio.create_task(warm.run(*words, terminal=terminal, env=world.env))
        await terminal.see("mc-eu1 applied · os-eu1 failing (HostUnreachable), again in")
        terminal.resize(50)
        await terminal.see("mail accepted")
        terminal.type(CTRL_C)
        assert await running == 130
        assert "Stopped waiting. An order that was placed goes on" in terminal.words
        terminal.resize(100)
        watching = asyncio.create_task(warm.run("order", "watch", "T-watched", terminal=terminal, env=world.env))
        await terminal.see("os-eu1 failing")
    assert await watching == 0
    assert "Both halves serve the line" in terminal.words


async def test_a_bulk_run_shows_how_far_it_is_and_ctrl_c_stops_only_the_watching(
    cli: Cli, world: World, worker: WorkerProcess, warm: Warm, terminal: Terminal, tmp_path: Path
) -> None:
    # Who asks is more patient than the worker, so that the bar stays there as long as the test needs it.
    env = {**world.env, "TWINLINE_GRACE": "120"}
    opened = [
        await cli("trial", f"bar{number}@example.com", "--region", "eu", "--order", f"T-bar{number}", "--json")
        for number in range(2)
    ]
    names = [each.json["username"] for each in opened]
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(names))
    words = ("bulk", "block", "--file", str(file), "--run", "bar", "--reason", "Shared")
    async with unreachable(world.box("os-eu1")):
        running = asyncio.create_task(warm.run(*words, terminal=terminal, env=env))
        await terminal.see("Block 2 lines, case bar? [y/N]")
        assert all(name in terminal.text for name in names)
        assert "2 of 2 lines would change." in terminal.words
        terminal.type("y\n")
        await terminal.see("0/2 2 going of 2")
        terminal.resize(70)
        terminal.type(CTRL_C)
        assert await running == 130
        assert "Stopped watching. The run goes on without us: `twinline bulk show bar --follow`" in terminal.words
        terminal.resize(100)
        plain = {**env, "NO_COLOR": "1"}
        watching = asyncio.create_task(warm.run("bulk", "show", "bar", "--follow", terminal=terminal, env=plain))
        await terminal.see("bar ━")
        before = len(terminal.raw)
    assert await watching == 0
    assert "Everything is done." in terminal.words
    assert not re.search(rb"\x1b\[[0-9;]*m", terminal.raw[before:]), "a bar without colours moves, and has none"
    before = len(terminal.raw)
    assert await warm.run(*words, "--yes", "--json", terminal=terminal, env=env) == 0
    assert b"\x1b" not in terminal.raw[before:]
    assert json.loads(terminal.raw[before:])["bulk"]["counts"]["done"] == 2


async def test_ctrl_c_at_the_question_of_a_bulk_run_begins_nothing(
    warm: Warm, terminal: Terminal, alone: Alone, tmp_path: Path
) -> None:
    file = tmp_path / "lines.txt"
    file.write_text(alone.line)
    words = ("bulk", "block", "--file", str(file), "--run", "asked", "--reason", "Shared", "--case", "other")
    before = alone.state()
    for keys, code in ((CTRL_C, 130), (CTRL_D, 4), ("n\n", 4)):
        running = asyncio.create_task(warm.run(*words, terminal=terminal, env=alone.env))
        await terminal.see("Block 1 line, case other? [y/N]")
        terminal.type(keys)
        assert await running == code
        assert "Nothing was done." in terminal.words
        assert alone.state() == before
        terminal.clear()


@contextlib.asynccontextmanager
async def unreachable(box: SshBox) -> AsyncGenerator[None]:
    await box.refuse(on=True)
    box.drop_connections()
    try:
        yield
    finally:
        await box.refuse(on=False)


async def test_tab_completes_commands_and_what_there_is_in_a_real_bash(
    terminal: Terminal, alone: Alone, tmp_path: Path
) -> None:
    before = alone.state()
    bash = await interactive("bash", "--norc", "--noprofile", terminal=terminal, home=tmp_path, env=alone.env)
    await terminal.see("$")
    terminal.type('eval "$(twinline --show-completion)"; echo rea""dy\n')
    await terminal.see("ready")
    for typed, completed in (
        ("twinline ord", "twinline order"),
        ("twinline trial jane@example.org --region ", "--region eu"),
        (f"twinline line show {alone.line[:3]}", f"line show {alone.line}"),
        ("twinline block x --owner=op", "--owner=operator"),
        ("twinline order show outage:7:", "show outage:7:1"),
    ):
        await press_tab(terminal, typed, completed)
    terminal.type("exit\n")
    assert await bash.wait() == 0
    assert alone.state() == before


@pytest.mark.soak
async def test_tab_completes_in_a_real_zsh(terminal: Terminal, alone: Alone, tmp_path: Path) -> None:
    await install("zsh", tmp_path)
    zsh = await interactive("zsh", terminal=terminal, home=tmp_path, env=alone.env)
    await terminal.see("$")
    for typed, completed in (
        # The first Tab only loads the completion: so it is with typer's.
        ("twinline ord" + TAB, "twinline order"),
        ("twinline trial jane@example.org --region ", "--region eu"),
        ("twinline host check m", "host check mc-eu1"),
        ("twinline order show outage:7:", "show outage:7:1"),
        ("twinline block x --owner op", "--owner operator"),
        ("twinline block x --owner=op", "--owner=operator"),
        (f"twinline purchase --line={alone.line[:3]}", f"--line={alone.line}"),
    ):
        await press_tab(terminal, typed, completed)
    terminal.type("exit\n")
    assert await zsh.wait() == 0


@pytest.mark.soak
async def test_fish_offers_what_there_is(alone: Alone, tmp_path: Path) -> None:
    await install("fish", tmp_path)
    for typed, offered in (
        ("twinline ord", ["order"]),
        ("twinline trial jane@example.org --region ", ["eu"]),
        ("twinline host check m", ["mc-eu1"]),
        ("twinline order show outage:7:", ["outage:7:1"]),
        ("twinline block x --owner op", ["operator"]),
        ("twinline block x --owner=op", ["--owner=operator"]),
        ("twinline trial jane@example.org --region=", ["--region=eu"]),
    ):
        fish = await asyncio.create_subprocess_exec(
            *("fish", "-c", f"complete -C '{typed}'"), env=shell_env(tmp_path, alone.env), stdout=PIPE, stderr=PIPE
        )
        out, err = await fish.communicate()
        assert ([line.partition("\t")[0] for line in out.decode().splitlines()], err) == (offered, b"")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_is_installed_for_each_shell(shell: str, tmp_path: Path) -> None:
    await install(shell, tmp_path)
    installed = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert any("_TWINLINE_COMPLETE=complete_" + shell in text for text in installed)


async def test_the_page_tells_how_to_get_it_for_a_shell_that_one_is_not_in() -> None:
    code, out, _ = await cold(env={"_TWINLINE_COMPLETE": "source_zsh"})
    assert (code, b"_TWINLINE_COMPLETE=complete_zsh" in out) == (0, True)
    assert "_TWINLINE_COMPLETE=source_zsh twinline" in (ROOT / "docs" / "cli.md").read_text()


async def test_tab_offers_nothing_and_says_nothing_where_nothing_is_set_or_a_setting_is_wrong(bare: Cli) -> None:
    for env in (bare.env, {**bare.env, "TWINLINE_INVENTORY": "/nonexistent", "TWINLINE_KEYS": "/dev/null"}):
        for words in ("twinline order show ", "twinline host check ", "twinline line show " + "x" * 200):
            asked = {"_TWINLINE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "3"}
            said = await bare.with_env(**env, **asked)()
            assert (said.code, said.out.strip(), said.err) == (0, "", "")


async def test_a_locale_without_our_characters_is_no_reason_to_fail(alone: Alone) -> None:
    env = {**alone.env, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    code, out, err = await cold("line", "show", alone.line, env=env)
    assert (code, err) == (0, b"")
    assert alone.line.encode() in out
    assert b"?31m?shared? by" in out
    assert b"[red]" in out
    assert (await cold("--help", env=env))[0] == 0


async def test_bytes_that_are_no_text_are_usage(alone: Alone) -> None:
    code, out, err = await cold("line", "show", b"\xff\xfe", env=alone.env)
    assert (code, out) == (2, b"")
    assert b"a word is not UTF-8 text" in err


async def test_who_stops_reading_is_told_nothing_more(alone: Alone) -> None:
    for words in (("--help",), ("line", "list")):
        read, write = os.pipe()
        os.close(read)
        process = await asyncio.create_subprocess_exec(
            str(TWINLINE), *words, env=environment(alone.env), stdout=write, stderr=PIPE
        )
        os.close(write)
        _, err = await process.communicate()
        assert (process.returncode, err) == (141, b"")


async def test_closed_streams_are_no_reason_to_fail(alone: Alone) -> None:
    for words, redirection, code in (
        ("--help", ">&-", 0),
        ("line show", "2>&-", 2),
        ("erase nobody99", "<&-", 2),
        ("line show nobody99", "<&- >&- 2>&-", 3),
    ):
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", f'"{TWINLINE}" {words} {redirection}'), env=environment(alone.env), stdout=PIPE, stderr=PIPE
        )
        _, err = await process.communicate()
        assert (process.returncode, b"Traceback" in err) == (code, False)


async def press_tab(terminal: Terminal, typed: str, completed: str) -> None:
    """Type words and Tab, see what becomes of them, and take them away."""
    terminal.type(typed + TAB)
    await terminal.see(completed)
    terminal.type("\x15clear\n")
    await terminal.gone(completed)


async def install(shell: str, home: Path) -> None:
    """Install the completion for a shell as if we were in it."""
    env = environment({"HOME": str(home), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"})
    process = await asyncio.create_subprocess_exec(str(TWINLINE), "--install-completion", shell, env=env, stdout=PIPE)
    await process.communicate()
    assert process.returncode == 0


async def interactive(*words: str, terminal: Terminal, home: Path, env: Mapping[str, str]) -> Process:
    """Start a shell at the terminal."""
    return await asyncio.create_subprocess_exec(
        *(*words, "-i"),
        env=shell_env(home, env),
        stdin=terminal.fd,
        stdout=terminal.fd,
        stderr=terminal.fd,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


def shell_env(home: Path, env: Mapping[str, str]) -> dict[str, str]:
    """What a shell is started with that finds our program and no settings of a person."""
    path = f"{TWINLINE.parent}:{os.environ['PATH']}"
    return environment({**env, "HOME": str(home), "ZDOTDIR": str(home), "PS1": "$ ", "PATH": path})


async def cold(*words: str | bytes, env: Mapping[str, str]) -> tuple[int | None, bytes, bytes]:
    """Run the installed program with pipes for everything: exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        str(TWINLINE), *words, env=environment(env), stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()
    return process.returncode, out, err


def _text(terminal: Terminal) -> str:
    return terminal.raw.decode()
