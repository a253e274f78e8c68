"""Seals everything that orders and activities hand to Temporal, failure texts included.

Never sealed, because Temporal itself reads them: workflow ids, type and queue names, search attributes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes, PayloadCodec

from twinline.keys import PAYLOADS, KeyRing, KeyRingError

ENCODING: Final = b"binary/encrypted"
_AAD: Final = b"temporal"


class EncryptionCodec(PayloadCodec):
    """Seals each payload whole, its metadata included; the id of the key stands in the new metadata."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Seal every payload with the primary key."""
        return [self._sealed(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Open what `encode` sealed; raises KeyRingError. What was never sealed stays as it is.

        An operator's plain signal from Temporal's own tools must come through.
        """
        return [self._opened(payload) for payload in payloads]

    def _sealed(self, payload: Payload) -> Payload:
        return Payload(
            metadata={"encoding": ENCODING, "encryption-key-id": self._keys.primary.encode()},
            data=self._keys.seal(payload.SerializeToString(), aad=_AAD, purpose=PAYLOADS),
        )

    def _opened(self, payload: Payload) -> Payload:
        if payload.metadata.get("encoding") != ENCODING:
            return payload
        try:
            return Payload.FromString(self._keys.open(payload.data, aad=_AAD, purpose=PAYLOADS))
        except DecodeError:
            raise KeyRingError(
                "a payload was sealed by something else than this codec",
                hint="Give twinline a key ring of its own.",
            ) from None


def data_converter(keys: KeyRing) -> DataConverter:
    """The one converter for clients, workers, replay and tests: pydantic models, sealed, failures too."""
    return replace(
        pydantic_data_converter,
        payload_codec=EncryptionCodec(keys),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )
