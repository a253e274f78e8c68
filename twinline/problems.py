"""What is wrong with a hand-written table, said by its keys: sentences for the operator instead of pydantic's.

A field's description says what its value must be and its first example what to write. No value of a secret
field, of an unknown key or of a whole table is ever repeated: it might be a password in the wrong place.
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from twinline.errors import UnknownHost

_RULE: Final = "rule"
_MOST_SHOWN: Final = 80
_MORE_TO_COME: Final = "default_factory_not_called"
"""Pydantic's error for a default that depends on another field, which has an error of its own."""

Table = Mapping[str, object]
_Where = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One mistake: the sentence names key and value, the hint says what to do."""

    sentence: str
    hint: str


def broken_rule(sentence: str, hint: str) -> PydanticCustomError:
    """What a validator raises to speak in our words; `sentence` goes on after the key."""
    return PydanticCustomError(_RULE, "{sentence}", {"sentence": sentence, "hint": hint})


def quoted(value: object) -> str:
    """Show a value as TOML would write it, bounded; texts that may hold a secret only by their kind."""
    if isinstance(value, str):
        revealing = "://" in value and ("@" in value or "?" in value)
        if len(value) > _MOST_SHOWN or not value.isprintable() or revealing:
            return f"a text of {len(value)} characters"
    elif isinstance(value, Mapping):
        return "a table"
    elif isinstance(value, Sequence):
        return "a list"
    elif not isinstance(value, int | float):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def bounded(text: str) -> str:
    """A text in quotation marks, cut where it is longer than any name."""
    return f'"{text}"' if len(text) <= _MOST_SHOWN else f'"{text[:_MOST_SHOWN]}…"'


def nearest(word: str, among: Iterable[str]) -> str:
    """A question after the word most like this one, with a blank behind it, or nothing."""
    close = difflib.get_close_matches(word, list(among), n=1)
    return f'Did you mean "{close[0]}"? ' if close else ""


def unknown_host(name: str, names: Sequence[str]) -> UnknownHost:
    """That none of these hosts has that name."""
    return UnknownHost(
        f"there is no host {quoted(name)}",
        hint=f"{nearest(name, names)}The hosts are: {', '.join(names) or 'none'}.",
    )


def problems_of(prefix: str, table: type[BaseModel], error: ValidationError) -> Iterator[Problem]:
    """Say each mistake that pydantic found in `table`; `prefix` stands before every key."""
    for detail in error.errors(include_url=False):
        if detail["type"] != _MORE_TO_COME:
            yield _problem(prefix, table, detail)


def unknown_key(prefix: str, key: str, known: Iterable[str]) -> Problem:
    """Say that a (dotted) key is none of those known in its table."""
    known = tuple(known)
    return Problem(
        f"{prefix}unknown key {quoted(key)}",
        f"{nearest(key.rpartition('.')[2], known)}The keys here are {', '.join(known)}.",
    )


def _problem(prefix: str, table: type[BaseModel], detail: ErrorDetails) -> Problem:
    where = detail["loc"]
    key = prefix + ".".join(part for part in where if isinstance(part, str))
    match detail["type"]:
        case "rule":
            context = detail.get("ctx", {})
            return Problem(f"{key} {context['sentence']}", context["hint"])
        case "extra_forbidden":
            around = _table_at(table, where[:-1])
            return unknown_key(prefix, key.removeprefix(prefix), around.model_fields)
        case "missing":
            field = _field_at(table, where)
            return Problem(f"{key} is missing", f"Add {where[-1]} = {_example(field)}: {field.description}.")
        case _:
            field = _field_at(table, where)
            return Problem(
                f"{key} {_found(field, where, detail['input'])}, but must be {field.description}",
                f"Write for example {_last_name(where)} = {_example(field)}.",
            )


def _found(field: FieldInfo, where: _Where, value: object) -> str:
    if field.annotation is SecretStr:
        return "is unfit" if isinstance(value, str) else "is not a text"
    if isinstance(where[-1], int):
        return f"holds {quoted(value)}"
    if _inner_table(field) is not None:
        return "is something else"
    if get_origin(field.annotation) is tuple:
        return "is not a list"
    return f"is {quoted(value)}"


def _last_name(where: _Where) -> str:
    return [part for part in where if isinstance(part, str)][-1]


def _field_at(table: type[BaseModel], where: _Where) -> FieldInfo:
    names = [part for part in where if isinstance(part, str)]
    return _table_at(table, tuple(names[:-1])).model_fields[names[-1]]


def _table_at(table: type[BaseModel], where: _Where) -> type[BaseModel]:
    for name in where:
        inner = _inner_table(table.model_fields[str(name)])
        if inner is None:
            raise TypeError(f"{table.__name__}.{name} is no table")
        table = inner
    return table


def _inner_table(field: FieldInfo) -> type[BaseModel] | None:
    choices: tuple[Any, ...] = get_args(field.annotation) or (field.annotation,)
    for choice in choices:
        if isinstance(choice, type) and issubclass(choice, BaseModel):
            return choice
    return None


def _example(field: FieldInfo) -> str:
    return _toml(field.examples[0] if field.examples else "…")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_toml(inner)}' for key, inner in cast('Table', value).items())}}}"
    return json.dumps(value, ensure_ascii=False)
