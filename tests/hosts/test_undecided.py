"""What neither daemons.md nor the corpus decides: here both readings agree, and nobody knows what the daemon does.

A case that is decided one day belongs into the corpus; until then a change of either reading has to be meant.
"""

from typing import Final

import pytest

from tests.fuzz.targets import check_multics, check_oscam
from twinline.hosts import multics, oscam

Account = tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...]]

MULTICS: Final[dict[bytes, list[Account]]] = {
    # An empty key ends the list.
    b"F: a p { name=x;; rev=1 }": [(b"a", b"p", ((b"name", b"x"),))],
    b"F: a p { ;name=x }": [(b"a", b"p", ())],
    b"F: a p { =x }": [(b"a", b"p", ((b"", b"x"),))],
    b"F: a p { na me=x }": [(b"a", b"p", ())],
    b"F: a p {{ name=x }": [(b"a", b"p", ())],
    # Every backslash at the end of what was joined joins one line more.
    b"F: a p\\\\\n\nF: c q\n": [(b"a", b"pF:", ())],
    b"F: a \\\\\nF: b p\nF: c q\n": [(b"a", b"\\F:", ()), (b"c", b"q", ())],
    b"F: a p\r\\\nb": [(b"a", b"p\rb", ())],
    # Hops that are no number stand in the place of the keys.
    b"F: a p 1x { name=x }": [(b"a", b"p", ())],
    b"F: a p 1 2 3 { name=x }": [(b"a", b"p", ())],
    b"F: a p -1 { name=x }": [(b"a", b"p", ())],
    b"F: a p } { name=x }": [(b"a", b"p", ())],
    b"F: a p { name=x }; rev=2": [(b"a", b"p", ((b"name", b"x"),))],
    # Neither is a colon behind the keyword's colon a keyword, nor is a vertical tab a blank.
    b"F:: a p": [(b":", b"a", ())],
    b"F: a\vp q": [(b"a\vp", b"q", ())],
}

OSCAM: Final[dict[bytes, list[tuple[bytes, bytes, int]]]] = {
    b"[acc\0ount]\nuser = a\n": [],
    b"[account]\0x\nuser = a\n": [(b"a", b"", 0)],
    b"[account]]\nuser = a\n": [(b"", b"", 0)],
    b"[account]\n[user = b]\n": [(b"", b"", 0), (b"", b"", 0)],
    b"[account]\n=x\nuser = a\n": [(b"a", b"", 0)],
    b"[account]\nuser\v= a\n": [(b"", b"", 0)],
    # atoi: blanks of every kind, a sign, and what does not fit is cut.
    b"[account]\nuser = a\ndisabled =\r1\n": [(b"a", b"", 1)],
    b"[account]\nuser = a\ndisabled = -1\n": [(b"a", b"", 255)],
    b"[account]\nuser = a\ndisabled = 99999999999\n": [(b"a", b"", 255)],
    # The search for a free name does not begin anew.
    b"[account]\nuser = a_x\n[account]\nuser = a\n[account]\nuser = a\n": [
        (b"a_x", b"", 0), (b"a", b"", 0), (b"a_x", b"", 0),
    ],
}  # fmt: skip


@pytest.mark.parametrize("data", MULTICS, ids=repr)
def test_both_readings_of_multics_agree_on_what_nobody_decided(data: bytes) -> None:
    assert [(each.user, each.password, each.keys) for each in multics.parse(data)] == MULTICS[data]
    check_multics(data)


@pytest.mark.parametrize("data", OSCAM, ids=repr)
def test_both_readings_of_oscam_agree_on_what_nobody_decided(data: bytes) -> None:
    assert [(each.user, each.password, each.disabled) for each in oscam.parse(data)] == OSCAM[data]
    check_oscam(data)
