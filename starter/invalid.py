"""Says what is wrong with an order's fields in plain words, never in pydantic's; each face has its own field names."""

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from twinline.bulk import RowProblem
from twinline.errors import InvalidRows
from twinline.messages import Message
from twinline.problems import quoted

_RULES: Final = {
    "caller": "1 to 32 of a-z, 0-9, dot, hyphen and underscore, beginning with a letter or digit",
    "run": "1 to 48 letters, digits and . _ : -, beginning with a letter or digit (no address)",
    "order": "1 to 64 letters, digits and . _ : -, beginning with a letter or digit (no address)",
    "case": "1 to 64 letters, digits and . _ : -, beginning with a letter or digit (no address)",
    "email": "one mail address of at most 254 characters, without blanks and line breaks",
    "region": "1 to 32 of a-z, 0-9 and hyphen, as in the inventory",
    "pair": "1 to 32 of a-z, 0-9 and hyphen, as in the inventory",
    "overlap_hours": "a number of hours from 0 to 744",
    "line": "a username as twinline makes them: 4 to 20 of a-z and 0-9",
    "days": "a whole number from 1 to 3660",
    "reason": "one line of 1 to 500 characters; the customer reads it",
    "owner": "abuse, payment, reseller or operator",
    "client_address": "the IP address of the customer",
    "username": "4 to 20 of a-z and 0-9, which is what twinline can carry",
    "password": "1 to 24 letters, digits and !$%()*+,./:?@^_|~-, with a letter or digit among them",
    "ends_at": "a moment with its zone, such as 2031-05-06T12:00+02:00 or 2031-05-06T10:00Z",
    "skip_invalid": "true or false",
    "tell": "true or false",
    "until": "a moment with its zone, such as 2031-05-06T12:00+02:00 or 2031-05-06T10:00Z",
}
LASTING_REASON: Final = "one line of 1 to 200 characters without an @: it is kept for ever, so let it name no customer"
_UNSHOWN: Final = "is not usable: it"
_PERSONAL: Final = frozenset({"email", "reason", "client_address", "password"})

WHOLE: Final = "a purchase needs either email with region, for a new customer, or line, for an existing one"


class FieldProblem(Message):
    """What is wrong with one field; None for the order as a whole."""

    field: str | None
    sentence: str


class BadRows(InvalidRows):
    """Which rows can't be carried out, and why."""

    def __init__(
        self,
        problems: Sequence[RowProblem],
        *,
        message: str | None = None,
        hint: str = "Nothing was begun. A dry run shows all of them; correct them, or have them skipped.",
    ) -> None:
        first = problems[0]
        others = "" if len(problems) == 1 else f", and {len(problems) - 1} more"
        super().__init__(message or f"row {first.row} can't be carried out: {first.message}{others}", hint=hint)
        self.problems = tuple(problems)

    @property
    def type(self) -> str:
        return InvalidRows.__name__


def field_problems(
    error: ValidationError,
    *,
    names: Mapping[str, str],
    whole: str = WHOLE,
    rules: Mapping[str, str] = _RULES,
    repeated: bool = True,
) -> tuple[FieldProblem, ...]:
    """A sentence for each field that can never be right; values that may be personal are not repeated.

    `names` says what a face calls a field, `whole` what it says of a purchase for nobody or for two, `rules` what a
    field must be. Nothing is `repeated` of a row: in a column that has slipped may be a password.
    """
    return tuple(_problem(detail, names, whole, rules, repeated=repeated) for detail in error.errors(include_url=False))


def _problem(
    detail: ErrorDetails, names: Mapping[str, str], whole: str, rules: Mapping[str, str], *, repeated: bool
) -> FieldProblem:
    if not detail["loc"]:
        return FieldProblem(field=None, sentence=whole)
    field = str(detail["loc"][0])
    match detail["type"]:
        case "extra_forbidden":
            # Its name may hold anything, and is not repeated.
            return FieldProblem(field=None, sentence="there is a field that this order does not have")
        case "missing":
            return FieldProblem(field=field, sentence=f"{names.get(field, field)} is missing: {rules[field]}")
        case _:
            shown = _shown(field, detail["input"]) if repeated else _UNSHOWN
            return FieldProblem(field=field, sentence=f"{names.get(field, field)} {shown} must be {rules[field]}")


def _shown(field: str, value: object) -> str:
    # An address may have slipped into any field.
    if field in _PERSONAL or not isinstance(value, str | int) or "@" in str(value):
        return _UNSHOWN
    return f"is {quoted(value)}, but"
