"""Real file systems that fill up, and files that may not be written: it is named, harms nobody, and can be repaired."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.hosts.conftest import PROTOCOLS
from tests.hosts.files import END
from tests.hosts.helper_process import HelperProcess, Refused, helper, setup_for
from tests.hosts.lab import Lab, run_lab
from tests.hosts.pages import serving
from tests.hosts.playing import SCENES, check_good
from tests.hosts.scenes import Scene, Stage
from tests.support.disk import Disk, small_disk
from tests.support.sshd import Sshd
from twinline.hosts import image, ssh
from twinline.hosts.errors import FileTrouble, trouble
from twinline.hosts.factory import writer_for
from twinline.hosts.ports import Wanted
from twinline.hosts.writer import HostWriter
from twinline.messages import Protocol
from twinline.sandbox.receiver import LoginRefused

NAME, OTHER, PASSWORD = "rosewood22", "ash22222222", "pw23456789abcdef"
PAGES: Final = 16

every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


# --- the helper, on a disk on which nothing else is

ON_A_DISK: Final = [
    scene for scene in SCENES if scene.name in ("grow", "renew", "password", "many", "relayout", "mend")
]


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("scene", ON_A_DISK, ids=str)
async def test_wherever_a_disk_fills_up_the_file_is_as_before_or_whole_and_room_repairs_it(
    scene: Scene, folder: Path
) -> None:
    (folder / "disk").mkdir()
    async with small_disk(folder / "disk", pages=PAGES) as disk:
        (disk.folder / "accounts").touch()
        with serving(scene.kind, disk.folder / "accounts") as pages:
            stage = Stage(disk.folder, scene.kind, pages)
            setup = setup_for(stage.accounts, stage.state_dir, scene.kind, status_url=pages.url)
            refusals: list[int] = []
            async with helper(setup) as running:
                for left in range(PAGES):
                    if not await fits(running, stage, scene, disk, left):
                        refusals.append(left)
                    elif left > max(refusals, default=0) + 1:
                        break
    assert refusals
    assert refusals == list(range(refusals[-1] + 1))


async def fits(running: HelperProcess, stage: Stage, scene: Scene, disk: Disk, left: int) -> bool:
    """Play a scene with so many pages left; whether that was enough, and nothing was harmed."""
    inode = stage.put(scene.files)
    request = await asyncio.to_thread(stage.request, scene, 7)
    disk.fill(leave=left)
    try:
        answer = await running.ask(request)
    except Refused as refused:
        named = trouble(refused.code, str(refused.args[1]))
        assert type(named) is FileTrouble
        assert "no space left" in str(named)
        fitted = False
    else:
        fitted = "status_error" in answer or "signature" in answer
    disk.free()
    scene.check(stage.state(), inode)
    await asyncio.to_thread(check_good, stage, scene)
    return fitted


# --- the whole way, from the order to the daemon


@asynccontextmanager
async def host_on(disk: Disk, folder: Path, protocol: Protocol, sshd: Sshd) -> AsyncGenerator[tuple[Lab, HostWriter]]:
    """A host whose accounts file and state directory are on the disk."""
    accounts = disk.folder / "accounts"
    async with run_lab(protocol, folder / "host", sshd, moves_to=accounts) as lab:
        named = lab.folder / ("Cccam.cfg" if protocol == "multics" else "oscam.user")
        accounts.write_bytes(named.read_bytes())
        named.unlink()
        named.symlink_to(accounts)
        await lab.restart_daemon()
        host = lab.host.model_copy(update={"state_dir": str(disk.folder / "state")})
        writer = writer_for(host, lab.ledger)
        yield lab, writer
        await writer.close()


@every_protocol
async def test_a_full_disk_keeps_new_lines_waiting_and_nobody_else(
    protocol: Protocol, folder: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "GROWTH", 0)
    (folder / "disk").mkdir()
    async with small_disk(folder / "disk", pages=PAGES) as disk, host_on(disk, folder, protocol, sshd) as (lab, writer):
        ledger = lab.ledger
        both = [ledger.want(name, PASSWORD, ends_at=END) for name in (OTHER, "elm22222222")]
        await asyncio.gather(*(writer.bring(each.line_id, 1) for each in both))
        # So that nothing of the new record fits behind the last one on the page that the file has.
        with lab.accounts.open("ab") as file:
            file.write(b"#".ljust(-file.tell() % 4096 - 1, b"-") + b"\n")
        disk.fill()
        before = lab.accounts.read_bytes()
        fresh = ledger.want(NAME, PASSWORD, ends_at=END)
        blocked = ledger.change(OTHER, wanted=Wanted.BLOCKED)

        waiting, gone = await asyncio.gather(
            *(writer.bring(each.line_id, each.revision) for each in (fresh, blocked)), return_exceptions=True
        )

        assert isinstance(waiting, FileTrouble)
        assert "no space left" in str(waiting)
        assert waiting.hint
        assert not isinstance(gone, BaseException)
        assert len(lab.accounts.read_bytes()) == len(before)
        with pytest.raises(LoginRefused):
            await lab.login(OTHER, PASSWORD)
        async with await lab.login("elm22222222", PASSWORD), await lab.login("oldtom", "tompass1"):
            disk.free()
            await writer.bring(fresh.line_id, fresh.revision)
        await (await lab.login(NAME, PASSWORD)).leave()


@every_protocol
async def test_a_disk_that_became_read_only_is_named_and_its_repair_is_enough(
    protocol: Protocol, folder: Path, sshd: Sshd
) -> None:
    (folder / "disk").mkdir()
    async with small_disk(folder / "disk", pages=PAGES) as disk, host_on(disk, folder, protocol, sshd) as (lab, writer):
        await writer.bring(lab.ledger.want(OTHER, PASSWORD).line_id, 1)
        before = lab.accounts.read_bytes()
        await disk.read_only(on=True)
        fresh = lab.ledger.want(NAME, PASSWORD)
        with pytest.raises(FileTrouble, match="read-only"):
            await writer.bring(fresh.line_id, 1)
        assert lab.accounts.read_bytes() == before
        await disk.read_only(on=False)
        await writer.bring(fresh.line_id, 1)
        await (await lab.login(NAME, PASSWORD)).leave()


WITHOUT_ROOTS_RIGHTS: Final = "setpriv --bounding-set -dac_override,-dac_read_search "


@every_protocol
@pytest.mark.parametrize("what", ["the accounts file", "state_dir"])
async def test_what_ssh_user_may_not_write_is_named_and_its_repair_is_enough(
    protocol: Protocol, what: str, folder: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh, "BOOTSTRAP", ssh.BOOTSTRAP.replace("exec ", f"exec {WITHOUT_ROOTS_RIGHTS}", 1))
    async with run_lab(protocol, folder / "host", sshd) as lab:
        await lab.bring(lab.ledger.want(OTHER, PASSWORD))
        before = lab.accounts.read_bytes()
        path = lab.accounts if what == "the accounts file" else lab.folder / "state"
        mode = path.stat().st_mode
        path.chmod(0o400 if path.is_file() else 0o500)
        fresh = lab.ledger.want(NAME, PASSWORD)
        # The journal's files may be written still, so the one that is new is not the first thing to fail.
        for file in (lab.folder / "state").iterdir():
            file.chmod(0o400 if path.is_dir() else 0o600)
        with pytest.raises(FileTrouble, match="denied"):
            await lab.bring(fresh)
        with pytest.raises(FileTrouble, match=r"denied|can't be used"):
            await lab.bring(fresh)
        assert lab.accounts.read_bytes() == before
        path.chmod(mode)
        for file in (lab.folder / "state").iterdir():
            file.chmod(0o600)
        await lab.bring(fresh)
        await (await lab.login(NAME, PASSWORD)).leave()
