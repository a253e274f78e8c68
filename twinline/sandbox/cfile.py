"""How both daemons take lines from a file: C's `fgets` into a fixed buffer, then C strings."""

from collections.abc import Iterator


def c_lines(data: bytes, *, most: int) -> Iterator[str]:
    """Yield what a C program sees of each line: at most `most` bytes per read, ended by the first NUL.

    A longer line goes on as a line of its own, as both daemons do it. Bytes become code points
    one to one (Latin-1), so nothing is lost or refused.
    """
    position = 0
    while position < len(data):
        newline = data.find(b"\n", position, position + most)
        end = newline + 1 if newline >= 0 else min(position + most, len(data))
        yield data[position:end].split(b"\0", 1)[0].decode("latin-1")
        position = end


def leading_number(text: str) -> int:
    """Return what C's `atoi` makes of the text: blanks, a sign, digits, and 0 where there are none."""
    text = text.lstrip(" \t\n\v\f\r")
    sign = -1 if text.startswith("-") else 1
    digits = text[1:] if text[:1] in {"+", "-"} else text
    length = 0
    while length < len(digits) and digits[length] in "0123456789":
        length += 1
    return sign * int(digits[:length] or "0")
