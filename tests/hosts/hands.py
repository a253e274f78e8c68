"""What people do to an accounts file by hand, and a model of what then has to stay in it byte by byte."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from tests.hosts.judge import Seen, kind_of
from tests.hosts.lab import FOREIGN
from twinline.messages import Protocol

Damage = Literal["delete", "redate", "annotate"]

_LOOKED = re.compile(rb"# kept by hand[^\n]*")


@dataclass
class Foreign:
    """Everything in an accounts file that is not ours, as the hands that wrote it left it."""

    protocol: Protocol
    chunks: list[bytes] = field(default_factory=list[bytes])
    """In the order of the file; each stands there once."""
    _count: int = 0

    @classmethod
    def at_first(cls, protocol: Protocol) -> "Foreign":
        """What is in the file before twinline comes."""
        return cls(protocol, [FOREIGN[protocol].rstrip(b"\n")])

    def appended(self, content: bytes) -> bytes:
        """The file after somebody added an account at its end."""
        self.chunks.append(self._another())
        return content + (b"" if content.endswith(b"\n") else b"\n") + self.chunks[-1] + b"\n"

    def prepended(self, content: bytes) -> bytes:
        """The file after somebody added an account on top: everything below it moves."""
        self.chunks.insert(0, self._another())
        return self.chunks[0] + b"\n" + content

    def looked_through(self, content: bytes) -> bytes:
        """The file after somebody changed the length of a comment of their own."""
        self._count += 1
        note = b"# kept by hand, seen" + b" again" * (self._count % 7)
        self.chunks = [_LOOKED.sub(note, chunk) for chunk in self.chunks]
        return _LOOKED.sub(note, content)

    def saved_by_oscam(self, content: bytes, ours: Collection[str]) -> None:
        """Take over what OSCam made of the file: it rewrites everything from its memory, and drops comments."""
        sections = [part.rstrip(b"\n") for part in re.split(rb"(?m)^(?=\[account\])", content)[1:]]
        named = [(re.search(rb"(?m)^user *= (\S+)", part), part) for part in sections]
        self.chunks = [part for name, part in named if name is None or name[1].decode() not in ours]

    def altered_in(self, content: bytes, ours: Collection[str]) -> str:
        """What of this is not as it was; empty if nothing is."""
        position = 0
        for chunk in self.chunks:
            found = content.find(chunk, position)
            if found < 0:
                return f"not in its place any more: {chunk!r}"
            position = found + len(chunk)
        see = kind_of(self.protocol).see
        expected = see(b"".join(chunk + b"\n" for chunk in self.chunks))
        found_accounts = [account for account in see(content) if account.user not in ours]
        return "" if found_accounts == expected else f"{found_accounts} instead of {expected}"

    def accounts(self) -> list[Seen]:
        """The accounts that are not ours."""
        return kind_of(self.protocol).see(b"".join(chunk + b"\n" for chunk in self.chunks))

    def _another(self) -> bytes:
        self._count += 1
        name, password = f"hand{self._count:04d}".encode(), f"handpass{self._count}".encode()
        if self.protocol == "multics":
            return b"F: " + name + b" " + password
        return b"[account]\nuser = " + name + b"\npwd = " + password + b"\ngroup = 1"


def damaged(protocol: Protocol, content: bytes, name: str, damage: Damage) -> bytes | None:
    """The file after somebody laid hands on a record of ours; None if it holds none of that name."""
    pattern = {
        "multics": rb"(?m)^F: %s [^\n]*\n",
        "oscam": rb"(?m)^ ?\[account\]\n(?:(?! ?\[|#\[)[^\n]*\n)*? ?user *= %s *\n(?:(?! ?\[|#\[)[^\n]*\n)*",
    }[protocol] % name.encode()
    found = re.search(pattern, content)
    if found is None:
        return None
    record = found[0]
    match damage:
        case "delete":
            record = b""
        case "redate":
            record = re.sub(rb"(enddate=|expdate *= )\d{4}", rb"\g<1>2032", record)
        case "annotate" if protocol == "multics":
            record = record.replace(b" }", b"; note=look }")
        case _:
            record = re.sub(rb"(?m)^( ?)(user *= )", rb"\g<1>monlevel = 0\n\g<1>\g<2>", record)
    return content[: found.start()] + record + content[found.end() :]
