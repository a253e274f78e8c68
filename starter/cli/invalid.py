"""Says what is wrong with an order's fields in the words of the command line."""

from typing import Final

from pydantic import ValidationError

from starter.invalid import LASTING_REASON, field_problems
from twinline.errors import InvalidOrder

_NAMES: Final = {
    "caller": "--caller",
    "run": "--run",
    "order": "--order",
    "case": "--case",
    "email": "EMAIL",
    "region": "--region",
    "pair": "--pair",
    "overlap_hours": "--overlap",
    "line": "the line",
    "days": "--days",
    "reason": "--reason",
    "owner": "--owner",
    "until": "--until",
}
LASTING: Final = {
    "reason": LASTING_REASON,
    "actor": "1 to 32 of a-z, 0-9, dot, hyphen and underscore, beginning with a letter or digit",
}
"""What options must be that the ledger keeps for ever."""
_WHOLE: Final = "a purchase needs either EMAIL with --region, for a new customer, or --line, for an existing one"


def invalid_order(error: ValidationError) -> InvalidOrder:
    """A sentence for each field that can never be right; values that may be personal are not repeated."""
    problems = field_problems(error, names=_NAMES, whole=_WHOLE)
    sentences = [problem.sentence for problem in problems]
    return InvalidOrder("\n  also: ".join(sentences), hint="Nothing was ordered; correct it and try again.")


def lasting_option(error: ValidationError) -> InvalidOrder:
    """What an option must be that is kept for ever; its value may be personal and is not repeated."""
    wrong = {str(detail["loc"][0]) for detail in error.errors(include_url=False)}
    for field, rule in LASTING.items():
        if field in wrong:
            return InvalidOrder(f"--{field} must be {rule}", hint="Nothing was done.")
    return invalid_order(error)
