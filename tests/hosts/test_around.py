"""What the helper sees around an accounts file, of real processes and sockets, and what it says of the rest."""

import contextlib
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.hosts.files import half
from tests.hosts.helper_process import HelperProcess, Refused, apply_request, helper, setup_for
from tests.hosts.judge import KINDS
from tests.support.root import require_root
from tests.support.sshd import die_with_parent
from twinline.hosts.ssh import HelperSetup
from twinline.sandbox.processes import free_port

MULTICS, OSCAM = KINDS
# The first of January and the first of July 2026, at noon in London.
WINTER, SUMMER = 1767268800.0, 1782903600.0

SERVE = """
import socket, sys
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
server.bind(("127.0.0.1", int(sys.argv[-1])))
server.listen()
print("ready", flush=True)
sys.stdin.read()
"""
HOLD = """
import sys
held = open(sys.argv[-2], sys.argv[-1])
print("ready", flush=True)
sys.stdin.read()
"""
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
"""Words that start a helper as a user without any rights."""


@contextlib.contextmanager
def process(script: str, *words: str, **env: str) -> Generator[int]:
    """A Python process that has said that it is ready; its pid."""
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", script, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **env},
        preexec_fn=die_with_parent,  # noqa: PLW1509 - pytest has one thread here
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        yield running.pid
        assert running.stdin is not None
        running.stdin.close()


@dataclass(frozen=True)
class Place:
    """An accounts file in a folder that everybody may enter."""

    folder: Path
    port: int
    helper: HelperProcess

    @property
    def accounts(self) -> Path:
        return self.folder / "oscam.user"

    @property
    def setup(self) -> HelperSetup:
        return setup_for(self.accounts, self.folder / "state", OSCAM)

    async def running(self) -> HelperProcess:
        """A helper that serves this place; one process serves all tests, one after the other."""
        await self.helper.hello(self.setup)
        return self.helper

    async def seen(self, *, by: HelperProcess | None = None, **around: Any) -> dict[str, Any]:
        """What `inspect` answers."""
        wanted = {"daemon": "oscam", "ports": [self.port], "instants": [WINTER, SUMMER], "pid_file": None, **around}
        return await (by or await self.running()).ask({"do": "inspect", "around": wanted})


@pytest_asyncio.fixture(scope="module")
async def shared() -> AsyncIterator[HelperProcess]:
    running = await HelperProcess.start()
    yield running
    assert await running.end() == b""


@pytest.fixture
def place(shared: HelperProcess) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as made:
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "oscam.user").write_bytes(b"# empty\n")
        yield Place(folder, free_port(), shared)


async def test_who_has_the_file_open_is_seen_and_whether_for_writing(place: Place) -> None:
    with process(HOLD, str(place.accounts), "r") as reader, process(HOLD, str(place.accounts), "a") as writer:
        seen = await place.seen()
    assert [(each["pid"], each["what"], each["writes"], each["gone"]) for each in seen["holders"]] == sorted(
        [(reader, "accounts", False, False), (writer, "accounts", True, False)]
    )
    assert all(each["name"].startswith("python") for each in seen["holders"])


async def test_an_old_file_that_somebody_keeps_open_under_the_same_name_is_seen(place: Place) -> None:
    with process(HOLD, str(place.accounts), "r"):
        fresh = place.folder / "fresh"
        fresh.write_bytes(b"# other\n")
        fresh.rename(place.accounts)
        (held,) = (await place.seen())["holders"]
    assert held["gone"]


async def test_somebody_who_keeps_the_lock_is_seen_although_we_can_not_get_it(place: Place) -> None:
    (place.folder / "state").mkdir(mode=0o700)
    lock = place.folder / "state" / "lock"
    script = HOLD.replace("print", "import fcntl; fcntl.flock(held, fcntl.LOCK_EX); print")
    with process(script, str(lock), "w") as keeper:
        seen = await place.seen()
    assert [(each["pid"], each["what"]) for each in seen["holders"]] == [(keeper, "lock")]


async def test_somebody_who_only_waits_for_the_lock_is_no_other_writer(place: Place) -> None:
    (place.folder / "state").mkdir(mode=0o700)
    with process(HOLD, str(place.folder / "state" / "lock"), "w"):
        assert (await place.seen())["holders"] == []


async def test_two_daemons_on_one_port_are_counted(place: Place) -> None:
    with process(SERVE, str(place.port)), process(SERVE, str(place.port)):
        assert [each["port"] for each in (await place.seen())["listeners"]] == [place.port] * 2


