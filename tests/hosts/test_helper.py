"""The helper program's protocol, over a real process: what it refuses, what it keeps, what it leaves behind."""

import ast
import asyncio
import fcntl
import os
import shutil
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import pytest
from inotify_simple import INotify, flags

from tests.hosts.files import PASSWORD, carried_out, half
from tests.hosts.helper_process import (
    HelperProcess,
    Refused,
    apply_request,
    frame,
    helper,
    setup_for,
    stored,
)
from tests.hosts.judge import KINDS, Kind
from tests.hosts.lab import FOREIGN
from twinline.hosts import helper_program
from twinline.hosts.helper_program import Helper, Journal, records_in
from twinline.hosts.image import Image, Plan
from twinline.hosts.ports import Half, Wanted
from twinline.hosts.ssh import HelperSetup, decode, encode, helper_source


@dataclass(frozen=True)
class Place:
    """The files of one host."""

    kind: Kind
    accounts: Path
    state: Path

    @property
    def setup(self) -> HelperSetup:
        return setup_for(self.accounts, self.state, self.kind)

    async def batch(self, running: HelperProcess, *halves: Half, **values: Any) -> dict[str, Any]:
        """Read, plan and apply."""
        image = await running.read(self.kind)
        return await running.ask(apply_request(image, image.plan(halves, []), **values))


def place_in(folder: Path, kind: Kind) -> Place:
    accounts = folder / "accounts"
    accounts.write_bytes(FOREIGN[kind.protocol])
    return Place(kind, accounts, folder / "state")


@pytest.fixture(params=KINDS, ids=lambda kind: kind.protocol)
def place(request: pytest.FixtureRequest, folder: Path) -> Place:
    """A host of each kind, for what is written to it."""
    return place_in(folder, request.param)


@pytest.fixture
def any_place(folder: Path) -> Place:
    """A host of one kind, for what is the same on all."""
    return place_in(folder, KINDS[0])


ALDER, BIRCH = half("alder22", 1), half("birch22", 1)


class Event(Protocol):
    mask: int


class Notifier(Protocol):
    """The part of inotify_simple that is used here; the package itself carries no types."""

    def add_watch(self, path: str, mask: int) -> int: ...
    def read(self, timeout: int) -> Sequence[Event]: ...
    def close(self) -> None: ...


class Watched:
    """Counts closes after writing; that every open is seen too keeps equal events from being merged."""

    def __init__(self, path: Path) -> None:
        self._inotify = cast("Notifier", INotify(nonblocking=True))
        self._inotify.add_watch(str(path), flags.CLOSE_WRITE | flags.OPEN)

    def closes(self) -> int:
        """How often the file was closed after writing since the last question."""
        return sum(bool(event.mask & flags.CLOSE_WRITE) for event in self._inotify.read(timeout=0))

    def close(self) -> None:
        self._inotify.close()


def test_the_program_is_written_for_the_oldest_python_that_a_host_may_have() -> None:
    ast.parse(helper_source(), feature_version=(3, 7))


# --- frames


@pytest.mark.parametrize("torn", ["cut short", "wrong checksum", "wrong magic", "wrong length"])
async def test_a_torn_frame_ends_the_helper_without_any_effect(any_place: Place, torn: str) -> None:
    before = any_place.accounts.read_bytes()
    async with helper(any_place.setup) as running:
        image = await running.read(any_place.kind)
        whole = frame(apply_request(image, image.plan([ALDER], [])))
        running.send(
            {
                "cut short": whole[:-1],
                "wrong checksum": whole[:10] + bytes([whole[10] ^ 1]) + whole[11:],
                "wrong magic": b"TWL9" + whole[4:],
                "wrong length": whole[:4] + (len(whole) - 41).to_bytes(4, "big") + whole[8:],
            }[torn]
        )
        running.process.stdin.write_eof()  # pyright: ignore[reportOptionalMemberAccess] - it was made with a pipe
        with pytest.raises(asyncio.IncompleteReadError):
            await running.answer()
    assert any_place.accounts.read_bytes() == before


async def test_nothing_is_done_before_the_helper_knows_its_host(folder: Path) -> None:
    running = await HelperProcess.start()
    with pytest.raises(Refused, match="bad_request"):
        await running.ask({"do": "read"})
    with pytest.raises(Refused, match="bad_request"):
        await running.ask({"do": "locked"})
    assert await running.end() == b""


