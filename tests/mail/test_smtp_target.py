"""Reading the SMTP URL of the settings."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinline.mail import Security, SmtpTarget, SmtpUrlError

SPEAKABLE = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("url", "host", "port", "security"),
    [
        ("smtp://mail.example.net:2525", "mail.example.net", 2525, Security.STARTTLS),
        ("smtp://mail.example.net", "mail.example.net", 587, Security.STARTTLS),
        ("smtps://mail.example.net", "mail.example.net", 465, Security.IMPLICIT_TLS),
        ("smtps://mail.example.net:4650/", "mail.example.net", 4650, Security.IMPLICIT_TLS),
        ("smtp+plain://127.0.0.1:1025", "127.0.0.1", 1025, Security.PLAIN),
        ("smtp+plain://localhost:1025", "localhost", 1025, Security.PLAIN),
        ("smtp+plain://[::1]:1025", "::1", 1025, Security.PLAIN),
        ("SMTP://mail.example.net", "mail.example.net", 587, Security.STARTTLS),
    ],
)
def test_a_url_names_host_port_and_security(url: str, host: str, port: int, security: Security) -> None:
    target = SmtpTarget.parse(url)
    assert (target.host, target.port, target.security) == (host, port, security)
    assert target.username is None
    assert target.password is None


@settings(deadline=None)
@given(user=SPEAKABLE, password=SPEAKABLE)
def test_user_and_password_are_percent_decoded_and_never_shown(user: str, password: str) -> None:
    target = SmtpTarget.parse(f"smtp://{quote(user, safe='')}:{quote(password, safe='')}@mail.example.net:587")
    assert target.username == user
    assert target.password is not None
    assert target.password.get_secret_value() == password
    assert repr(target) == str(target) == repr(SmtpTarget.parse("smtp://mail.example.net:587"))


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("", "unknown scheme"),
        ("mail.example.net:25", "unknown scheme"),
        ("http://mail.example.net", "unknown scheme"),
        ("smtp://", "no host"),
        ("smtp://:25", "no host"),
        ("smtp://sEcret-user@mail.example.net", "both a user and a password"),
        ("smtp://:sEcret@mail.example.net", "both a user and a password"),
        ("smtp://mail.example.net:0", "port 0"),
        ("smtp://u:sEcret@mail.example.net:99999", "can't be read"),
        ("smtp://u:sEcret@mail.example.net:smtp", "can't be read"),
        ("smtp://u:sEcret/more@mail.example.net:25", "can't be read|percent-encode"),
        ("smtp://u:sEcret#more@mail.example.net:25", "can't be read|percent-encode"),
        ("smtp://u:sEcret?more@mail.example.net:25", "can't be read|percent-encode"),
        ("smtp://u:sEcret@mail.example.net/path", "percent-encode"),
        ("smtp://u:sEcret%@mail.example.net", "%25"),
        ("smtp://u:sEcret%zz@mail.example.net", "%25"),
        ("smtp://u:sEcret%ff@mail.example.net", "can't be read"),
        ("smtp://u:sEcret%0d%0aQUIT@mail.example.net", "control character"),
        ("smtp://u:sEcret\r\n@mail.example.net", "control character"),
        ("smtp://u:sEcret@[::1", "can't be read"),
        ("smtp://u:sEcret@mail\u2100.example.net", "can't be read"),
        ("smtp+plain://u:sEcret@mail.example.net:25", "use smtp://"),
        ("smtp+plain://10.0.0.1:25", "use smtp://"),
        ("smtp+plain://0.0.0.0:25", "use smtp://"),
    ],
)
def test_a_bad_url_is_refused_with_what_to_do_and_without_its_secrets(url: str, advice: str) -> None:
    with pytest.raises(SmtpUrlError, match=advice) as caught:
        SmtpTarget.parse(url)
    assert "sEcret" not in str(caught.value)
    assert caught.value.__context__ is None
