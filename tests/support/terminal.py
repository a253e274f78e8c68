"""Programs at a real terminal: a pseudo-terminal of the kernel, and the screen that a person would see on it."""

import asyncio
import fcntl
import os
import pty
import struct
import termios
from collections.abc import Callable, Mapping
from typing import Final

import pyte

CTRL_C: Final = "\x03"
CTRL_D: Final = "\x04"
TAB: Final = "\t"
PATIENCE: Final = 60.0


class Terminal:
    """One terminal; open it before the program that runs at it."""

    def __init__(self, *, columns: int = 100, lines: int = 60) -> None:
        self._ours, self._theirs = pty.openpty()
        self._columns, self._lines = columns, lines
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._news = asyncio.Event()
        self.raw = b""
        """All that came, escape codes included."""
        self._set_size()
        os.set_blocking(self._ours, False)
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    @property
    def path(self) -> str:
        """The name of the device, for the program that shall run at it."""
        return os.ttyname(self._theirs)

    @property
    def fd(self) -> int:
        """The program's side of it."""
        return self._theirs

    @property
    def text(self) -> str:
        """What stands on the screen, without the blanks at the ends of its lines."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    @property
    def words(self) -> str:
        """The same as one line, however the terminal broke it."""
        return " ".join(self.text.split())

    def resize(self, columns: int) -> None:
        """Make it wider or narrower, as a person does with the mouse."""
        self._columns = columns
        self._screen.resize(self._lines, columns)
        self._set_size()

    def clear(self) -> None:
        """Wipe the screen, as a person does."""
        self._screen.reset()

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._ours, keys.encode())

    async def see(self, words: str) -> None:
        """Wait until these words stand on the screen."""
        await self._until(lambda: words in self.words, f"{words!r} was never seen")

    async def gone(self, words: str) -> None:
        """Wait until they do not."""
        await self._until(lambda: words not in self.words, f"{words!r} never went away")

    async def _until(self, holds: Callable[[], bool], otherwise: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not holds():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{otherwise}; the screen is\n{self.text}") from None

    def close(self) -> None:
        """Take it away."""
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)
        os.close(self._theirs)

    def drain(self) -> None:
        """Take in what has come so far."""
        self._read()

    def _read(self) -> None:
        try:
            while data := os.read(self._ours, 65_536):
                self.raw += data
                self._stream.feed(data)
        except BlockingIOError:
            pass
        self._news.set()

    def _set_size(self) -> None:
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", self._lines, self._columns, 0, 0))


def environment(changes: Mapping[str, str]) -> dict[str, str]:
    """This process's environment as at a terminal that knows colours, with these changes."""
    left_out = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "LC_ALL", "LC_CTYPE"}
    found = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**found, "TERM": "xterm-256color", "LANG": "C.UTF-8", **changes}
