"""Callers of an HTTP API on loopback; each keeps a connection of its own and sends one request after the other."""

import asyncio
import json
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

HOST: Final = "127.0.0.1"


class NotWanted(Exception):
    """An answer that makes what was measured worthless."""


@dataclass(frozen=True)
class Question:
    """One request, and the statuses that its answer may have."""

    text: bytes
    wanted: Container[int]

    @classmethod
    def post(
        cls, path: str, fields: Mapping[str, object], *, headers: Mapping[str, str], wanted: Container[int]
    ) -> "Question":
        """A JSON object for that path."""
        body = json.dumps(fields).encode()
        named = {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}
        return cls(_head("POST", path, named) + body, wanted)

    @classmethod
    def get(cls, path: str, *, headers: Mapping[str, str], wanted: Container[int]) -> "Question":
        """What stands at that path."""
        return cls(_head("GET", path, headers), wanted)


def _head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


@dataclass(frozen=True)
class Answered:
    """What all callers together saw; seconds."""

    seconds: float
    latencies: Sequence[float]


async def ask(port: int, questions: Sequence[Question], *, callers: int) -> Answered:
    """Have so many callers send all questions; raises NotWanted."""
    connections = [await asyncio.open_connection(HOST, port) for _ in range(callers)]
    left = iter(questions)
    begun = time.monotonic()
    try:
        found = await asyncio.gather(*(_sent(left, *connection) for connection in connections))
        return Answered(time.monotonic() - begun, [latency for latencies in found for latency in latencies])
    finally:
        for _, writer in connections:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def _sent(left: Iterator[Question], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[float]:
    latencies: list[float] = []
    for question in left:
        sent = time.monotonic()
        writer.write(question.text)
        head, _, fields = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").partition("\r\n")
        body = await reader.readexactly(_length(fields))
        latencies.append(time.monotonic() - sent)
        if int(head.split(" ", 2)[1]) not in question.wanted:
            raise NotWanted(f"{question.wanted} was wanted: {head} {body.decode()[:300]}")
    return latencies


def _length(fields: str) -> int:
    for line in fields.splitlines():
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            return int(value)
    raise NotWanted("an answer without its length")
