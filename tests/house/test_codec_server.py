"""The codec server opens payloads for Temporal's own programs, and for nobody who may not see them."""

import asyncio
import base64
import http.client
import json
import re
import sysconfig
import uuid
from asyncio.subprocess import PIPE
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from google.protobuf import json_format
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.client import WorkflowFailureError
from temporalio.worker import Worker

from tests.house.sealed_workflow import Sealed, Words, answer
from tests.support.temporal import DevServer
from twinline.codec import ENCODING, EncryptionCodec
from twinline.codec_server import CodecServer
from twinline.errors import Misconfigured
from twinline.keys import KeyRing, private_line

UI = "http://localhost:8233"
TOKEN = "a-token-of-the-operators"
ADDRESS = "jane.roe@example.com"
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(ADDRESS).encode())


@pytest.fixture
def server(key_ring: KeyRing) -> Iterator[CodecServer]:
    """A server on this machine, without a token."""
    with CodecServer(key_ring, host="127.0.0.1", port=0, origins=[UI], token=None) as running:
        yield running


@pytest.fixture
def guarded(key_ring: KeyRing) -> Iterator[CodecServer]:
    """A server that others could reach."""
    # This address stands for one of a network card's: what counts is that it is not known to be loopback.
    with CodecServer(key_ring, host="0.0.0.0", port=0, origins=[UI], token=TOKEN) as running:  # noqa: S104
        yield running


def ask(
    server: CodecServer, path: str, body: bytes | Payloads = b"", *, method: str = "POST", **headers: str
) -> tuple[int, Mapping[str, str], bytes]:
    """One request; an underscore in a header's name stands for a hyphen."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    sent = json_format.MessageToJson(body) if isinstance(body, Payloads) else body
    connection.request(method, path, sent, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    said = (response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    connection.close()
    return said


async def sealed(keys: KeyRing) -> Payloads:
    """One payload with an address, as Temporal has it."""
    return Payloads(payloads=await EncryptionCodec(keys).encode([PLAIN]))


async def test_what_was_sealed_is_opened_and_the_other_way_round(server: CodecServer, key_ring: KeyRing) -> None:
    status, headers, body = ask(server, "/decode", await sealed(key_ring), Origin=UI, X_Namespace="default")
    assert status == 200
    assert json_format.Parse(body, Payloads()).payloads == [PLAIN]
    assert headers["access-control-allow-origin"] == UI
    assert headers["cache-control"] == "no-store"
    status, _, body = ask(server, "/encode", Payloads(payloads=[PLAIN]))
    assert status == 200
    (closed,) = json_format.Parse(body, Payloads()).payloads
    assert closed.metadata["encoding"] == ENCODING
    assert await EncryptionCodec(key_ring).decode([closed]) == [PLAIN]


async def test_a_browser_is_told_which_page_may_ask(server: CodecServer) -> None:
    status, headers, body = ask(server, "/decode", method="OPTIONS", Origin=UI, Access_Control_Request_Method="POST")
    assert (status, body) == (204, b"")
    assert headers["access-control-allow-origin"] == UI
    assert headers["access-control-allow-methods"] == "POST"
    assert {"authorization", "content-type", "x-namespace"} == set(headers["access-control-allow-headers"].split(", "))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        # A name of somebody else's that leads to 127.0.0.1 makes his page one of the same origin.
        ({"Host": "evil.example:8234"}, 421),
        ({"Host": ""}, 421),
    ],
)
async def test_other_pages_get_nothing(
    server: CodecServer, key_ring: KeyRing, headers: dict[str, str], status: int
) -> None:
    for method in ("POST", "OPTIONS"):
        found, sent, body = ask(server, "/decode", await sealed(key_ring), method=method, **headers)
        assert found == status
        assert "access-control-allow-origin" not in sent
        assert ADDRESS.encode() not in body


async def test_who_can_reach_it_from_elsewhere_must_show_the_token(guarded: CodecServer, key_ring: KeyRing) -> None:
    payloads = await sealed(key_ring)
    for shown in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": "Bearer "}):
        status, headers, body = ask(guarded, "/decode", payloads, **shown)
        assert (status, headers["www-authenticate"], body) == (401, "Bearer", b"")
    status, _, body = ask(guarded, "/decode", payloads, Authorization=f"Bearer {TOKEN}", Host="codec.example.net")
    assert (status, json_format.Parse(body, Payloads()).payloads) == (200, [PLAIN])


def test_without_a_token_it_listens_on_this_machine_only(key_ring: KeyRing) -> None:
    for host in ("0.0.0.0", "192.0.2.1", "codec.example.net"):  # noqa: S104 - refused
        with pytest.raises(Misconfigured, match="open payloads for everybody"):
            CodecServer(key_ring, host=host, port=0, origins=[UI], token=None)


def test_a_port_that_is_taken_is_told(server: CodecServer, key_ring: KeyRing) -> None:
    with pytest.raises(Misconfigured, match="in use"):
        CodecServer(key_ring, host="127.0.0.1", port=server.port, origins=[UI], token=None)


async def test_what_can_not_be_answered_is_refused_without_repeating_it(server: CodecServer, key_ring: KeyRing) -> None:
    foreign = KeyRing(primary="k9", keys={"k9": bytes(32)}, stable=bytes(32))
    for path, body, status in (
        ("/decode", await sealed(foreign), 422),
        ("/decode", json.dumps({"payloads": ADDRESS}).encode(), 400),
        ("/decode", b"\xff", 400),
        ("/", await sealed(key_ring), 404),
    ):
        found, _, said = ask(server, path, body)
        assert found == status
        assert ADDRESS.encode() not in said
    assert ask(server, "/decode", method="GET")[0] == 405
    assert ask(server, "/decode", Content_Length="99999999999")[0] == 413


def test_a_token_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o644)
    with pytest.raises(Misconfigured, match="others could read"):
        private_line(path, "the token")
    path.chmod(0o600)
    assert private_line(path, "the token") == TOKEN
    for content in ("", "two words", "two\nlines", "nö"):
        path.write_text(content)
        with pytest.raises(Misconfigured, match="not one line"):
            private_line(path, "the token")


async def test_temporals_own_program_shows_orders_and_failures_opened(
    server: CodecServer, temporal_server: DevServer, key_ring: KeyRing
) -> None:
    client, name = await temporal_server.connect(key_ring), f"shown-{uuid.uuid4()}"
    async with Worker(client, task_queue=name, workflows=[Sealed], activities=[answer]):
        handle = await client.start_workflow(Sealed.run, Words(asked=ADDRESS), id=name, task_queue=name)
        await handle.signal(Sealed.last_word, "no!")
        with pytest.raises(WorkflowFailureError):
            await handle.result()

    async def shown(*options: str) -> str:
        program = str(Path(sysconfig.get_path("scripts")) / "temporal")
        process = await asyncio.create_subprocess_exec(
            *(program, "workflow", "show", "--workflow-id", name, "--address", temporal_server.address),
            *("--output", "json", *options),
            stdout=PIPE,
        )
        out = (await process.communicate())[0]
        return " ".join(
            base64.b64decode(data).decode(errors="replace") for data in re.findall(rb'"data": "(.+?)"', out)
        )

    opened = await shown("--codec-endpoint", f"http://127.0.0.1:{server.port}")
    assert f"failed for {ADDRESS}" in opened
    assert f"about {ADDRESS}" in opened
    closed = await shown()
    assert closed
    assert ADDRESS not in closed
