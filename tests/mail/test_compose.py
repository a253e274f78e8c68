"""What a customer finds in each mail, and what can never get into one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.parser import BytesParser, Parser
from email.utils import getaddresses
from html.parser import HTMLParser
from pathlib import Path
from shutil import copytree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from twinline.mail import (
    SHOWS_CREDENTIALS,
    BlockNotice,
    BrokenTemplates,
    Composer,
    Entry,
    MailFacts,
    MailFactsError,
    UnsafeMail,
    compose,
    message_id_for,
)
from twinline.mail.compose import TEMPLATES
from twinline.messages import MailKind

MakeFacts = Callable[..., MailFacts]

NOW = datetime(2026, 11, 23, 14, 3, 7, 123, tzinfo=UTC)
MESSAGE_ID = message_id_for(MailKind.CREDENTIALS, "line-1", "grant-1", key=b"k" * 32, domain="example.net")
PASSWORD = "Tz4RkW8pQm3Hv9Ya"
USERNAME = "k7mxq2vd"
UNTIL = "Wednesday 25 November 2026, 14:03 UTC"
MULTICS = Entry("multics", "multics.example.net", 12000, ready=True)
OSCAM = Entry("oscam", "oscam.example.net", 15000, ready=True)
PAYMENT = BlockNotice("payment", "The payment of 3 November came back.", "P-88")
HEADERS = ["From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Auto-Submitted", "Content-Type"]

# Every control character of Unicode's C0 and C1, the line and paragraph separators, and direction overrides.
CONTROLS = st.sampled_from(
    [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u2028", "\u2029", "\u202e", "\u2066"]
)
READABLE = (
    st.text(
        st.characters(
            codec="utf-8",
            exclude_categories=("Cc", "Cs", "Zl", "Zp"),
            exclude_characters="\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
        ),
        min_size=1,
        max_size=120,
    )
    .map(str.strip)
    .filter(bool)
)


def written(facts: MailFacts) -> bytes:
    return compose(facts, message_id=MESSAGE_ID, date=NOW)


def read(raw: bytes) -> EmailMessage:
    return BytesParser(policy=policy.default).parsebytes(raw)


def text_of(raw: bytes) -> str:
    return str(next(read(raw).iter_parts()).get_content()).replace("\r\n", "\n")


def html_of(raw: bytes) -> str:
    return str(list(read(raw).iter_parts())[1].get_content())


class _Visible(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden += tag in {"style", "title"}

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in {"style", "title"}

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)


def visible(html: str) -> str:
    reader = _Visible()
    reader.feed(html)
    return " ".join(" ".join(reader.words).split())


def flat(text: str) -> str:
    return " ".join(text.split())


def entries_in(text: str) -> list[tuple[str, ...]]:
    """(state, host, port, user, password, one-line form) of each entry, as a customer reads the text part."""
    form = r"^ENTRY \d \(\w+\): (.+)\n\n  Host: +(\S+)\n  Port: +(\S+)\n  User: +(\S+)\n  Password: +(\S+)\n\n(C: .+)$"
    return re.findall(form, text, re.MULTILINE)


def every_kind(make_facts: MakeFacts) -> list[MailFacts]:
    return [make_facts(kind) for kind in MailKind]


def test_the_text_part_alone_gives_both_entries_ready_to_copy(make_facts: MakeFacts) -> None:
    text = text_of(written(make_facts(MailKind.CREDENTIALS)))
    one = f"C: multics.example.net 12000 {USERNAME} {PASSWORD}"
    two = f"C: oscam.example.net 15000 {USERNAME} {PASSWORD}"
    assert entries_in(text) == [
        ("ready now", "multics.example.net", "12000", USERNAME, PASSWORD, one),
        ("ready now", "oscam.example.net", "15000", USERNAME, PASSWORD, two),
    ]
    assert f"Until: {UNTIL}" in text
    assert "Put both entries in your receiver" in text
    assert "when one of them fails, your receiver carries on with the other" in flat(text)


def test_the_html_part_gives_the_same_entries(make_facts: MakeFacts) -> None:
    shown = visible(html_of(written(make_facts(MailKind.CREDENTIALS))))
    for host, port in (("multics.example.net", 12000), ("oscam.example.net", 15000)):
        assert f"Host {host} Port {port} User {USERNAME} Password {PASSWORD}" in shown
        assert f"C: {host} {port} {USERNAME} {PASSWORD}" in shown
    assert UNTIL in shown


@pytest.mark.parametrize(
    ("multics_ready", "sentence"),
    [
        (True, "Entry 1 (MultiCS) works now. Entry 2 (OSCam) is not ready yet and follows"),
        (False, "Entry 2 (OSCam) works now. Entry 1 (MultiCS) is not ready yet and follows"),
    ],
)
def test_a_mail_with_one_half_ready_says_which_and_that_the_other_follows(
    make_facts: MakeFacts, *, multics_ready: bool, sentence: str
) -> None:
    entries = (replace(MULTICS, ready=multics_ready), replace(OSCAM, ready=not multics_ready))
    raw = written(make_facts(MailKind.CREDENTIALS, entries=entries))
    assert sentence in flat(text_of(raw))
    assert sentence in visible(html_of(raw))
    states = [entry[0] for entry in entries_in(text_of(raw))]
    expected = {True: "ready now", False: "not ready yet, follows"}
    assert states == [expected[multics_ready], expected[not multics_ready]]
    assert "Both entries work now" not in text_of(raw)


def test_the_second_mail_has_the_one_entry_and_points_to_the_first_mail(make_facts: MakeFacts) -> None:
    raw = written(make_facts(MailKind.SECOND_HALF))
    [(state, host, *_, line)] = entries_in(text_of(raw))
    assert (state, host) == ("ready now", "oscam.example.net")
    assert line == f"C: oscam.example.net 15000 {USERNAME} {PASSWORD}"
    assert "first mail" in flat(text_of(raw))
    assert "multics.example.net" not in text_of(raw) + html_of(raw)


@pytest.mark.parametrize("kind", sorted(set(MailKind) - SHOWS_CREDENTIALS))
def test_other_kinds_never_carry_the_password(make_facts: MakeFacts, kind: MailKind) -> None:
    raw = written(make_facts(kind))
    for part in (text_of(raw), html_of(raw), str(read(raw)["Subject"])):
        assert PASSWORD not in part
        assert "C: " not in part


def test_a_delayed_mail_says_we_are_on_it_and_gives_no_credentials(make_facts: MakeFacts) -> None:
    raw = written(make_facts(MailKind.DELAYED, entries=(replace(MULTICS, ready=False),)))
    for part in (flat(text_of(raw)), visible(html_of(raw))):
        assert "we are on it" in part
        assert USERNAME not in part
        assert "multics.example.net" not in part


def test_a_delayed_trial_is_told_that_no_time_is_lost_and_a_paid_line_is_not(make_facts: MakeFacts) -> None:
    promise = f"if the first entry works before {UNTIL}, the trial counts from that moment"
    assert promise in flat(text_of(written(make_facts(MailKind.DELAYED, plan="trial"))))
    assert promise not in flat(text_of(written(make_facts(MailKind.DELAYED, plan="paid"))))


def test_a_new_customer_who_is_blocked_gets_the_entries_and_no_word_that_they_work(make_facts: MakeFacts) -> None:
    waiting = tuple(replace(entry, ready=False) for entry in (MULTICS, OSCAM))
    block = replace(PAYMENT, until=datetime(2026, 11, 24, 9, 30, tzinfo=UTC))
    raw = written(make_facts(MailKind.CREDENTIALS, entries=waiting, blocks=(block,)))
    assert "line is blocked" in str(read(raw)["Subject"])
    assert [state for state, *_ in entries_in(text_of(raw))] == ["blocked", "blocked"]
    for part in (flat(text_of(raw)), visible(html_of(raw))):
        assert PASSWORD in part
        assert PAYMENT.reason in part
        assert "Stands until: Tuesday 24 November 2026, 09:30 UTC" in part
        assert "ready" not in part
        assert "works now" not in part
        assert "follows" not in part


def test_a_new_password_comes_with_both_entries_and_says_whether_the_old_one_still_works(
    make_facts: MakeFacts,
) -> None:
    both = written(make_facts(MailKind.PASSWORD))
    assert [line for *_, line in entries_in(text_of(both))] == [
        f"C: {entry.host} {entry.port} {USERNAME} {PASSWORD}" for entry in (MULTICS, OSCAM)
    ]
    one = written(make_facts(MailKind.PASSWORD, entries=(replace(MULTICS, ready=False), OSCAM)))
    for raw, gone in ((both, True), (one, False)):
        for part in (flat(text_of(raw)), visible(html_of(raw))):
            assert ("the old password no longer works" in part) is gone
            assert ("Entry 1 (MultiCS) cannot be reached just now and may take the old one" in part) is not gone


def test_a_blocked_line_gets_its_new_password_and_reads_that_it_stays_blocked(make_facts: MakeFacts) -> None:
    waiting = tuple(replace(entry, ready=False) for entry in (MULTICS, OSCAM))
    raw = written(make_facts(MailKind.PASSWORD, entries=waiting, blocks=(PAYMENT,)))
    for part in (flat(text_of(raw)), visible(html_of(raw))):
        assert "stays blocked" in part
        assert PASSWORD in part
        assert PAYMENT.reason in part
        assert "follows" not in part
        assert "now" not in part.split("Reference")[0].split("password works")[0]


@pytest.mark.parametrize(("plan", "words"), [("trial", "If you buy it"), ("paid", "If it is renewed")])
def test_a_reminder_tells_the_end_and_that_the_credentials_stay(make_facts: MakeFacts, plan: str, words: str) -> None:
    raw = written(make_facts(MailKind.REMINDER, plan=plan))
    for part in (flat(text_of(raw)), visible(html_of(raw))):
        assert "ends soon" in part
        assert UNTIL in part
        assert words in part


def test_a_move_gives_both_new_entries_and_says_how_long_the_old_ones_work(make_facts: MakeFacts) -> None:
    until = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
    kept = written(make_facts(MailKind.MOVED, old_until=until))
    assert [line for *_, line in entries_in(text_of(kept))] == [
        f"C: {entry.host} {entry.port} {USERNAME} {PASSWORD}" for entry in (MULTICS, OSCAM)
    ]
    for part in (flat(text_of(kept)), visible(html_of(kept))):
        assert "User and password stay as they were" in part
        assert "The old ones keep working until Tuesday 24 November 2026, 09:30 UTC." in part
        assert "follow" not in part
    gone = written(make_facts(MailKind.MOVED, entries=(MULTICS, replace(OSCAM, ready=False))))
    for part in (flat(text_of(gone)), visible(html_of(gone))):
        assert "The old ones stop working now." in part
        assert "Entry 1 (MultiCS) is ready now. Entry 2 (OSCam) cannot be reached just now" in part


def test_a_blocked_line_that_moves_gets_its_new_entries_and_no_promise(make_facts: MakeFacts) -> None:
    waiting = tuple(replace(entry, ready=False) for entry in (MULTICS, OSCAM))
    raw = written(make_facts(MailKind.MOVED, entries=waiting, blocks=(PAYMENT,)))
    for part in (flat(text_of(raw)), visible(html_of(raw))):
        assert "stays blocked" in part
        assert PAYMENT.reason in part
        assert "keep working" not in part
        assert "ready" not in part


def test_a_cancellation_tells_what_was_taken_back_and_what_is_left(make_facts: MakeFacts) -> None:
    until = "Wednesday 25 November 2026, 14:03 UTC"
    ended = written(make_facts(MailKind.CANCELLED, entries=(MULTICS, OSCAM)))
    for part in (flat(text_of(ended)), visible(html_of(ended))):
        assert "Your line has ended" in part
        assert until in part
        assert "follows" not in part
        assert "cannot be used any more" in part
    ending = written(make_facts(MailKind.CANCELLED, entries=(MULTICS, replace(OSCAM, ready=False))))
    assert "cannot be used" not in flat(text_of(ending)) + visible(html_of(ending))
    shorter = written(make_facts(MailKind.CANCELLED, taken_back="time", entries=(MULTICS, replace(OSCAM, ready=False))))
    assert f"The other time that you have stays. Until: {until}" in flat(text_of(shorter))
    assert "Entry 2 (OSCam): follows" in flat(text_of(shorter))
    blocked = written(make_facts(MailKind.CANCELLED, taken_back="time", blocks=(PAYMENT,)))
    for part in (flat(text_of(blocked)), visible(html_of(blocked))):
        assert "Your line stays blocked" in part
    moved = written(make_facts(MailKind.CANCELLED, taken_back="move", entries=(MULTICS, OSCAM)))
    assert str(read(moved)["Subject"]) == "Example TV: the move of your line was cancelled"
    for part in (flat(text_of(moved)), visible(html_of(moved))):
        assert "keep the entries that you had" in part
        assert "taken back" not in part


def test_a_close_says_so_and_where_it_is_not_done_yet(make_facts: MakeFacts) -> None:
    done = written(make_facts(MailKind.CLOSED, entries=(MULTICS, OSCAM)))
    partly = written(make_facts(MailKind.CLOSED, entries=(MULTICS, replace(OSCAM, ready=False))))
    for part in (flat(text_of(done)), visible(html_of(done))):
        assert "closed for good" in part
        assert "follows" not in part
        assert "cannot be used any more" in part
    for part in (flat(text_of(partly)), visible(html_of(partly))):
        assert "Entry 2 (OSCam) follows" in part.replace(":", "")
        assert "cannot be used" not in part


def test_an_extension_tells_the_new_end_and_that_nothing_changes(make_facts: MakeFacts) -> None:
    raw = written(make_facts(MailKind.EXTENDED, plan="paid"))
    for part in (flat(text_of(raw)), visible(html_of(raw))):
        assert UNTIL in part
        assert "nothing to change in your receiver" in part
        assert "blocked" not in part


def test_an_extension_of_a_blocked_line_says_time_was_added_and_why_it_stays_blocked(make_facts: MakeFacts) -> None:
    raw = written(make_facts(MailKind.EXTENDED, plan="paid", blocks=(PAYMENT,)))
    assert "stays blocked" in str(read(raw)["Subject"])
    for part in (flat(text_of(raw)), visible(html_of(raw))):
        assert "The time was added, but your line stays blocked" in part
        assert PAYMENT.reason in part
        assert f"Case: {PAYMENT.case}" in part
        assert UNTIL in part
        assert "nothing to change" not in part


def test_an_extension_says_on_which_half_the_new_end_stands(make_facts: MakeFacts) -> None:
    text = text_of(written(make_facts(MailKind.EXTENDED, entries=(MULTICS, replace(OSCAM, ready=False)))))
    assert "Entry 1 (MultiCS): done" in text
    assert "Entry 2 (OSCam): follows" in text


def test_a_block_names_reason_case_and_the_contact_of_its_owner(make_facts: MakeFacts) -> None:
    abuse = BlockNotice("abuse", "Shared with others.", "AB-1")
    text = text_of(written(make_facts(MailKind.BLOCKED, blocks=(abuse, PAYMENT))))
    assert "Reason: Shared with others.\nBlocked by: abuse desk\nCase: AB-1\nWrite to: abuse@example.net\n" in text
    assert f"Reason: {PAYMENT.reason}\nBlocked by: payment\nCase: P-88\nWrite to: help@example.net\n" in text


def test_a_lifted_block_with_another_one_standing_does_not_say_the_line_works(make_facts: MakeFacts) -> None:
    raw = written(make_facts(MailKind.UNBLOCKED, blocks=(PAYMENT,)))
    for part in (flat(text_of(raw)), visible(html_of(raw))):
        assert "stays blocked" in part
        assert PAYMENT.reason in part
        assert "no longer blocked" not in part


def test_a_lifted_block_says_which_half_works_again(make_facts: MakeFacts) -> None:
    raw = written(make_facts(MailKind.UNBLOCKED, entries=(replace(MULTICS, ready=False), OSCAM)))
    assert "no longer blocked" in text_of(raw)
    assert "Entry 1 (MultiCS): follows" in text_of(raw)
    assert "Entry 2 (OSCam): works again" in text_of(raw)


def test_every_mail_names_service_rights_holder_abuse_support_and_reference(make_facts: MakeFacts) -> None:
    for facts in every_kind(make_facts):
        raw = written(facts)
        for part in (flat(text_of(raw)), visible(html_of(raw))):
            for wanted in (
                *("Example TV", "Example Rights Ltd", "abuse@example.net", "help@example.net"),
                *("https://tv.example.net", "order-1042"),
            ):
                assert wanted in part, (facts.kind, wanted)


def test_every_mail_has_exactly_the_intended_headers_and_the_text_part_first(make_facts: MakeFacts) -> None:
    for facts in every_kind(make_facts):
        message = read(written(facts))
        assert message.keys() == HEADERS
        assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
        assert message["From"].addresses[0].addr_spec == "lines@example.net"
        assert message["From"].addresses[0].display_name == "Example TV"
        assert str(message["To"]) == "anna@example.org"
        assert message["Date"].datetime == NOW.replace(microsecond=0)
        assert message["Message-ID"] == MESSAGE_ID
        assert message["Auto-Submitted"] == "auto-generated"
        assert str(message["Subject"]).startswith("Example TV: ")
        for secret in (USERNAME, PASSWORD, "anna"):
            assert secret not in str(message["Subject"])


def test_every_html_part_is_self_contained(make_facts: MakeFacts) -> None:
    for facts in every_kind(make_facts):
        html = html_of(written(facts))
        assert not re.search(r"<(img|script|link|iframe|object|form|video|base)\b|url\(|@import|\ssrc=", html, re.I)
        links = set(re.findall(r'href="([^"]+)"', html))
        assert links <= {"https://tv.example.net", "mailto:help@example.net", "mailto:abuse@example.net"}


def test_the_end_is_told_in_utc_and_never_later_than_it_is(make_facts: MakeFacts) -> None:
    berlin_winter = datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    text = text_of(written(make_facts(MailKind.EXTENDED, ends_at=berlin_winter)))
    assert "Until: Thursday 31 December 2026, 23:59 UTC" in text


def test_the_same_facts_give_the_same_bytes_in_another_composer(make_facts: MakeFacts) -> None:
    another = Composer()
    for facts in every_kind(make_facts):
        assert another.compose(facts, message_id=MESSAGE_ID, date=NOW) == written(facts)


def test_the_date_goes_out_in_utc(make_facts: MakeFacts) -> None:
    facts = make_facts(MailKind.DELAYED)
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))
    assert compose(facts, message_id=MESSAGE_ID, date=elsewhere) == written(facts)


@settings(deadline=None, max_examples=50)
@given(name=READABLE, reason=READABLE, case=READABLE, reference=READABLE, holder=READABLE)
def test_any_readable_text_comes_through_and_the_wire_rules_hold(
    make_facts: MakeFacts, name: str, reason: str, case: str, reference: str, holder: str
) -> None:
    block = BlockNotice("operator", reason, case)
    facts = make_facts(MailKind.BLOCKED, blocks=(block,), reference=reference)
    facts = replace(facts, service=replace(facts.service, name=name, rights_holder=holder))
    raw = written(facts)
    message = read(raw)
    assert message.keys() == HEADERS
    [(phrase, sender)] = getaddresses([str(message_from_bytes(raw)["From"])])
    assert (str(make_header(decode_header(phrase))), sender) == (name, "lines@example.net")
    assert message["Subject"] == f"{name}: your line is blocked"
    assert getaddresses([str(message["To"])]) == [("", "anna@example.org")]
    shown = visible(html_of(raw))
    for words in (reason, case, reference, holder):
        assert flat(words) in flat(text_of(raw))
        assert flat(words) in shown
    lines = raw.split(b"\r\n")
    assert raw.isascii()
    assert raw.endswith(b"\r\n")
    assert all(len(line) <= 998 and not re.search(rb"[\r\n\0]", line) for line in lines)


@settings(deadline=None, max_examples=40)
@given(control=CONTROLS, at=st.integers(0, 6), injected=st.sampled_from(["", "Bcc: eve@example.org", "\r\n\r\nx"]))
@pytest.mark.parametrize(
    "field",
    [
        *("name", "rights_holder", "abuse_contact", "support_email", "mail_from", "public_url"),
        *("recipient", "username", "password", "reference", "reason", "case", "owner", "host"),
    ],
)
def test_a_control_character_anywhere_stops_the_mail(
    make_facts: MakeFacts, field: str, control: str, at: int, injected: str
) -> None:
    def spoiled(text: str) -> str:
        return text[:at] + control + injected + text[at:]

    facts = make_facts(MailKind.CREDENTIALS)
    if field in {"reason", "case", "owner"}:
        block = replace(PAYMENT, **{field: spoiled(getattr(PAYMENT, field))})
        facts = make_facts(MailKind.BLOCKED, blocks=(block,))
    elif field == "host":
        facts = replace(facts, entries=(replace(MULTICS, host=spoiled(MULTICS.host)), OSCAM))
    elif field == "password":
        facts = replace(facts, password=SecretStr(spoiled(PASSWORD)))
    elif field in {"recipient", "username", "reference"}:
        facts = replace(facts, **{field: spoiled(getattr(facts, field))})
    else:
        facts = replace(facts, service=replace(facts.service, **{field: spoiled(getattr(facts.service, field))}))
    with pytest.raises(UnsafeMail) as caught:
        written(facts)
    for private in ("anna", PASSWORD, "eve"):
        assert private not in str(caught.value)


@pytest.mark.parametrize("text", ["a b", "pässword", "", "x" * 3 + "\u00a0"])
def test_values_that_no_receiver_takes_stop_the_mail(make_facts: MakeFacts, text: str) -> None:
    facts = make_facts(MailKind.CREDENTIALS)
    with pytest.raises(UnsafeMail, match="username"):
        written(replace(facts, username=text))
    with pytest.raises(UnsafeMail, match="host"):
        written(replace(facts, entries=(replace(MULTICS, host=text), OSCAM)))


@pytest.mark.parametrize("url", ["javascript:alert(1)", "tv.example.net", "https://", "https://tv example"])
def test_a_public_url_that_is_no_web_address_stops_the_mail(make_facts: MakeFacts, url: str) -> None:
    facts = make_facts(MailKind.DELAYED)
    with pytest.raises(UnsafeMail, match="public_url"):
        written(replace(facts, service=replace(facts.service, public_url=url)))


@pytest.mark.parametrize("message_id", ["", "x@example.net", "<x>", "<x@y>\r\nBcc: eve@example.org", "<a b@c>"])
def test_a_malformed_message_id_stops_the_mail(make_facts: MakeFacts, message_id: str) -> None:
    with pytest.raises(UnsafeMail, match="Message-ID"):
        compose(make_facts(MailKind.DELAYED), message_id=message_id, date=NOW)


def test_a_date_without_zone_stops_the_mail(make_facts: MakeFacts) -> None:
    with pytest.raises(UnsafeMail, match="zone"):
        compose(make_facts(MailKind.DELAYED), message_id=MESSAGE_ID, date=NOW.replace(tzinfo=None))


def test_markup_in_a_reason_is_shown_and_not_obeyed(make_facts: MakeFacts) -> None:
    block = replace(PAYMENT, reason='<script>alert("x")</script>', case='"><img src=x>')
    html = html_of(written(make_facts(MailKind.BLOCKED, blocks=(block,))))
    assert "<script" not in html
    assert "<img" not in html
    assert '<script>alert("x")</script>' in visible(html)


def test_an_internationalised_recipient_stands_in_the_header_as_it_is(make_facts: MakeFacts) -> None:
    raw = written(make_facts(MailKind.DELAYED, recipient="jörg@müller.de"))
    message = Parser(policy=policy.default).parsestr(raw.decode())
    assert message["To"].addresses[0].addr_spec == "jörg@xn--mller-kva.de"
    assert message.keys() == HEADERS


def test_the_facts_hide_password_and_recipient(make_facts: MakeFacts) -> None:
    shown = repr(make_facts(MailKind.CREDENTIALS))
    assert PASSWORD not in shown
    assert "anna" not in shown


@pytest.mark.parametrize(
    ("kind", "changes", "complaint"),
    [
        (MailKind.CREDENTIALS, {"password": None}, "password"),
        (MailKind.CREDENTIALS, {"password": SecretStr("")}, "password"),
        (MailKind.CREDENTIALS, {"entries": (MULTICS,)}, "both entries"),
        (MailKind.CREDENTIALS, {"entries": (MULTICS, MULTICS)}, "one entry of each"),
        (
            MailKind.CREDENTIALS,
            {"entries": (replace(MULTICS, ready=False), replace(OSCAM, ready=False))},
            "needs a ready entry",
        ),
        (MailKind.SECOND_HALF, {"entries": (OSCAM,), "blocks": (PAYMENT,)}, "blocked line"),
        (MailKind.SECOND_HALF, {"entries": (MULTICS, OSCAM)}, "exactly the one entry"),
        (MailKind.SECOND_HALF, {"entries": (replace(OSCAM, ready=False),)}, "exactly the one entry"),
        (MailKind.BLOCKED, {"blocks": ()}, "needs the block"),
        (MailKind.DELAYED, {"ends_at": datetime(2026, 1, 1)}, "UTC"),  # noqa: DTZ001 - the naive time is the case
        (MailKind.DELAYED, {"ends_at": NOW.astimezone(timezone(timedelta(hours=1)))}, "UTC"),
    ],
)
def test_facts_that_contradict_their_kind_are_refused(
    make_facts: MakeFacts, kind: MailKind, changes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(MailFactsError, match=complaint):
        make_facts(kind, **changes)


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    return copytree(TEMPLATES, tmp_path / "templates")


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("delayed.txt.j2", "{% if %}", "delayed.txt.j2 doesn't parse"),
        ("base.html.j2", "{{ unclosed", "base.html.j2 doesn't parse"),
        ("delayed.html.j2", "{{ usrname }}", "unknown names: usrname"),
        ("delayed.txt.j2", "{{ x | no_such_filter }}", "delayed.txt.j2 doesn't parse"),
    ],
)
def test_a_broken_template_stops_the_start(templates: Path, file: str, content: str, complaint: str) -> None:
    (templates / file).write_text(content)
    with pytest.raises(BrokenTemplates, match=complaint):
        Composer(templates)


def test_a_release_that_is_installed_meanwhile_changes_no_mail_of_this_one(
    templates: Path, make_facts: MakeFacts
) -> None:
    composer = Composer(templates)
    before = composer.compose(make_facts(MailKind.BLOCKED), message_id=MESSAGE_ID, date=NOW)
    for file in templates.iterdir():
        file.write_text("{{ a_field_of_the_next_release }}")
    assert composer.compose(make_facts(MailKind.BLOCKED), message_id=MESSAGE_ID, date=NOW) == before


def test_a_missing_template_stops_the_start(templates: Path) -> None:
    (templates / "delayed.txt.j2").unlink()
    with pytest.raises(BrokenTemplates, match=r"missing: delayed\.txt\.j2"):
        Composer(templates)


@settings(deadline=None)
@given(
    one=st.tuples(st.sampled_from(MailKind), st.text(max_size=8), st.text(max_size=8)),
    other=st.tuples(st.sampled_from(MailKind), st.text(max_size=8), st.text(max_size=8)),
)
def test_two_messages_have_one_message_id_only_if_they_are_the_same_message(
    one: tuple[MailKind, str, str], other: tuple[MailKind, str, str]
) -> None:
    def made(which: tuple[MailKind, str, str]) -> str:
        return message_id_for(*which, key=b"k" * 32, domain="example.net")

    assert (made(one) == made(other)) == (one == other)


def test_a_message_id_is_keyed_and_tells_nothing() -> None:
    made = message_id_for(MailKind.DELAYED, USERNAME, "anna@example.org", key=b"k" * 32, domain="TV.example.net")
    assert re.fullmatch(r"<[0-9a-f]{32}@tv\.example\.net>", made)
    other_key = message_id_for(MailKind.DELAYED, USERNAME, "anna@example.org", key=b"j" * 32, domain="tv.example.net")
    assert made != other_key


@pytest.mark.parametrize(
    ("key", "domain"), [(b"short", "example.net"), (b"k" * 32, "exa mple"), (b"k" * 32, "a>\r\nX: y"), (b"k" * 32, "")]
)
def test_a_weak_key_or_a_bad_domain_makes_no_message_id(key: bytes, domain: str) -> None:
    with pytest.raises(ValueError, match="Message-ID"):
        message_id_for(MailKind.DELAYED, "line", "ref", key=key, domain=domain)


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        ("trial", "This trial does not count. If you would still like one, just ask for it again"),
        ("paid", "we want to put that right: please write to help@example.net and name the reference"),
    ],
)
def test_who_could_never_use_a_line_reads_so_and_what_to_do(make_facts: MakeFacts, plan: str, sentence: str) -> None:
    mail = written(make_facts(MailKind.UNSERVED, plan=plan, entries=()))
    for shown in (flat(text_of(mail)), visible(html_of(mail))):
        assert f"it worked on none of our servers before its time was over on {UNTIL}".lower() in shown.lower()
        assert sentence in shown
        assert USERNAME not in shown
