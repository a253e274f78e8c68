"""What long-running commands log: one line per event on standard error, as JSON for machines or as text for people.

`TWINLINE_LOG` chooses; without it a terminal gets text, and everything else JSON. The ids of what goes on (order, line,
workflow, host, attempt, request …) come from where it began, by `about`, and not from each call. All of it passes
`twinline.redaction`.
"""

import json
import logging
import math
import os
import re
import sys
import threading
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, TextIO, cast

from twinline.errors import Misconfigured, TwinlineError
from twinline.redaction import redactor

log = logging.getLogger(__name__)

VARIABLE: Final = "TWINLINE_LOG"
Style = Literal["json", "text"]
Fact = str | int | float | bool
Link = Callable[[str, str], str]

_SDK: Final = "temporalio.core"
_REPEATED: Final = re.compile(r"gRPC call (\w+) retried \d+ times")
_SELDOM_SECONDS: Final = 60.0

IDS: Final = (
    *("order", "kind", "caller", "line", "host"),
    *("workflow_id", "run_id", "activity", "attempt", "task_queue"),
    *("request_id", "token_id"),
)
"""The keys under which ids stand, in this order; further facts of an event follow."""

_ids: ContextVar[Mapping[str, Fact]] = ContextVar("ids", default={})  # noqa: B039 - never changed, only replaced
_OF_ANY_RECORD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_OF_TEMPORAL: Final = {
    "workflow_id": "workflow_id",
    "run_id": "run_id",
    "workflow_run_id": "run_id",
    "activity_type": "activity",
    "attempt": "attempt",
    "task_queue": "task_queue",
}
"""What the SDK's own loggers call the same things."""
_LONGEST: Final = 16_384
"""Characters of a text; journald would cut the line, and so the JSON, at 48 KiB."""
_FAR_TOO_LONG: Final = 4 * _LONGEST
"""What is cut off before redaction, which needs more of a text than is shown: a cut may go through a secret."""
_CONTROLS: Final = {number: f"\\x{number:02x}" for number in (*range(32), *range(127, 160)) if number not in (9, 10)}


@contextmanager
def about(**ids: Fact | None) -> Generator[None]:
    """Whatever is logged in this block, and in tasks that begin in it, is about these."""
    token = _ids.set({**_ids.get(), **{name: value for name, value in ids.items() if value is not None}})
    try:
        yield
    finally:
        _ids.reset(token)


def note(**ids: Fact) -> None:
    """The same for the rest of the block of `about` that one is in."""
    _ids.set({**_ids.get(), **ids})


def set_up(secrets: Collection[str] = (), *, link: Link | None = None, stream: TextIO | None = None) -> Style:
    """Let this process log from now on; the style it logs in. Raises Misconfigured.

    `secrets` are words that must not come out in any case; `link` leads from a workflow and its run to its page.
    A second call replaces the first.
    """
    out = sys.stderr if stream is None else stream
    style = _style(os.environ.get(VARIABLE, ""), terminal=out.isatty())
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLines(secrets, link) if style == "json" else Text(secrets, link))
    handler.addFilter(_Seldom())
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, _Redacting):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for ours in ("twinline", "activities", "starter"):
        logging.getLogger(ours).setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    _catch_what_nobody_caught()
    return style


class _Seldom(logging.Filter):
    """Lets through once a minute that Temporal's SDK repeats a call: each of its pollers says so, again and again."""

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is told; by the record's own time."""
        found = _REPEATED.match(str(record.msg)) if record.name == _SDK else None
        if found is None:
            return True
        if record.created - self._told.get(found[1], -_SELDOM_SECONDS) < _SELDOM_SECONDS:
            return False
        self._told[found[1]] = record.created
        return True


def give_up(error: TwinlineError, *, style: Style) -> None:
    """Tell why this process ends."""
    if style == "json":
        log.critical(error.message, extra={"error": error.type, "hint": error.hint})
    else:
        sys.stderr.write(f"{error.message}\n  {error.hint}\n")


