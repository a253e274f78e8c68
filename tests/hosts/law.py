"""What a daemon may see of an accounts file while lines of ours are being changed."""

from collections.abc import Mapping, Sequence
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
class LineLaw:
    """One line: as before, as wanted, disabled, or not there; its new mark only on what is wanted.

    MultiCS has no spare line for a date, so an enabled account may end later than it should, never earlier.
    """

    kind: Kind
    before: Seen | None
    after: Seen | None
    mark: str
    """The new one; empty for a line of which nothing is wanted."""

    def check_enabled(self, account: Seen) -> None:
        """Fail if this account may not be served."""
        bounds = [each for each in (self.before, self.after) if each is not None]
        assert account.password in {each.password for each in bounds}
        if self.kind.protocol == "oscam":
            assert account.end in {each.end for each in bounds}
        else:
            assert in_order(account.end) >= min(in_order(each.end) for each in bounds)
        if account.mark == self.mark:
            assert account == self.after

    def check_disabled(self, account: Seen) -> None:
        """Fail if an account that is off proves what is not there."""
        if self.after is not None and account.mark == self.mark:
            wanted = self.after
            assert (account.user, account.password, account.end) == (wanted.user, wanted.password, wanted.end)


@dataclass(frozen=True)
class Law:
    """Everybody else looks the same all the time; each of our lines keeps to its own law."""

    kind: Kind
    others: Sequence[Seen]
    lines: Mapping[str, LineLaw]
    copies: int = 1
    """How many records of one line may stand in the file."""

    @classmethod
    def of(
        cls, kind: Kind, data: bytes, halves: Sequence[Half], scrub: Sequence[str] = (), *, copies: int = 1
    ) -> "Law":
        """The law for one batch, from the file as it stands before."""
        everybody = kind.see(data)
        wanted: dict[str, Half | None] = dict.fromkeys(scrub) | {each.username: each for each in halves}
        lines = {
            name: LineLaw(
                kind,
                next((each for each in everybody if each.user == name and each.enabled), None),
                as_seen(kind, half),
                half.mark if half is not None else "",
            )
            for name, half in wanted.items()
        }
        return cls(kind, [each for each in everybody if each.user not in lines], lines, copies)

    def check(self, data: bytes) -> None:
        """Fail if a daemon that read this now would do anything wrong."""
        seen = self.kind.see(data)
        assert [account for account in seen if account in self.others] == list(self.others)
        ours = [account for account in seen if account not in self.others]
        enabled = [account for account in ours if account.enabled]
        for account in enabled:
            assert account.user in self.lines
            self.lines[account.user].check_enabled(account)
        for account in ours:
            for line in self.lines.values():
                if not account.enabled:
                    line.check_disabled(account)
        names = [account.user for account in enabled]
        assert all(names.count(name) <= self.copies for name in names)

    def check_unproven(self, data: bytes) -> None:
        """Fail if anything that proves the change, or gives access by it, stands in the file already."""
        served = {each.user: each for each in self.kind.served(data) if each.user in self.lines}
        for name, account in served.items():
            assert self.lines[name].before is not None
            assert account.mark != self.lines[name].mark

    def check_done(self, data: bytes) -> None:
        """Fail unless every line is served as wanted, and nobody else otherwise than before."""
        self.check(data)
        served = [each for each in self.kind.served(data) if each.user in self.lines]
        wanted = [line.after for line in self.lines.values() if line.after is not None]
        assert sorted(served, key=str) == sorted(wanted, key=str)
