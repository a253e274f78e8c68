"""What a daemon may see of an accounts file while one line of ours is being changed."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.hosts.judge import Kind, Seen, end_in
from twinline.hosts.ports import Half, Wanted
from twinline.sandbox.multics_parser import EndDate


def as_seen(kind: Kind, wanted: Half | None) -> Seen | None:
    """The account that a half makes; None for one that nobody may use."""
    if wanted is None or wanted.wanted is not Wanted.PRESENT or wanted.ends_at is None:
        return None
    end = end_in(kind.protocol, wanted.ends_at)
    return Seen(wanted.username, wanted.password, enabled=True, end=end, mark=wanted.mark)


def in_order(end: object) -> tuple[int, ...]:
    """An end as the daemon compares it."""
    return (end.year, end.month, end.day, end.hour) if isinstance(end, EndDate) else (int(str(end)),)


@dataclass(frozen=True)
class Law:
    """Everybody else looks the same all the time; our account is as before, as wanted, disabled, or not there.

    MultiCS has no spare line for a date, so an enabled account may end later than it should, never earlier.
    """

    kind: Kind
    others: Sequence[Seen]
    before: Seen | None
    after: Seen | None

    @classmethod
    def of(cls, kind: Kind, data: bytes, username: str, wanted: Half | None) -> "Law":
        """The law for one change of one line, from the file as it stands before."""
        everybody = kind.see(data)
        before = next((each for each in everybody if each.user == username and each.enabled), None)
        return cls(kind, [each for each in everybody if each.user != username], before, as_seen(kind, wanted))

    def check(self, data: bytes) -> None:
        """Fail if a daemon that read this now would do anything wrong."""
        seen = self.kind.see(data)
        assert [account for account in seen if account in self.others] == list(self.others)
        enabled = [account for account in seen if account not in self.others and account.enabled]
        assert len(enabled) <= 1
        for account in enabled:
            self._check_ours(account)

    def check_unproven(self, data: bytes) -> None:
        """Fail if anything that proves the change, or gives access by it, stands in the file already."""
        gained = [each for each in self.kind.served(data) if each not in self.others and self.before is None]
        assert not gained
        assert self.after is None or self.after.mark not in [each.mark for each in self.kind.served(data)]

    def _check_ours(self, account: Seen) -> None:
        bounds = [each for each in (self.before, self.after) if each is not None]
        assert account.user in {each.user for each in bounds}
        assert account.password in {each.password for each in bounds}
        if self.kind.protocol == "oscam":
            assert account.end in {each.end for each in bounds}
        else:
            assert in_order(account.end) >= min(in_order(each.end) for each in bounds)
        if self.after is not None and account.mark == self.after.mark:
            assert account == self.after
