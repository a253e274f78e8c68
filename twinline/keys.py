"""The key ring: seals what must not be read, and makes marks and hashes that outlive a rotation.

Sealing keys rotate: the primary seals, every key in the ring opens. The stable key never rotates, because
what it made (marks in host files, hashes of persons) must come out the same again. A process notices that the file was
replaced since it read it, so that a rotation needs no restart. A key that is retired is destroyed but for the part
that opens Temporal's payloads: workflows may sleep for years, and what they were told must still open.
"""

import base64
import binascii
import hmac
import json
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from twinline.errors import Category, Misconfigured, TwinlineError

log = logging.getLogger(__name__)

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_VERSION: Final = b"\x01"
_MAX_FILE_BYTES: Final = 1 << 20
_KEY_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}", re.ASCII)
_PRIVATE_BITS: Final = stat.S_IRUSR | stat.S_IWUSR


class KeyRingError(TwinlineError):
    """Something sealed could not be opened; retrying helps only after the key ring was repaired."""

    category: ClassVar[Category] = Category.REFUSED


_KeyId = Annotated[str, StringConstraints(pattern=f"^{_KEY_ID.pattern}$")]
PAYLOADS: Final = "payload"
"""The purpose of what Temporal keeps; retired keys still serve it."""


class _RingFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    primary: str
    keys: dict[_KeyId, str]
    stable: str
    payload_keys: dict[_KeyId, str] = Field(default_factory=dict[str, str])
    """What is left of retired keys."""


