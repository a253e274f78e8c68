"""Looks for words that must not stand anywhere: in files, in what Temporal keeps, sealed and opened, in what is said.

A word is found also where it stands in base64, hexadecimal, UTF-16 or in a URL. Finds are told by the words' labels,
never by the words.
"""

import base64
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    DescribeScheduleRequest,
    DescribeWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryRequest,
    ListSchedulesRequest,
    ListWorkflowExecutionsRequest,
)
from temporalio.client import Client

from twinline.codec import EncryptionCodec
from twinline.keys import KeyRing


@dataclass(frozen=True, order=True)
class Find:
    """A word that stands somewhere."""

    what: str
    where: str


def forms(word: str) -> set[bytes]:
    """The ways in which bytes can spell a word."""
    plain = word.encode()
    found = {plain, plain.hex().encode(), plain.hex().upper().encode(), word.encode("utf-16-le"), quote(word).encode()}
    for before in range(3):
        # What stands around it changes the first and the last characters.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * before + plain).rstrip(b"=")
            found.add(text[(0, 2, 3)[before] : len(text) - (0 if (before + len(plain)) % 3 == 0 else 1)])
    return found


@dataclass
class Search:
    """What was looked through, and what was found there; `words` by label."""

    words: Mapping[str, str]
    finds: set[Find] = field(default_factory=set[Find])
    places: int = 0
    _forms: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])

    def __post_init__(self) -> None:
        self._forms = [(label, form) for label, word in self.words.items() for form in forms(word)]

    def look(self, where: str, content: bytes | str) -> None:
        """Look through one thing."""
        self.places += 1
        data = content.encode() if isinstance(content, str) else content
        self.finds |= {Find(label, where) for label, form in self._forms if form in data}

    def found(self, label: str = "") -> set[str]:
        """Where a word (or any) was found."""
        return {find.where for find in self.finds if label in ("", find.what)}


def look_in_files(search: Search, files: Iterable[Path], root: Path) -> set[str]:
    """Look through files, read whole; the names of those that were there."""
    names: set[str] = set()
    for path in files:
        if path.is_file():
            search.look(f"file {path.relative_to(root)}", path.read_bytes())
            names.add(path.name)
    return names


async def look_in_temporal(client: Client, keys: KeyRing, *, sealed: Search, opened: Search) -> set[str]:
    """Look through every workflow and schedule, as Temporal has them and as the key ring opens them; their ids."""
    codec = EncryptionCodec(keys)
    seen: set[str] = set()
    async for where, message in _everything(client):
        sealed.look(where, message.SerializeToString())
        seen.add(where.partition(" ")[2])
        for payload in _payloads(message):
            for plain in await codec.decode([payload]):
                # What was sealed may hold what was sealed before: a failure in a failure.
                opened.look(where, plain.SerializeToString())
    return seen


async def _everything(client: Client) -> AsyncIterator[tuple[str, Message]]:
    service, namespace = client.workflow_service, client.namespace
    token = b""
    while True:
        listed = await service.list_workflow_executions(
            ListWorkflowExecutionsRequest(namespace=namespace, page_size=200, next_page_token=token)
        )
        for info in listed.executions:
            yield f"list {info.execution.workflow_id}", info
            execution = WorkflowExecution(workflow_id=info.execution.workflow_id, run_id=info.execution.run_id)
            described = DescribeWorkflowExecutionRequest(namespace=namespace, execution=execution)
            yield f"description {execution.workflow_id}", await service.describe_workflow_execution(described)
            async for page in _history(client, execution):
                yield f"history {execution.workflow_id}", page
        token = listed.next_page_token
        if not token:
            break
    schedules = await service.list_schedules(ListSchedulesRequest(namespace=namespace, maximum_page_size=200))
    for entry in schedules.schedules:
        yield f"schedule {entry.schedule_id}", entry
        asked = DescribeScheduleRequest(namespace=namespace, schedule_id=entry.schedule_id)
        yield f"schedule {entry.schedule_id}", await service.describe_schedule(asked)


async def _history(client: Client, execution: WorkflowExecution) -> AsyncIterator[Message]:
    token = b""
    while True:
        page = await client.workflow_service.get_workflow_execution_history(
            GetWorkflowExecutionHistoryRequest(namespace=client.namespace, execution=execution, next_page_token=token)
        )
        yield page
        token = page.next_page_token
        if not token:
            return


def _payloads(message: Message) -> Iterator[Payload]:
    """Every payload somewhere inside a message."""
    if isinstance(message, Payload):
        yield message
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        if isinstance(value, Message):
            inner: list[object] = [value]
        else:
            inner = list(value.values() if descriptor.message_type.GetOptions().map_entry else value)
        for one in inner:
            if isinstance(one, Message):
                yield from _payloads(one)