def _style(wanted: str, *, terminal: bool) -> Style:
    match wanted:
        case "json" | "text":
            return wanted
        case "":
            return "text" if terminal else "json"
        case _:
            raise Misconfigured(f"{VARIABLE} is neither json nor text", hint="Set it to one of them, or to nothing.")


class _Redacting(logging.Formatter):
    """What both styles share."""

    def __init__(self, secrets: Collection[str] = (), link: Link | None = None) -> None:
        super().__init__()
        self._redact = redactor(secrets)
        self._link = link

    def _facts(self, record: logging.LogRecord) -> dict[str, Fact]:
        """Ids first, in their order, then what else the event tells; later sources win."""
        found: dict[str, Fact] = dict(_ids.get())
        for name in ("temporal_workflow", "temporal_activity"):
            theirs = cast("Mapping[str, Fact]", record.__dict__.get(name) or {})
            found |= {ours: theirs[key] for key, ours in _OF_TEMPORAL.items() if key in theirs}
        found |= {
            key: _fact(value)
            for key, value in record.__dict__.items()
            if key not in _OF_ANY_RECORD and not key.startswith(("temporal_", "_")) and value is not None
        }
        if self._link is not None and record.levelno >= logging.WARNING and "workflow_id" in found:
            found["temporal_ui"] = self._link(str(found["workflow_id"]), str(found.get("run_id", "")))
        ordered = {name: found.pop(name) for name in IDS if name in found} | found
        return {name: self._text(value) if isinstance(value, str) else value for name, value in ordered.items()}

    def _message(self, record: logging.LogRecord) -> str:
        try:
            return self._text(record.getMessage())
        except (TypeError, ValueError):
            # A library's slip in its format string must not cost us the event, and the arguments are unknown.
            return self._text(str(record.msg))

    def _exception(self, record: logging.LogRecord) -> str:
        """The traceback, chained ones included; never values of variables, which hold passwords."""
        told = self.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else record.exc_text
        stack = [record.stack_info] if record.stack_info else []
        return self._text("\n".join([told or "", *stack]).strip(), keep_end=True)

    def _text(self, text: str, *, keep_end: bool = False) -> str:
        if len(text) > _FAR_TOO_LONG:
            text = text[-_FAR_TOO_LONG:] if keep_end else text[:_FAR_TOO_LONG]
        shown = self._redact(text)
        if len(shown) <= _LONGEST:
            return shown
        # What happened stands at the end of a traceback, and at the beginning of everything else.
        return f"…{shown[-_LONGEST:]}" if keep_end else f"{shown[:_LONGEST]}…"


class JsonLines(_Redacting):
    """One JSON object per event."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        head = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._message(record),
        }
        # In front, and not to be replaced by a fact of the same name.
        event: dict[str, Fact] = {**head, **self._facts(record), **head}
        if exception := self._exception(record):
            event["exception"] = exception
        return json.dumps(event, ensure_ascii=False)


class Text(_Redacting):
    """One line per event, and a traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines, without the last one's end; nothing that was logged can begin a line of its own."""
        facts = " ".join(f"{name}={value}" for name, value in self._facts(record).items())
        line = f"{_moment(record)} {record.levelname} {record.name}: {self._message(record)}"
        line = " ".join((f"{line}  {facts}" if facts else line).splitlines())
        exception = self._exception(record)
        return "\n    ".join([line, *exception.splitlines()]).translate(_CONTROLS)


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fact(value: object) -> Fact:
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if isinstance(value, bool | int | float) and finite else str(value)


def _catch_what_nobody_caught() -> None:
    """Let crashes be told by the same rules: Python itself would write them in its own words."""

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, Exception):
            sys.__excepthook__(kind, error, trace)
            return
        log.critical("an error that nobody caught", exc_info=(kind, error, trace))

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            uncaught(args.exc_type, args.exc_value, args.exc_traceback)

    def unraisable(args: "sys.UnraisableHookArgs") -> None:
        if args.exc_value is not None:
            log.error("an error where nobody can catch it", exc_info=args.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = uncaught, in_thread, unraisable
    # Python's own words about a record that it can't format would quote its arguments.
    logging.raiseExceptions = False
