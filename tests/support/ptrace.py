"""Follows a process from one system call to the next, and bends a call or ends the process there (ptrace, Linux).

Only the thread that is followed stops; a thread that it starts runs on. What is read of a stop is the same on
every machine (`PTRACE_GET_SYSCALL_INFO`, Linux 5.3); what is changed stands in registers, known for two of them.
"""

import ctypes
import os
import platform
import signal
import struct
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Literal

TRACEME, SYSCALL, DETACH, SETOPTIONS = 0, 24, 17, 0x4200
GETREGSET, SETREGSET, SEIZE, INTERRUPT, GET_SYSCALL_INFO = 0x4204, 0x4205, 0x4206, 0x4207, 0x420E
TRACESYSGOOD, EXITKILL = 0x1, 0x100000
NT_PRSTATUS, NT_ARM_SYSTEM_CALL = 1, 0x404
WAIT_ALL: Final = 0x40000000
NO_CALL: Final = 2**64 - 1
"""A call's number after which the kernel carries out nothing."""

_INFO: Final = struct.Struct("=BxxxIQQ")
_ENTRY: Final = struct.Struct("=7Q")
_EXIT: Final = struct.Struct("=q?")
_INFO_SIZE: Final = 88


@dataclass(frozen=True)
class Layout:
    """Where the registers of one kind of machine stand among those that the kernel hands out, 8 bytes each."""

    count: int
    arguments: tuple[int, ...]
    result: int
    number: int | None
    """None where the number of a call has a set of its own."""


LAYOUTS: Final = {
    "x86_64": Layout(count=27, arguments=(14, 13, 12, 7, 9, 8), result=10, number=15),
    "aarch64": Layout(count=34, arguments=(0, 1, 2, 3, 4, 5), result=0, number=None),
}


class CannotTrace(Exception):
    """This process may not be followed, or this machine's registers are not known; the sentence says what to do."""


@dataclass(frozen=True)
class Stop:
    """A thread that stands before a system call (`enter`) or behind it (`leave`)."""

    side: Literal["enter", "leave"]
    number: int = -1
    arguments: tuple[int, ...] = ()
    result: int = 0
    """What the call returned; a negative error number if it failed."""


_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, pid: int, address: int = 0, data: "int | ctypes.Array[ctypes.c_char]" = 0) -> int:
    pointer = data if isinstance(data, int) else ctypes.addressof(data)
    result = int(_libc.ptrace(request, pid, address, pointer))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def follow_me() -> None:
    """Run in a child: stop here until the parent, by then a `Followed` one, lets us go on."""
    _ptrace(TRACEME, 0)
    os.kill(os.getpid(), signal.SIGSTOP)


