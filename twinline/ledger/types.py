"""Column types that behave the same on SQLite and on PostgreSQL."""

import re
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

from sqlalchemy import DateTime, String
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

Name = TypeVar("Name", bound=StrEnum)
T = TypeVar("T")


def utc(moment: datetime) -> datetime:
    """Give the same moment in UTC.

    Raises:
        ValueError: the moment has no zone, so nobody can know which moment it is.
    """
    if moment.utcoffset() is None:
        raise ValueError("a moment without a zone")
    return moment.astimezone(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, kept in UTC to the microsecond; naive values are refused, and what is read is aware."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        moment = utc(value)
        # SQLite keeps text: one fixed form without a zone is what makes its comparisons right.
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002 - the signature is SQLAlchemy's
    ) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Named(TypeDecorator[Name]):
    """One name out of an enumeration, kept as its text: a new member needs no migration."""

    impl = String(16)
    cache_ok = True

    def __init__(self, names: type[Name]) -> None:
        super().__init__()
        self.names = names

    def process_bind_param(
        self,
        value: Name | None,
        dialect: Dialect,  # noqa: ARG002 - the signature is SQLAlchemy's
    ) -> str | None:
        return None if value is None else self.names(value).value

    def process_result_value(
        self,
        value: str | None,
        dialect: Dialect,  # noqa: ARG002 - the signature is SQLAlchemy's
    ) -> Name | None:
        return None if value is None else self.names(value)


_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}", re.ASCII)


def error_code(code: str) -> str:
    """Let only a code through, never a sentence: texts of servers can quote addresses and credentials.

    Raises:
        ValueError: `code` is more than a code; its text is not repeated.
    """
    if not _CODE.fullmatch(code):
        raise ValueError("not an error code of the form [A-Za-z0-9._:-]{1,64}")
    return code


def chunks(several: Sequence[T], size: int = 500) -> Generator[Sequence[T]]:
    """Cut what may be long: databases bound the number of parameters of a statement."""
    for start in range(0, len(several), size):
        yield several[start : start + size]
