"""Every answer that is no success is a problem of RFC 9457 (`application/problem+json`), with nothing of our inside."""

import inspect
import logging
import math
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import Field
from starlette.exceptions import HTTPException

from starter.api.hints import over_http
from starter.invalid import BadRows, FieldProblem
from twinline.bulk import RowProblem
from twinline.errors import (
    ORDER_ERRORS,
    Category,
    ComesTooSoon,
    InvalidOrder,
    InvalidRows,
    InvalidToken,
    Misconfigured,
    OrderConflict,
    PairFull,
    RegionFull,
    ScopeMissing,
    TooManyRequests,
    TrialRangeUsed,
    TwinlineError,
    Unavailable,
    UnknownBulk,
    UnknownLine,
    UnreadableFile,
    UsernameTaken,
)
from twinline.messages import Message

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
ERRORS: Final = "/api/errors/"
NO_STORE: Final = {"cache-control": "no-store"}

# Of plain HTTP; every other type is the name of an error of the house.
OF_HTTP: Final = {
    "BadRequest": (HTTPStatus.BAD_REQUEST, "The request is none that HTTP or JSON allows."),
    "NoSuchPath": (HTTPStatus.NOT_FOUND, "The API has no such path."),
    "MethodNotAllowed": (HTTPStatus.METHOD_NOT_ALLOWED, "The path does not take that method."),
    "BodyTooLate": (HTTPStatus.REQUEST_TIMEOUT, "The body did not arrive in time."),
    "BodyTooLarge": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is larger than any that can be right."),
    "NotJson": (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body is not declared as application/json."),
    "InternalError": (HTTPStatus.INTERNAL_SERVER_ERROR, "Something here is broken; the operator's log has more."),
}
_PASSING: Final = ("InternalError", "BodyTooLate")
_FIELDS: Final = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate", "Always `Bearer`."),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After", "After how many seconds it is worth trying again."),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After", "After how many seconds it is worth trying again."),
}
_BY_STATUS: Final = {status.value: name for name, (status, _) in OF_HTTP.items()}

_BY_CATEGORY: Final = {
    Category.USAGE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Category.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Category.REFUSED: HTTPStatus.CONFLICT,
    Category.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}
_BY_TYPE: Final[Mapping[type[TwinlineError], HTTPStatus]] = {
    InvalidToken: HTTPStatus.UNAUTHORIZED,
    ScopeMissing: HTTPStatus.FORBIDDEN,
    TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    TrialRangeUsed: HTTPStatus.TOO_MANY_REQUESTS,
    OrderConflict: HTTPStatus.UNPROCESSABLE_ENTITY,
    # Nothing that the caller could repair, and what it names is not for him.
    Misconfigured: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_OF_RUNS: Final = (InvalidRows, UnknownBulk, UnreadableFile)
_SHOWN: Final = frozenset(
    {*ORDER_ERRORS.values(), *_OF_RUNS, InvalidToken, ScopeMissing, TooManyRequests, TrialRangeUsed}
)
_UNTOLD: Final[Mapping[str, str]] = {
    Unavailable.__name__: "Nothing is lost: send the same request again, with the same id.",
    UnknownLine.__name__: "Check the spelling; GET /v1/lines lists the lines that this token may see.",
    UsernameTaken.__name__: "GET /v1/lines/{username} tells whether it is the same customer's; leave the row out.",
    RegionFull.__name__: "Tell the operator, and repeat the order when there is room.",
    PairFull.__name__: "Name another pair, or repeat the order when there is room.",
}
"""Types whose words are for the operator: callers read the meaning and this hint."""
RETRY_AFTER: Final = "5"
MOST_ROWS: Final = 100
"""Of a problem; a dry run tells of all."""
PAGES: Final = Path(__file__).parent / "errors"
"""A page about each type, as plain text."""


class Problem(Message):
    """A problem of RFC 9457; `type` is stable and leads to a page about it."""

    type: str = Field(examples=["/api/errors/OrderConflict"])
    title: str = Field(examples=["The order id was used before for something else."])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["this order id was used before for something else"])
    hint: str = Field(examples=["Take a new id for a new order."])
    retryable: bool = Field(description="Whether the same request can succeed later.")
    errors: tuple[FieldProblem, ...] = Field(default=(), description="What is wrong with which field.")
    rows: tuple[RowProblem, ...] = Field(
        default=(), description=f"What is wrong with which row, {MOST_ROWS} at most; a dry run tells of all."
    )


