"""A call of the helper fails, or comes short, at any step of any edit: it is named, and the next batch makes it good.

The calls are those that the real helper makes, as the kernel reports them. A seeded sample here, all of them in
`make soak`.
"""

import os
from collections.abc import Sequence
from errno import EACCES, EAGAIN, ECONNREFUSED, ECONNRESET, EIO, ENOLCK, ENOSPC, EOPNOTSUPP, EPERM, EPIPE, EROFS
from typing import Final

import pytest

from tests.hosts.crash_driver import ANSWERS, WRITES
from tests.hosts.crashes import Call, Driver, Fault, Report
from tests.hosts.files import PASSWORD
from tests.hosts.playing import a_seed, chance, check_good, cuts, every_scene, of_interest, play
from tests.hosts.scenes import NEW_PASSWORD, Scene, Stage
from twinline.hosts.errors import FileTrouble, LockHeld, StatusTrouble, trouble

pytestmark = pytest.mark.usefixtures("small_files")

FAILURES: Final = 4
"""How many of a scene's failing calls are tried in `make test`."""

NAMED: Final = {
    ENOSPC: "no_space", EACCES: "denied", EPERM: "denied", EROFS: "read_only", EIO: "io_error", EAGAIN: "lock_held",
    ENOLCK: "lock_held",
}  # fmt: skip
"""What a person is told who has to repair it."""


ERRORS: Final = {
    ("open", "openat"): (EACCES, EIO),
    ("write", "pwrite64"): (ENOSPC, EIO),
    ("fdatasync", "fsync"): (EIO, ENOSPC),
    ("fallocate",): (ENOSPC, EIO, EOPNOTSUPP),
    ("ftruncate", "close"): (EIO,),
    ("rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat"): (EACCES, EROFS, ENOSPC, EIO),
    ("fchmod", "fchown"): (EPERM, EROFS, EIO),
    ("flock",): (EAGAIN, ENOLCK),
    ("access", "faccessat", "faccessat2"): (EACCES, EROFS),
    ("read", "pread64", "newfstatat", "fstat", "stat", "statx"): (EIO, EACCES),
    ("connect",): (ECONNREFUSED,),
    ("sendto",): (EPIPE,),
    ("recvfrom",): (ECONNRESET,),
    ("fcntl",): (EACCES, EIO),
    ("lseek", "ioctl", "getsockopt", "setsockopt", "clock_nanosleep"): (),
}
"""With which errors a call may end on a host; every call that helpers make has to stand here."""


def errors_of(call: Call) -> Sequence[int]:
    """The errors that this call may end with."""
    errors = next((errors for names, errors in ERRORS.items() if call.step.name in names), None)
    assert errors is not None, f"with which errors can {call.step.name} end?"
    changing = call.flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    return (*errors, EROFS, ENOSPC) if changing else errors


def failures(report: Report) -> Sequence[Fault]:
    """Every call that fails, and every write that comes short, where the helper lives on."""
    found: list[Fault] = []
    for call in of_interest(report):
        outside = call.step.target.startswith(("/", "requests"))
        if not outside and call.step.target != ANSWERS:
            found += [Fault(at=call.step, how="error", error=each) for each in errors_of(call)]
        if call.step.name in WRITES:
            found += [Fault(at=call.step, how="short", keep=keep) for keep in cuts(call)]
    return found


def check_failure(stage: Stage, scene: Scene, driver: Driver, fault: Fault) -> None:
    """Have a call fail, and see what the worker is told, what that leaves, and what it comes to."""
    inode = stage.put(scene.files)
    report = play(stage, scene, driver, fault)
    state = stage.state()
    scene.check(state, inode)
    assert len(report.answers) == 3
    assert report.left_open == 0
    answer = report.answers[fault.at.request]
    if "ok" in answer:
        if fault.at.request == 1 and len(answer["ok"].get("proven", [])) == len(scene.halves):
            stage.check_done(scene, state.inode if scene.replaces else inode)
    else:
        assert fault.how == "error"
        check_named(answer, fault)
    if fault.at.request == 1:
        assert list(report.answers[2]) == ["ok"]
    check_good(stage, scene)


def check_named(answer: dict[str, str], fault: Fault) -> None:
    """A person is told what to repair, and no secret."""
    named = trouble(answer["trouble"], answer["detail"])
    if fault.at.target in (".", "state"):
        assert answer["trouble"] in (NAMED[fault.error], "state_denied")
    elif fault.at.target == "socket" or fault.at.name == "sendto":
        assert answer["trouble"] == "status_unreachable"
    else:
        assert answer["trouble"] == NAMED[fault.error]
        assert os.strerror(fault.error) in str(named) or answer["trouble"] == "lock_held"
    kinds = {"lock_held": LockHeld, "status_unreachable": StatusTrouble}
    assert type(named) is kinds.get(answer["trouble"], FileTrouble)
    assert PASSWORD not in str(named)
    assert NEW_PASSWORD not in str(named)


@a_seed
@every_scene
def test_a_call_that_fails_is_named_and_the_next_batch_makes_it_good(
    scene: Scene, seed: int, stage: Stage, driver: Driver, watched: Report
) -> None:
    for fault in chance(seed, scene).sample(failures(watched), FAILURES):
        check_failure(stage, scene, driver, fault)


@pytest.mark.soak
@pytest.mark.timeout(900)
@every_scene
def test_every_failure_of_every_call(scene: Scene, stage: Stage, driver: Driver, watched: Report) -> None:
    for fault in failures(watched):
        check_failure(stage, scene, driver, fault)
