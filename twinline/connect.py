"""Connects to Temporal as `temporalio.envconfig` says: `TEMPORAL_*` variables and profiles."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfigProfile
from temporalio.runtime import LogForwardingConfig, LoggingConfig, PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RetryConfig, RPCError, RPCStatusCode, TLSConfig

from twinline.codec import data_converter
from twinline.errors import Misconfigured, TwinlineError, Unavailable
from twinline.keys import KeyRing
from twinline.logs import Link
from twinline.problems import quoted
from twinline.settings import Settings
from twinline.ui import Page, workflow_page

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_ONE_CALL: Final = 10.0
IMPATIENT: Final = RetryConfig(max_elapsed_time_millis=2000)
"""For whoever is waited for: a call that the server does not take is tried for so long, and not for ten seconds."""
PATIENT: Final = RetryConfig()
"""For who has nobody waiting for him."""
# Anything else, such as a refused permission, says that the server is there; the first order will tell the rest.
_NO_ANSWER: Final = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})


@dataclass(frozen=True)
class _Target:
    address: str
    namespace: str
    # These two may carry credentials and stay out of every text.
    api_key: str | None
    rpc_metadata: Mapping[str, str | bytes]
    tls: bool | TLSConfig | None


class _NotYet(Exception):
    """One attempt failed in a way that time may heal; carries what to say when it does not."""

    def __init__(self, meaning: TwinlineError) -> None:
        super().__init__()
        self.meaning = meaning


class WatchedRuntime(NamedTuple):
    """What carries the SDK's core; `metrics` is the address at which it serves what it counts."""

    runtime: Runtime
    metrics: str


def watched_runtime() -> WatchedRuntime:
    """A core whose log lines go to Python's logging, and whose metrics are served on a free port of loopback."""
    forwarding = LogForwardingConfig(
        logger=logging.getLogger("temporalio.core"), append_target_to_name=False, prepend_target_on_message=False
    )
    told = replace(LoggingConfig.default, forwarding=forwarding)
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        counted = PrometheusConfig(
            bind_address=address, counters_total_suffix=True, unit_suffix=True, durations_as_seconds=True
        )
        # Somebody may have taken the port since; the core says so in no other way.
        with contextlib.suppress(RuntimeError, ValueError):
            return WatchedRuntime(Runtime(telemetry=TelemetryConfig(logging=told, metrics=counted)), address)


def run_link(settings: Settings, client: Client) -> Link | None:
    """What leads to a run of a workflow in Temporal's web interface; None where nobody told where that is."""
    if settings.temporal_ui is None:
        return None
    return partial(workflow_page, settings.temporal_ui, client.namespace)


def page_link(settings: Settings, client: Client | None = None) -> Page | None:
    """The same for a workflow's latest run; without a client by the settings alone. Raises Misconfigured."""
    if settings.temporal_ui is None:
        return None
    return partial(workflow_page, settings.temporal_ui, _target().namespace if client is None else client.namespace)


async def connect_temporal(
    *, keys: KeyRing, patience: float = 30.0, runtime: Runtime | None = None, retries: RetryConfig = IMPATIENT
) -> Client:
    """Connect with our sealed payloads and see that the namespace is there, trying for `patience` seconds.

    `retries` says how long a later call is tried that the server does not take. Raises Misconfigured (the settings
    cannot be used, or there is no such namespace) and Unavailable (no answer in time). Neither repeats the SDK's own
    words: they may quote a profile with its API key.
    """
    target = _target()
    meaning: TwinlineError = _unavailable(target)
    pause = _FIRST_PAUSE
    try:
        async with asyncio.timeout(patience):
            while True:
                try:
                    return await _connected(target, keys, runtime, retries)
                except _NotYet as not_yet:
                    meaning = not_yet.meaning
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
    except TimeoutError:
        raise meaning from None


def _target() -> _Target:
    try:
        config = ClientConfigProfile.load().to_client_connect_config()
    except OSError as error:
        raise Misconfigured(
            f"Temporal's TLS file {error.filename} cannot be read: {error.strerror}",
            hint="Correct the TEMPORAL_TLS_* variables or the profile that name it.",
        ) from None
    except RuntimeError:
        raise Misconfigured(
            "Temporal's connection settings cannot be read",
            hint="Check the file in TEMPORAL_CONFIG_FILE and that it has the profile of TEMPORAL_PROFILE.",
        ) from None
    return _Target(
        address=config.get("target_host") or "localhost:7233",
        namespace=config.get("namespace") or "default",
        api_key=config.get("api_key"),
        rpc_metadata=config.get("rpc_metadata", {}),
        tls=config.get("tls"),
    )


async def _connected(target: _Target, keys: KeyRing, runtime: Runtime | None, retries: RetryConfig) -> Client:
    try:
        async with asyncio.timeout(_ONE_CALL):
            client = await Client.connect(
                target.address,
                namespace=target.namespace,
                api_key=target.api_key,
                tls=target.tls,
                rpc_metadata=target.rpc_metadata,
                data_converter=data_converter(keys),
                runtime=runtime,
                retry_config=retries,
            )
            await _see_namespace(client, target)
            return client
    except ValueError:
        raise Misconfigured(
            f"Temporal's address {quoted(target.address)} (or its gRPC metadata) cannot be used",
            hint="Set TEMPORAL_ADDRESS to host:port.",
        ) from None
    # The SDK raises plain RuntimeError for whatever keeps it from connecting.
    except (RuntimeError, TimeoutError):
        raise _NotYet(_unavailable(target)) from None


async def _see_namespace(client: Client, target: _Target) -> None:
    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=target.namespace))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            # A server that has just started may not know its namespaces yet.
            raise _NotYet(_no_namespace(target)) from None
        if error.status in _NO_ANSWER:
            raise _NotYet(_unavailable(target)) from None


def _unavailable(target: _Target) -> Unavailable:
    return Unavailable(
        f"Temporal does not answer at {quoted(target.address)}",
        hint="Start it, or set TEMPORAL_ADDRESS (and TEMPORAL_TLS_*, TEMPORAL_API_KEY where it asks for them).",
    )


def _no_namespace(target: _Target) -> Misconfigured:
    return Misconfigured(
        f"Temporal at {quoted(target.address)} has no namespace {quoted(target.namespace)}",
        hint="Create it with `temporal operator namespace create`, or set TEMPORAL_NAMESPACE.",
    )
