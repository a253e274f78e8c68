"""Files made up for the parsers: real ones with pieces cut, put in, stretched and moved, by a seeded choice."""

import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

from tests.hosts.files import END, carried_out, half, plan_for
from tests.hosts.judge import daemon_of
from tests.hosts.lab import FOREIGN
from tests.sandbox.corpus import corpus
from twinline.hosts import multics, oscam
from twinline.hosts.ports import Wanted
from twinline.messages import Protocol

SHORT: Final = 4_000
LONG: Final = {"multics": multics.READ_BUFFER, "oscam": oscam.READ_BUFFER}
PIECES: Final = {
    "multics": (
        *(
            b"F:",
            b"f :",
            b"F=",
            b"F",
            b"CCCAM USER:",
            b"cccam  user =",
            b"CCCAM PORT: 12001\n",
            b"[P2]\n",
            b"MG: x y\n",
        ),
        *(b"F: fuzzed pw\n", b"F: a b 0 0 { enddate=2031-01-02 03; rev=3-0badc0de }\n", b"#F: off offpw\n"),
        *(
            b"{",
            b"}",
            b";",
            b";;",
            b"=",
            b":",
            b",",
            b" 1 2 ",
            b"1x",
            b"rev=",
            b"name=",
            b"enddate=",
            b"expire=31-12-2030",
        ),
        *(b"{ 15001, 15002 }", b'INCLUDE: "other"\n', b"UPDATE ONCHANGE: NO\n"),
    ),
    "oscam": (
        *(b"[account]\n", b" [account]\n", b"[x]\n", b"[ACCOUNT ]\n", b"[account] disabled = 1\n", b"[]", b"[a", b"]"),
        *(
            b"user = ",
            b"pwd=",
            b"  pwd = ",
            b"\tpwd = ",
            b"description=",
            b"expdate = 2031-01-02\n",
            b"_x",
            b"group = 1\n",
        ),
        *(
            b"disabled = 1\n",
            b"disabled = 0\n",
            b"disabled = 256\n",
            b"disabled=yes",
            b"uniq = 1\n",
            b"user = fuzzed\n",
        ),
        *(b"=", b"==", b",", b";", b"user", b"x=", b"=x\n", b"unknown = 1\n"),
    ),
}
"""What either parser looks for."""

BYTES: Final = (
    *(b"\n", b"\n\n", b"\r\n", b"\r", b"\0", b"\t", b" ", b"#", b"\\", b"\\\n", b"\\ \n", b"\\\\\n", b"\\ # x\n"),
    *(b"\xef\xbb\xbf", b"\xff", b"\xc3\xa9", b"\v", b"\f", b"\x1c", b"\x85", b"\xa0", b'"', b"'"),
)
"""What bends lines and words."""


@cache
def own_slots(protocol: Protocol) -> bytes:
    """A file of ours: live, parked and free slots, and somebody else's records above them."""
    daemon = daemon_of(protocol)
    data = FOREIGN[protocol]
    first = [half("alder22222", 3), half("birch22222", 9, password="Zother6789"), half("cedar22222", 1)]
    second = [half("birch22222", 10, wanted=Wanted.BLOCKED), half("alder22222", 4, ends_at=END.replace(year=2033))]
    third = [half("cedar22222", 2, wanted=Wanted.ABSENT)]
    for batch in (first, second, third):
        data = carried_out(data, plan_for(daemon, data, batch))
    return carried_out(data, plan_for(daemon, data, [], ["cedar22222"]))


@cache
def seeds(protocol: Protocol) -> Sequence[bytes]:
    """Every file to begin with: those of the corpus, and ours."""
    _, cases = corpus(protocol)
    return [FOREIGN[protocol], own_slots(protocol), *(case.file for case in cases)]


@cache
def short_seeds(protocol: Protocol) -> Sequence[bytes]:
    """Those with which a try is quick: the more tries, the more is found, and lines grow long by themselves."""
    return [data for data in seeds(protocol) if len(data) < SHORT]


