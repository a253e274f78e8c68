"""Reads the body of a request as one JSON object, and refuses whatever could be read in two ways."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Final, cast

from fastapi import Request
from pydantic_core import from_json
from starlette.requests import ClientDisconnect

from starter.api.problems import HttpProblem

LARGEST_BODY: Final = 16 * 1024
"""Bytes; the largest order there can be is a tenth of it."""
LARGEST_RUN: Final = 8 * 1024 * 1024
"""Bytes: ten thousand rows as long as one can be that is right."""
_CHARSETS: Final = ("", "charset=utf-8", 'charset="utf-8"')


@dataclass(frozen=True)
class Bounds:
    """How large a body may be, in bytes, how many seconds it may take to arrive, and what to do with a larger one."""

    largest: int
    patience: float
    hint: str


OF_ORDER: Final = Bounds(LARGEST_BODY, 10.0, "Send one order, and nothing else.")
OF_RUN: Final = Bounds(LARGEST_RUN, 60.0, "Make several runs of it.")


class _TwiceThere(ValueError):
    """A name stands twice in one JSON object."""


async def read_object(request: Request, bounds: Bounds = OF_ORDER) -> dict[str, Any]:
    """The JSON object in the body; raises HttpProblem."""
    if media_type(request) != "application/json":
        raise HttpProblem(
            "NotJson", "the body is not declared as application/json", hint="Send  Content-Type: application/json"
        )
    body = await read_body(request, bounds)
    # A large one would keep every other request waiting.
    return _object(body) if len(body) <= LARGEST_BODY else await asyncio.to_thread(_object, body)


def _object(body: bytes) -> dict[str, Any]:
    try:
        # Strict and bounded in depth, but of a name that stands there twice it takes the last.
        found: object = from_json(body, allow_inf_nan=False)
        json.loads(body, object_pairs_hook=_refuse_twice, parse_int=len)
    except _TwiceThere:
        raise HttpProblem("BadRequest", "a name stands twice in the body", hint="Send each field once.") from None
    except ValueError:
        # Its text would quote the body.
        raise HttpProblem("BadRequest", "the body is not JSON", hint="Send one JSON object in UTF-8.") from None
    if not isinstance(found, dict):
        raise HttpProblem("BadRequest", "the body is not a JSON object", hint="Send one JSON object in UTF-8.")
    return cast("dict[str, Any]", found)


def _refuse_twice(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise _TwiceThere


def media_type(request: Request) -> str:
    """How the body is declared; nothing for what is not UTF-8."""
    found, _, parameters = request.headers.get("content-type", "").partition(";")
    return found.strip().lower() if parameters.strip().lower() in _CHARSETS else ""


async def read_body(request: Request, bounds: Bounds) -> bytes:
    """The body, whole; raises HttpProblem."""
    largest = bounds.largest
    too_large = HttpProblem("BodyTooLarge", f"the body is larger than {largest} bytes", hint=bounds.hint)
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > largest:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(bounds.patience):
            async for chunk in request.stream():
                body += chunk
                if len(body) > largest:
                    raise too_large
    except TimeoutError:
        raise HttpProblem("BodyTooLate", "the body did not arrive in time", hint="Send it again.") from None
    except ClientDisconnect:
        raise HttpProblem("BadRequest", "the body was cut off", hint="Send it again.") from None
    return bytes(body)
