"""Hints for callers of the API: errors name commands, because most who read them sit at a terminal."""

import re
from collections.abc import Mapping
from typing import Final

ROUTES: Final[Mapping[str, str]] = {
    "block": "POST /v1/blocks",
    "unblock": "POST /v1/unblocks",
    "password": "POST /v1/passwords",
    "purchase": "POST /v1/purchases",
    "renew": "POST /v1/renewals",
    "move": "POST /v1/moves",
    "close": "POST /v1/closes",
    "line show": "GET /v1/lines/{username}",
    "line list": "GET /v1/lines",
    "order show": "GET /v1/orders/{id}",
    "order list": "GET /v1/orders",
    "order cancel": "POST /v1/orders/{id}/cancel",
}
"""What does over HTTP what a command does."""
OPERATOR: Final = "the operator"
"""Who is to be asked for what there is no route for."""

_COMMAND: Final = re.compile(r"`twinline ([a-z]+(?: [a-z]+)*)[^`]*`")


def over_http(hint: str) -> str:
    """The hint with routes for commands."""
    return _COMMAND.sub(_route, hint)


def _route(found: re.Match[str]) -> str:
    words = found[1].split()
    for length in (2, 1):
        if (route := ROUTES.get(" ".join(words[:length]))) is not None:
            return f"`{route}`"
    return OPERATOR
