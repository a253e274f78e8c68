"""Logs: one line per event, about whom it is, and nothing secret in it, whoever wrote it."""

import asyncio
import io
import json
import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from aiosmtplib.errors import SMTPRecipientRefused, SMTPRecipientsRefused
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, ValidationError
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

from twinline.errors import Misconfigured
from twinline.logs import JsonLines, Text, about, note, set_up
from twinline.redaction import HIDDEN, redactor

JANE = "jane.roe@example.com"
PASSWORD = "Abcd2345efgh6789"
TOKEN = "twl_0123456789abcdef_" + "9f" * 32
KNOWN = "s3cret of the mail server"
PLANTED = (JANE, PASSWORD, TOKEN[-64:], KNOWN, "jane.roe")

Read = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What the process logs, set up as a service does it and put back afterwards."""
    monkeypatch.setenv("TWINLINE_LOG", "json")
    root, hooks = logging.getLogger(), (sys.excepthook, sys.unraisablehook)
    before = (root.handlers[:], root.level, logging.raiseExceptions)
    levels = {name: logging.getLogger(name).level for name in ("twinline", "activities", "starter")}
    found = io.StringIO()
    set_up([KNOWN], link=lambda workflow, run: f"https://ui/{workflow}/{run}", stream=found)
    yield found
    root.handlers[:], root.level, logging.raiseExceptions = before
    sys.excepthook, sys.unraisablehook = hooks
    logging.captureWarnings(capture=False)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class Person(BaseModel):
    age: int


def of_pydantic() -> None:
    Person.model_validate({"age": JANE})


def of_sqlalchemy() -> None:
    with create_engine("sqlite://").begin() as connection:
        connection.execute(text("CREATE TABLE line (email TEXT UNIQUE)"))
        for _ in range(2):
            connection.execute(text("INSERT INTO line VALUES (:email)"), {"email": f"{JANE} {PASSWORD}"})


def of_aiosmtplib() -> None:
    raise SMTPRecipientsRefused([SMTPRecipientRefused(550, f"no <{JANE}> here", JANE)])


def of_a_url() -> None:
    raise OSError(f"no answer from https://admin:{PASSWORD}@box/userconfig.html?user=jane.roe&pwd={PASSWORD}")


def of_postgresql() -> None:
    raise sqlite3.IntegrityError(f'duplicate key "uq"\nDETAIL:  Key (email, id)=({PASSWORD}, 3) already exists.')


def chained() -> None:
    try:
        of_a_url()
    except OSError as error:
        error.__cause__ = ValueError(f"while writing for {JANE}: pwd = {PASSWORD}")
        raise RuntimeError(f"login with {KNOWN} and {TOKEN}") from error


def in_a_group() -> None:
    raise ExceptionGroup("two at once", [ValueError(f"F: jane.roe {PASSWORD} 0"), LookupError(JANE)])


LIBRARIES = (of_pydantic, of_sqlalchemy, of_aiosmtplib, of_a_url, of_postgresql, chained, in_a_group)


@pytest.mark.parametrize("fail", LIBRARIES, ids=lambda fail: fail.__name__)
@pytest.mark.parametrize("style", ["json", "text"])
def test_an_exception_tells_what_happened_and_no_secret(
    fail: Callable[[], None], style: str, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINLINE_LOG", style)
    set_up([KNOWN], stream=stream)
    with pytest.raises(Exception) as raised:
        fail()
    assert any(word in _everything(raised.value) for word in PLANTED), "nothing was planted"
    logging.getLogger("twinline.test").error("it failed with %s", raised.value, exc_info=raised.value)
    said = stream.getvalue()
    assert [word for word in PLANTED if word in said] == []
    assert HIDDEN in said
    assert raised.type.__name__ in said
    assert fail.__name__ in said


def _everything(error: BaseException | None) -> str:
    if error is None:
        return ""
    members = getattr(error, "exceptions", ())
    return "".join([str(error), repr(error.args), *map(_everything, (error.__cause__, error.__context__, *members))])


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"Authorization: Bearer {TOKEN}", f"Authorization: {HIDDEN}"),
        (TOKEN, f"twl_0123456789abcdef_{HIDDEN}"),
        ("twl_whatever-was-pasted", f"twl_{HIDDEN}-was-pasted"),
        ("AUTH PLAIN AGphbmUAc2VjcmV0", f"AUTH PLAIN {HIDDEN}"),
        (f'{{"password": "{PASSWORD}", "order": "T-1"}}', f'{{"password": {HIDDEN}, "order": "T-1"}}'),
        (f"password={PASSWORD}&x=1", f"password={HIDDEN}"),
        (f"user=x pwd = '{PASSWORD}' y", f"user=x pwd = {HIDDEN} y"),
        ("postgresql://tw:hunter22@db/ledger", f"postgresql://{HIDDEN}@db/ledger"),
        ("GET /v1/lines?email=jane%40example.com HTTP/1.1", f"GET /v1/lines?{HIDDEN} HTTP/1.1"),
        ("to <jane@example.com>, John@Doe.example", f"to <{HIDDEN}>, {HIDDEN}"),
        ('"jane roe"@example.com', HIDDEN),
        ("jane%40example.com", HIDDEN),
        ("TWINLINE_SMTP_PASSWORD=x1", f"TWINLINE_SMTP_PASSWORD={HIDDEN}"),
        (str(SecretStr(PASSWORD)), "**********"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----", HIDDEN),
    ],
)
def test_what_looks_like_a_secret_or_an_address_is_taken_out(said: str, shown: str) -> None:
    assert redactor()(said) == shown


@pytest.mark.parametrize(
    "said",
    [
        "a half waits for a person",
        "order=T-17 kind=password workflow_id=password/cli/W-1 token_id=0123456789abcdef line=01hx5a8b9c7d2e3f",
        "the host's clock is 5 min ahead of ours",
        "the host has seen batch 2/17, and the ledger's last is 2/9",
        'File "/srv/twinline/activities/host.py", line 42, in bring_half',
        "http://127.0.0.1:8233/namespaces/default/workflows/trial%2Fcli%2FT-1/history",
        "  @contextmanager",
        "no SSH connection to 192.0.2.7:22: connection refused",
    ],
)
def test_what_on_call_needs_stays(said: str) -> None:
    assert redactor()(said) == said


@settings(max_examples=60)
@given(
    st.text("abcdefghijkmnpqrstuvwxyz23456789.+-_", min_size=1, max_size=30),
    st.from_regex(r"[a-z0-9]{1,20}(\.[a-z]{2,8}){1,2}", fullmatch=True),
    st.sampled_from(["{}", "<{}>", "'{}'", "to={}", "RCPT TO:<{}>", "({},)", "[{}]", "x {} y", 'a "{}" b', "\n{}\t"]),
)
def test_no_address_comes_through_whatever_stands_around_it(local: str, domain: str, around: str) -> None:
    said = redactor()(around.format(f"{local}@{domain}"))
    assert "@" not in said
    assert domain not in said


@pytest.mark.parametrize(
    "run", ["x", "/", "a.", "-", "a@", "://", '"', "F: ", "twl_", "%40", "password", "=", "Key (", "[", "?x"]
)
def test_no_text_takes_long(run: str) -> None:
    # As long as logs let a text get there; rules that are quadratic in it would need minutes.
    redactor([KNOWN])(run * (65_536 // len(run)))


def test_an_event_is_one_line_with_the_ids_of_what_it_is_about(stream: io.StringIO) -> None:
    with about(order="T-1", kind="trial", workflow_id="trial/shop/T-1", run_id="r1", attempt=3, line=None):
        note(host="os-eu1")
        logging.getLogger("twinline.test").warning("written\nin two lines", extra={"seconds": 0.5, "code": "NotProven"})
    logging.getLogger("twinline.test").info("nobody's")
    logging.getLogger("some.library").info("too much")
    first, second = lines(stream)
    assert list(first)[:4] == ["time", "level", "logger", "message"]
    assert datetime.fromisoformat(first.pop("time")).utcoffset() is not None
    assert first == {
        **{"level": "warning", "logger": "twinline.test", "message": "written\nin two lines"},
        **{"order": "T-1", "kind": "trial", "host": "os-eu1", "workflow_id": "trial/shop/T-1", "run_id": "r1"},
        **{"attempt": 3, "seconds": 0.5, "code": "NotProven", "temporal_ui": "https://ui/trial/shop/T-1/r1"},
    }
    assert second.keys() == {"time", "level", "logger", "message"}


async def test_tasks_keep_their_own_ids(stream: io.StringIO) -> None:
    both = asyncio.Barrier(2)

    async def work(order: str) -> None:
        with about(order=order):
            await both.wait()
            logging.getLogger("twinline.test").info("done")

    await asyncio.gather(work("A"), work("B"))
    assert {line["order"] for line in lines(stream)} == {"A", "B"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"a": JANE}, b"\xff", "x" * 100_000])
def test_a_strange_fact_leaves_the_line_json_and_bounded(value: object) -> None:
    record = logging.makeLogRecord(
        {"msg": "%s %d", "args": (value,), "fact": value, "level": "fake", "levelname": "WARNING"}
    )
    line = JsonLines().format(record)
    assert len(line) < 60_000
    assert JANE not in line
    assert json.loads(line)["level"] == "warning"


def test_that_temporal_is_away_is_told_once_a_minute_and_not_by_each_poller(stream: io.StringIO) -> None:
    sdk = logging.getLogger("temporalio.core")

    def tell(second: float, message: str) -> None:
        record = sdk.makeRecord(sdk.name, logging.WARNING, __file__, 1, message, (), None)
        record.created = second
        sdk.handle(record)

    for second in range(0, 90, 10):
        for call in ("poll_activity_task_queue", "poll_workflow_task_queue"):
            tell(second, f"gRPC call {call} retried {6 + second} times {{'error': 'tcp connect error'}}")
    tell(90, "Network error while sending worker heartbeat")
    said = [line["message"] for line in lines(stream)]
    assert [message.partition("'")[0] for message in said[:-1]] == [
        f"gRPC call {call} retried {times} times {{"
        for times in (6, 66)
        for call in ("poll_activity_task_queue", "poll_workflow_task_queue")
    ]
    assert said[-1] == "Network error while sending worker heartbeat"


def test_nobody_can_forge_a_line_of_text() -> None:
    record = logging.makeLogRecord({"msg": "x\n2026-01-01 CRITICAL\r\x1b[31m\u2028", "fact": "a\nb"})
    assert "\n" not in Text().format(record)
    assert "\x1b" not in Text().format(record)
    assert "\r" not in Text().format(record)


def test_a_style_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWINLINE_LOG", "xml")
    with pytest.raises(Misconfigured, match="TWINLINE_LOG is neither json nor text"):
        set_up(stream=io.StringIO())


CRASH = f"""
import logging, threading
from twinline.logs import set_up
set_up()
class Bad:
    def __del__(self): raise ValueError("for {JANE}")
Bad()
thread = threading.Thread(target=lambda: 1 / int("{JANE}"))
thread.start(); thread.join()
logging.getLogger("x").warning("%d of %s", "{PASSWORD}")
raise RuntimeError("pwd={PASSWORD}")
"""


def test_crashes_are_told_by_the_same_rules() -> None:
    ended = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    found = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["level"] for line in found] == ["error", "critical", "warning", "critical"]
    assert [line.get("exception", "").splitlines()[-1:] for line in found] == [
        *([f"ValueError: for {HIDDEN}"], [f"ValueError: invalid literal for int() with base 10: '{HIDDEN}'"]),
        *([], [f"RuntimeError: pwd={HIDDEN}"]),
    ]
    assert JANE not in ended.stderr
    assert PASSWORD not in ended.stderr


def test_planted_exceptions_are_what_they_say() -> None:
    with pytest.raises(ValidationError):
        of_pydantic()
    with pytest.raises(IntegrityError):
        of_sqlalchemy()
