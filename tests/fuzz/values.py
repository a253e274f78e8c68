"""Usernames, passwords and ends, most of them nearly right."""

import random
import string
from typing import Final

LETTERS: Final = string.ascii_lowercase + string.digits
PRINTABLE: Final = "".join(chr(code) for code in range(33, 127))
ANY: Final = "".join(chr(code) for code in range(1, 256))


def made_up(luck: random.Random) -> bytes:
    """A username, a password and an end, in the form that `targets.check_values` takes."""
    return b"\0".join((_word(luck, LETTERS, 24), _word(luck, PRINTABLE, 30), luck.randbytes(4)))


def _word(luck: random.Random, usual: str, longest: int) -> bytes:
    letters = luck.choices(usual, k=luck.randint(0, longest))
    if luck.random() < 0.4:
        letters.insert(luck.randint(0, len(letters)), luck.choice(ANY))
    return "".join(letters).encode("latin-1")
