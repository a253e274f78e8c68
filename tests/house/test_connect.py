"""Connecting to Temporal: by the standard variables, with patience, and with words that help."""

import asyncio
from pathlib import Path

import pytest

from tests.support.temporal import DevServer
from twinline.connect import connect_temporal
from twinline.errors import Misconfigured, Unavailable
from twinline.keys import KeyRing
from twinline.sandbox.processes import free_port

SECRET = "hunter2-never-shown"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No Temporal settings but those of the test."""
    for name in ("ADDRESS", "NAMESPACE", "PROFILE", "API_KEY", "TLS", "TLS_CLIENT_CERT_PATH"):
        monkeypatch.delenv(f"TEMPORAL_{name}", raising=False)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "none.toml"))
    return monkeypatch


async def test_the_standard_variables_say_where_to_connect(
    temporal_server: DevServer, key_ring: KeyRing, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("TEMPORAL_ADDRESS", temporal_server.address)
    client = await connect_temporal(keys=key_ring)
    assert client.namespace == "default"
    (sealed,) = await client.data_converter.encode(["a secret"])
    assert b"a secret" not in sealed.SerializeToString()


async def test_a_profile_says_where_to_connect(
    temporal_server: DevServer, key_ring: KeyRing, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profiles = tmp_path / "temporal.toml"
    profiles.write_text(f'[profile.lines]\naddress = "{temporal_server.address}"\nnamespace = "default"\n')
    environment.setenv("TEMPORAL_CONFIG_FILE", str(profiles))
    environment.setenv("TEMPORAL_PROFILE", "lines")
    client = await connect_temporal(keys=key_ring)
    assert client.service_client.config.target_host == temporal_server.address


async def test_a_server_that_does_not_answer_is_unavailable_by_its_address(
    key_ring: KeyRing, environment: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{free_port()}"
    environment.setenv("TEMPORAL_ADDRESS", address)
    environment.setenv("TEMPORAL_API_KEY", SECRET)
    with pytest.raises(Unavailable) as caught:
        await connect_temporal(keys=key_ring, patience=0.3)
    assert address in caught.value.message
    assert "TEMPORAL_ADDRESS" in caught.value.hint
    assert SECRET not in caught.value.message + caught.value.hint
    assert caught.value.retryable


async def test_a_server_that_takes_the_call_and_stays_silent_is_unavailable(
    key_ring: KeyRing, environment: pytest.MonkeyPatch
) -> None:
    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(stay_silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        environment.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{port}")
        with pytest.raises(Unavailable, match=f":{port}"):
            await connect_temporal(keys=key_ring, patience=0.3)


async def test_a_server_that_comes_late_is_waited_for(
    temporal_server: DevServer, key_ring: KeyRing, environment: pytest.MonkeyPatch
) -> None:
    host, port = temporal_server.address.split(":")
    late_port = free_port()
    environment.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{late_port}")
    connecting = asyncio.create_task(connect_temporal(keys=key_ring))

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
        target.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    done, _ = await asyncio.wait({connecting}, timeout=0.2)
    assert not done
    server = await asyncio.start_server(forward, "127.0.0.1", late_port)
    client = await connecting
    assert await client.service_client.check_health()
    server.close()


async def test_an_unknown_namespace_is_told_by_its_name(
    temporal_server: DevServer, key_ring: KeyRing, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("TEMPORAL_ADDRESS", temporal_server.address)
    environment.setenv("TEMPORAL_NAMESPACE", "nowhere")
    with pytest.raises(Misconfigured, match='no namespace "nowhere"') as caught:
        await connect_temporal(keys=key_ring, patience=0.3)
    assert "TEMPORAL_NAMESPACE" in caught.value.hint


async def test_an_address_that_is_none_is_refused_at_once(key_ring: KeyRing, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TEMPORAL_ADDRESS", "no such address")
    with pytest.raises(Misconfigured, match='"no such address"') as caught:
        await connect_temporal(keys=key_ring)
    assert "host:port" in caught.value.hint


async def test_broken_profiles_are_never_quoted(
    key_ring: KeyRing, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profiles = tmp_path / "temporal.toml"
    profiles.write_text(f"[profile.default]\napi_key = {SECRET}\n")
    environment.setenv("TEMPORAL_CONFIG_FILE", str(profiles))
    with pytest.raises(Misconfigured, match="cannot be read") as caught:
        await connect_temporal(keys=key_ring)
    assert "TEMPORAL_CONFIG_FILE" in caught.value.hint
    assert SECRET not in caught.value.message + caught.value.hint


async def test_a_missing_certificate_is_told_by_its_path(
    key_ring: KeyRing, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.setenv("TEMPORAL_TLS_CLIENT_CERT_PATH", str(tmp_path / "client.pem"))
    with pytest.raises(Misconfigured, match=r"client\.pem cannot be read"):
        await connect_temporal(keys=key_ring)