async def test_hello_tells_what_the_host_has_seen(any_place: Place) -> None:
    async with helper(any_place.setup) as running:
        await any_place.batch(running, ALDER, number=7)
        hello = await running.hello(any_place.setup)
    assert (hello["token"], hello["pending"]) == ([1, 7], False)


# --- batches


async def test_a_batch_is_one_open_and_one_close_and_leaves_no_secret_in_the_state(place: Place) -> None:
    watched = Watched(place.accounts)
    async with helper(place.setup) as running:
        await place.batch(running, ALDER, BIRCH)
        assert watched.closes() == 1
        await place.batch(running, half("alder22", 2, wanted=Wanted.BLOCKED), number=2, batch="b2")
        assert watched.closes() == 1
    watched.close()
    assert [account.user for account in place.kind.served(place.accounts.read_bytes())] == [
        "oldtom", "oldeve", "birch22",
    ]  # fmt: skip
    assert [stored(place.state, f"journal.{number}")["ops"] for number in (0, 1)] == [[], []]
    for file in place.state.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        assert PASSWORD.encode() not in file.read_bytes()
    assert place.state.stat().st_mode & 0o777 == 0o700


async def test_the_same_batch_again_is_done_already(any_place: Place) -> None:
    async with helper(any_place.setup) as running:
        image = await running.read(any_place.kind)
        request = apply_request(image, image.plan([ALDER], []))
        first = await running.ask(request)
        after = any_place.accounts.read_bytes()
        watched = Watched(any_place.accounts)
        assert (await running.ask(request))["signature"] == first["signature"]
        assert watched.closes() == 0
    watched.close()
    assert any_place.accounts.read_bytes() == after


async def test_a_lower_token_is_refused_and_an_equal_one_is_not(any_place: Place) -> None:
    async with helper(any_place.setup) as running:
        await any_place.batch(running, ALDER, number=5, batch="b5")
        after = any_place.accounts.read_bytes()
        for request in ("apply", "probe", "replace"):
            with pytest.raises(Refused, match="fenced"):
                await any_place.batch(running, BIRCH, number=4, batch="b4", do=request, body="")
        assert any_place.accounts.read_bytes() == after
        await any_place.batch(running, BIRCH, number=5, batch="b6")
    assert any_place.kind.see(any_place.accounts.read_bytes())[-1].user == "birch22"


@pytest.mark.parametrize("way", ["probe", "replace"])
async def test_what_was_only_looked_at_or_laid_out_anew_fences_off_an_older_batch_too(
    any_place: Place, way: str
) -> None:
    async with helper(any_place.setup) as running:
        image = await running.read(any_place.kind)
        delayed = apply_request(image, image.plan([ALDER], []), number=1)
        newer = apply_request(image, Plan(), number=2, do=way, body=encode(b""))
        if way == "replace":
            content = any_place.accounts.read_bytes()
            newer["body"] = encode(zlib.compress(content))
        await running.ask(newer)
        with pytest.raises(Refused, match="fenced"):
            await running.ask(delayed)
    assert b"alder22" not in any_place.accounts.read_bytes()


async def test_a_file_that_somebody_changed_since_it_was_read_is_not_written(any_place: Place) -> None:
    async with helper(any_place.setup) as running:
        image = await running.read(any_place.kind)
        with any_place.accounts.open("ab") as file:
            file.write(b"# one more\n")
        changed = any_place.accounts.read_bytes()
        watched = Watched(any_place.accounts)
        with pytest.raises(Refused, match="changed"):
            await running.ask(apply_request(image, image.plan([ALDER], [])))
        assert watched.closes() == 0
        watched.close()
        assert any_place.accounts.read_bytes() == changed
        await any_place.batch(running, ALDER, batch="b2")
    assert any_place.accounts.read_bytes().startswith(changed)


async def test_bytes_that_are_not_the_expected_ones_stop_the_whole_batch(any_place: Place) -> None:
    async with helper(any_place.setup) as running:
        image = await running.read(any_place.kind)
        plan = image.plan([ALDER], [])
        before = any_place.accounts.read_bytes()
        any_place.accounts.write_bytes(before.replace(b"tompass1", b"tompass2"))
        image.signature = (await running.read(any_place.kind)).signature
        request = apply_request(image, plan)
        request["groups"][1].append([before.index(b"tompass1"), encode(b"tompass1"), encode(b"tompass3")])
        with pytest.raises(Refused, match="changed"):
            await running.ask(request)
        request["groups"][1][-1][2] = encode(b"longer pass")
        with pytest.raises(Refused, match="bad_request"):
            await running.ask(request)
    assert any_place.accounts.read_bytes() == before.replace(b"tompass1", b"tompass2")


