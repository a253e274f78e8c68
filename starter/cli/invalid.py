"""Says what is wrong with an order's fields in the words of the command line, never in pydantic's."""

from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from twinline.errors import InvalidOrder
from twinline.problems import quoted

_RULES: Final = {
    "caller": ("--caller", "1 to 32 of a-z, 0-9, dot, hyphen and underscore, beginning with a letter or digit"),
    "order": ("--order", "1 to 64 letters, digits and . _ : -, beginning with a letter or digit (no address)"),
    "case": ("--case", "1 to 64 letters, digits and . _ : -, beginning with a letter or digit (no address)"),
    "email": ("EMAIL", "one mail address of at most 254 characters, without blanks and line breaks"),
    "region": ("--region", "1 to 32 of a-z, 0-9 and hyphen, as in the inventory"),
    "line": ("the line", "a username as twinline makes them: 4 to 20 of a-z and 0-9"),
    "days": ("--days", "a whole number from 1 to 3660"),
    "reason": ("--reason", "one line of 1 to 500 characters; the customer reads it"),
    "until": ("--until", "a moment with its zone, such as 2031-05-06T12:00+02:00 or 2031-05-06T10:00Z"),
}
LASTING: Final = {
    "reason": "one line of 1 to 200 characters without an @: it is kept for ever, so let it name no customer",
    "actor": "1 to 32 of a-z, 0-9, dot, hyphen and underscore, beginning with a letter or digit",
}
"""What options must be that the ledger keeps for ever."""
_PERSONAL: Final = frozenset({"email", "reason"})


def invalid_order(error: ValidationError) -> InvalidOrder:
    """A sentence for each field that can never be right; values that may be personal are not repeated."""
    sentences = [_sentence(detail) for detail in error.errors(include_url=False)]
    return InvalidOrder("\n  also: ".join(sentences), hint="Nothing was ordered; correct it and try again.")


def lasting_option(error: ValidationError) -> InvalidOrder:
    """What an option must be that is kept for ever; its value may be personal and is not repeated."""
    wrong = {str(detail["loc"][0]) for detail in error.errors(include_url=False)}
    for field, rule in LASTING.items():
        if field in wrong:
            return InvalidOrder(f"--{field} must be {rule}", hint="Nothing was done.")
    return invalid_order(error)


def _sentence(detail: ErrorDetails) -> str:
    if not detail["loc"]:
        return "a purchase needs either EMAIL with --region, for a new customer, or --line, for an existing one"
    field = str(detail["loc"][0])
    option, rule = _RULES[field]
    return f"{option} {_shown(field, detail['input'])} must be {rule}"


def _shown(field: str, value: object) -> str:
    # An address may have slipped into any field.
    if field in _PERSONAL or not isinstance(value, str | int) or "@" in str(value):
        return "is not usable: it"
    return f"is {quoted(value)}, but"
