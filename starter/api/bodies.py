"""Reads the body of a request as one JSON object, and refuses whatever could be read in two ways."""

import asyncio
import json
from typing import Any, Final, cast

from fastapi import Request
from pydantic_core import from_json
from starlette.requests import ClientDisconnect

from starter.api.problems import HttpProblem

LARGEST_BODY: Final = 16 * 1024
"""Bytes; the largest order there can be is a tenth of it."""
BODY_PATIENCE: Final = 10.0
"""Seconds."""
_CHARSETS: Final = ("", "charset=utf-8", 'charset="utf-8"')


class _TwiceThere(ValueError):
    """A name stands twice in one JSON object."""


async def read_object(request: Request, *, largest: int = LARGEST_BODY) -> dict[str, Any]:
    """The JSON object in the body, of at most `largest` bytes; raises HttpProblem."""
    body = await _body(request, largest)
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


async def _body(request: Request, largest: int) -> bytes:
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    if media_type.strip().lower() != "application/json" or parameters.strip().lower() not in _CHARSETS:
        raise HttpProblem(
            "NotJson", "the body is not declared as application/json", hint="Send  Content-Type: application/json"
        )
    too_large = HttpProblem(
        "BodyTooLarge", f"the body is larger than {largest} bytes", hint="Send one order, and nothing else."
    )
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > largest:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_PATIENCE):
            async for chunk in request.stream():
                body += chunk
                if len(body) > largest:
                    raise too_large
    except TimeoutError:
        raise HttpProblem("BodyTooLate", "the body did not arrive in time", hint="Send it again.") from None
    except ClientDisconnect:
        raise HttpProblem("BadRequest", "the body was cut off", hint="Send it again.") from None
    return bytes(body)