# --- what stands in the file's place


@pytest.mark.parametrize("stands", ["symlink", "hard link", "folder", "fifo", "nothing"])
async def test_anything_but_a_plain_file_with_one_link_is_refused(any_place: Place, stands: str) -> None:
    async with helper(any_place.setup) as running:
        image = await running.read(any_place.kind)
        request = apply_request(image, image.plan([ALDER], []))
        real = any_place.accounts.with_name("real")
        any_place.accounts.rename(real)
        match stands:
            case "symlink":
                any_place.accounts.symlink_to(real)
            case "hard link":
                any_place.accounts.hardlink_to(real)
            case "folder":
                any_place.accounts.mkdir()
            case "fifo":
                os.mkfifo(any_place.accounts)
            case _:
                pass
        for asked in ({"do": "read"}, request, {"do": "inspect"}, request | {"do": "replace", "body": ""}):
            with pytest.raises(Refused) as refused:
                await running.ask(asked)
            assert refused.value.code == ("missing" if stands == "nothing" else "unsafe_file")
    assert b"alder22" not in real.read_bytes()


async def test_another_file_by_the_same_name_is_never_mistaken_for_the_one_that_was_read(any_place: Place) -> None:
    async with helper(any_place.setup) as running:
        image = await running.read(any_place.kind)
        copy = any_place.accounts.with_name("copy")
        shutil.copy2(any_place.accounts, copy)
        copy.rename(any_place.accounts)
        with pytest.raises(Refused, match="changed"):
            await running.ask(apply_request(image, image.plan([ALDER], [])))


# --- lock


