"""The program that runs on a host: it edits one accounts file, triggers the reload and watches for the proof.

It is sent over standard input when the SSH connection opens, so nothing is installed; it needs Python 3.7 and
the standard library only. Requests and answers are frames (magic, length, SHA-256, zlib-compressed JSON): what
does not arrive whole has no effect, and the end of input ends the program between two requests.

The order of system calls in `apply` is the protocol that came through every crash tried
(reference/measured.md): verify read-only, journal, open once, write, sync, close once.
"""

import binascii
import bisect
import contextlib
import ctypes
import errno
import fcntl
import functools
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, Dict, List, Optional, Set, Tuple

MAGIC = b"TWL1"
HEADER = struct.Struct(">4sI32s")
MAX_FRAME = 64 * 1024 * 1024
VERSION = 1
SETTLE_SECONDS = 0.010
FALLOC_FL_KEEP_SIZE = 1
RENAME_EXCHANGE = 2
AT_FDCWD = -100
READER_PATIENCE = 0.050
WRITER_PATIENCE = 1.0
STATUS_TIMEOUT = 10.0
RELOAD_TIMEOUT = 60.0
STATUS_CONNECTIONS = 8

Json = Dict[str, Any]
Op = Tuple[int, bytes, bytes]  # offset, bytes expected there, bytes to write


class Trouble(Exception):
    """A request that was refused or failed; `code` is what the worker acts on, `detail` holds no secret."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


def trouble_of(error: OSError, what: str) -> Trouble:
    """Name an operating system error by what a person has to repair."""
    codes = {
        errno.ENOENT: "missing",
        errno.EACCES: "denied",
        errno.EPERM: "denied",
        errno.EROFS: "read_only",
        errno.ENOSPC: "no_space",
        errno.EDQUOT: "no_space",
        errno.ELOOP: "unsafe_file",
    }
    return Trouble(codes.get(error.errno or 0, "io_error"), "%s: %s" % (what, os.strerror(error.errno or 0)))


def no_answer(error: OSError) -> Trouble:
    """Name what kept a status page from us; a time-out has no error number."""
    return Trouble("status_unreachable", os.strerror(error.errno) if error.errno else "no answer in time")


# --- frames -----------------------------------------------------------------------------------------


def read_frame(source: BinaryIO) -> Optional[Json]:
    """Read one whole request; None at the end of input and for a torn frame, after which nothing can be trusted."""
    head = source.read(HEADER.size)
    if len(head) < HEADER.size:
        return None
    magic, length, digest = HEADER.unpack(head)
    if magic != MAGIC or length > MAX_FRAME:
        return None
    body = source.read(length)
    if len(body) < length or hashlib.sha256(body).digest() != digest:
        return None
    return json.loads(zlib.decompress(body).decode("utf-8"))


def write_frame(sink: BinaryIO, message: Json) -> None:
    """Write one answer and flush it."""
    body = zlib.compress(json.dumps(message, separators=(",", ":")).encode("utf-8"), 1)
    sink.write(HEADER.pack(MAGIC, len(body), hashlib.sha256(body).digest()) + body)
    sink.flush()


def to_text(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def to_bytes(text: str) -> bytes:
    return binascii.a2b_base64(text)


def boot_clock() -> float:
    """Seconds since boot, time asleep included; the same for every process on the host."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@functools.lru_cache(maxsize=None)
def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as source:
        return source.read().strip()


# --- small durable files in the state directory ------------------------------------------------------


def sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def store(path: str, payload: Json, durable: bool = True) -> None:
    """Write a small checksummed file in place; a torn one is recognised when it is read."""
    body = json.dumps(payload, separators=(",", ":")).encode("utf-8")
    fresh = durable and not os.path.exists(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        record = struct.pack(">I", len(body)) + hashlib.sha256(body).digest() + body
        offset = 0
        while offset < len(record):
            offset += os.pwrite(fd, record[offset:], offset)
        # What stood here before may have held a password; nothing of it may survive behind the new content.
        os.ftruncate(fd, len(record))
        if durable:
            os.fdatasync(fd)
    finally:
        os.close(fd)
    if fresh:
        sync_folder(os.path.dirname(path))


def store_whole(path: str, payload: Json) -> None:
    """Write a small checksummed file so that a crash leaves the old or the new one."""
    fresh = path + ".new"
    store(fresh, payload)
    os.rename(fresh, path)
    sync_folder(os.path.dirname(path))


def load(path: str) -> Optional[Json]:
    """Read a small checksummed file; None when it is absent or torn."""
    try:
        with open(path, "rb") as source:
            record = source.read()
    except FileNotFoundError:
        return None
    if len(record) < 36:
        return None
    (length,) = struct.unpack(">I", record[:4])
    body = record[36 : 36 + length]
    if len(body) < length or hashlib.sha256(body).digest() != record[4:36]:
        return None
    return json.loads(body.decode("utf-8"))


class Journal:
    """Two alternating slots; the newest valid one tells whether a batch may be half written."""

    def __init__(self, folder: str) -> None:
        self.paths: List[str] = [os.path.join(folder, "journal.0"), os.path.join(folder, "journal.1")]

    def newest(self) -> Json:
        entries = [entry for entry in (load(path) for path in self.paths) if entry is not None]
        empty: Json = {"seq": 0, "state": "applied", "token": [0, 0], "batch": "", "ops": [], "records": []}
        return max(entries, key=lambda entry: entry["seq"], default=empty)

    def write(self, entry: Json) -> None:
        store(self.paths[int(entry["seq"]) % 2], entry)

    def forget_older(self, newest: Json) -> None:
        """Clear the other slot, torn or not: it holds passwords and is of no further use."""
        store(self.paths[(int(newest["seq"]) + 1) % 2], dict(newest, seq=int(newest["seq"]) - 1), durable=False)


# --- the accounts file -------------------------------------------------------------------------------


def signature(info: os.stat_result) -> List[int]:
    return [info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns]


def open_accounts(path: str, flags: int) -> int:
    """Open the accounts file itself: a regular file with one link, at the end of its own path."""
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise trouble_of(error, "accounts file") from None
    try:
        info = os.fstat(fd)
        if info.st_nlink:
            check_plain(info)
            return fd
    except (OSError, Trouble):
        os.close(fd)
        raise
    # Replaced since it was opened: the file that counts is the next one.
    os.close(fd)
    return open_accounts(path, flags)


def open_at_rest(path: str) -> int:
    """Open the accounts file for reading once nobody writes to it; until it is closed nobody else will begin to.

    Half of somebody's file must not pass for all of it, and what we add to it would be written over.
    """
    fd = open_accounts(path, os.O_RDONLY)
    if not lease(fd, fcntl.F_RDLCK, WRITER_PATIENCE):
        os.close(fd)
        raise Trouble("busy", "see with `fuser` who")
    return fd


def check_plain(info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
        raise Trouble("unsafe_file", "not a regular file with exactly one link")


def check_name(path: str, fd: int) -> None:
    """Check that a path leads to an open file: an editor that saves by rename leaves one that nobody reads."""
    ours = os.fstat(fd)
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        raise Trouble("changed", "the accounts file was taken away") from None
    if not os.path.samestat(there, ours):
        raise Trouble("changed", "another file took the place of the accounts file")


def check_untouched(path: str, fd: int, before: bytes) -> None:
    """Check that an open file has a name still, that nobody has it open for writing, and that it is as it was."""
    if not lease(fd, fcntl.F_RDLCK, WRITER_PATIENCE) or read_all(fd) != before:
        raise Trouble("changed", "somebody else wrote to the accounts file")
    check_name(path, fd)


def read_all(fd: int) -> bytes:
    parts: List[bytes] = []
    offset = 0
    while True:
        part = os.pread(fd, 1 << 20, offset)
        if not part:
            return b"".join(parts)
        parts.append(part)
        offset += len(part)


def pwrite_all(fd: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data = data[written:]
        offset += written


def libc() -> ctypes.CDLL:
    # Python's own C library: looking for one by name would start programs, under the lock.
    return ctypes.CDLL(None, use_errno=True)


def reserve(fd: int, offset: int, length: int) -> None:
    """Make sure that an append can't run out of space half way, without changing the size readers see."""
    # Where a plain offset has 32 bits, the call that takes 64 has a name of its own; not every library knows it.
    fallocate = getattr(libc(), "fallocate64", None) or libc().fallocate
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, length) != 0:
        code = ctypes.get_errno()
        if code not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise trouble_of(OSError(code, ""), "reserving space")


def exchange(one: str, other: str) -> bool:
    """Let two files change names in one step; False where the system or the file system can't do that."""
    call = getattr(libc(), "renameat2", None)
    if call is None:
        return False
    if call(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        if code not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(code, os.strerror(code))
        return False
    return True


def lease(fd: int, kind: int, patience: float) -> bool:
    """Take a lease on an open file: who wants to open it in a way that the lease forbids waits until we close it.

    False if others have it open all that time (in seconds). True also where the system grants us none, which it does
    only to the owner of a file on a local file system: then the checks beside every write are all there is.
    """
    end = time.monotonic() + patience
    while True:
        try:
            # The signal that tells us of somebody waiting would end us if it were the usual one.
            fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(0.002)
        else:
            return True


def alone(fd: int) -> bool:
    """Whether a lease of ours has kept everybody else out all the time, even for reading."""
    return fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_WRLCK


def append(fd: int, data: bytes, planned: int) -> None:
    """Append at the end, wherever that is by now; Trouble if it is not where it was planned.

    Only the kernel knows the end at the moment of the write, and whoever appended before us keeps what he wrote.
    """
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_APPEND)
    try:
        in_place = True
        while data:
            written = os.write(fd, data)
            in_place = in_place and os.lseek(fd, 0, os.SEEK_CUR) == planned + written
            planned += written
            data = data[written:]
    finally:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
    if not in_place:
        raise Trouble("changed", "somebody else appended to the accounts file")


def decode_ops(rows: List[Any]) -> List[Op]:
    return [(int(offset), to_bytes(old), to_bytes(new)) for offset, old, new in rows]


def encode_ops(groups: List[List[Op]]) -> List[Any]:
    return [[[offset, to_text(old), to_text(new)] for offset, old, new in group] for group in groups]


def spans_of(groups: List[List[Op]], width: int) -> List[Tuple[int, int]]:
    """The stretches of whole records in which a plan changes something that was there before it."""
    spans: List[Tuple[int, int]] = []
    for offset, length in sorted((offset, len(new)) for group in groups for offset, old, new in group if old):
        start, end = offset // width * width, -(-(offset + length) // width) * width
        if spans and start < spans[-1][1]:
            last_start, last_end = spans.pop()
            spans.append((last_start, max(last_end, end)))
        else:
            spans.append((start, end))
    return spans


def undone_groups(entry: Json, current: bytes) -> List[List[Op]]:
    """What a crash left undone: the rest of the writes of every record that stands as one of them left it.

    A record that stands otherwise was changed by somebody else since, and none of its writes is done again: a
    single byte of them could switch on what is no longer ours.
    """
    if entry["state"] != "pending":
        return []
    shadow = bytearray(current)
    planned = [decode_ops(rows) for rows in entry["ops"]]
    todo: Dict[Tuple[int, int], Op] = {}
    inside: List[List[Tuple[Tuple[int, int], Op]]] = [[] for _ in entry["records"]]
    starts = [int(start) for start, _ in entry["records"]]
    for number, group in enumerate(planned):
        for place, op in enumerate(group):
            if op[1]:
                inside[bisect.bisect_right(starts, op[0]) - 1].append(((number, place), op))
                continue
            found = bytes(shadow[op[0] : op[0] + len(op[2])])
            if len(found) < len(op[2]) and op[2].startswith(found) and op[0] + len(found) == len(shadow):
                todo[number, place] = (op[0] + len(found), b"", op[2][len(found) :])
                shadow += op[2][len(found) :]
    for (start, before), ops in zip(entry["records"], inside):  # noqa: B905 - Python 3.7 has no strict
        states = [to_bytes(before)]
        for _, (offset, _, new) in ops:
            at = offset - start
            states.append(states[-1][:at] + new + states[-1][at + len(new) :])
        found = bytes(shadow[start : start + len(states[0])])
        for key, (offset, _, new) in ops[stopped_at(states, found) :]:
            todo[key] = (offset, bytes(shadow[offset : offset + len(new)]), new)
            shadow[offset : offset + len(new)] = new
    groups = [[todo[key] for key in sorted(todo) if key[0] == number] for number in range(len(planned))]
    return [group for group in groups if group]


def stopped_at(states: List[bytes], found: bytes) -> int:
    """After how many of a record's writes it stands as found, a torn one not counted; all of them if after none."""
    last = len(states) - 1
    for count in range(last, -1, -1):
        if found == states[count]:
            return count
    for count in range(last - 1, -1, -1):
        before, after = states[count], states[count + 1]
        if len(found) == len(before) and all(
            byte in pair
            for byte, *pair in zip(found, before, after)  # noqa: B905
        ):
            return count
    return last


def overlay(current: bytes, groups: List[List[Op]]) -> bytes:
    shadow = bytearray(current)
    for group in groups:
        for offset, _, new in group:
            shadow[offset : offset + len(new)] = new
    return bytes(shadow)


def records_in(fd: int, groups: List[List[Op]], width: int) -> List[Any]:
    """The whole records that a plan changes, as they stand before it; what it appends first counts as standing."""
    size = os.fstat(fd).st_size
    appended = b"".join(new for group in groups for _, old, new in group if not old)
    found: List[Any] = []
    for start, end in spans_of(groups, width):
        there = os.pread(fd, max(0, min(end, size) - start), start)
        new = appended[max(0, start - size) : max(0, end - size)]
        found.append([start, to_text(there + new)])
    return found


class Standing:
    """The records that a plan changes, as they must stand at every moment of it if nobody else writes.

    `size` is that of the file: what the plan appends stands only once that was done.
    """

    def __init__(self, fd: int, records: List[Any], size: int) -> None:
        self.fd = fd
        self.size = size
        self.starts: List[int] = [int(start) for start, _ in records]
        self.images: List[bytearray] = [bytearray(to_bytes(before)) for _, before in records]

    def carry_out(self, op: Op) -> None:
        """Do one write of the plan; Trouble if its record is not as the writes before it left it."""
        offset, old, new = op
        if not old:
            append(self.fd, new, offset)
            self.size += len(new)
            return
        place = bisect.bisect_right(self.starts, offset) - 1
        self.check(place)
        pwrite_all(self.fd, new, offset)
        at = offset - self.starts[place]
        self.images[place][at : at + len(new)] = new

    def check(self, place: int) -> None:
        image = bytes(self.images[place][: max(0, self.size - self.starts[place])])
        if os.pread(self.fd, len(image), self.starts[place]) != image:
            raise Trouble("changed", "somebody else wrote to the accounts file")

    def check_all(self) -> None:
        for place in range(len(self.starts)):
            self.check(place)


def verify(size: int, records: List[Any], groups: List[List[Op]]) -> None:
    """Check that every place holds the bytes that the plan was made for, earlier writes of the plan counted in.

    `size` is that of the file, `records` are those that the plan changes, as they stand before it.
    """
    starts = [int(start) for start, _ in records]
    images = [bytearray(to_bytes(before)) for _, before in records]
    for group in groups:
        for offset, old, new in group:
            if not old:
                if offset != size:
                    raise Trouble("changed", "the accounts file has another length")
                size += len(new)
                continue
            if len(old) != len(new):
                raise Trouble("bad_request", "an edit may not change a record's length")
            place = bisect.bisect_right(starts, offset) - 1
            at, end = offset - starts[place], offset - starts[place] + len(old)
            if offset + len(old) > size or bytes(images[place][at:end]) != old:
                raise Trouble("changed", "a record no longer holds what was expected")
            images[place][at:end] = new


# --- the daemon's own status pages -------------------------------------------------------------------


class StatusPages:
    """Reads the daemon's pages on the host's own loopback, with Basic or Digest authentication."""

    def __init__(self, url: str, auth: str, user: str, password: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self.address = parts.hostname or "127.0.0.1"
        self.port = parts.port or 80
        self.auth = auth
        self.user = user
        self.password = password
        self.timeout = STATUS_TIMEOUT
        self.count = 0
        self.lock = threading.Lock()
        self.challenge: Optional[Dict[str, str]] = None

    def get(self, path: str) -> Tuple[int, bytes]:
        """Fetch a page; status 0 with an empty body means that the daemon closed without any answer."""
        code, headers, body = self.once(path, self.authorization(path))
        if code == 401 and self.auth == "digest":
            self.challenge = parse_challenge(headers.get("WWW-Authenticate") or "")
            code, headers, body = self.once(path, self.authorization(path))
        return code, body

    def once(self, path: str, authorization: Optional[str]) -> Tuple[int, Any, bytes]:
        connection = http.client.HTTPConnection(self.address, self.port, timeout=self.timeout)
        try:
            headers = {"Connection": "close"}
            if authorization is not None:
                headers["Authorization"] = authorization
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except http.client.HTTPException:
            # MultiCS answers a question about an unknown client with zero bytes.
            return 0, {}, b""
        finally:
            connection.close()

    def authorization(self, path: str) -> Optional[str]:
        if self.auth == "basic" and self.user:
            return "Basic " + to_text(("%s:%s" % (self.user, self.password)).encode("utf-8"))
        challenge = self.challenge
        if self.auth != "digest" or challenge is None:
            return None
        with self.lock:
            self.count += 1
            count = "%08x" % self.count
        client_nonce = os.urandom(8).hex()
        realm, nonce = challenge.get("realm", ""), challenge.get("nonce", "")
        secret = md5("%s:%s:%s" % (self.user, realm, self.password))
        request = md5("GET:%s" % path)
        answer = md5("%s:%s:%s:%s:auth:%s" % (secret, nonce, count, client_nonce, request))
        fields = (
            'Digest username="%s", realm="%s", nonce="%s", uri="%s", qop=auth, nc=%s, cnonce="%s", response="%s"'
            % (self.user, realm, nonce, path, count, client_nonce, answer)
        )
        return fields + (', opaque="%s"' % challenge["opaque"] if "opaque" in challenge else "")


def md5(text: str) -> str:
    # HTTP Digest as OSCam speaks it knows nothing better; it never leaves the host's loopback.
    return hashlib.md5(text.encode("utf-8")).hexdigest()  # noqa: S324


def parse_challenge(header: str) -> Dict[str, str]:
    pairs = re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', header)
    return {name.lower(): quoted or bare for name, quoted, bare in pairs}


# --- requests ----------------------------------------------------------------------------------------


class Helper:
    """Serves one accounts file and one daemon for as long as the connection lives."""

    def __init__(self, setup: Json, bounds: Optional["Bounds"] = None) -> None:
        self.bounds = bounds
        if bounds is not None:
            bounds.check_setup(setup)
        self.accounts: str = setup["accounts_file"]
        self.folder: str = setup["state_dir"]
        self.lock_timeout: float = setup["lock_timeout"]
        self.quiet: float = setup["quiet_seconds"]
        self.close_triggers: bool = setup["close_triggers"]
        self.width: int = setup["record_width"]
        self.pages = StatusPages(**setup["status"])
        self.make_folder()
        self.journal = Journal(self.folder)

    def make_folder(self) -> None:
        try:
            os.makedirs(self.folder, 0o700, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise Trouble("state_denied", "it is not a folder") from None
        except OSError as error:
            raise trouble_of(error, "state_dir") from None
        if not os.access(self.folder, os.R_OK | os.W_OK | os.X_OK):
            raise Trouble("state_denied", "no right to write there")

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    # -- lock and reload window

    def locked(self) -> int:
        """Take the host's lock; the caller closes the descriptor, which releases it."""
        fd = os.open(self.path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        end = time.monotonic() + self.lock_timeout
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() >= end:
                    os.close(fd)
                    raise Trouble("lock_held", "another process holds the lock in state_dir") from None
                time.sleep(0.005)
            else:
                return fd

    def window(self) -> Json:
        found = load(self.path("window"))
        if found is None or found["boot"] != boot_id():
            return {"boot": boot_id(), "at": -1e9, "quiet": 0.0, "visible": 0.0}
        return found

    def wait_ms(self) -> int:
        """How long the daemon would still miss a trigger; 0 when it listens."""
        window = self.window()
        return max(0, int((window["at"] + window["quiet"] - boot_clock()) * 1000) + 1)

    def quiet_for(self, visible: float) -> float:
        """Twice the time to visible on top of the fixed part (daemons.md, rule 8)."""
        return max(self.quiet, self.quiet * 2 / 3 + 2 * visible)

    def note_trigger(self) -> None:
        window = self.window()
        quiet = self.quiet_for(window["visible"])
        store(self.path("window"), dict(window, at=boot_clock(), quiet=quiet), durable=False)

    def note_visible(self, visible: float) -> None:
        window = self.window()
        quiet = self.quiet_for(visible) if self.close_triggers else self.quiet
        store(self.path("window"), dict(window, quiet=quiet, visible=visible), durable=False)

    def note_proven(self) -> None:
        store(self.path("window"), dict(self.window(), proven=boot_clock()), durable=False)

    # -- requests

    def hello(self, _: Json) -> Json:
        entry = self.journal.newest()
        return {
            "version": VERSION,
            "python": "%d.%d" % sys.version_info[:2],
            "clock": time.time(),
            "token": entry["token"],
            "pending": entry["state"] == "pending" or bool(self.owed_kicks()),
            "bound": self.bounds is not None,
        }

    def read(self, _: Json) -> Json:
        """The accounts file as it will stand once a pending batch is completed."""
        lock = self.locked()
        try:
            with contextlib.suppress(FileNotFoundError):
                # What a replacement left that was cut short: it holds everybody's passwords.
                os.unlink(self.other_name())
            fd = open_at_rest(self.accounts)
            try:
                # Taken first: a change while we read must not pass for what was read.
                sign = signature(os.fstat(fd))
                current = read_all(fd)
            finally:
                os.close(fd)
            entry = self.journal.newest()
            undone = undone_groups(entry, current)
            return {
                "signature": sign,
                "recover": entry["state"] == "pending",
                "body": to_text(zlib.compress(overlay(current, undone), 1)),
            }
        finally:
            os.close(lock)

    def apply(self, request: Json) -> Json:
        """Carry out one batch: all of its writes with one close, then the reload, then the proof."""
        lock = self.locked()
        try:
            wait = self.wait_ms()
            if wait and request["trigger"] is not None:
                return {"wait_ms": wait}
            edited, sign = self.edit(request)
            triggered = self.pull_trigger(request["trigger"], edited)
        finally:
            os.close(lock)
        answer = self.prove(request, triggered, edited)
        answer["signature"] = sign
        return answer

    def check_token(self, entry: Json, token: List[int]) -> None:
        if token < entry["token"]:
            # Told so that the worker can tell a newer writer from a ledger that was set back.
            raise Trouble("fenced", "%d/%d" % tuple(entry["token"]))

    def edit(self, request: Json) -> Tuple[bool, List[int]]:
        """Write what the batch asks for; True if the file was opened for writing and closed."""
        entry = self.journal.newest()
        self.check_token(entry, request["token"])
        fd = open_at_rest(self.accounts)
        try:
            sign = signature(os.fstat(fd))
            if entry["batch"] == request["batch"] and entry["state"] == "applied":
                return False, sign
            if sign != request["signature"]:
                raise Trouble("changed", "the accounts file was changed by somebody else")
            groups = [decode_ops(rows) for rows in request["groups"]]
            undone = undone_groups(entry, read_all(fd)) if entry["state"] == "pending" else []
            todo = undone + [group for group in groups if group]
            records = records_in(fd, todo, self.width)
            verify(sign[2], records, todo)
        finally:
            os.close(fd)
        if todo:
            return True, self.write(request, entry, undone, todo, records, sign)
        self.settle(entry, request["token"], "")
        return False, sign

    def settle(self, entry: Json, token: List[int], batch: str) -> None:
        """Note that nothing is left to be done, and forget what was: it holds passwords."""
        settled: Json = {
            "seq": entry["seq"] + 1,
            "state": "applied",
            "token": token,
            "batch": batch,
            "ops": [],
            "records": [],
        }
        self.journal.write(settled)
        self.journal.forget_older(settled)

    def write(
        self,
        request: Json,
        entry: Json,
        undone: List[List[Op]],
        todo: List[List[Op]],
        records: List[Any],
        sign: List[int],
    ) -> List[int]:
        """Journal, write every group in order, sync, close once; the close is what MultiCS waits for.

        Whoever writes at the same moment keeps what he wrote, and we answer `changed`. The journal then stays pending:
        recovery does the rest where a record still stands as we left it, and leaves alone what stands otherwise.
        """
        fd = open_accounts(self.accounts, os.O_RDWR)
        try:
            lease(fd, fcntl.F_WRLCK, READER_PATIENCE)
            if signature(os.fstat(fd)) != sign:
                raise Trouble("changed", "the accounts file was changed by somebody else")
            appended = sum(len(new) for group in todo for _, old, new in group if not old)
            if appended:
                reserve(fd, sign[2], appended)
            pending: Json = {
                "seq": entry["seq"] + 1,
                "state": "pending",
                "token": request["token"],
                "batch": request["batch"],
                "ops": encode_ops(undone) + [rows for rows in request["groups"] if rows],
                "records": records,
            }
            try:
                if request["kicks"]:
                    self.owe_kicks(request["kicks"])
                self.journal.write(pending)
            except OSError as error:
                raise trouble_of(error, "journal in state_dir") from None
            try:
                standing = Standing(fd, records, sign[2])
                for number, group in enumerate(todo):
                    if number and not alone(fd):
                        # A reader that saw the next group must have had time to finish reading the one before.
                        time.sleep(SETTLE_SECONDS)
                    for op in group:
                        standing.carry_out(op)
                os.fdatasync(fd)
                # Taken before the close: what somebody else writes after us must not pass for ours.
                sign = signature(os.fstat(fd))
                standing.check_all()
                check_name(self.accounts, fd)
            except OSError as error:
                raise trouble_of(error, "writing the accounts file") from None
        finally:
            os.close(fd)
            if self.close_triggers:
                self.note_trigger()
        self.settle(pending, request["token"], request["batch"])
        return sign

    def replace(self, request: Json) -> Json:
        """Put a whole new file in place of the old one by rename; never used where a daemon watches the inode."""
        lock = self.locked()
        try:
            entry = self.journal.newest()
            self.check_token(entry, request["token"])
            fd = open_accounts(self.accounts, os.O_RDONLY)
            try:
                current = read_all(fd)
                # Taken last: what somebody appended while we read must not pass for what was laid out anew.
                info = os.fstat(fd)
                if signature(info) != request["signature"] or undone_groups(entry, current):
                    raise Trouble("changed", "the accounts file is not the one that was read")
                self.settle(entry, request["token"], "")
                fresh = self.new_file(info, zlib.decompress(to_bytes(request["body"])))
                self.put_in_place(fd, info, fresh, current)
            except OSError as error:
                raise trouble_of(error, "replacing the accounts file") from None
            finally:
                os.close(fd)
            return {"signature": signature(os.stat(self.accounts, follow_symlinks=False))}
        finally:
            os.close(lock)

    def other_name(self) -> str:
        folder, name = os.path.split(self.accounts)
        return os.path.join(folder, "." + name + ".twinline")

    def new_file(self, info: os.stat_result, content: bytes) -> str:
        """Write a new file beside the old one, with its owner and mode; returns its path."""
        fresh = self.other_name()
        try:
            out = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                made = os.fstat(out)
                if (made.st_uid, made.st_gid) != (info.st_uid, info.st_gid):
                    # A file that the daemon can no longer read would cost everybody's account: better no new layout.
                    os.fchown(out, info.st_uid, info.st_gid)
                os.fchmod(out, stat.S_IMODE(info.st_mode))
                pwrite_all(out, content, 0)
                os.fsync(out)
            finally:
                os.close(out)
        except OSError:
            # It holds everybody's passwords, and may be half of a full disk.
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise
        return fresh

    def put_in_place(self, fd: int, info: os.stat_result, fresh: str, before: bytes) -> None:
        """Let the new file take the name, unless somebody wrote to the old one (open as `fd`) or replaced it meanwhile.

        The two change names, so that what somebody wrote at the last moment can still be seen and brought back.
        """
        try:
            if exchange(fresh, self.accounts):
                try:
                    check_untouched(fresh, fd, before)
                except Trouble:
                    exchange(fresh, self.accounts)
                    raise
            else:
                if signature(os.stat(self.accounts, follow_symlinks=False)) != signature(info):
                    raise Trouble("changed", "the accounts file was changed by somebody else")
                os.rename(fresh, self.accounts)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)
        sync_folder(os.path.dirname(self.accounts))

    def pull_trigger(self, trigger: Optional[Json], edited: bool) -> bool:
        """Ask the daemon to reload, in the way that it understands; a request is not yet a fact."""
        if edited and self.close_triggers:
            return True
        if trigger is None:
            return False
        method = trigger["method"]
        if self.bounds is not None:
            self.bounds.check_trigger(trigger)
        self.note_trigger()
        if method == "close":
            os.close(open_accounts(self.accounts, os.O_WRONLY | os.O_APPEND))
        elif method == "get":
            # OSCam answers when the reload is over, which takes seconds with thousands of accounts.
            self.pages.timeout = RELOAD_TIMEOUT
            try:
                code, _ = self.pages.get(trigger["path"])
            except OSError as error:
                raise no_answer(error) from None
            finally:
                self.pages.timeout = STATUS_TIMEOUT
            if code == 401:
                raise Trouble("status_refused", "the daemon refused our user or password")
        elif method == "signal":
            self.send_hangup(trigger["pid_file"])
        elif method == "argv":
            self.run_command(trigger["argv"])
        return True

    def send_hangup(self, pid_file: str) -> None:
        try:
            with open(pid_file) as source:
                os.kill(checked_pid(int(source.read().strip())), signal.SIGHUP)
        except PermissionError:
            raise Trouble("reload_failed", "this user may not read reload.pid_file or signal the daemon") from None
        except (OSError, ValueError):
            raise Trouble("reload_failed", "no running daemon behind reload.pid_file") from None

    def run_command(self, argv: List[str]) -> None:
        try:
            done = subprocess.run(
                argv,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=30,
            )
        except (OSError, subprocess.TimeoutExpired):
            raise Trouble("reload_failed", "reload.argv could not be run or did not end in 30 s") from None
        if done.returncode != 0:
            raise Trouble("reload_failed", "reload.argv ended with %d" % done.returncode)

    # -- proof

    def prove(self, request: Json, triggered: bool, edited: bool) -> Json:
        """Ask the daemon again and again until it holds every change, or the time is up."""
        if any(kick["begun"] for kick in self.owed_kicks()):
            # Somebody died between off and on: that customer waits for nothing else.
            self.carry_out_kicks([])
        started = boot_clock()
        # A host that took long before takes long again; another trigger would only make it longer.
        known = 3 * self.window()["visible"] if triggered else 0.0
        end = time.monotonic() + max(request["deadline"], known)
        waiting: Dict[str, Json] = {probe["id"]: probe for probe in request["probes"]}
        proven: List[str] = []
        trouble = ""
        pause = 0.01
        measuring = triggered
        looks = 0
        while waiting:
            self.pages.timeout = max(1.0, min(STATUS_TIMEOUT, end - time.monotonic()))
            now_proven, loaded, trouble = self.look(list(waiting.values()))
            looks += 1
            if measuring and loaded:
                # What was loaded before we asked says nothing about this reload.
                if edited or looks > 1:
                    self.note_visible(boot_clock() - started)
                measuring = False
            for name in now_proven:
                proven.append(name)
                del waiting[name]
            if not waiting or time.monotonic() + pause > end or trouble == "refused":
                break
            time.sleep(pause)
            pause = min(pause * 1.5, 0.25)
        self.pages.timeout = STATUS_TIMEOUT
        if triggered and request["probes"] and not waiting:
            self.note_proven()
        self.carry_out_kicks(proven)
        return {"proven": proven, "status_error": trouble, "wait_ms": self.wait_ms()}

    def look(self, probes: List[Json]) -> Tuple[List[str], bool, str]:
        """Which probes hold now, whether all are at least loaded, and what kept us from reading, if anything did.

        The first check of a probe is what a reload brings about; flags and sessions may follow seconds later.
        """
        pages, trouble = self.fetch({check["path"] for probe in probes for check in probe["checks"]})
        loaded = all(shows(check, pages) for probe in probes for check in probe["checks"][:1])
        return [probe["id"] for probe in probes if holds(probe, pages)], loaded, trouble

    def fetch(self, paths: Set[str]) -> Tuple[Dict[str, str], str]:
        """Some pages by path, an unread one empty, and what kept us from reading, if anything did."""
        pages: Dict[str, str] = {}
        trouble = ""
        hung = threading.Event()

        def one(path: str) -> Tuple[str, int, bytes]:
            # One page that hangs speaks for all of them: a thousand time-outs would keep the worker waiting.
            if hung.is_set():
                return path, -1, b""
            try:
                code, body = self.pages.get(path)
            except OSError as error:
                if isinstance(error, socket.timeout):
                    hung.set()
                return path, -1, b""
            return path, code, body

        with ThreadPoolExecutor(STATUS_CONNECTIONS) as pool:
            for path, code, body in pool.map(one, sorted(paths)):
                pages[path] = body.decode("latin-1")
                if code == 401:
                    trouble = "refused"
                elif code < 0 and not trouble:
                    trouble = "unreachable"
        return pages, trouble

    def probe(self, request: Json) -> Json:
        """Look again, after another trigger if the window allows one; with a `signature`, only at the file it is of."""
        lock = self.locked()
        try:
            entry = self.journal.newest()
            self.check_token(entry, request["token"])
            if "signature" in request and signature(self.look_at_file()) != request["signature"]:
                raise Trouble("changed", "the accounts file was changed by somebody else")
            wait = self.wait_ms()
            if wait and request["trigger"] is not None:
                return {"wait_ms": wait}
            if request["token"] > entry["token"]:
                # What is proven now must not be undone by an older batch that is still on its way.
                self.journal.write(dict(entry, seq=entry["seq"] + 1, token=request["token"]))
            triggered = self.pull_trigger(request["trigger"], False)
        finally:
            os.close(lock)
        return self.prove(request, triggered, False)

    # -- kicks

    def owed_kicks(self) -> List[Json]:
        found = load(self.path("kick"))
        return list(found["kicks"]) if found is not None else []

    def owe_kicks(self, kicks: List[Json]) -> None:
        """Remember the kicks of a batch before anything of it is written: a crash must not lose them."""
        newer = {kick["on"] for kick in kicks}
        owed = [kick for kick in self.owed_kicks() if kick["on"] not in newer or kick["begun"]]
        store_whole(self.path("kick"), {"kicks": owed + [dict(kick, begun=False) for kick in kicks]})

    def carry_out_kicks(self, proven: List[str]) -> None:
        """Close live sessions by switching the account off and on again, once the daemon holds the change.

        What is switched off stays owed until it is seen to be on, or gone: a crash in between must not leave a
        customer disabled. A kick that can't be finished takes its half out of what is proven.
        """
        if not self.owed_kicks():
            return
        # Two helpers at once would each forget the kicks that only the other one knows.
        lock = self.locked()
        try:
            owed = self.owed_kicks()
            left: List[Json] = []
            for kick in owed:
                try:
                    done = self.carry_out(kick, owed, kick["id"] in proven)
                except OSError:
                    done = False
                if not done:
                    left.append(kick)
                    if kick["id"] in proven:
                        proven.remove(kick["id"])
            store_whole(self.path("kick"), {"kicks": left})
        finally:
            os.close(lock)

    def carry_out(self, kick: Json, owed: List[Json], seen: bool) -> bool:
        if not kick["begun"]:
            if not seen and not self.any_holds([kick["ready"]]):
                return False
            kick["begun"] = True
            store_whole(self.path("kick"), {"kicks": owed})
        # Off again even if somebody began before us: whether that came as far as the session, nobody knows.
        self.pages.get(kick["off"])
        self.pages.get(kick["on"])
        return self.any_holds(kick["settled"])

    def any_holds(self, alternatives: List[Json]) -> bool:
        """Whether the daemon shows one of several things."""
        return any(self.look([{"id": "", "checks": checks}])[0] for checks in alternatives)

    # -- looking around

    def look_at_file(self) -> os.stat_result:
        """The accounts file without opening it: an open could be refused in the moment of somebody's edit."""
        try:
            info = os.stat(self.accounts, follow_symlinks=False)
        except OSError as error:
            raise trouble_of(error, "accounts file") from None
        check_plain(info)
        return info

    def scan(self, request: Json) -> Json:
        """Every match of a pattern in one of the daemon's pages, for counting and comparing account names."""
        try:
            code, body = self.pages.get(request["path"])
        except OSError as error:
            raise no_answer(error) from None
        if code == 401:
            raise Trouble("status_refused", "the daemon refused our user or password")
        return {"code": code, "found": re.findall(request["pattern"], body.decode("latin-1"))}

    def values(self, request: Json) -> Json:
        """What each of some patterns finds first in its page, None for nothing, to tell how accounts are loaded."""
        pages, trouble = self.fetch({wish["path"] for wish in request["wishes"]})
        if trouble:
            raise Trouble("status_" + trouble, "a page of the daemon")
        found: List[List[Optional[str]]] = []
        for wish in request["wishes"]:
            matches = [re.search(pattern, pages[wish["path"]], re.DOTALL) for pattern in wish["patterns"]]
            found.append([None if match is None else match.group(1) for match in matches])
        return {"found": found}

    def recall(self, _: Json) -> Json:
        """The names of others that the accounts file held when it was last read; None before the first time."""
        found = load(self.path("others"))
        return {"others": None if found is None else found["others"]}

    def remember(self, request: Json) -> Json:
        """Keep those names, so that their loss is noticed after a new connection, too."""
        lock = self.locked()
        try:
            store_whole(self.path("others"), {"others": request["others"]})
        finally:
            os.close(lock)
        return {}

    def traces(self, request: Json) -> Json:
        """Which files hold one of these words, as a whole word: the accounts file, and everything of ours.

        A batch that is not settled counts as one: what it holds is encoded, and goes when it is completed.
        """
        words = b"|".join(re.escape(word.encode("utf-8")) for word in request["words"])
        pattern = re.compile(rb"(?<![0-9A-Za-z])(?:" + words + rb")(?![0-9A-Za-z])")
        lock = self.locked()
        try:
            ours = [self.path(name) for name in sorted(os.listdir(self.folder))]
            found = [path for path in [self.accounts, self.other_name(), *ours] if file_holds(path, pattern)]
            found += [path for path in self.journal.paths if (load(path) or {"ops": []})["ops"]]
            return {"found": [os.path.basename(path) for path in found]}
        finally:
            os.close(lock)

    def inspect(self, request: Json) -> Json:
        """Facts about the file, its folder and this account; with `around`, about everything beside them too."""
        info = self.look_at_file()
        space = os.statvfs(os.path.dirname(self.accounts) or "/")
        around = look_around(self, info, request["around"]) if "around" in request else {}
        return {
            **around,
            "user": os.geteuid(),
            "owner": info.st_uid,
            "mode": stat.S_IMODE(info.st_mode),
            "size": info.st_size,
            "writable": os.access(self.accounts, os.W_OK),
            "free_bytes": space.f_bavail * space.f_frsize,
            "clock": time.time(),
            "utc_offset": time.localtime().tm_gmtoff,
        }


def file_holds(path: str, pattern: "re.Pattern[bytes]") -> bool:
    """Whether something stands in a file; not in one that is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and pattern.search(read_all(fd)) is not None
    finally:
        os.close(fd)


def checked_pid(pid: int) -> int:
    """A number that stands for one process: 0 and below stand for many, 1 for the whole host."""
    if pid <= 1:
        raise ProcessLookupError(errno.ESRCH, "no process of a daemon")
    return pid


def holds(probe: Json, pages: Dict[str, str]) -> bool:
    """Whether every page shows what it must and nothing that it must not."""
    return all(shows(check, pages) for check in probe["checks"])


def shows(check: Json, pages: Dict[str, str]) -> bool:
    page = pages[check["path"]]
    wanted = all(re.search(pattern, page, re.DOTALL) for pattern in check["must"])
    return wanted and not any(re.search(pattern, page, re.DOTALL) for pattern in check["must_not"])


# --- what a forced command allows -----------------------------------------------------------------------


class Bounds:
    """What the key that we were started with is for, as the words of its line in authorized_keys say.

    They are the accounts file, `state_dir`, the URL of the status pages, and the reload if there is one that needs
    a process: `sighup` and the pid file, or `command` and its words. Whoever has the key gets nothing else.
    """

    def __init__(self, words: List[str]) -> None:
        self.accounts, self.folder, self.url = words[:3]
        self.reload = words[3:]

    def check_setup(self, setup: Json) -> None:
        asked = (setup["accounts_file"], setup["state_dir"], setup["status"]["url"])
        for name, here, there in zip(  # noqa: B905 - Python 3.7 has no strict
            ("accounts_file", "state_dir", "status.url"), (self.accounts, self.folder, self.url), asked
        ):
            if here != there:
                raise Trouble("not_allowed", "another " + name)

    def check_trigger(self, trigger: Json) -> None:
        asked = {"signal": ["sighup", trigger["pid_file"]], "argv": ["command"] + trigger["argv"]}
        if trigger["method"] in asked and asked[trigger["method"]] != self.reload:
            raise Trouble("not_allowed", "another reload")


# --- looking around, for `host check` -------------------------------------------------------------------
# What this user may not see is told as {"unseen": why}: a fact that is missing must not pass for a good one.

DAEMON_FILES: Dict[str, Tuple[Tuple[str, ...], str, Dict[str, bytes]]] = {
    # The option that names the file or its folder, its name in a folder, and the settings that are told: no other is.
    "multics": (("-C",), "", {"http_editor": rb"(?im)^\s*HTTP EDITOR\s*:\s*(\w+)"}),
    "oscam": (
        ("-c", "--config-dir"),
        "oscam.conf",
        {
            "reload_useraccounts": rb"(?im)^ *reload_useraccounts[ \t]*=[ \t]*(\w+)",
            "httpreadonly": rb"(?im)^ *httpreadonly[ \t]*=[ \t]*(\w+)",
        },
    ),
}
LISTENS = "0A"
MOST_BESIDE = 100


def look_around(helper: Helper, info: os.stat_result, around: Json) -> Json:
    """Who else is at the file, what lies beside it, how the daemon runs, and what the last reload was like."""
    accounts = os.path.realpath(helper.accounts)
    files = {accounts: "accounts"}
    sockets = listeners(around["ports"])
    lock: Optional[int] = None
    try:
        # While we have it, whoever still has the file open is not one of our own.
        lock = helper.locked()
    except Trouble:
        files[os.path.realpath(helper.path("lock"))] = "lock"
    try:
        seen = look_at_processes(files, [each["inode"] for each in sockets if each["port"] == around["ports"][0]])
    finally:
        if lock is not None:
            os.close(lock)
    daemons = seen.pop("daemons")
    here = [pid for pid in daemons if shares_our_files(pid)]
    mains = main_files(around["daemon"], here, os.path.dirname(accounts))
    return {
        **seen,
        "listeners": [{"port": each["port"], "address": each["address"]} for each in sockets],
        "zone": zone_of(daemons, here, around["instants"]),
        "config": settings_of(around["daemon"], mains),
        "beside": beside(accounts, [os.path.dirname(path) for path in mains]),
        "folder": folder_facts(os.path.dirname(accounts)),
        "pid_file": pid_facts(around["pid_file"], daemons) if around["pid_file"] else None,
        "reload": reload_facts(helper.window()),
        "written": written_facts(helper.journal.paths, info),
    }


def unseen(error: OSError) -> Json:
    return {"unseen": os.strerror(error.errno) if error.errno else type(error).__name__}


def listeners(ports: List[int]) -> List[Json]:
    """Every socket of this host on which one of the ports is served."""
    found: List[Json] = []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), open("/proc/net/" + name) as source:
            for row in (line.split() for line in source.readlines()[1:]):
                address, _, port = row[1].partition(":")
                if row[3] == LISTENS and int(port, 16) in ports:
                    found.append({"port": int(port, 16), "address": address, "inode": row[9]})
    return found


def look_at_processes(files: Dict[str, str], inodes: List[str]) -> Json:
    """Who has one of the files open, and who serves one of the sockets; `hidden` counts who can't be looked into."""
    holders: List[Json] = []
    daemons: List[int] = []
    # A host that hides the first process from us hides all others too.
    hidden = 0 if os.path.exists("/proc/1") else 1
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            if pid == os.getpid() or not words_of(pid)[0]:
                continue  # ourselves, a thread of the kernel, or one that only waits to be buried
            numbers = os.listdir("/proc/%d/fd" % pid)
        except PermissionError:
            hidden += 1
            continue
        except OSError:
            continue
        for number in numbers:
            with contextlib.suppress(OSError):
                link = os.readlink("/proc/%d/fd/%s" % (pid, number))
                if link.startswith("socket:[") and link[8:-1] in inodes:
                    daemons.append(pid)
                path, gone, _ = link.partition(" (deleted)")
                if path in files:
                    holders.append(holder(pid, number, files[path], bool(gone)))
    return {"holders": holders, "hidden": hidden, "daemons": sorted(set(daemons))}


def holder(pid: int, number: str, what: str, gone: bool) -> Json:
    with open("/proc/%d/fdinfo/%s" % (pid, number)) as source:
        flags = int(source.read().split("flags:")[1].split()[0], 8)
    return {"pid": pid, "name": name_of(pid), "what": what, "writes": bool(flags & os.O_ACCMODE), "gone": gone}


def name_of(pid: int) -> str:
    with open("/proc/%d/comm" % pid) as source:
        return source.read().strip()


def words_of(pid: int) -> List[str]:
    with open("/proc/%d/cmdline" % pid, "rb") as source:
        return [os.fsdecode(word) for word in source.read().split(b"\0")]


def shares_our_files(pid: int) -> bool:
    """Whether a process has the same root as we: in a container the same path leads elsewhere."""
    with contextlib.suppress(OSError):
        theirs, ours = os.stat("/proc/%d/root/" % pid), os.stat("/")
        return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)
    return False


def zone_of(daemons: List[int], here: List[int], instants: List[float]) -> Json:
    """The local time at these instants, as seconds east of UTC, in the daemon's own zone if it can be seen."""
    why = "the daemon's process can't be seen" if not daemons else "the daemon runs in a file system of its own"
    for pid in here:
        try:
            with open("/proc/%d/environ" % pid, "rb") as source:
                words = dict(word.split(b"=", 1) for word in source.read().split(b"\0") if b"=" in word)
        except OSError as error:
            why = "the daemon's environment can't be seen: " + os.strerror(error.errno or 0)
            continue
        zone = words.get(b"TZ")
        named = None if zone is None else os.fsdecode(zone)
        return {"of": "daemon", "tz": named, "offsets": offsets(named, instants)}
    own = os.environ.get("TZ")
    return {"of": "helper", "unseen": why, "tz": own, "offsets": offsets(own, instants)}


def offsets(zone: Optional[str], instants: List[float]) -> List[int]:
    before = os.environ.get("TZ")
    try:
        set_zone(zone)
        return [time.localtime(instant).tm_gmtoff for instant in instants]
    finally:
        set_zone(before)


def set_zone(zone: Optional[str]) -> None:
    os.environ.pop("TZ", None)
    if zone is not None:
        os.environ["TZ"] = zone
    time.tzset()


def main_files(daemon: str, here: List[int], folder: str) -> List[str]:
    """Where the daemon's own settings may stand: as it was told when it started, else beside the accounts."""
    options, name, _ = DAEMON_FILES[daemon]
    found: List[str] = []
    for pid in here:
        with contextlib.suppress(OSError):
            words, start = words_of(pid), os.readlink("/proc/%d/cwd" % pid)
            for number, word in enumerate(words[:-1]):
                if word in options:
                    found.append(os.path.join(start, words[number + 1], name).rstrip("/"))
    return found or ([os.path.join(folder, name)] if name else [])


def settings_of(daemon: str, mains: List[str]) -> Json:
    """A few settings of the daemon; the last of several lines counts, and what is not written is None."""
    why: Json = {"unseen": "only the daemon's process tells where it stands, and that can't be looked into"}
    for path in mains:
        try:
            with open(path, "rb") as source:
                text = source.read()
        except OSError as error:
            why = dict(unseen(error), path=path)
            continue
        found = {name: re.findall(pattern, text) for name, pattern in DAEMON_FILES[daemon][2].items()}
        values = {name: lines[-1].decode("latin-1") if lines else None for name, lines in found.items()}
        return {"path": path, "values": values}
    return why


def beside(accounts: str, more: List[str]) -> Json:
    """Files whose name contains that of the accounts file, there and in the folders of the daemon's settings."""
    name = os.path.basename(accounts)
    found: List[Json] = []
    hidden: List[str] = []
    for folder in sorted({os.path.dirname(accounts)}.union(more)):
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            hidden.append(folder)
            continue
        for path in [os.path.join(folder, other) for other in names if name in other]:
            if os.path.realpath(path) == accounts:
                continue
            with contextlib.suppress(OSError):
                info = os.lstat(path)
                kind = "file" if stat.S_ISREG(info.st_mode) else "link" if stat.S_ISLNK(info.st_mode) else "other"
                age = time.time() - info.st_mtime
                found.append({"path": path, "kind": kind, "mode": stat.S_IMODE(info.st_mode), "age": age})
    return {"found": found[:MOST_BESIDE], "hidden": hidden}


def folder_facts(folder: str) -> Json:
    info = os.stat(folder)
    return {"writable": os.access(folder, os.W_OK | os.X_OK), "mode": stat.S_IMODE(info.st_mode)}


def pid_facts(path: str, daemons: List[int]) -> Json:
    """Whether the process of a pid file runs, may be signalled by us, and serves the status page or is its parent."""
    try:
        with open(path) as source:
            pid = int(source.read().strip())
    except OSError as error:
        return unseen(error)
    except ValueError:
        return {"unseen": "it holds no number"}
    may_signal = True
    try:
        os.kill(checked_pid(pid), 0)
    except PermissionError:
        may_signal = False
    except OSError:
        return {"runs": False}
    serves = None if not daemons else pid in daemons or pid in [parent_of(daemon) for daemon in daemons]
    return {"runs": True, "may_signal": may_signal, "pid": pid, "name": name_of(pid), "serves": serves}


def parent_of(pid: int) -> int:
    try:
        with open("/proc/%d/stat" % pid) as source:
            return int(source.read().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def reload_facts(window: Json) -> Json:
    """How many seconds ago the last reload was asked for and the last one proven, since the host has started."""
    now = boot_clock()
    asked = now - window["at"] if window["at"] >= 0 else None
    proven = now - window["proven"] if "proven" in window else None
    return {"asked": asked, "proven": proven, "visible": window["visible"]}


def written_facts(journal: List[str], info: os.stat_result) -> Json:
    """How many seconds ago our last batch was settled, and when the file was changed if that was later."""
    settled = [os.stat(path).st_mtime_ns for path in journal if os.path.exists(path)]
    if not settled:
        return {"ago": None, "changed": None}
    changed = max(info.st_mtime_ns, info.st_ctime_ns)
    later = changed > max(settled)
    now = time.time()
    return {"ago": now - max(settled) / 1e9, "changed": now - changed / 1e9 if later else None}


REQUESTS = ("read", "apply", "replace", "probe", "scan", "values", "recall", "remember", "traces", "inspect", "hello")


def answer_to(
    helper: Optional[Helper], request: Json, bounds: Optional[Bounds] = None
) -> Tuple[Optional[Helper], Json]:
    """Carry out one request; the first one must be `hello`, which says what this helper serves."""
    name = request["do"]
    if name == "hello":
        helper = Helper(request["setup"], bounds)
    if helper is None or name not in REQUESTS:
        raise Trouble("bad_request")
    return helper, getattr(helper, name)(request)


def serve(source: BinaryIO, sink: BinaryIO, bounds: Optional[Bounds] = None) -> None:
    """Answer requests until the input ends or stops making sense."""
    helper: Optional[Helper] = None
    while True:
        request = read_frame(source)
        if request is None:
            return
        answer: Json
        try:
            helper, result = answer_to(helper, request, bounds)
            answer = {"ok": result}
        except Trouble as trouble:
            answer = {"trouble": trouble.code, "detail": trouble.detail}
        except OSError as error:
            found = trouble_of(error, "host")
            answer = {"trouble": found.code, "detail": found.detail}
        write_frame(sink, answer)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # A forced command says behind the allowed programs' hashes what its key is for.
        serve(sys.stdin.buffer, sys.stdout.buffer, Bounds(sys.argv[2:]) if len(sys.argv) > 1 else None)
    except BrokenPipeError:
        os._exit(0)