class BadFields(InvalidOrder):
    """A field of the order can never be right."""

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        super().__init__("; ".join(problem.sentence for problem in problems), hint="Nothing was done; correct it.")
        self.problems = problems

    @property
    def type(self) -> str:
        return InvalidOrder.__name__


class HttpProblem(Exception):
    """A request that is refused for how it was sent; `name` is one of OF_HTTP."""

    def __init__(self, name: str, detail: str, *, hint: str) -> None:
        super().__init__(name)
        self.problem = _of_http(name, detail, hint)


def _known() -> Mapping[str, tuple[HTTPStatus, str, bool]]:
    of_house = {
        error.__name__: (_status(error), _meaning(error), error.retryable)
        for error in _SHOWN
        if error is not Misconfigured
    }
    of_http = {name: (status, meaning, name in _PASSING) for name, (status, meaning) in OF_HTTP.items()}
    return dict(sorted((of_house | of_http).items()))


def known_types() -> dict[str, str]:
    """All types with their meaning."""
    return {name: meaning for name, (_, meaning, _) in KNOWN.items()}


def page_of(name: str) -> str:
    """What a type means, when it comes and what to do then; raises HttpProblem for none of ours."""
    if name not in KNOWN:
        raise HttpProblem("NoSuchPath", "there is no such type", hint="Types stand in `type` of a problem.")
    status, meaning, retryable = KNOWN[name]
    again = "can succeed later" if retryable else "can't succeed as long as nothing else changes"
    text = (PAGES / f"{name}.md").read_text()
    return f"# {name}\n\n{meaning}\n\nStatus {status.value}. The same request {again}.\n\n{text}"


def told(name: str, message: str, hint: str) -> tuple[str, str]:
    """What callers read of an error: of some not its words, which are for the operator, but what it means."""
    if name not in KNOWN:
        name = "InternalError"
        return _in_passing(KNOWN[name][1]), "Tell the operator."
    if name not in _UNTOLD:
        return message, over_http(hint)
    return _in_passing(KNOWN[name][1]), _UNTOLD[name]


def row_told(problem: RowProblem) -> RowProblem:
    """What callers read of a row that can't be carried out."""
    message, hint = told(problem.type, problem.message, problem.hint)
    return problem.model_copy(update={"message": message, "hint": hint})


def _in_passing(meaning: str) -> str:
    return meaning[0].lower() + meaning[1:].rstrip(".")