@pytest.mark.parametrize(
    ("zone", "offsets"),
    [("Europe/London", [0, 3600]), ("EST5EDT,M3.2.0,M11.1.0", [-18000, -14400]), ("", [0, 0])],
)
async def test_the_zone_is_that_of_the_process_behind_the_status_page(
    place: Place, zone: str, offsets: list[int]
) -> None:
    with process(SERVE, str(place.port), TZ=zone):
        found = (await place.seen())["zone"]
    assert found == {"of": "daemon", "tz": zone, "offsets": offsets}


async def test_without_a_daemon_the_zone_is_the_helpers_own_and_said_to_be(place: Place) -> None:
    found = (await place.seen())["zone"]
    assert (found["of"], len(found["offsets"])) == ("helper", 2)
    assert found["unseen"] == "the daemon's process can't be seen"


async def test_what_this_user_may_not_see_is_said_to_be_unseen(place: Place) -> None:
    require_root()
    (place.folder / "oscam.conf").write_text("[global]\nreload_useraccounts = 1\n")
    (place.folder / "oscam.conf").chmod(0o600)
    place.accounts.chmod(0o644)
    state = place.folder / "state"
    state.mkdir()
    os.chown(state, 65534, 65534)
    with process(SERVE, str(place.port), TZ="Europe/London"), process(HOLD, str(place.accounts), "a"):
        async with helper(place.setup, before=NOBODY) as running:
            seen = await place.seen(by=running, pid_file="/proc/1/status")
    assert seen["user"] == 65534
    assert seen["holders"] == []
    assert seen["hidden"] >= 2
    assert seen["zone"]["of"] == "helper"
    assert seen["config"] == {"unseen": "Permission denied", "path": str(place.folder / "oscam.conf")}
    assert not seen["writable"]
    assert not seen["folder"]["writable"]
    assert len(seen["listeners"]) == 1
    assert seen["pid_file"] == {"unseen": "it holds no number"}


async def test_a_few_settings_of_the_daemon_are_told_and_nothing_else(place: Place) -> None:
    text = "[global]\nreload_useraccounts=0\nReload_UserAccounts = 1 # yes\n[webif]\nhttppwd = geheim77\n"
    (place.folder / "oscam.conf").write_text(text)
    seen = await place.seen()
    assert seen["config"]["values"] == {"reload_useraccounts": "1", "httpreadonly": None}
    assert "geheim77" not in str(seen)


async def test_settings_are_looked_for_where_the_daemon_was_told_that_they_are(place: Place) -> None:
    elsewhere = place.folder / "conf"
    elsewhere.mkdir()
    (elsewhere / "oscam.conf").write_text("[webif]\nhttpreadonly = 1\n")
    (elsewhere / "oscam.user").symlink_to(place.accounts)
    (elsewhere / "oscam.user.bak").write_text("pwd = secret\n")
    with process(SERVE, "-c", str(elsewhere), str(place.port)):
        seen = await place.seen()
    assert seen["config"]["path"] == str(elsewhere / "oscam.conf")
    assert seen["config"]["values"]["httpreadonly"] == "1"
    assert [each["path"] for each in seen["beside"]["found"]] == [str(elsewhere / "oscam.user.bak")]


async def test_the_editor_of_multics_is_looked_up_in_its_main_file(place: Place) -> None:
    main = place.folder / "multics.cfg"
    main.write_text("HTTP PASS: geheim77\nhttp editor : off\n")
    with process(SERVE, "-C", str(main), str(place.port)):
        seen = await place.seen(daemon="multics")
    assert seen["config"] == {"path": str(main), "values": {"http_editor": "off"}}
    assert (await place.seen(daemon="multics"))["config"] == {
        "unseen": "only the daemon's process tells where it stands, and that can't be looked into"
    }


async def test_leftovers_beside_the_file_are_listed_with_mode_and_kind(place: Place) -> None:
    (place.folder / "oscam.user.bak").write_text("pwd = secret\n")
    (place.folder / "oscam.user.bak").chmod(0o644)
    (place.folder / ".#oscam.user").symlink_to("me@here.1:2")
    (place.folder / "oscam.server").touch()
    found = (await place.seen())["beside"]["found"]
    assert [(Path(each["path"]).name, each["kind"]) for each in found] == [
        (".#oscam.user", "link"),
        ("oscam.user.bak", "file"),
    ]
    assert stat.filemode(found[1]["mode"]) == "?rw-r--r--"
    assert found[1]["age"] >= 0


