"""Several writers of one host, through a real sshd, as the running daemon sees it."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.hosts.judge import kind_of
from tests.hosts.lab import Lab
from tests.hosts.other_worker import PASSWORD
from twinline.hosts.errors import FileTrouble
from twinline.hosts.factory import daemon_for
from twinline.sandbox import oscam as stand_in


def served(lab: Lab) -> list[str]:
    """Who could log in if the daemon read the file now."""
    return sorted(account.user for account in kind_of(lab.host.protocol).served(lab.accounts.read_bytes()))


def as_json(lab: Lab) -> str:
    """The host for another process, its secret included."""
    values = lab.host.model_dump(mode="json", exclude_unset=True)
    secret = lab.host.status.password
    assert isinstance(secret, SecretStr)
    values["status"]["password"] = secret.get_secret_value()
    return json.dumps(values)


async def test_two_workers_in_two_processes_lose_nothing(lab: Lab) -> None:
    (lab.folder / "host.json").write_text(as_json(lab))
    (lab.folder / "numbers").write_text("00000000")
    names = [[f"guest{worker}{number}" for number in range(5)] for worker in range(2)]
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.hosts.other_worker", lab.folder / "host.json", lab.folder / "numbers", *mine
        )
        for mine in names
    ]

    assert [await worker.wait() for worker in workers] == [0, 0]

    assert served(lab) == sorted(["oldtom", "oldeve", *names[0], *names[1]])
    found = daemon_for(lab.host).survey(lab.accounts.read_bytes())
    assert (sorted(found.slots), found.strays) == (sorted(names[0] + names[1]), [])
    for username in (names[0][0], names[1][-1]):
        async with await lab.login(username, PASSWORD):
            pass


async def test_an_edit_that_oscams_own_pages_take_back_before_it_is_loaded_is_written_again_at_once(
    oscam: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = oscam
    await lab.bring(lab.ledger.want("rosewood22", PASSWORD))
    writer = lab.another_writer(deadline=0.1)
    real = stand_in.OSCam._load  # pyright: ignore[reportPrivateUsage] - the moment in which the daemon reads
    saved: list[bytes] = []

    def saved_just_before(daemon: stand_in.OSCam) -> object:
        if not saved:
            # An operator presses *Save* between our close and the reload that we asked for.
            saved.append(lab.accounts.read_bytes())
            daemon._write_users()  # pyright: ignore[reportPrivateUsage]
        return real(daemon)

    monkeypatch.setattr(stand_in.OSCam, "_load", saved_just_before)

    await writer.bring(lab.ledger.want("ash22222222", PASSWORD).line_id, 1)

    assert b"ash22222222" in saved[0]
    assert served(lab) == ["ash22222222", "oldeve", "oldtom", "rosewood22"]
    assert lab.ledger.failures == []
    async with await lab.login("ash22222222", PASSWORD), await lab.login("rosewood22", PASSWORD):
        pass
    found = daemon_for(lab.host).survey(lab.accounts.read_bytes())
    assert (set(found.slots), found.strays) == ({"rosewood22", "ash22222222"}, [])
    await writer.close()


async def test_what_is_not_the_file_itself_is_refused_and_not_touched(lab: Lab) -> None:
    await lab.bring(lab.ledger.want("rosewood22", PASSWORD))
    real = lab.folder / "real"
    lab.accounts.rename(real)
    before, when = real.read_bytes(), real.stat().st_mtime_ns
    wanted = lab.ledger.want("ash22222222", PASSWORD)

    for put in (Path.symlink_to, Path.hardlink_to):
        put(lab.accounts, real)
        with pytest.raises(FileTrouble, match="not a regular file with exactly one link"):
            await lab.bring(wanted)
        lab.accounts.unlink()

    assert (real.read_bytes(), real.stat().st_mtime_ns) == (before, when)
    assert lab.ledger.failures == [("ash22222222", "FileTrouble")] * 2
    real.rename(lab.accounts)
    await lab.bring(wanted)
    assert served(lab) == ["ash22222222", "oldeve", "oldtom", "rosewood22"]