async def test_a_lock_that_somebody_else_holds_is_reported_and_ours_is_given_back(any_place: Place) -> None:
    async with helper(any_place.setup) as running:
        await any_place.batch(running, ALDER)
        with (any_place.state / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for asked in ({"do": "read"}, {"do": "apply"}, {"do": "replace"}, {"do": "probe"}):
                with pytest.raises(Refused, match="lock_held"):
                    await running.ask(asked)
        await running.read(any_place.kind)


# --- trouble with the disk


def mounted(folder: Path, options: str) -> Sequence[str]:
    """Words that run a command with a file system of its own over `folder`, in a mount namespace of its own."""
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return ("unshare", *user, "--mount", "/bin/sh", "-c", f'{options} && exec "$@"', "sh")


async def started_on(place: Place, mount: str) -> HelperProcess:
    """A helper that sees a mount over the accounts file's folder; fails with the reason if none can be made."""
    running = await HelperProcess.start(before=mounted(place.accounts.parent, mount))
    try:
        await running.hello(place.setup)
    except asyncio.IncompleteReadError:
        pytest.fail(f"no mount namespace for this test: {(await running.end()).decode()}")
    return running


async def test_a_full_disk_leaves_the_file_whole(place: Place) -> None:
    folder, original = place.accounts.parent / "disk", place.accounts.read_bytes()
    folder.mkdir()
    (folder.parent / "kept").write_bytes(original)
    small = Place(place.kind, folder / "accounts", place.state)
    mount = f"mount -t tmpfs -o size=16k none {folder} && cp {folder.parent}/kept {small.accounts}"
    running = await started_on(small, mount)
    # The mount is seen from here through the process that made it.
    seen = Path(f"/proc/{running.process.pid}/root{small.accounts}")
    image = await running.read(place.kind)
    many = [half(f"guest{number:03d}") for number in range(200)]

    with pytest.raises(Refused) as refused:
        await running.ask(apply_request(image, image.plan(many, [])))

    assert refused.value.code == "no_space"
    assert seen.read_bytes() == original
    image = await running.read(place.kind)
    assert not image.recover
    await running.ask(apply_request(image, image.plan([ALDER], []), batch="b2"))
    assert [account.user for account in place.kind.served(seen.read_bytes())] == ["oldtom", "oldeve", "alder22"]
    if place.kind.daemon.may_replace:
        with pytest.raises(Refused, match="no_space"):
            image = await running.read(place.kind)
            body = encode(zlib.compress(b"#" * 60_000))
            await running.ask(apply_request(image, Plan(), do="replace", body=body))
        assert [file.name for file in seen.parent.iterdir()] == ["accounts"]
    assert await running.end() == b""


async def test_a_state_dir_on_a_full_disk_stops_before_anything_is_written(any_place: Place) -> None:
    any_place.state.mkdir()
    before = any_place.accounts.read_bytes()
    mount = f"mount -t tmpfs -o size=4k none {any_place.state} && head -c 4096 /dev/zero > {any_place.state}/junk"
    running = await started_on(any_place, mount)
    image = await running.read(any_place.kind)
    with pytest.raises(Refused) as refused:
        await running.ask(apply_request(image, image.plan([ALDER], [])))
    assert refused.value.code == "no_space"
    assert any_place.accounts.read_bytes() == before
    assert await running.end() == b""


async def test_a_read_only_file_system_is_named(any_place: Place) -> None:
    folder = any_place.accounts.parent / "disk"
    folder.mkdir()
    any_place.accounts.rename(folder / "accounts")
    there = Place(any_place.kind, folder / "accounts", any_place.state)
    running = await started_on(there, f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}")
    with pytest.raises(Refused) as refused:
        await there.batch(running, ALDER)
    assert refused.value.code == "read_only"
    assert await running.end() == b""


async def test_a_file_that_ssh_user_may_not_write_is_named(any_place: Place) -> None:
    any_place.accounts.chmod(0o400)
    # root reads and writes anything unless it gives that right away.
    before = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    async with helper(any_place.setup, before=before) as running:
        with pytest.raises(Refused) as refused:
            await any_place.batch(running, ALDER)
        assert refused.value.code == "denied"
        any_place.accounts.chmod(0o000)
        with pytest.raises(Refused, match="denied"):
            await running.read(any_place.kind)


async def test_a_state_dir_that_ssh_user_may_not_use_is_named(any_place: Place) -> None:
    any_place.state.mkdir(mode=0o500)
    before = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    running = await HelperProcess.start(before=before)
    with pytest.raises(Refused) as refused:
        await running.hello(any_place.setup)
    assert refused.value.code == "state_denied"
    assert await running.end() == b""


# --- a batch that was cut short


def cut_short(place: Place, image: Image, plan: Plan, *, writes: int) -> bytes:
    """Leave the host as a helper does that died after some writes of a plan; the file as it then stands."""
    place.state.mkdir(mode=0o700, exist_ok=True)
    data = place.accounts.read_bytes()
    journal = Journal(str(place.state))
    groups = [[(op.offset, op.old, op.new) for op in group] for group in plan.groups]
    with place.accounts.open("rb") as file:
        records = records_in(file.fileno(), groups, place.kind.daemon.width)
    entry = {
        "seq": journal.newest()["seq"] + 1,
        "state": "pending",
        "token": [1, 1],
        "batch": "dead",
        "ops": [[[offset, encode(old), encode(new)] for offset, old, new in group] for group in groups],
        "records": records,
    }
    journal.write(entry)
    for op in [op for group in plan.groups for op in group][:writes]:
        data = data[: op.offset] + op.new + data[op.offset + len(op.new) :]
    place.accounts.write_bytes(data)
    return data


async def test_a_cut_batch_is_completed_with_the_same_close_as_the_next_one(place: Place) -> None:
    async with helper(place.setup) as running:
        image = await running.read(place.kind)
        plan = image.plan([ALDER], [])
        whole = carried_out(place.accounts.read_bytes(), plan)
        cut_short(place, image, plan, writes=2)
        assert (await running.hello(place.setup))["pending"]
        watched = Watched(place.accounts)

        image = await running.read(place.kind)
        assert image.recover
        assert bytes(image.data) == whole
        next_plan = image.plan([BIRCH], [])
        await running.ask(apply_request(image, next_plan, number=2, batch="b2"))

        assert watched.closes() == 1
        watched.close()
        assert place.accounts.read_bytes() == carried_out(whole, next_plan)
        assert not (await running.hello(place.setup))["pending"]
    assert [stored(place.state, f"journal.{number}")["ops"] for number in (0, 1)] == [[], []]


async def test_what_somebody_changed_in_the_place_of_a_cut_batch_is_left_alone(place: Place) -> None:
    async with helper(place.setup) as running:
        await place.batch(running, ALDER)
        image = await running.read(place.kind)
        plan = image.plan([half("alder22", 2, wanted=Wanted.ABSENT), BIRCH], [])
        data = cut_short(place, image, plan, writes=0)
        offset = image.slots["birch22"]
        place.accounts.write_bytes(data[:offset] + b"# by hand\n" + data[offset + 10 :])

        image = await running.read(place.kind)
        await running.ask(apply_request(image, image.plan([], []), number=2, batch="b2"))

        found = place.accounts.read_bytes()
        assert found[offset:].startswith(b"# by hand\n")
        assert [account.user for account in place.kind.served(found)] == ["oldtom", "oldeve"]


async def test_a_cut_batch_at_the_end_of_the_file_is_completed_by_one_that_makes_the_file_longer(folder: Path) -> None:
    kind = KINDS[0]
    accounts = folder / "accounts"
    accounts.write_bytes(FOREIGN["multics"])
    place = Place(kind, accounts, folder / "state")
    async with helper(place.setup) as running:
        await place.batch(running, ALDER)
        start = (await running.read(kind)).slots[ALDER.username]
        record = accounts.read_bytes()[start : start + kind.daemon.width]
        # Off its place, in the last stretch of the file that a record's width covers.
        accounts.write_bytes(b"# moved\n" + record)
        image = await running.read(kind)
        cut_short(place, image, image.plan([half(ALDER.username, 2, wanted=Wanted.ABSENT)], []), writes=0)

        image = await running.read(kind)
        await running.ask(apply_request(image, image.plan([BIRCH], []), number=2, batch="b2"))

        assert not (await running.hello(place.setup))["pending"]
    assert [account.user for account in kind.served(accounts.read_bytes())] == [BIRCH.username]


async def test_a_cut_batch_that_a_regenerated_file_made_pointless_stops_no_new_layout(folder: Path) -> None:
    kind = KINDS[1]
    accounts = folder / "accounts"
    accounts.write_bytes(FOREIGN["oscam"])
    place = Place(kind, accounts, folder / "state")
    async with helper(place.setup) as running:
        image = await running.read(kind)
        cut_short(place, image, image.plan([ALDER], []), writes=9)
        accounts.write_bytes(b"# regenerated\n" + FOREIGN["oscam"])
        image = await running.read(kind)
        assert bytes(image.data) == accounts.read_bytes()
        body = encode(zlib.compress(b"# laid out\n" + FOREIGN["oscam"]))
        await running.ask(apply_request(image, Plan(), number=2, do="replace", body=body))
        assert not (await running.hello(place.setup))["pending"]
    assert accounts.read_bytes() == b"# laid out\n" + FOREIGN["oscam"]


async def test_a_new_layout_keeps_mode_and_owner_and_leaves_no_second_file(folder: Path) -> None:
    kind = KINDS[1]
    accounts = folder / "host" / "accounts"
    accounts.parent.mkdir()
    accounts.write_bytes(FOREIGN["oscam"])
    accounts.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(accounts, 65_534, 65_534)
    before = accounts.stat()
    place = Place(kind, accounts, folder / "state")
    async with helper(place.setup) as running:
        image = await running.read(kind)
        body = encode(zlib.compress(b"# laid out\n"))
        await running.ask(apply_request(image, Plan(), do="replace", body=body))
    after = accounts.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert [file.name for file in accounts.parent.iterdir()] == ["accounts"]


def _no_lease(fd: int, kind: int, patience: float) -> bool:
    return True


@pytest.mark.parametrize("who", ["nobody reads", "somebody reads", "a host that grants no lease"])
def test_the_commit_byte_waits_only_where_somebody_may_still_be_reading(
    place: Place, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(helper_program.time, "sleep", pauses.append)
    if who == "a host that grants no lease":
        monkeypatch.setattr(helper_program, "lease", _no_lease)
    running = Helper(place.setup.as_request())
    answer = running.read({})
    image = Image(place.kind.daemon, zlib.decompress(decode(answer["body"])), answer["signature"], recover=False)
    request = apply_request(image, image.plan([ALDER], []))
    with ExitStack() as stack:
        if who == "somebody reads":
            stack.enter_context(place.accounts.open("rb"))
        running.apply(request)
    assert (helper_program.SETTLE_SECONDS in pauses) == (who != "nobody reads")
    assert [each.user for each in place.kind.served(place.accounts.read_bytes())][-1] == ALDER.username
