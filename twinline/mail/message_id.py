"""The Message-ID of a mail: the same for the same message, and telling nothing about the customer."""

from __future__ import annotations

import hashlib
import hmac
import re

from twinline.messages import MailKind

_DOMAIN = re.compile(r"(?!-)[a-z0-9-]{1,63}(?:\.(?!-)[a-z0-9-]{1,63})*", re.IGNORECASE)
_MIN_KEY_BYTES = 16


def message_id_for(kind: MailKind, line_id: str, ref: str, *, key: bytes, domain: str) -> str:
    """The Message-ID, angle brackets included, of the one message per (line, kind, grant or case).

    It is the first 128 bits of HMAC-SHA256 over the three, so no username, address or count can be read from
    it. `ref` is the grant or the case. Raises `ValueError` for a key shorter than 16 bytes or a domain that
    is not a host name in ASCII.
    """
    if len(key) < _MIN_KEY_BYTES:
        raise ValueError(f"the Message-ID key needs at least {_MIN_KEY_BYTES} bytes")
    if len(domain) > 200 or not _DOMAIN.fullmatch(domain):
        raise ValueError("the Message-ID domain must be a host name in ASCII (IDNA) form")
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for part in (kind.value, line_id, ref):
        raw = part.encode()
        # Lengths in front: without them ("a", "bc") and ("ab", "c") would be one message.
        mac.update(len(raw).to_bytes(4, "big"))
        mac.update(raw)
    return f"<{mac.hexdigest()[:32]}@{domain.lower()}>"
