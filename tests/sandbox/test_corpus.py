"""Both parsers against every case of the golden corpus: what the real daemons loaded from given files."""

import pytest

from tests.sandbox.conftest import Zone
from tests.sandbox.corpus import Case, LoadedAccount, corpus
from twinline.sandbox.multics_clients import Roster
from twinline.sandbox.multics_parser import Config, EndDate, parse
from twinline.sandbox.oscam_parser import Account, api_date, parse_users

READ_ON = EndDate(2026, 11, 22, 12)
READ_ON_UNIX = 1_795_348_800.0
MULTICS_HEADER, MULTICS_CASES = corpus("multics")
_, OSCAM_CASES = corpus("oscam")


def named(case: Case) -> str:
    return case.name


def multics_config(case: Case) -> Config:
    main = MULTICS_HEADER.main_common + (MULTICS_HEADER.main if case.main is None else case.main)
    return parse("multics.cfg", {"multics.cfg": main.encode(), "accounts.cfg": case.file}.get)


@pytest.mark.parametrize("case", MULTICS_CASES, ids=named)
def test_multics_loads_what_the_real_daemon_loaded(case: Case) -> None:
    config = multics_config(case)
    roster = Roster(config)
    roster.check_expiry(READ_ON)
    loaded = [
        LoadedAccount(
            user=client.record.user,
            status=client.status,
            expires=None if client.record.end is None else str(client.record.end),
            server=config.server_of(client.record),
            extra=list(client.record.info),
        )
        for client in roster.clients
    ]
    assert loaded == case.loaded
    assert list(config.complaints) == (case.log or [])


@pytest.mark.parametrize("case", MULTICS_CASES, ids=named)
def test_multics_loads_the_same_names_by_a_reload_from_another_file(case: Case) -> None:
    config = multics_config(case)
    other = parse("main", {"main": f"[P1]\nCCCAM PORT: {config.ports[0]}\nF: other pw\n".encode()}.get)
    roster = Roster(other)
    roster.merge(config)
    roster.free_removed()
    assert sorted(client.record.user for client in roster.clients) == sorted(a.user for a in case.loaded)


def oscam_account(account: Account, now: float) -> LoadedAccount:
    status = " (disabled)" if account.disabled else " (expired)" if account.expired(now) else ""
    shown = {"description": account.description, "group": account.group_text}
    shown["uniq"] = str(account.uniq) if account.uniq else ""
    return LoadedAccount(
        user=text(account.user),
        password=text(account.password),
        disabled=account.disabled,
        status="offline" + status,
        expires=api_date(account.expires) or None,
        extra={key: text(value) for key, value in shown.items() if value},
    )


def text(latin1: str) -> str:
    return latin1.encode("latin-1").decode("utf-8", errors="replace")


@pytest.mark.parametrize("case", OSCAM_CASES, ids=named)
def test_oscam_loads_what_the_real_daemon_loaded(case: Case, timezone: type[Zone]) -> None:
    timezone.set("UTC")
    users = parse_users(case.file)
    assert len(users.accounts) == len(case.loaded)
    for account, expected in zip(users.accounts, case.loaded, strict=True):
        loaded = oscam_account(account, READ_ON_UNIX)
        if expected.password is None:
            # The daemon answers by name for the last account only: of this one just the list was readable.
            loaded = loaded.model_copy(update={"password": None, "expires": None, "extra": {}})
        raw = {"user_b64": None, "password_b64": None}
        assert loaded == expected.model_copy(update=raw)
        assert account.user.encode("latin-1") == expected.user_bytes
        if (password := expected.password_bytes) is not None:
            assert account.password.encode("latin-1") == password
    assert sorted(users.warnings) == sorted(case.stderr or [])
    assert case.counts is not None
    assert users.summary(READ_ON_UNIX) == (
        f"userdb reloaded: {case.counts.accounts} accounts loaded, "
        f"{case.counts.expired} expired, {case.counts.disabled} disabled"
    )
