"""Why a host could not be brought up to date, by what a person can do about it.

    HostError
    ├── HostUnreachable    the network or sshd: repairs itself or is repaired there
    ├── HostLoginRefused   our SSH key is not accepted, or can't be used
    ├── HostKeyMismatch    not the host we know: stop and ask
    ├── HelperRefused      the key is for another version of the helper, or for other files: stop and ask
    ├── HelperFailed       no Python on the host, or the helper ended unexpectedly
    ├── FileTrouble        the accounts file or state_dir: missing, not writable, full, not a plain file
    ├── LockHeld           another process keeps the host's lock
    ├── Fenced             a newer writer has the host; ours has to read the ledger again
    ├── LedgerSetBack      the host knows a later batch than the ledger ever gave out: stop and ask
    ├── ClocksApart        the host's clock is minutes off: stop and ask
    ├── BlastGuard         too many lines would lose access without a recorded reason: stop and ask
    ├── ShrunkenFile       the accounts file lost accounts that the daemon still serves: stop and ask
    ├── StatusTrouble      the daemon's own pages do not answer or refuse us
    ├── ReloadFailed       the reload could not be triggered
    ├── NotProven          written and reloaded, but the daemon does not show it: stop and ask
    ├── RecordConflict     a record of that name on the host is not ours: stop and ask
    └── TracesLeft         a file on the host still names a line that is to be forgotten: stop and ask

All of them can be repaired without us, so retrying helps; `attention` says that a person has to look first,
`of_one_line` that the host itself is well and only the lines that failed are the matter, `on_the_way` that it is met
before any file of the host is read, so that a short look (`HostWriter.probe`) tells whether it is over.
"""

from collections.abc import Iterator
from typing import ClassVar


class HostError(Exception):
    """Base of everything that keeps a half from being proven; the text holds no secret and no address."""

    attention: ClassVar[bool] = False
    of_one_line: ClassVar[bool] = False
    on_the_way: ClassVar[bool] = False
    hint: str = "twinline keeps trying"

    @property
    def code(self) -> str:
        """The stable name that receipts and the ledger show."""
        return type(self).__name__


class HostUnreachable(HostError):
    """No SSH connection to the host."""

    on_the_way = True
    hint = "check that the host is up and that its SSH port can be reached from the worker"


class HostLoginRefused(HostError):
    """The host does not accept our SSH key, or it can't be used here."""

    on_the_way = True
    hint = (
        "see that this user can read the files of ssh.key and ssh.known_hosts, and that the key's public half is in "
        "authorized_keys of ssh.user on the host"
    )


class HostKeyMismatch(HostError):
    """The host shows another key than ssh.known_hosts says."""

    attention = True
    on_the_way = True
    hint = "find out why the host key changed; if it is right, correct ssh.known_hosts in the inventory"


class HelperRefused(HostError):
    """The forced command of our key does not allow what we ask for: this version of the helper, or these files."""

    attention = True
    on_the_way = True
    hint = (
        "replace the line in authorized_keys of ssh.user on the host by the one that `twinline host authorize HOST` "
        "prints"
    )


class HelperFailed(HostError):
    """The helper program could not be started, or its connection ended in the middle."""

    on_the_way = True
    hint = "check that python3 (3.7 or newer) runs for ssh.user on the host"


class FileTrouble(HostError):
    """The accounts file or the state directory can't be used as it is."""

    hint = "check accounts_file and state_dir on the host: that they exist, belong to ssh.user, and have space"


class LockHeld(HostError):
    """Another process keeps the lock in state_dir."""

    hint = "see with `fuser` who holds the lock file in state_dir on the host"


class Fenced(HostError):
    """A batch with a higher fencing token reached the host first; `has` is that token, where the host told it."""

    hint = "nothing to do: the newer writer carries the change"

    def __init__(self, text: str, *, has: tuple[int, int] | None = None) -> None:
        super().__init__(text)
        self.has = has


class LedgerSetBack(HostError):
    """The host has seen a higher fencing token than the ledger has ever given out: the ledger is an older copy."""

    attention = True
    on_the_way = True
    hint = "see that the ledger is the right one and that no other twinline writes there, then `twinline host refence`"


class ClocksApart(HostError):
    """The clocks of host and ledger are too far apart: the daemon would end lines at another moment than was promised.

    It stops what lets somebody in and nothing else: that a line is absent is right by any clock.
    """

    attention = True
    hint = (
        "set the host's clock and keep it by NTP (`timedatectl set-ntp true`); if all hosts are off alike it is the "
        "worker's, or the database's; then it goes on within ten minutes, or at once after `twinline order retry`"
    )


class BlastGuard(HostError):
    """More lines than the guard allows in an hour would lose access here, and no event says why."""

    attention = True
    of_one_line = True
    hint = "find out what changed the ledger and put it right; orders, ends and blocks that were recorded go on"


class ShrunkenFile(HostError):
    """The accounts file lacks many accounts that the daemon still serves, and a reload would drop them."""

    attention = True
    hint = "put the accounts file back; if the loss is meant, `twinline drift repair HOST --accept-loss`, once"


class StatusTrouble(HostError):
    """The daemon's status pages do not answer, or refuse our user and password."""

    on_the_way = True
    hint = "check that the daemon runs and that status.url, user and password of the inventory are right"


class ReloadFailed(HostError):
    """The daemon could not be told to reload."""

    hint = "check the reload settings of the host in the inventory"


class NotProven(HostError):
    """The file is right, the reload was asked for repeatedly, and the daemon still does not show the change."""

    attention = True
    of_one_line = True
    hint = "look at the daemon's log; check that it reads this accounts_file and that its reload works"

    def __init__(self, text: str, *, hint: str | None = None) -> None:
        super().__init__(text)
        if hint is not None:
            self.hint = hint


class RecordConflict(HostError):
    """The accounts file holds a record with the line's username that twinline did not write."""

    attention = True
    of_one_line = True
    hint = "remove or rename the foreign record on the host, then retry the order"


class TracesLeft(HostError):
    """The accounts file, or one in state_dir, still holds name or password of a line that is to be forgotten."""

    attention = True
    of_one_line = True
    hint = "take that record or copy out of the file on the host; twinline takes out only what it wrote itself"


def kinds(base: type[HostError] = HostError) -> Iterator[type[HostError]]:
    """Every kind of host error there is."""
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


def named(code: str) -> type[HostError] | None:
    """The kind of error that a receipt or the ledger shows as this code; None for a code of something else."""
    return next((kind for kind in kinds() if kind.__name__ == code), None)


def trouble(code: str, detail: str) -> HostError:
    """Turn what the helper answered into the error that says what to repair."""
    texts = {
        "missing": "does not exist",
        "denied": "access denied",
        "read_only": "the file system is read-only",
        "no_space": "no space left",
        "unsafe_file": "not a regular file with exactly one link",
        "busy": "somebody else has the accounts file open for writing",
        "io_error": "input/output error",
        "state_denied": "state_dir can't be used",
    }
    if code == "not_allowed":
        return HelperRefused(f"the host allows our key other things than the inventory says ({detail})")
    if code in texts:
        return FileTrouble(f"{texts[code]} ({detail})" if detail else texts[code])
    if code == "fenced":
        epoch, _, number = detail.partition("/")
        return Fenced("a newer writer has this host", has=(int(epoch), int(number)))
    named: dict[str, type[HostError]] = {
        "lock_held": LockHeld,
        "status_unreachable": StatusTrouble,
        "status_refused": StatusTrouble,
        "reload_failed": ReloadFailed,
    }
    return named.get(code, HelperFailed)(detail or code)
