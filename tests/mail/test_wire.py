"""The last check before the wire: a mail that reads back differently from what was meant is never built."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from twinline.mail import Address, UnsafeMail
from twinline.mail.wire import IntendedMail

MEANT = IntendedMail(
    sender_name="Example TV",
    sender=Address("lines", "example.net"),
    recipient=Address("anna", "example.org"),
    subject="Example TV: your line is ready",
    date=datetime(2026, 11, 23, 14, 3, 7, tzinfo=UTC),
    message_id="<x@example.net>",
    text="Hello\n",
    html="<p>Hello</p>\n",
)


def test_a_mail_as_meant_is_built() -> None:
    assert MEANT.to_bytes().startswith(b'From: "Example TV"\r\n <lines@example.net>\r\nTo: anna@example.org\r\n')


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("subject", "Hello\r\nBcc: eve@example.org"),
        ("subject", "Hello\nBcc: eve@example.org"),
        ("subject", "Hello\r\n\r\n<script>"),
        ("subject", "Hello\r\n folded"),
        ("subject", "nul\0"),
        ("sender_name", "TV\r\nBcc: eve@example.org"),
        ("sender_name", "TV\r\n"),
        ("sender_name", "Größe\nBcc: eve@example.org"),
        ("message_id", "<x@example.net>\r\nBcc: eve@example.org"),
        ("recipient", Address("anna@example.org, eve", "example.org")),
        ("recipient", Address("anna", "example.org\r\nBcc: eve@example.org")),
        ("recipient", Address("Eve <eve@example.org>, anna", "example.org")),
        ("sender", Address("lines@example.net>, <eve", "example.org")),
        ("date", datetime(2026, 11, 23, 14, 3, 7, 5, tzinfo=UTC)),
        ("text", "one\rtwo\n"),
        ("recipient", Address("a" * 1000, "example.org")),
    ],
)
def test_a_value_that_would_read_back_differently_stops_the_mail(field: str, value: object) -> None:
    spoiled = replace(MEANT, **{field: value})  # pyright: ignore[reportArgumentType] - the field is the parameter
    with pytest.raises(UnsafeMail):
        spoiled.to_bytes()
