"""`twinline demo` as a person runs it: it tells the story, notices what is broken, and leaves nothing running."""

import asyncio
import os
import sys
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from starter.demo import BREAKS

AT_ONCE = asyncio.Semaphore(3)
SAYS = {
    "multics-deaf": "mc-eu1 has not been seen to hold the purchase yet",
    "oscam-deaf": "os-eu1 has not been seen to hold the renewal yet",
    "host-unreachable": "os-eu1 has not been seen to hold the trial yet",
    "mail-swallowed": "the mail never reached the customer's mailbox",
    "session-dropped": "the customer's session on os-eu1 was dropped during the renewal",
    "record-changed": "mc-eu1: the record in the file is not what the ledger says",
    "foreign-changed": "os-eu1: an account that is not ours was changed",
}
# The others end the story, each at another place.
TOGETHER = (
    ("session-dropped", "record-changed", "foreign-changed"),
    *((name,) for name in ("multics-deaf", "oscam-deaf", "host-unreachable", "mail-swallowed")),
)


def _of_session(session: int) -> list[str]:
    """Programs that still run in this session."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(after_name[3]) == session and after_name[0] != "Z":
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


async def _demo(folder: Path, *arguments: str) -> tuple[int, str]:
    async with AT_ONCE:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from starter.cli import main; main()"),
            *("demo", "--timescale", "0.1", "--output", str(folder / "output"), *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "COLUMNS": "140", "NO_COLOR": "1"},
        )
        said, _ = await process.communicate()
    assert _of_session(process.pid) == []
    assert process.returncode is not None
    return process.returncode, said.decode()


@pytest.mark.timeout(240)
async def test_the_story_holds_and_every_break_is_noticed(tmp_path: Path) -> None:
    assert BREAKS.keys() == SAYS.keys() == {name for names in TOGETHER for name in names}
    whole, *broken = await asyncio.gather(
        _demo(tmp_path), *(_demo(tmp_path / names[0], *(f"--break={name}" for name in names)) for names in TOGETHER)
    )

    code, said = whole
    assert code == 0, said
    assert "Everything shown was checked, and held." in said
    mail = message_from_bytes((tmp_path / "output" / "credentials.eml").read_bytes(), policy=policy.default)
    assert mail["To"] == "viewer@example.org"

    for names, (code, said) in zip(TOGETHER, broken, strict=True):
        assert code == 1, (names, said)
        noticed = [line.removeprefix("  - ") for line in said.splitlines() if line.startswith("  - ")]
        assert all(any(one.startswith(SAYS[name]) for one in noticed) for name in names), (names, said)
        assert not any(one.startswith(SAYS[name]) for one in noticed for name in SAYS.keys() - names), (names, said)
        assert "Everything shown was checked" not in said


async def test_an_unknown_break_is_a_usage_error_that_names_the_known_ones(tmp_path: Path) -> None:
    code, said = await _demo(tmp_path, "--break", "everything")

    assert code == 2
    assert all(name in said for name in BREAKS)
