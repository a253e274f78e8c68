"""What Temporal keeps of our payloads and errors is sealed, and opens after a rotation of keys."""

import os
import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer, Worker

from tests.house.sealed_workflow import Sealed, Words, answer
from tests.support.temporal import DevServer
from twinline.codec import ENCODING, EncryptionCodec, data_converter
from twinline.keys import KeyRing, KeyRingError

SECRET = "jane.roe@example.com"
STABLE = os.urandom(32)
OLD_KEY = os.urandom(32)
OLD = KeyRing(primary="k1", keys={"k1": OLD_KEY}, stable=STABLE)
ROTATED = KeyRing(primary="k2", keys={"k1": OLD_KEY, "k2": os.urandom(32)}, stable=STABLE)
HEARD = (f"Refused: no answer to {SECRET}", f"answer to {SECRET}")

FOREIGN = KeyRing(primary="k1", keys={"k1": os.urandom(32)}, stable=STABLE)

payloads = st.builds(Payload, metadata=st.dictionaries(st.text(), st.binary(), max_size=3), data=st.binary()).filter(
    lambda payload: payload.metadata.get("encoding") != ENCODING
)


@settings(max_examples=40)
@given(plain=st.lists(payloads, max_size=3))
async def test_payloads_come_back_whole_also_after_a_rotation(plain: list[Payload]) -> None:
    sealed = await EncryptionCodec(OLD).encode(plain)
    assert await EncryptionCodec(OLD).decode(sealed) == plain
    assert await EncryptionCodec(ROTATED).decode(sealed) == plain


async def test_the_id_of_the_key_stands_in_the_metadata_and_nothing_else_does() -> None:
    (sealed,) = await EncryptionCodec(ROTATED).encode(
        [Payload(metadata={"encoding": b"json/plain", "messageType": SECRET.encode()}, data=SECRET.encode())]
    )
    assert dict(sealed.metadata) == {"encoding": ENCODING, "encryption-key-id": b"k2"}
    assert SECRET.encode() not in sealed.SerializeToString()


async def test_a_payload_that_was_never_sealed_stays_as_it_is() -> None:
    plain = [Payload(metadata={"encoding": b"json/plain"}, data=b'"go"')]
    assert await EncryptionCodec(OLD).decode(plain) == plain


async def test_a_payload_of_another_ring_or_purpose_does_not_open() -> None:
    codec = EncryptionCodec(OLD)
    others = [
        *(await EncryptionCodec(FOREIGN).encode([Payload(data=b"x")])),
        Payload(
            metadata={"encoding": ENCODING}, data=OLD.seal(Payload(data=b"x").SerializeToString(), aad=b"temporal")
        ),
        Payload(metadata={"encoding": ENCODING}, data=OLD.seal(b"\xff", aad=b"temporal", purpose="payload")),
    ]
    for other in others:
        with pytest.raises(KeyRingError):
            await codec.decode([other])


@pytest_asyncio.fixture
async def client(temporal_server: DevServer) -> Client:
    return await temporal_server.connect(OLD)


@pytest_asyncio.fixture
async def queue(client: Client) -> AsyncIterator[str]:
    name = f"sealed-{uuid.uuid4()}"
    async with Worker(client, task_queue=name, workflows=[Sealed], activities=[answer]):
        yield name


async def asked(client: Client, queue: str) -> WorkflowHandle[Sealed, Words]:
    return await client.start_workflow(
        Sealed.run, Words(asked=SECRET), id=str(uuid.uuid4()), task_queue=queue, static_summary=SECRET
    )


async def kept_of(handle: WorkflowHandle[Sealed, Words]) -> bytes:
    """All that history holds, once as JSON and once as it is: JSON hides the bytes of payloads in base64."""
    history = await handle.fetch_history()
    return history.to_json().encode() + b"".join(event.SerializeToString() for event in history.events)


async def test_history_holds_no_word_of_inputs_results_signals_and_failures(client: Client, queue: str) -> None:
    handle = await asked(client, queue)
    await handle.signal(Sealed.last_word, f"thank you {SECRET}")
    assert await handle.result() == Words(asked=SECRET, noted=HEARD)
    assert await handle.query(Sealed.asked) == f"thank you {SECRET}"
    kept = await kept_of(handle)
    assert b"EVENT_TYPE_ACTIVITY_TASK_FAILED" in kept
    assert b"EVENT_TYPE_ACTIVITY_TASK_COMPLETED" in kept
    for words in (SECRET, "jane", "no answer", "answer to", "thank you", "sealed_workflow.py"):
        assert words.encode() not in kept


async def test_a_failed_workflow_tells_the_caller_and_not_the_history(client: Client, queue: str) -> None:
    handle = await asked(client, queue)
    await handle.signal(Sealed.last_word, "no!")
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.message == f"failed for {SECRET}"
    assert list(caught.value.cause.details) == [SECRET]
    kept = await kept_of(handle)
    assert b"EVENT_TYPE_WORKFLOW_EXECUTION_FAILED" in kept
    assert b"jane" not in kept
    assert b"failed for" not in kept


async def test_without_the_codec_the_same_search_finds_every_word(temporal_server: DevServer) -> None:
    plain = await Client.connect(temporal_server.address, data_converter=pydantic_data_converter)
    queue = f"plain-{uuid.uuid4()}"
    async with Worker(plain, task_queue=queue, workflows=[Sealed], activities=[answer]):
        handle = await asked(plain, queue)
        await handle.signal(Sealed.last_word, f"thank you {SECRET}")
        await handle.result()
    kept = await kept_of(handle)
    for words in (SECRET, "no answer", "answer to", "thank you", "sealed_workflow.py"):
        assert words.encode() in kept


async def test_what_was_started_before_a_rotation_is_finished_and_replayed_after_it(
    temporal_server: DevServer, client: Client
) -> None:
    queue = f"rotation-{uuid.uuid4()}"
    handle = await asked(client, queue)
    rotated = await temporal_server.connect(ROTATED)
    async with Worker(rotated, task_queue=queue, workflows=[Sealed], activities=[answer]):
        later = rotated.get_workflow_handle_for(Sealed.run, handle.id)
        await later.signal(Sealed.last_word, "done")
        assert (await later.result()).noted == HEARD
    history = await later.fetch_history()
    await Replayer(workflows=[Sealed], data_converter=data_converter(ROTATED)).replay_workflow(history)
