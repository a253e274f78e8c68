"""Every answer that is no success is a problem of RFC 9457 (`application/problem+json`), with nothing of our inside."""

import inspect
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import Field
from starlette.exceptions import HTTPException

from starter.invalid import FieldProblem
from twinline.errors import (
    ORDER_ERRORS,
    Category,
    InvalidOrder,
    InvalidToken,
    Misconfigured,
    OrderConflict,
    ScopeMissing,
    TwinlineError,
)
from twinline.messages import Message

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
ERRORS: Final = "/api/errors/"
NO_STORE: Final = {"cache-control": "no-store"}

# Of plain HTTP; every other type is the name of an error of the house.
OF_HTTP: Final = {
    "BadRequest": (HTTPStatus.BAD_REQUEST, "The request is not one that HTTP or JSON allows."),
    "NoSuchPath": (HTTPStatus.NOT_FOUND, "The API has no such path."),
    "MethodNotAllowed": (HTTPStatus.METHOD_NOT_ALLOWED, "The path does not take that method."),
    "BodyTooLate": (HTTPStatus.REQUEST_TIMEOUT, "The body did not arrive in time."),
    "BodyTooLarge": (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is larger than any order."),
    "NotJson": (HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body is not declared as application/json."),
    "InternalError": (HTTPStatus.INTERNAL_SERVER_ERROR, "Something here is broken; the operator's log has more."),
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
    OrderConflict: HTTPStatus.UNPROCESSABLE_ENTITY,
    # Nothing that the caller could repair, and what it names is not for him.
    Misconfigured: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_SHOWN: Final = frozenset({*ORDER_ERRORS.values(), InvalidToken, ScopeMissing})
RETRY_AFTER: Final = "5"


class Problem(Message):
    """A problem of RFC 9457; `type` is stable and leads to a page about it."""

    type: str = Field(examples=["/api/errors/OrderConflict"])
    title: str = Field(examples=["The order id was used before for something else."])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["this order id was used before for something else"])
    hint: str = Field(examples=["Take a new id for a new order."])
    retryable: bool = Field(description="Whether the same request can succeed later.")
    errors: tuple[FieldProblem, ...] = Field(default=(), description="What is wrong with which field.")


class BadFields(InvalidOrder):
    """A field of the order can never be right."""

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        super().__init__("; ".join(problem.sentence for problem in problems), hint="Nothing was ordered; correct it.")
        self.problems = problems

    @property
    def type(self) -> str:
        return InvalidOrder.__name__


class HttpProblem(Exception):
    """A request that is refused for how it was sent; `name` is one of OF_HTTP."""

    def __init__(self, name: str, detail: str, *, hint: str) -> None:
        super().__init__(name)
        self.problem = _of_http(name, detail, hint)


def known_types() -> dict[str, str]:
    """All types with their meaning."""
    return {error.__name__: _meaning(error) for error in _SHOWN if error is not Misconfigured} | {
        name: meaning for name, (_, meaning) in OF_HTTP.items()
    }


def install(app: FastAPI) -> None:
    """Let every failure of the app be told as a problem."""
    app.add_exception_handler(TwinlineError, _on_error)
    app.add_exception_handler(HttpProblem, _on_http_problem)
    app.add_exception_handler(RequestValidationError, _on_query)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_mistake)


async def _on_error(_: Request, error: Exception) -> Response:
    if type(error) not in _SHOWN | {BadFields} or not isinstance(error, TwinlineError) or type(error) is Misconfigured:
        # The name alone: a text from inside may name files and settings.
        log.error("a request failed: %s", type(error).__name__)
        return _internal()
    status = _BY_TYPE.get(type(error), _BY_CATEGORY[error.category])
    headers = {
        HTTPStatus.UNAUTHORIZED: {"www-authenticate": 'Bearer realm="twinline"'},
        HTTPStatus.SERVICE_UNAVAILABLE: {"retry-after": RETRY_AFTER},
    }.get(status, {})
    problem = Problem(
        type=ERRORS + error.type,
        title=_meaning(ORDER_ERRORS.get(error.type, type(error))),
        status=status,
        detail=error.message,
        hint=error.hint,
        retryable=error.retryable,
        errors=error.problems if isinstance(error, BadFields) else (),
    )
    return _respond(problem, headers)


async def _on_http_problem(_: Request, error: Exception) -> Response:
    return _internal() if not isinstance(error, HttpProblem) else _respond(error.problem, {})


async def _on_query(_: Request, error: Exception) -> Response:
    names = {str(detail["loc"][-1]) for detail in error.errors()} if isinstance(error, RequestValidationError) else ()
    known = sorted(names & _QUERY_RULES.keys()) if names else ()
    sentences = [f"{name} must be {_QUERY_RULES[name]}" for name in known] or ["there is a parameter that is not known"]
    refused = InvalidOrder("; ".join(sentences), hint="Correct the address; /api/openapi.json has all parameters.")
    return await _on_error(_, refused)


_QUERY_RULES: Final = {
    "region": "1 to 32 of a-z, 0-9 and hyphen",
    "pair": "1 to 32 of a-z, 0-9 and hyphen",
    "state": "present, blocked or absent",
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


async def _on_mistake(_: Request, __: Exception) -> Response:
    return _internal()


def _internal() -> Response:
    _, meaning = OF_HTTP["InternalError"]
    return _respond(_of_http("InternalError", meaning, "The same request again is safe; try later."), {})


def _of_http(name: str, detail: str, hint: str) -> Problem:
    status, meaning = OF_HTTP[name]
    retryable = name in ("InternalError", "BodyTooLate")
    return Problem(type=ERRORS + name, title=meaning, status=status, detail=detail, hint=hint, retryable=retryable)


def _respond(problem: Problem, headers: Mapping[str, str]) -> Response:
    content = problem.model_dump_json(exclude_defaults=True)
    return Response(content, problem.status, {**headers, **NO_STORE}, MEDIA_TYPE)


def _meaning(error: type[TwinlineError]) -> str:
    return (inspect.getdoc(error) or error.__name__).partition("\n")[0]
