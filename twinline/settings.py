"""Settings: what the environment (`TWINLINE_*`) says about where things are."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from twinline.errors import Misconfigured
from twinline.messages import DELAY_NOTICE, GRACE, HEALTH_EVERY, RECONCILE_EVERY
from twinline.problems import Problem, quoted

_PREFIX: Final = "TWINLINE_"
_LARGEST_PORT: Final = 65_535


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return timedelta(seconds=float(value))
    except OverflowError:
        raise ValueError("longer than any wait") from None


_Seconds = Annotated[timedelta, BeforeValidator(_seconds), Field(gt=timedelta(0))]


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (host and colon and port.isascii() and port.isdecimal() and int(port) <= _LARGEST_PORT):
        raise ValueError("not host:port")
    return value


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


_Address = Annotated[str, AfterValidator(_address)]


def _pages(value: str) -> str:
    parts = urlsplit(value)
    if (
        parts.scheme not in ("http", "https")
        or not parts.netloc
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise ValueError("not the address of a web page")
    return value


_Pages = Annotated[str, AfterValidator(_pages)]


class Settings(BaseSettings):
    """The settings of one process; the descriptions say what each variable must be."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, frozen=True, hide_input_in_errors=True)

    inventory: Path = Field(description="the path of the inventory, a TOML file")
    database_url: SecretStr = Field(
        description=(
            "the address of the ledger: sqlite:////var/lib/twinline/ledger.db (four slashes), or "
            "postgresql://user:password@host/database"
        )
    )
    smtp_url: SecretStr = Field(
        description="the mail server: smtp://user:password@host:port, smtps://… or, on loopback only, smtp+plain://…"
    )
    keys: Path = Field(description="the path of the key ring file (mode 0600)")
    grace: _Seconds = Field(default=GRACE, description="seconds above 0: how long the first mail waits for both halves")
    delay_notice: _Seconds = Field(
        default=DELAY_NOTICE,
        description="seconds above 0: after how long a customer without any half is told",
    )
    reconcile_every: _Seconds = Field(
        default=RECONCILE_EVERY, description="seconds above 0: how often each host is brought in step with the ledger"
    )
    health_every: _Seconds = Field(
        default=HEALTH_EVERY, description="seconds above 0: how often each host is looked at while it is well"
    )
    http: _Address = Field(
        default="127.0.0.1:8080", description="where `twinline web` listens, as host:port, such as 127.0.0.1:8080"
    )
    proxies: str = Field(
        default="127.0.0.1,::1",
        description=(
            "the addresses or networks, with commas between, whose X-Forwarded-For `twinline web` believes, such as "
            "10.0.0.0/8"
        ),
    )
    trials_per_range: int = Field(
        default=1,
        ge=0,
        le=1_000_000,
        description=(
            "a whole number: how many trials a day may be asked for from one range of addresses (0: any number)"
        ),
    )
    disposable_domains: Path | None = Field(
        default=None, description="the path of a file with a domain in each line, whose addresses get no trials"
    )
    metrics: _Address = Field(
        default="127.0.0.1:9464",
        description="where `twinline worker` shows /metrics, /livez and /readyz, as host:port",
    )
    web_metrics: _Address = Field(
        default="127.0.0.1:9465",
        description="where `twinline web` shows /metrics, /livez and /readyz to those who watch over it, as host:port",
    )
    temporal_ui: _Pages | None = Field(
        default=None,
        description="where people open Temporal's web interface, such as https://temporal.example.net",
    )

    @property
    def secrets(self) -> tuple[str, ...]:
        """Words of these settings that must never be shown: what stands between `://` and `@` in an address."""
        found: list[str] = []
        for address in (self.database_url, self.smtp_url):
            try:
                parts = urlsplit(address.get_secret_value())
            except ValueError:
                continue
            found += [] if parts.password is None else [parts.password, unquote(parts.password)]
        return tuple(found)

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port at which the HTTP API listens."""
        return _parts(self.http)

    @property
    def metrics_address(self) -> tuple[str, int]:
        """Host and port of the worker's metrics."""
        return _parts(self.metrics)

    @property
    def web_metrics_address(self) -> tuple[str, int]:
        """Host and port of the API's metrics."""
        return _parts(self.web_metrics)

    @classmethod
    def load(cls) -> Self:
        """Read the environment; raises Misconfigured, which names every variable that is missing or wrong."""
        try:
            # Not `cls()`: the fields come from the environment, which a type checker cannot know.
            return cls.model_validate({})
        except ValidationError as error:
            first, *others = [_problem(detail) for detail in error.errors(include_url=False)]
            lines = [first.sentence, *(f"{other.sentence}. {other.hint}" for other in others)]
            raise Misconfigured("\n  also: ".join(lines), hint=first.hint) from None


def _problem(detail: ErrorDetails) -> Problem:
    field = str(detail["loc"][0])
    variable = f"{_PREFIX}{field.upper()}"
    hint = f"Set it to {Settings.model_fields[field].description}."
    if detail["type"] == "missing":
        return Problem(f"{variable} is not set", hint)
    return Problem(f"{variable} is {quoted(detail['input'])}", hint)