class KeyRing:
    """Keys for sealing (AES-256-GCM) and for keyed hashes (HMAC-SHA256), each purpose with a key of its own.

    Nonces are random, so one key must not seal more than 2**32 times (NIST SP 800-38D, 8.3): rotate before.
    """

    __slots__ = ("_ciphers", "_keys", "_mac_keys", "_path", "_payload_keys", "_primary", "_seen", "_stable")

    def __init__(
        self,
        *,
        primary: str,
        keys: Mapping[str, bytes],
        stable: bytes,
        payload_keys: Mapping[str, bytes] | None = None,
    ) -> None:
        """Build a ring from raw 32-byte keys; raises ValueError, without key material, when they do not fit."""
        payload_keys = payload_keys or {}
        for key_id, key in (*keys.items(), *payload_keys.items()):
            if not _KEY_ID.fullmatch(key_id):
                raise ValueError("a key id is not of the form [a-z0-9][a-z0-9._-]{0,31}")
            if len(key) != _KEY_BYTES:
                raise ValueError(f'key "{key_id}" is not {_KEY_BYTES} bytes long')
        if len(stable) != _KEY_BYTES:
            raise ValueError(f'"stable" is not {_KEY_BYTES} bytes long')
        if primary not in keys:
            raise ValueError('"primary" names no key of "keys"')
        self._primary = primary
        self._keys = dict(keys)
        self._payload_keys = dict(payload_keys)
        self._stable = stable
        self._ciphers: dict[tuple[str, str], AESGCM] = {}
        self._mac_keys: dict[str, bytes] = {}
        self._path: Path | None = None
        self._seen: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return "KeyRing(…)"

    def __reduce__(self) -> str:
        # Pickling would put the keys into whatever stores or logs the pickle.
        raise TypeError("a key ring is not pickled")

    @property
    def primary(self) -> str:
        """The id (not secret) of the key that seals now."""
        return self._primary

    @classmethod
    def create(cls, path: Path) -> Self:
        """Write a new ring of fresh random keys to `path`, readable by us alone, and load it.

        Raises Misconfigured when the file exists (a ring is never overwritten) or cannot be written.
        """
        content = _RingFile(primary="k1", keys={"k1": _fresh_key()}, stable=_fresh_key())
        try:
            _write_private(path, _text_of(content))
        except FileExistsError:
            raise Misconfigured(
                f"the key ring {path} exists already and is never overwritten",
                hint="Use it as it is, or name another file. Without it nothing sealed so far can be opened.",
            ) from None
        except OSError as error:
            raise _not_written(path, error) from None
        return cls.load(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the ring from `path`; raises Misconfigured when it is missing, readable by others or broken."""
        seen = _signature(path)
        ring = cls._of(path, _read_file(path))
        ring._path, ring._seen = path, seen
        return ring

    @classmethod
    def rotate(cls, path: Path) -> Self:
        """Add a fresh key to the ring at `path`, let it seal from now on, and load the ring.

        The file is replaced whole, so a crash leaves the old ring or the new one. Raises Misconfigured.
        """
        file = _read_file(path)
        cls._of(path, file)
        fresh = _next_id((*file.keys, *file.payload_keys))
        _replace(path, file.model_copy(update={"primary": fresh, "keys": {**file.keys, fresh: _fresh_key()}}))
        return cls.load(path)

    @classmethod
    def retire(cls, path: Path, key_id: str) -> Self:
        """Destroy an old key of the ring at `path`, but for the part that opens Temporal's payloads, and load the ring.

        See first that nothing else needs it: what it sealed can't be opened again. Raises KeyRingError (it seals
        now, or there is no such key), Misconfigured.
        """
        file = _read_file(path)
        ring = cls._of(path, file)
        if key_id == file.primary:
            raise KeyRingError(f'the key "{key_id}" seals now', hint="Run `twinline keys rotate` first.")
        if key_id not in file.keys:
            raise KeyRingError(
                f'the key ring has no key "{key_id}" to retire',
                hint=f"Its old keys: {', '.join(ring.old_keys) or 'none'}.",
            )
        left = {other: text for other, text in file.keys.items() if other != key_id}
        part = base64.b64encode(_subkey(ring._keys[key_id], "seal", PAYLOADS)).decode()
        parts = {**file.payload_keys, key_id: part}
        _replace(path, file.model_copy(update={"keys": left, "payload_keys": parts}))
        return cls.load(path)

    @property
    def old_keys(self) -> tuple[str, ...]:
        """The ids of keys that open everything they sealed, and seal no more."""
        return tuple(key_id for key_id in self._keys if key_id != self._primary)

    def seal(self, plain: bytes, *, aad: bytes, purpose: str = "ledger") -> bytes:
        """Encrypt with the primary key; `aad` says where the result belongs and is needed to open it."""
        if self._path is not None and _signature(self._path) != self._seen:
            # What an old key sealed could never be opened again once that is retired.
            self._follow(self._path)
        header = _header(self._primary)
        nonce = os.urandom(_NONCE_BYTES)
        return header + nonce + self._cipher(self._primary, purpose).encrypt(nonce, plain, header + aad)

    def open(self, sealed: bytes, *, aad: bytes, purpose: str = "ledger") -> bytes:
        """Decrypt what any key of this ring sealed with the same `aad` and purpose; raises KeyRingError."""
        key_id = key_of(sealed)
        if not self._has(key_id, purpose) and self._path is not None:
            self._read_again(self._path)
        if key_id in self._payload_keys and purpose != PAYLOADS:
            raise KeyRingError(
                f'a sealed value needs the key "{key_id}", which was destroyed (`twinline keys retire`)',
                hint="Nothing can open it; is this ledger a backup of before that?",
            )
        if not self._has(key_id, purpose):
            raise KeyRingError(
                f'a sealed value needs the key "{key_id}", which the key ring lacks',
                hint='Put that key back under "keys" of the key ring file; old keys must stay in it.',
            )
        header = _header(key_id)
        body = len(header) + _NONCE_BYTES
        try:
            return self._cipher(key_id, purpose).decrypt(sealed[len(header) : body], sealed[body:], header + aad)
        except InvalidTag:
            raise KeyRingError(
                "a sealed value was altered, belongs elsewhere, or was sealed by another ring",
                hint="Check that ledger and key ring belong together and were restored together.",
            ) from None

    def mac(self, purpose: str, *parts: str) -> bytes:
        """Keyed hash of the parts, 32 bytes, the same for ever; no two lists of parts share an input."""
        key = self._mac_keys.get(purpose)
        if key is None:
            key = self._mac_keys[purpose] = _subkey(self._stable, "mac", purpose)
        digest = hmac.new(key, digestmod="sha256")
        for part in parts:
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8, "big"))
            digest.update(encoded)
        return digest.digest()

    @classmethod
    def _of(cls, path: Path, file: _RingFile) -> Self:
        try:
            keys, parts = (
                {key_id: _decoded(f'key "{key_id}"', text) for key_id, text in each.items()}
                for each in (file.keys, file.payload_keys)
            )
            return cls(primary=file.primary, keys=keys, stable=_decoded('"stable"', file.stable), payload_keys=parts)
        except ValueError as error:
            raise _broken(path, error) from None

    def _has(self, key_id: str, purpose: str) -> bool:
        return key_id in self._keys or (purpose == PAYLOADS and key_id in self._payload_keys)

    def _follow(self, path: Path) -> None:
        """Take over a ring that was replaced; a broken one is told once and must not stop orders: ours still seals."""
        try:
            self._read_again(path)
        except Misconfigured as error:
            self._seen = _signature(path)
            log.warning("the key ring that was read before stays in use: %s", error.message)

    def _read_again(self, path: Path) -> None:
        """Take over a ring that was replaced since we read it; one that is not ours any more stays outside."""
        found = self.load(path)
        self._seen = found._seen
        if found._stable == self._stable:
            self._primary, self._keys, self._payload_keys = found._primary, found._keys, found._payload_keys
            self._ciphers.clear()

    def _cipher(self, key_id: str, purpose: str) -> AESGCM:
        cipher = self._ciphers.get((key_id, purpose))
        if cipher is None:
            master = self._keys.get(key_id)
            cipher = AESGCM(self._payload_keys[key_id] if master is None else _subkey(master, "seal", purpose))
            self._ciphers[key_id, purpose] = cipher
        return cipher


def _subkey(key: bytes, use: str, purpose: str) -> bytes:
    info = f"twinline/1/{use}/{purpose}".encode()
    return HKDF(algorithm=hashes.SHA256(), length=_KEY_BYTES, salt=None, info=info).derive(key)


def _header(key_id: str) -> bytes:
    name = key_id.encode()
    return _VERSION + bytes([len(name)]) + name


def key_of(sealed: bytes) -> str:
    """The id (not secret) of the key that sealed a value; raises KeyRingError."""
    malformed = KeyRingError(
        "a value is not something that a key ring sealed",
        hint="Check that the data was written by this version of twinline or an older one.",
    )
    if len(sealed) < 2 or sealed[:1] != _VERSION:
        raise malformed
    body = 2 + sealed[1]
    name = sealed[2:body].decode("ascii", errors="replace")
    if len(sealed) < body + _NONCE_BYTES + _TAG_BYTES or not _KEY_ID.fullmatch(name):
        raise malformed
    return name


def _fresh_key() -> str:
    return base64.b64encode(secrets.token_bytes(_KEY_BYTES)).decode()


def _next_id(key_ids: Iterable[str]) -> str:
    numbers = [int(key_id[1:]) for key_id in key_ids if re.fullmatch(r"k[0-9]{1,9}", key_id)]
    return f"k{max(numbers, default=0) + 1}"


def _text_of(content: _RingFile) -> bytes:
    return (json.dumps(content.model_dump(exclude_unset=True), indent=2) + "\n").encode()


def _signature(path: Path) -> tuple[int, int] | None:
    """Which file stands there; None while none does, as in the moment of a replacement by hand."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _replace(path: Path, content: _RingFile) -> None:
    """Put a ring in place of another one whole: a crash leaves the old or the new one. Raises Misconfigured."""
    beside = path.with_name(f".{path.name}.new")
    try:
        _write_private(beside, _text_of(content))
        beside.rename(path)
        _sync_folder(path.parent)
    except FileExistsError:
        raise Misconfigured(
            f"{beside} is in the way: another change of the ring runs, or one was cut short",
            hint=f"If no other one runs, remove {beside} and repeat this; the ring itself is whole.",
        ) from None
    except OSError as error:
        raise _not_written(path, error) from None


