"""Domains of throw-away addresses: a file that the operator replaces whenever he likes."""

import logging
from pathlib import Path

from twinline.errors import Misconfigured

log = logging.getLogger(__name__)

_Seen = tuple[int, int, int]


class DisposableDomains:
    """The domains that a file lists, one in a line, `#` before comments; without a file there are none.

    The form is that of the lists that go round. A file that changes is read again; while it is missing or broken the
    last one counts. Raises Misconfigured for one that can't be read at the start.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._seen: _Seen | None = None
        self._domains: frozenset[str] = frozenset()
        if path is not None:
            self._read(path)

    def lists(self, domain: str) -> bool:
        """Whether a domain (lower-case, in IDNA form), or one above it, is listed."""
        if self._path is not None:
            try:
                self._read(self._path)
            except Misconfigured as error:
                log.warning("%s; the list of before counts", error.message)
        labels = domain.split(".")
        return any(".".join(labels[start:]) in self._domains for start in range(len(labels)))

    def _read(self, path: Path) -> None:
        try:
            found = path.stat()
            seen = (found.st_ino, found.st_size, found.st_mtime_ns)
            if seen == self._seen:
                return
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(path, error.strerror if isinstance(error, OSError) else "it is not UTF-8") from None
        lines = (line.partition("#")[0].strip().lower() for line in text.splitlines())
        try:
            domains = frozenset(line.encode("idna").decode("ascii") for line in lines if line)
        except UnicodeError:
            raise _unreadable(path, "a line of it is no domain") from None
        self._domains, self._seen = domains, seen


def _unreadable(path: Path, why: str | None) -> Misconfigured:
    return Misconfigured(
        f"TWINLINE_DISPOSABLE_DOMAINS {path} can't be read: {why}",
        hint="Let it name a file with one domain in a line, or leave the setting out.",
    )
