"""The mail: what a customer is told, written from facts and handed to a mail server.

It knows nothing of the ledger, the hosts or Temporal.
"""

from twinline.mail.address import Address, AddressError, normalise_person, parse_address
from twinline.mail.compose import BrokenTemplates, Composer, compose, default_composer
from twinline.mail.disposable import DisposableDomains
from twinline.mail.facts import (
    SHOWS_CREDENTIALS,
    BlockNotice,
    Entry,
    MailFacts,
    MailFactsError,
    Service,
    TakenBack,
)
from twinline.mail.handover import (
    Accepted,
    HandOverError,
    MailOutcomeUnknown,
    MailRefused,
    MailTemporary,
    Stage,
    greet,
    hand_over,
)
from twinline.mail.message_id import message_id_for
from twinline.mail.target import Security, SmtpTarget, SmtpUrlError
from twinline.mail.wire import UnsafeMail

__all__ = [
    "SHOWS_CREDENTIALS",
    "Accepted",
    "Address",
    "AddressError",
    "BlockNotice",
    "BrokenTemplates",
    "Composer",
    "DisposableDomains",
    "Entry",
    "HandOverError",
    "MailFacts",
    "MailFactsError",
    "MailOutcomeUnknown",
    "MailRefused",
    "MailTemporary",
    "Security",
    "Service",
    "SmtpTarget",
    "SmtpUrlError",
    "Stage",
    "TakenBack",
    "UnsafeMail",
    "compose",
    "default_composer",
    "greet",
    "hand_over",
    "message_id_for",
    "normalise_person",
    "parse_address",
]