def mutated(protocol: Protocol, data: bytes, luck: random.Random, most: int = 1 << 16) -> bytes:
    """The file with one to four changes."""
    for _ in range(luck.randint(1, 4)):
        data = luck.choice(CHANGES)(protocol, data, luck)
    return data[:most]


def made_up(protocol: Protocol, luck: random.Random) -> bytes:
    """A file that begins as one of the seeds, or as a heap of pieces."""
    if luck.random() < 0.2:
        words = (*PIECES[protocol], *BYTES, b"x", b"alice", b"1")
        return b"".join(luck.choices(words, k=luck.randint(0, 40)))
    return mutated(protocol, luck.choice(short_seeds(protocol)), luck)


def _span(data: bytes, luck: random.Random, most: int = 40) -> tuple[int, int]:
    start = luck.randint(0, len(data))
    return start, min(len(data), start + luck.randint(0, most))


def _put(protocol: Protocol, data: bytes, luck: random.Random) -> bytes:
    start, _ = _span(data, luck)
    return data[:start] + luck.choice((*PIECES[protocol], *BYTES)) + data[start:]


def _put_in_place(protocol: Protocol, data: bytes, luck: random.Random) -> bytes:
    """Of the same length, so that slots stay where they are."""
    piece = luck.choice((*PIECES[protocol], *BYTES))
    start = luck.randint(0, len(data))
    return data[:start] + piece + data[start + len(piece) :]


def _cut(_: Protocol, data: bytes, luck: random.Random) -> bytes:
    start, end = _span(data, luck)
    return data[:start] + data[end:]


def _cut_off(_: Protocol, data: bytes, luck: random.Random) -> bytes:
    return data[: luck.randint(0, len(data))]


def _double(_: Protocol, data: bytes, luck: random.Random) -> bytes:
    start, end = _span(data, luck, 700)
    return data[:end] + data[start:end] + data[end:]


def _flip(_: Protocol, data: bytes, luck: random.Random) -> bytes:
    at = luck.randint(0, len(data))
    return data[:at] + bytes([luck.randrange(256)]) + data[at + 1 :]


def _switch(_: Protocol, data: bytes, luck: random.Random) -> bytes:
    """One line more or less behind a `#`."""
    starts = [0, *(at + 1 for at, byte in enumerate(data) if byte == 10)]
    at = luck.choice(starts)
    return data[:at] + luck.choice((b"#", b" ", b"F", b"")) + data[at + luck.randint(0, 1) :]


def _lengthen(protocol: Protocol, data: bytes, luck: random.Random) -> bytes:
    """A line that ends around the daemon's buffer."""
    start = data.rfind(b"\n", 0, luck.randint(0, len(data))) + 1
    end = data.find(b"\n", start)
    end = len(data) if end < 0 else end
    missing = LONG[protocol] * luck.choice((1, 1, 2)) - (end - start) + luck.randint(-3, 3)
    return data[:end] + luck.choice((b" ", b"x", b"#", b"\\", b"\t")) * max(0, missing) + data[end:]


def _shift(_: Protocol, data: bytes, luck: random.Random) -> bytes:
    return luck.choice((b"#", b"x", b" ", b"\n")) * luck.choice((1, 2, 64, 128, 512)) + data


def _splice(protocol: Protocol, data: bytes, luck: random.Random) -> bytes:
    other = luck.choice(short_seeds(protocol))
    return data[: luck.randint(0, len(data))] + other[luck.randint(0, len(other)) :]


def _crlf(_: Protocol, data: bytes, luck: random.Random) -> bytes:
    start, end = _span(data, luck, 2_000)
    return data[:start] + data[start:end].replace(b"\n", b"\r\n") + data[end:]


CHANGES: Final[Sequence[Callable[[Protocol, bytes, random.Random], bytes]]] = (
    *(_put, _put, _put_in_place, _put_in_place, _cut, _cut_off, _double, _flip, _switch, _switch, _shift, _splice),
    *(_put, _put, _put_in_place, _put_in_place, _cut, _cut_off, _double, _flip, _switch, _switch, _crlf, _lengthen),
)
