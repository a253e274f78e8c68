"""The golden corpus: what the real daemons loaded, handed to the project beside the repository."""

import base64
import os
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter


class LoadedAccount(BaseModel):
    """One account as the daemon reported it; fields of the other daemon stay at their default."""

    model_config = ConfigDict(extra="forbid")
    user: str
    user_b64: str | None = None
    password: str | None = None
    password_b64: str | None = None
    disabled: int = 0
    status: str | int
    expires: str | None
    server: int = 0
    extra: dict[str, str] | list[tuple[str, str]]

    @property
    def user_bytes(self) -> bytes:
        return base64.b64decode(self.user_b64) if self.user_b64 else self.user.encode()

    @property
    def password_bytes(self) -> bytes | None:
        if self.password_b64:
            return base64.b64decode(self.password_b64)
        return None if self.password is None else self.password.encode()


class Counts(BaseModel):
    """The numbers of OSCam's "userdb reloaded" line."""

    accounts: int
    expired: int
    disabled: int


class Case(BaseModel):
    """One account file and what came of it."""

    model_config = ConfigDict(extra="forbid")
    name: str
    topic: str
    why: str
    file_b64: str
    loaded: list[LoadedAccount]
    main: str | None = None
    counts: Counts | None = None
    stderr: list[str] | None = None
    log: list[str] | None = None
    undefined: bool = False
    notes: str = ""

    @property
    def file(self) -> bytes:
        return base64.b64decode(self.file_b64)


class Header(BaseModel):
    """How the daemon was set up; the main file only exists for MultiCS."""

    main: str = ""
    main_common: str = ""


class HeaderElement(BaseModel):
    """The first element of each corpus file."""

    header: Header


def _shared() -> Path:
    beside = Path(__file__).resolve().parents[2].parent / "shared"
    return Path(os.environ.get("TWINLINE_SHARED", str(beside)))


@cache
def corpus(daemon: str) -> tuple[Header, tuple[Case, ...]]:
    """Return header and cases; a missing corpus is a failure with a sentence, never a skip."""
    path = _shared() / "corpus" / f"{daemon}.json"
    if not path.is_file():
        raise AssertionError(
            "The golden corpus is missing: lay the shared directory beside the repository "
            "or name it in TWINLINE_SHARED; without it the stand-ins are not proven."
        )
    elements = TypeAdapter(list[HeaderElement | Case]).validate_json(path.read_bytes())
    header = elements[0]
    if not isinstance(header, HeaderElement):
        raise TypeError("the corpus has changed its form: no header in front")
    return header.header, tuple(case for case in elements if isinstance(case, Case))