class Followed:
    """A process that stops before and behind every system call of its main thread.

    All methods belong to the thread that made it, and all but `next` to a time at which it stands at a stop.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None
        """How it ended, as `waitpid` says it; None while it lives."""
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)

    @classmethod
    def child(cls, pid: int) -> "Followed":
        """Follow a child that calls `follow_me`."""
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            raise CannotTrace("a child could not be followed: this place forbids ptrace")
        _ptrace(SETOPTIONS, pid, 0, TRACESYSGOOD | EXITKILL)
        return cls(pid)

    @classmethod
    def attached(cls, pid: int) -> "Followed":
        """Follow a process that runs already; it ends when we do."""
        try:
            _ptrace(SEIZE, pid, 0, TRACESYSGOOD | EXITKILL)
        except PermissionError:
            raise CannotTrace("another process can't be followed: run the tests as root") from None
        _ptrace(INTERRUPT, pid)
        os.waitpid(pid, WAIT_ALL)
        return cls(pid)

    def next(self) -> Stop | None:
        """Let it go on to its next stop; None if it ended instead."""
        number = 0
        while True:
            # Gone if it was killed where it stood.
            with suppress(ProcessLookupError):
                _ptrace(SYSCALL, self.pid, 0, number)
            _, status = os.waitpid(self.pid, WAIT_ALL)
            if not os.WIFSTOPPED(status):
                self.status = status
                os.close(self._memory)
                return None
            number = os.WSTOPSIG(status)
            if number == signal.SIGTRAP | 0x80:
                stop = self._stop()
                if stop is not None:
                    return stop
                number = 0
            elif status >> 16 or number == signal.SIGTRAP:
                number = 0

    def _stop(self) -> Stop | None:
        buffer = ctypes.create_string_buffer(_INFO_SIZE)
        _ptrace(GET_SYSCALL_INFO, self.pid, _INFO_SIZE, buffer)
        side = buffer.raw[0]
        if side == 1:
            number, *arguments = _ENTRY.unpack_from(buffer.raw, _INFO.size)
            return Stop("enter", number, tuple(arguments))
        if side == 2:
            result, _ = _EXIT.unpack_from(buffer.raw, _INFO.size)
            return Stop("leave", result=result)
        return None

    def text(self, address: int, limit: int = 4096) -> bytes:
        """The string that begins at an address of its memory, at most `limit` bytes of it."""
        # A page at most at a time: the next one may not be there.
        found = os.pread(self._memory, min(limit, 4096 - address % 4096), address)
        if b"\0" not in found and len(found) < limit:
            found += os.pread(self._memory, limit - len(found), address + len(found))
        return found.split(b"\0", 1)[0]

    def fd_path(self, number: int) -> str:
        """What a descriptor leads to, as /proc names it; empty if there is none."""
        try:
            return os.readlink(f"/proc/{self.pid}/fd/{number}")  # noqa: PTH115 - hundreds of times a second
        except FileNotFoundError:
            return ""

    def folder(self) -> str:
        """Its working directory."""
        return os.readlink(f"/proc/{self.pid}/cwd")  # noqa: PTH115

    def open_fds(self) -> int:
        """How many descriptors it holds."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))  # noqa: PTH208

    # -- bending the call at which it stands

    @contextmanager
    def _registers(self) -> Generator[tuple[Layout, list[int]]]:
        machine = platform.machine()
        if machine not in LAYOUTS:
            raise CannotTrace(f"the registers of {machine} are not known: run the tests on {' or '.join(LAYOUTS)}")
        layout = LAYOUTS[machine]
        shape = struct.Struct(f"={layout.count}Q")
        buffer = ctypes.create_string_buffer(shape.size)
        self._regset(GETREGSET, NT_PRSTATUS, buffer)
        values = list(shape.unpack(buffer.raw))
        yield layout, values
        shape.pack_into(buffer, 0, *values)
        self._regset(SETREGSET, NT_PRSTATUS, buffer)

    def _regset(self, request: int, which: int, buffer: "ctypes.Array[ctypes.c_char]") -> None:
        vector = ctypes.create_string_buffer(struct.pack("@PN", ctypes.addressof(buffer), len(buffer)))
        _ptrace(request, self.pid, which, vector)

    def set_argument(self, place: int, value: int) -> None:
        """Before a call: have it carried out with another argument."""
        with self._registers() as (layout, values):
            values[layout.arguments[place]] = value

    def skip(self) -> None:
        """Before a call: have nothing carried out."""
        with self._registers() as (layout, values):
            if layout.number is not None:
                values[layout.number] = NO_CALL
        if layout.number is None:
            self._regset(SETREGSET, NT_ARM_SYSTEM_CALL, ctypes.create_string_buffer(struct.pack("=i", -1), 4))

    def set_result(self, value: int) -> None:
        """Behind a call: have it return something else; a negative error number for a failure."""
        with self._registers() as (layout, values):
            values[layout.result] = value % 2**64

    # -- ending

    def kill(self) -> None:
        """End it where it stands: nothing that it was about to do is done."""
        os.kill(self.pid, signal.SIGKILL)
        while self.next() is not None:
            pass

    def let_go(self) -> None:
        """Follow it no longer; it runs on."""
        with suppress(ProcessLookupError):
            _ptrace(DETACH, self.pid)
        os.close(self._memory)
