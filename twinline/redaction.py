"""The last line of defence of what is logged: takes out whatever looks like a secret or an address, whoever wrote it.

Our own texts hold none in the first place (design.md, I6). This is for what comes with them: exceptions of libraries,
with the SQL parameters, URLs and replies that these like to quote.
"""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Final

HIDDEN: Final = "<hidden>"

_NAME: Final = r"[\w.-]*(?:passw(?:or)?d|passphrase|pwd|secret|api[_-]?key|authorization|cookie|credentials?|token)"
_VALUE: Final = r"""(?:SecretStr\()?(?:b?"[^"\n]*"|b?'[^'\n]*'|(?:(?:Basic|Bearer)\s+)?[^\s,;)}\]'"]+)"""

_LOCAL: Final = r"[^\s<>\"'(),;:=\[\]{}|/\\@]"

# Each begins where a word does, so that a long run of anything is gone through once, and not once for every character.
_RULES: Final[Sequence[tuple[re.Pattern[str], str]]] = [
    (re.compile(pattern, flags), shown)
    for pattern, flags, shown in (
        (r"\b(Bearer|Basic|AUTH (?:PLAIN|LOGIN|CRAM-MD5|XOAUTH2))\s+[\w+/=.~-]+", re.IGNORECASE, rf"\1 {HIDDEN}"),
        # Our own tokens: the id is no secret, and tells whose it is.
        (r"\btwl_([0-9a-f]{16})_\w+", 0, rf"twl_\1_{HIDDEN}"),
        (r"\btwl_(?![0-9a-f]{16}_<)\w+", 0, f"twl_{HIDDEN}"),
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL, HIDDEN),
        # The query of a URL, then its user and password.
        (r"((?:(?<!\w)\w{1,20}://|(?<![\w./])/)[^\s?\"'<>]{0,300})\?[^\s\"'<>]+", 0, rf"\1?{HIDDEN}"),
        (r"://[^\s/@\"'<>]*@", 0, f"://{HIDDEN}@"),
        # SQLAlchemy, psycopg, pydantic.
        (r"\[parameters: .*", 0, f"[parameters: {HIDDEN}]"),
        (r"(Key \([^()\n]*\)=)\([^\n]*?\)(?= |$)", re.MULTILINE, rf"\1({HIDDEN})"),
        (r"(Failing row contains) \(.*", 0, rf"\1 ({HIDDEN})"),
        (r"input_value=.*?(?=, input_type=|\]|$)", re.MULTILINE, f"input_value={HIDDEN}"),
        # An account as MultiCS has it; OSCam's `pwd = …` is a named value like others.
        (r"\bF:[ \t]*\S+[ \t]+\S+", 0, f"F: {HIDDEN}"),
        (rf"(?<![\w.-])({_NAME})(?!_id)([\"']?\s*[=:]\s*){_VALUE}", re.IGNORECASE, rf"\1\2{HIDDEN}"),
        # Addresses, also as a part of a URL.
        (rf"(?:\"[^\"\n]{{0,64}}\"|(?<!{_LOCAL}){_LOCAL}+)(?:@|%40)[^\s<>\"'(),;:/|\\]+", re.IGNORECASE, HIDDEN),
    )
]
_SHORTEST: Final = 4
"""A shorter secret would be found in every other word."""


def redactor(secrets: Collection[str] = ()) -> Callable[[str], str]:
    """What takes secrets out of a text: those that are named here, and what looks like one."""
    known = sorted({secret for secret in secrets if len(secret) >= _SHORTEST}, key=len, reverse=True)
    exact = re.compile("|".join(map(re.escape, known))) if known else None

    def redact(text: str) -> str:
        if exact is not None:
            text = exact.sub(HIDDEN, text)
        for pattern, shown in _RULES:
            text = pattern.sub(shown, text)
        return text

    return redact
