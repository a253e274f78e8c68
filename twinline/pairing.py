"""Which hosts and pairs fit together, told from outlines.

Outlines hold what the rules look at and nothing else, so that the rules can speak even about tables that
have other mistakes.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, cast

from twinline.problems import Problem, Table, nearest, quoted


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


@dataclass(frozen=True)
class HostOutline:
    """What identifies a host and what it may not share."""

    number: int
    name: str | None
    protocol: str | None
    box: tuple[str, int] | None
    accounts_file: str | None
    state_dir: str | None

    @classmethod
    def of(cls, number: int, table: Table) -> Self:
        """Outline the table of this number, counted from 1; what has the wrong type is left out."""
        ssh = table.get("ssh")
        box = None
        if isinstance(ssh, Mapping):
            access = cast("Table", ssh)
            address, port = access.get("address"), access.get("port", 22)
            if isinstance(address, str) and isinstance(port, int):
                box = (address.lower().rstrip("."), port)
        return cls(
            number=number,
            name=_text(table.get("name")),
            protocol=_text(table.get("protocol")),
            box=box,
            accounts_file=_text(table.get("accounts_file")),
            state_dir=_text(table.get("state_dir")),
        )

    @property
    def label(self) -> str:
        """What stands before its keys in a sentence."""
        return label("host", self.number, self.name)


@dataclass(frozen=True)
class PairOutline:
    """What identifies a pair and which hosts it takes."""

    number: int
    name: str | None
    multics: str | None
    oscam: str | None

    @classmethod
    def of(cls, number: int, table: Table) -> Self:
        """Outline the table of this number, counted from 1; what has the wrong type is left out."""
        return cls(
            number=number,
            name=_text(table.get("name")),
            multics=_text(table.get("multics")),
            oscam=_text(table.get("oscam")),
        )

    @property
    def label(self) -> str:
        """What stands before its keys in a sentence."""
        return label("pair", self.number, self.name)

    @property
    def halves(self) -> tuple[tuple[str, str | None], ...]:
        """Protocol (which is the key, too) and host of each half."""
        return (("multics", self.multics), ("oscam", self.oscam))


def label(kind: str, number: int, name: object) -> str:
    """What stands before the keys of a table: kind, number from 1, and name if it has one."""
    return f"{kind}[{number}] {quoted(name)}: " if isinstance(name, str) else f"{kind}[{number}]: "


def conflicts(hosts: Sequence[HostOutline], pairs: Sequence[PairOutline]) -> Iterator[Problem]:
    """Everything that single tables cannot know to be wrong."""
    yield from _same_names(hosts)
    yield from _same_names(pairs)
    yield from _shared_paths(hosts)
    yield from _unfit_halves(hosts, pairs)
    yield from _shared_hosts(pairs)


def _same_names(tables: Sequence[HostOutline | PairOutline]) -> Iterator[Problem]:
    seen: set[str] = set()
    for table in tables:
        if table.name is None:
            continue
        if table.name in seen:
            yield Problem(
                f"{table.label}name is {quoted(table.name)}, as is another's before it",
                "Give each host and each pair a name of its own.",
            )
        seen.add(table.name)


def _shared_paths(hosts: Sequence[HostOutline]) -> Iterator[Problem]:
    seen: dict[tuple[str, tuple[str, int], str], HostOutline] = {}
    for host in hosts:
        for key, path in (("accounts_file", host.accounts_file), ("state_dir", host.state_dir)):
            if host.box is None or path is None:
                continue
            place = (key, host.box, posixpath.normpath(path))
            if place in seen:
                other = seen[place].label.rstrip(": ")
                yield Problem(
                    f"{host.label}{key} is {quoted(path)}, and {other} uses it on the same ssh address and port",
                    "Give each daemon a file and a folder of its own, or remove the host that stands here twice.",
                )
            seen.setdefault(place, host)


def _unfit_halves(hosts: Sequence[HostOutline], pairs: Sequence[PairOutline]) -> Iterator[Problem]:
    protocols = {host.name: host.protocol for host in hosts if host.name is not None}
    for pair in pairs:
        for key, name in pair.halves:
            if name is None:
                continue
            if name not in protocols:
                yield Problem(
                    f"{pair.label}{key} is {quoted(name)}, but no host has that name",
                    f'{nearest(name, protocols)}Write the name of a [[host]] with protocol = "{key}".',
                )
            elif protocols[name] in ("multics", "oscam") and protocols[name] != key:
                yield Problem(
                    f"{pair.label}{key} is {quoted(name)}, but that host's protocol is {quoted(protocols[name])}",
                    f'A pair is one multics host and one oscam host: write the name of a host with protocol = "{key}".',
                )


def _shared_hosts(pairs: Sequence[PairOutline]) -> Iterator[Problem]:
    owners: dict[str, PairOutline] = {}
    for pair in pairs:
        for key, name in pair.halves:
            if name is None:
                continue
            owner = owners.setdefault(name, pair)
            if owner is not pair:
                yield Problem(
                    f"{pair.label}{key} is {quoted(name)}, which belongs to {owner.label.rstrip(': ')} already",
                    "A host belongs to one pair only: name another host, or remove one of the pairs.",
                )