def declared(*names: str) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that may fail with these types, for its description; any may fail by our fault."""
    answers: dict[int | str, dict[str, Any]] = {}
    for name in (*names, "InternalError"):
        status, meaning, retryable = KNOWN[name]
        problem = Problem(
            type=ERRORS + name,
            title=meaning,
            status=status,
            detail=_in_passing(meaning),
            hint="The page of this type says what to do.",
            retryable=retryable,
        )
        answer = answers.setdefault(status.value, {"description": "", "content": {MEDIA_TYPE: {"examples": {}}}})
        answer["description"] = f"{answer['description']} {name}: {meaning}".strip()
        media = answer["content"][MEDIA_TYPE]
        media["schema"] = {"$ref": "#/components/schemas/Problem"}
        media["examples"][name] = {"value": problem.model_dump(mode="json", exclude_defaults=True)}
        if field := _FIELDS.get(status):
            answer["headers"] = {field[0]: {"description": field[1], "schema": {"type": "string"}}}
    return answers


def install(app: FastAPI) -> None:
    """Let every failure of the app be told as a problem."""
    app.add_exception_handler(TwinlineError, _on_error)
    app.add_exception_handler(HttpProblem, _on_http_problem)
    app.add_exception_handler(RequestValidationError, _on_query)
    app.add_exception_handler(HTTPException, _on_http)


async def _on_error(_: Request, error: Exception) -> Response:
    shown = _SHOWN | {BadFields, BadRows}
    if type(error) not in shown or not isinstance(error, TwinlineError) or type(error) is Misconfigured:
        return our_fault(error)
    if isinstance(error, BadRows):
        error = BadRows([row_told(row) for row in error.problems])
    status = _status(type(error))
    detail, hint = told(error.type, error.message, error.hint)
    problem = Problem(
        type=ERRORS + error.type,
        title=KNOWN[error.type][1],
        status=status,
        detail=detail,
        hint=hint,
        retryable=error.retryable,
        errors=error.problems if isinstance(error, BadFields) else (),
        rows=error.problems[:MOST_ROWS] if isinstance(error, BadRows) else (),
    )
    return _respond(problem, _headers(error, status))


def _headers(error: TwinlineError, status: HTTPStatus) -> Mapping[str, str]:
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return {"www-authenticate": 'Bearer realm="twinline"'}
        case HTTPStatus.SERVICE_UNAVAILABLE:
            return {"retry-after": RETRY_AFTER}
        case HTTPStatus.TOO_MANY_REQUESTS if isinstance(error, ComesTooSoon):
            return {"retry-after": str(max(1, math.ceil(error.wait.total_seconds())))}
        case _:
            return {}


def not_http() -> str:
    """The answer to bytes that are no HTTP."""
    return _json_of(_of_http("BadRequest", "the bytes are no HTTP", "Send HTTP/1.1; TLS ends at the proxy."))


def our_fault(error: Exception) -> Response:
    """The answer to what nobody foresaw; the log gets the names of what was wrong and where, and never their texts."""
    where = "".join(traceback.format_tb(error.__traceback__))
    # A text from inside may name customers, files and settings.
    log.error("a request failed: %s\n%s", type(error).__name__, where)
    return _internal()


async def _on_http_problem(_: Request, error: Exception) -> Response:
    return _internal() if not isinstance(error, HttpProblem) else _respond(error.problem, {})


async def _on_query(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        return _internal()
    names = dict.fromkeys(str(detail["loc"][-1]) for detail in error.errors())
    problems = tuple(
        FieldProblem(field=name, sentence=f"{name} must be {_QUERY_RULES[name]}")
        if name in _QUERY_RULES
        # Its name may hold anything, and is not repeated.
        else FieldProblem(field=None, sentence="there is a parameter that is not known")
        for name in names
    )
    return await _on_error(_, BadFields(problems))


_QUERY_RULES: Final = {
    "region": "1 to 32 of a-z, 0-9 and hyphen",
    "pair": "1 to 32 of a-z, 0-9 and hyphen",
    "kind": "a kind of order, such as purchase",
    "line": "a username as twinline makes them: 4 to 20 of a-z and 0-9",
    "caller": "1 to 32 of a-z, 0-9, dot, hyphen and underscore, beginning with a letter or digit",
    "host": "the name of a host",
    "settled": "true or false",
    "state": "one of those that the description names",
    "behind": "true or false",
    "limit": "a whole number from 1 to 1000",
    "cursor": "one that a list gave",
}


async def _on_http(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return _internal()
    name = _BY_STATUS.get(error.status_code, "BadRequest" if error.status_code < 500 else "InternalError")
    meaning = OF_HTTP[name][1]
    return _respond(_of_http(name, meaning, "/api/openapi.json tells what there is."), dict(error.headers or {}))


def _internal() -> Response:
    _, meaning = OF_HTTP["InternalError"]
    return _respond(_of_http("InternalError", meaning, "The same request again is safe; try later."), {})


def _of_http(name: str, detail: str, hint: str) -> Problem:
    status, meaning = OF_HTTP[name]
    return Problem(
        type=ERRORS + name, title=meaning, status=status, detail=detail, hint=hint, retryable=name in _PASSING
    )


def _status(error: type[TwinlineError]) -> HTTPStatus:
    return _BY_TYPE.get(error, _BY_CATEGORY[error.category])


def _respond(problem: Problem, headers: Mapping[str, str]) -> Response:
    return Response(_json_of(problem), problem.status, {**headers, **NO_STORE}, MEDIA_TYPE)


def _json_of(problem: Problem) -> str:
    return problem.model_dump_json(exclude_defaults=True)


def _meaning(error: type[TwinlineError]) -> str:
    return (inspect.getdoc(error) or error.__name__).partition("\n")[0]


KNOWN: Final = _known()
"""All types, with status, meaning and whether the same request can succeed later."""
