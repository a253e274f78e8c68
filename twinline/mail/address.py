"""Mail addresses: which ones we accept, and which of them belong to the same person."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from email_validator import EmailNotValidError, validate_email

MAX_ADDRESS_LENGTH = 254
"""Characters; RFC 5321 section 4.5.3.1.3 allows a path of 256 octets, brackets included."""

DOTS_IGNORED = {"gmail.com": "gmail.com", "googlemail.com": "gmail.com"}
"""Domains whose provider delivers `a.b@` and `ab@` to one mailbox, with the domain we file them under.

Google documents it for its public domain and not for the domains it hosts
(https://support.google.com/mail/answer/7436150); googlemail.com is the same provider under its older name.
"""

_CONTROL_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
_ADVICE = "write it as name@domain, for example you@example.com"


class AddressError(ValueError):
    """The text is no mail address we can use; asking again with the same text can't help.

    The sentence says what to do and never repeats the address.
    """


@dataclass(frozen=True, slots=True)
class Address:
    """A valid address, normalised to NFC with a lower-case domain; its parts stay out of `repr`.

    `domain` is in IDNA form. `local` keeps the case its owner gave it.
    """

    local: str = field(repr=False)
    domain: str = field(repr=False)

    @property
    def text(self) -> str:
        """The address as SMTP and mail headers take it; ASCII unless the local part is not."""
        return f"{self.local}@{self.domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether only a server with SMTPUTF8 (RFC 6531) can carry it."""
        return not self.local.isascii()


def parse_address(text: str) -> Address:
    """Read a customer's address, without asking the DNS.

    Raises `AddressError` for anything that is not one plain, routable address.
    """
    if any(unicodedata.category(character) in _CONTROL_CATEGORIES for character in text):
        raise AddressError("the mail address has a line break or another control character; remove it")
    if re.search(r"\s", text):
        raise AddressError(f"the mail address has a blank; remove it and {_ADVICE}")
    if len(text) > MAX_ADDRESS_LENGTH:
        raise AddressError(f"the mail address is longer than {MAX_ADDRESS_LENGTH} characters; use a shorter one")
    if text.count("@") != 1:
        raise AddressError(f"a mail address has exactly one @; {_ADVICE}")
    parsed: Address | None = None
    try:
        valid = validate_email(text, check_deliverability=False)
    except EmailNotValidError:
        # Its text may quote the address, and so may a chained exception: raise outside of this block.
        pass
    else:
        parsed = Address(local=valid.local_part, domain=valid.ascii_domain.lower())
    if parsed is None or len(parsed.text.encode()) > MAX_ADDRESS_LENGTH:
        raise AddressError(f"the mail address is not one a mail server could deliver to; {_ADVICE}")
    return parsed


def normalise_person(address: Address) -> str:
    """The key for "one trial per person": two addresses with the same key reach the same mailbox.

    Case is folded, a plus-tag removed, dots removed for the providers of `DOTS_IGNORED`. The key is personal
    data like the address itself.
    """
    local = _fold(address.local)
    # A local part that starts with its plus has no name before the tag, so the tag is the name.
    local = (local.split("+", 1)[0] or local).rstrip(".")
    provider = DOTS_IGNORED.get(address.domain)
    if provider is not None:
        local = local.replace(".", "")
    return f"{local}@{provider or address.domain}"


def _fold(text: str) -> str:
    """Caseless canonical form (Unicode 3.13, D145), back in NFC."""
    decomposed = unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())
    return unicodedata.normalize("NFC", decomposed)