async def test_the_process_of_a_pid_file_is_looked_at(place: Place) -> None:
    pid_file = place.folder / "oscam.pid"
    assert (await place.seen(pid_file=str(pid_file)))["pid_file"] == {"unseen": "No such file or directory"}
    with process(SERVE, str(place.port)) as daemon, process(HOLD, "/dev/null", "r") as other:
        pid_file.write_text(f"{daemon}\n")
        right = (await place.seen(pid_file=str(pid_file)))["pid_file"]
        pid_file.write_text(f"{other}\n")
        wrong = (await place.seen(pid_file=str(pid_file)))["pid_file"]
    assert (right["pid"], right["may_signal"], right["serves"]) == (daemon, True, True)
    assert (wrong["pid"], wrong["serves"]) == (other, False)
    stale = (await place.seen(pid_file=str(pid_file)))["pid_file"]
    assert stale == {"runs": False}


@pytest.mark.parametrize("number", ["0", "-1", "1"])
async def test_a_pid_file_that_means_many_processes_is_never_signalled(place: Place, number: str) -> None:
    pid_file = place.folder / "oscam.pid"
    pid_file.write_text(number)
    assert (await place.seen(pid_file=str(pid_file)))["pid_file"] == {"runs": False}
    trigger: dict[str, Any] = {"method": "signal", "path": "", "pid_file": str(pid_file), "argv": []}
    running = await place.running()
    image = await running.read(OSCAM)
    with pytest.raises(Refused, match="reload_failed"):
        await running.ask(apply_request(image, image.plan([half("alder22")], []), trigger=trigger))


async def test_the_last_reload_and_later_changes_of_the_file_are_told(place: Place) -> None:
    first = await place.seen()
    assert first["reload"] == {"asked": None, "proven": None, "visible": 0.0}
    assert first["written"] == {"ago": None, "changed": None}
    running = await place.running()
    image = await running.read(OSCAM)
    await running.ask(apply_request(image, image.plan([half("alder22")], [])))
    own = (await place.seen())["written"]
    assert own["ago"] >= 0
    assert own["changed"] is None
    with place.accounts.open("ab") as file:
        file.write(b"# by hand\n")
    assert (await place.seen())["written"]["changed"] >= 0


async def test_without_being_asked_to_look_around_inspect_is_as_quick_as_before(place: Place) -> None:
    assert "holders" not in await (await place.running()).ask({"do": "inspect"})


# --- what a forced command allows

BOUND_TO = ("a" * 64, "{accounts}", "{state}", "http://127.0.0.1:9", "command", "/bin/true")


async def bound(place: Place, setup: HelperSetup) -> HelperProcess:
    """A helper that was started with the words of a line in authorized_keys."""
    filled = [word.format(accounts=place.accounts, state=place.folder / "state") for word in BOUND_TO]
    running = await HelperProcess.start(words=filled)
    assert (await running.hello(setup))["bound"]
    return running


async def test_a_bound_helper_serves_what_it_was_bound_to(place: Place) -> None:
    running = await bound(place, place.setup)
    image = await running.read(OSCAM)
    triggers: list[dict[str, Any]] = [{"method": "argv", "argv": ["/bin/true"]}, {"method": "close", "argv": []}]
    for trigger in triggers:
        wanted = {"path": "", "pid_file": "", **trigger}
        await running.ask({"do": "probe", "token": [1, 1], "probes": [], "deadline": 0.0, "trigger": wanted})
    assert image.data == b"# empty\n"
    assert await running.end() == b""


async def test_a_bound_helper_refuses_other_files_pages_commands_and_signals(place: Place) -> None:
    running = await bound(place, place.setup)
    others: list[dict[str, Any]] = [
        {"accounts_file": "/etc/passwd"},
        {"state_dir": "/etc"},
        {"status_url": "http://127.0.0.1:22"},
    ]
    for changes in others:
        with pytest.raises(Refused, match="not_allowed"):
            await running.hello(replace(place.setup, **changes))
    triggers: list[dict[str, Any]] = [
        {"method": "argv", "argv": ["/bin/sh", "-c", "id"], "pid_file": ""},
        {"method": "argv", "argv": ["/bin/true", "more"], "pid_file": ""},
        {"method": "signal", "argv": [], "pid_file": "/run/other.pid"},
    ]
    for trigger in triggers:
        wanted = {"path": "", **trigger}
        with pytest.raises(Refused, match="not_allowed"):
            await running.ask({"do": "probe", "token": [1, 1], "probes": [], "deadline": 0.0, "trigger": wanted})
    assert await running.end() == b""
