"""Settings come from the environment, and whatever is wrong there is told by the variable's name."""

from datetime import timedelta
from pathlib import Path

import pytest

from twinline.errors import Misconfigured
from twinline.settings import Settings

SECRET = "hunter2-never-shown"
GOOD = {
    "TWINLINE_INVENTORY": "inventory.toml",
    "TWINLINE_DATABASE_URL": f"postgresql://twinline:{SECRET}@db/ledger",
    "TWINLINE_SMTP_URL": f"smtps://lines:{SECRET}@mail.example.com",
    "TWINLINE_KEYS": "/etc/twinline/keys.json",
}


TUNABLES = ("TWINLINE_GRACE", "TWINLINE_DELAY_NOTICE", "TWINLINE_RECONCILE_EVERY", "TWINLINE_HEALTH_EVERY")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A good environment without tunables, for a test to change."""
    for name in TUNABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_settings_are_read_from_the_environment() -> None:
    settings = Settings.load()
    assert settings.inventory == Path("inventory.toml")
    assert settings.keys == Path("/etc/twinline/keys.json")
    assert settings.database_url.get_secret_value() == GOOD["TWINLINE_DATABASE_URL"]
    assert settings.smtp_url.get_secret_value() == GOOD["TWINLINE_SMTP_URL"]
    assert (settings.grace, settings.delay_notice) == (timedelta(seconds=90), timedelta(minutes=15))
    assert settings.reconcile_every == timedelta(minutes=10)
    assert settings.health_every == timedelta(minutes=1)


def test_the_tunables_are_seconds(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TWINLINE_GRACE", "1.5")
    environment.setenv("TWINLINE_DELAY_NOTICE", "3")
    settings = Settings.load()
    assert (settings.grace, settings.delay_notice) == (timedelta(seconds=1.5), timedelta(seconds=3))


def test_passwords_show_nowhere_in_the_settings() -> None:
    settings = Settings.load()
    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("empty", [True, False])
def test_a_missing_or_empty_variable_is_told_by_name(
    name: str, *, empty: bool, environment: pytest.MonkeyPatch
) -> None:
    if empty:
        environment.setenv(name, "")
    else:
        environment.delenv(name)
    with pytest.raises(Misconfigured) as caught:
        Settings.load()
    assert caught.value.message == f"{name} is not set"
    assert caught.value.hint.startswith("Set it to ")


@pytest.mark.parametrize("value", ["0", "-1", "soon", "nan", "1e300"])
@pytest.mark.parametrize("name", TUNABLES)
def test_a_wait_that_is_none_is_refused(name: str, value: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv(name, value)
    with pytest.raises(Misconfigured) as caught:
        Settings.load()
    assert caught.value.message == f'{name} is "{value}"'
    assert "seconds above 0" in caught.value.hint


def test_everything_wrong_comes_at_once_and_without_secrets(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("TWINLINE_INVENTORY")
    environment.delenv("TWINLINE_KEYS")
    environment.setenv("TWINLINE_GRACE", "soon")
    with pytest.raises(Misconfigured) as caught:
        Settings.load()
    lines = caught.value.message.splitlines()
    assert [line.split()[-2:] for line in lines[:1]] == [["not", "set"]]
    assert len(lines) == 3
    assert "TWINLINE_KEYS is not set" in lines[1]
    assert 'TWINLINE_GRACE is "soon"' in lines[2]
    assert SECRET not in caught.value.message + caught.value.hint


def test_the_api_listens_on_this_machine_unless_told_otherwise(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("TWINLINE_HTTP", raising=False)
    assert Settings.load().http_address == ("127.0.0.1", 8080)
    environment.setenv("TWINLINE_HTTP", "[::1]:8443")
    assert Settings.load().http_address == ("::1", 8443)


@pytest.mark.parametrize("value", ["8080", ":8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "a:-1", "a:\u0661"])
def test_what_is_no_address_to_listen_at_is_told(value: str, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TWINLINE_HTTP", value)
    with pytest.raises(Misconfigured, match="TWINLINE_HTTP is"):
        Settings.load()