def private_line(path: Path, what: str) -> str:
    """The one line of a small file that only we can read; `what` names it in sentences. Raises Misconfigured."""
    try:
        line = _read_private(path, what).decode("ascii").strip()
    except ValueError:
        line = ""
    if not line or line.split() != [line]:
        raise Misconfigured(f"{what} {path} is not one line of plain characters", hint="Write it anew.")
    return line


def _read_file(path: Path) -> _RingFile:
    try:
        return _RingFile.model_validate_json(_read_private(path, "the key ring"))
    except ValidationError as error:
        # Only where and what kind: pydantic's own text may quote the content.
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"][:1]) or "the file"
        raise _broken(path, ValueError(f"{where}: {first['type'].replace('_', ' ')}")) from None
    except ValueError as error:
        raise _broken(path, error) from None


def _broken(path: Path, error: ValueError) -> Misconfigured:
    return Misconfigured(
        f"the key ring {path} is broken: {error}",
        hint='Restore it from its backup: {"primary": id, "keys": {id: base64 of 32 bytes}, "stable": base64 of 32 '
        "bytes}.",
    )


def _not_written(path: Path, error: OSError) -> Misconfigured:
    return Misconfigured(
        f"the key ring {path} cannot be written: {error.strerror}",
        hint=f"Let this user create files in {path.parent}.",
    )


def _decoded(name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{name} is not base64") from None


def _read_private(path: Path, what: str) -> bytes:
    try:
        # O_NONBLOCK: opening a named pipe by mistake must not hang.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _require_private(path, what, os.fstat(descriptor))
            content = os.read(descriptor, _MAX_FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise Misconfigured(f"{what} {path} does not exist", hint=f"Correct the setting that names {what}.") from None
    except OSError as error:
        raise Misconfigured(
            f"{what} {path} cannot be read: {error.strerror}",
            hint="Run as the user that owns it.",
        ) from None
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError("larger than any key ring")
    return content


def _require_private(path: Path, what: str, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        raise Misconfigured(f"{what} {path} is not a file", hint=f"Correct the setting that names {what}.")
    if status.st_uid != os.geteuid():
        raise Misconfigured(
            f"{what} {path} belongs to user {status.st_uid}, twinline runs as user {os.geteuid()}",
            hint=f"Run: chown {os.geteuid()} {path}",
        )
    if mode & ~_PRIVATE_BITS:
        raise Misconfigured(
            f"{what} {path} has mode {mode:04o}, others could read or change it",
            hint=f"Run: chmod 600 {path}. If others could read it before, replace what is in it.",
        )


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except OSError:
        path.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
