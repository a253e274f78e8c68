"""What the name of a half's last error means, and what a person can do about it."""

from dataclasses import dataclass
from typing import Final

from twinline.hosts.errors import named
from twinline.rebuild import ACCOUNT_SHUT, STILL_TO_COME


@dataclass(frozen=True)
class Meaning:
    """A condition in words: what is wrong, and what to do."""

    sentence: str
    hint: str
    attention: bool = False
    """Whether it goes on only after a person has acted."""


_SENTENCES: Final = {
    "HostUnreachable": "no SSH connection to the host",
    "HostLoginRefused": "the host does not accept our SSH key, or it can't be used here",
    "HelperRefused": "the host allows our key another version of the helper, or other files",
    "HostKeyMismatch": "the host shows another SSH host key than ssh.known_hosts says",
    "HelperFailed": "the helper program does not start on the host, or ended in the middle",
    "FileTrouble": "the accounts file or state_dir cannot be used as it is",
    "LockHeld": "another process keeps the host's lock",
    "Fenced": "a newer writer has the host",
    "LedgerSetBack": "the host knows a later batch than the ledger, which seems to be an older copy",
    "ClocksApart": "the clocks of the host and of the ledger are more than two minutes apart",
    "BlastGuard": "too many lines would lose access here without a recorded reason",
    "ShrunkenFile": "the accounts file lacks many accounts that the daemon still serves",
    "StatusTrouble": "the daemon's status pages do not answer, or refuse our user and password",
    "ReloadFailed": "the daemon could not be told to reload",
    "NotProven": "written and reloaded, but the daemon does not show the change",
    "RecordConflict": "the accounts file holds a record of this username that twinline did not write",
    "TracesLeft": "a file on the host still names the line that is to be forgotten",
}

_OTHERS: Final = {
    "Unavailable": Meaning("the ledger does not answer", "check the database behind TWINLINE_DATABASE_URL"),
    "KeyRingError": Meaning(
        "the ledger's secrets cannot be opened", "check that the worker's key ring belongs to this ledger"
    ),
    "StillRunning": Meaning(
        "it was not done in time, and goes on without us",
        "check that `twinline worker` runs; `twinline drift check` shows how the host stands",
    ),
    "WorkerLost": Meaning(
        "the worker ended or hung in the middle of it", "check that `twinline worker` runs, and its log"
    ),
    "WorkerShutdown": Meaning("the worker was stopped in the middle of it", "check that `twinline worker` runs"),
    ACCOUNT_SHUT: Meaning(
        "right in the file, and refused by the daemon",
        "somebody disabled it in the daemon's own pages, and no reload changes that: enable it there",
        attention=True,
    ),
    STILL_TO_COME: Meaning("their turn comes in a later step", "nothing to do"),
}


def meaning(code: str) -> Meaning:
    """Explain the code that a receipt or the ledger shows as `last_error`."""
    kind = named(code)
    if kind is not None:
        return Meaning(_SENTENCES[code], kind.hint, kind.attention)
    return _OTHERS.get(code) or Meaning("it failed in a way that was not foreseen", "see the worker's log")
