"""Which addresses are accepted, and which belong to one person."""

from __future__ import annotations

import string

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from twinline.mail import Address, AddressError, normalise_person, parse_address

WORD = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=12)
LOCAL = st.lists(WORD, min_size=1, max_size=3).map(".".join)
DOMAIN = st.sampled_from(["example.org", "mail.example.net", "gmail.com", "googlemail.com", "müller-tv.de"])
# Letters of every script, with the ones whose case folding is odd, between dots and plus signs.
LETTERS = st.text(
    st.one_of(
        st.sampled_from(string.ascii_letters + "ßẞıİſǅΣςΐŉẖᾳᾼﬃÅÅﬀ"), st.characters(categories=("Lu", "Ll", "Lt", "Nd"))
    ),
    min_size=1,
    max_size=6,
)
ANY_LOCAL = st.lists(LETTERS, min_size=1, max_size=3).flatmap(
    lambda words: st.sampled_from([".", "+", "++", ".+", "-"]).map(lambda between: between.join(words))
)


def parsed_or_none(text: str) -> Address | None:
    try:
        return parse_address(text)
    except AddressError:
        return None


def person(text: str) -> str:
    return normalise_person(parse_address(text))


@settings(deadline=None)
@given(local=ANY_LOCAL, domain=DOMAIN)
def test_the_key_of_a_key_is_the_key(local: str, domain: str) -> None:
    address = parsed_or_none(f"{local}@{domain}")
    assume(address is not None)
    assert address is not None
    key = normalise_person(address)
    kept_local, _, kept_domain = key.rpartition("@")
    assert normalise_person(Address(kept_local, kept_domain)) == key


@settings(deadline=None)
@given(local=LOCAL, domain=DOMAIN)
def test_case_makes_no_other_person(local: str, domain: str) -> None:
    assert person(f"{local.upper()}@{domain.upper()}") == person(f"{local.lower()}@{domain}")


@settings(deadline=None)
@given(local=LOCAL, tag=WORD, domain=DOMAIN)
def test_a_plus_tag_makes_no_other_person(local: str, tag: str, domain: str) -> None:
    assert person(f"{local}+{tag}@{domain}") == person(f"{local}@{domain}")


@settings(deadline=None)
@given(words=st.lists(WORD, min_size=2, max_size=4))
def test_dots_make_no_other_person_at_gmail(words: list[str]) -> None:
    assert person(f"{'.'.join(words)}@gmail.com") == person(f"{''.join(words)}@googlemail.com")


@settings(deadline=None)
@given(words=st.lists(WORD, min_size=2, max_size=4))
def test_dots_make_another_person_where_the_provider_keeps_them(words: list[str]) -> None:
    assert person(f"{'.'.join(words)}@example.org") != person(f"{''.join(words)}@example.org")


@settings(deadline=None)
@given(one=LOCAL, other=LOCAL)
def test_two_names_are_two_people(one: str, other: str) -> None:
    assume(one.lower() != other.lower())
    assert person(f"{one}@example.org") != person(f"{other}@example.org")


def test_both_spellings_of_an_internationalised_domain_are_one_person() -> None:
    assert person("anna@müller.de") == person("anna@xn--mller-kva.de") == "anna@xn--mller-kva.de"


def test_a_name_that_is_only_a_tag_stays_a_name() -> None:
    assert person("+a@example.org") != person("+b@example.org")


def test_an_address_goes_to_the_wire_with_its_case_and_an_ascii_domain() -> None:
    address = parse_address("Anna.Berg+tv@Müller.de")
    assert address.text == "Anna.Berg+tv@xn--mller-kva.de"
    assert not address.needs_smtputf8
    assert parse_address("jörg@example.org").needs_smtputf8


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "exactly one @"),
        ("anna", "exactly one @"),
        ("anna@berg@example.org", "exactly one @"),
        ("anna@", "write it as"),
        ("@example.org", "write it as"),
        ("anna@localhost", "write it as"),
        ("anna@example..org", "write it as"),
        (" anna@example.org", "has a blank"),
        ("anna berg@example.org", "has a blank"),
        ("Anna <anna@example.org>", "has a blank"),
        ("anna@example.org\n", "control character"),
        ("anna@example.org\r\nBcc: eve@example.org", "control character"),
        ("anna\x00@example.org", "control character"),
        ("anna\u2028@example.org", "control character"),
        ("a" * 250 + "@example.org", "longer than 254"),
        ("a@" + "müller." * 35 + "de", "write it as"),
        ("anna@[127.0.0.1]", "write it as"),
    ],
)
def test_a_bad_address_is_refused_with_what_to_do_and_without_being_repeated(text: str, advice: str) -> None:
    with pytest.raises(AddressError, match=advice) as caught:
        parse_address(text)
    assert caught.value.__context__ is None
    assert text == "" or text not in str(caught.value)


@settings(deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_is_either_an_address_or_a_clear_refusal(text: str) -> None:
    address = parsed_or_none(text)
    if address is not None:
        assert parse_address(address.text) == address


def test_an_address_does_not_show_in_its_repr() -> None:
    shown = f"{parse_address('anna@example.org')!r}"
    assert "anna" not in shown
    assert "example" not in shown
