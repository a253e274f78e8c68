"""Taking a whole slot in one step finds exactly what a reading line by line finds, on any file."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hosts.files import END, carried_out, half, plan_for
from tests.hosts.judge import Kind, kind_of
from twinline.hosts import multics, oscam
from twinline.hosts.daemon import MARK, SAFE_PASSWORD, USERNAME, Stray, Survey, Trigger
from twinline.hosts.ports import Wanted

MULTICS, OSCAM = kind_of("multics"), kind_of("oscam")
EXAMPLES: Final = settings(max_examples=120, deadline=None)
RECORD: Final = re.compile(
    rf"[F#]: (?P<user>{USERNAME}) {SAFE_PASSWORD} 0 "
    rf"\{{ enddate=\d{{4}}-\d\d-\d\d \d\d; rev={MARK} \}} *\n".encode()
)


def physical_lines(data: bytes, most: int) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each read of the daemon."""
    at = 0
    while at < len(data):
        newline = data.find(b"\n", at, at + most)
        end = newline + 1 if newline >= 0 else min(at + most, len(data))
        yield at, data[at:end]
        at = end


def lone_comments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Comment lines of MultiCS that do not go on a line which a backslash ended."""
    unfinished = b""
    for at, line in physical_lines(data, multics.READ_BUFFER):
        if not unfinished and line.startswith(b"#"):
            yield at, line
        text = line.split(b"\0")[0].split(b"#")[0].rstrip(b" \t\r\n")
        whole = (unfinished[:-1] + text).rstrip(b" \t\r\n")
        unfinished = whole if whole.endswith(b"\\") else b""


class LineByLineMultiCS(multics.MultiCS):
    """Finds slots among the accounts that the parser gives, and among the comments."""

    def survey(self, data: bytes) -> Survey:
        found = Survey()
        for account in multics.parse(data):
            name = account.user.decode("latin-1")
            ours = re.fullmatch(MARK.encode(), account.value(b"rev") or b"") and re.fullmatch(USERNAME, name)
            record = data[account.start : account.end]
            aligned = account.start % self.width == 0 and len(record) == self.width
            if aligned and RECORD.fullmatch(record) and name not in found.slots:
                found.slots[name] = account.start
            elif ours and b"\n" not in record[:-1]:
                found.strays.append(Stray(name, account.start, account.end, live=True))
            else:
                found.foreign.add(name)
        for at, line in lone_comments(data):
            aligned = at % self.width == 0 and len(line) == self.width
            record = RECORD.fullmatch(line)
            if aligned and line == self.free_slot():
                found.free.append(at)
            elif record is not None:
                name = record["user"].decode()
                if aligned and name not in found.slots:
                    found.slots[name] = at
                    found.parked.add(name)
                else:
                    found.strays.append(Stray(name, at, at + len(line), live=False))
        return found


class LineByLineOSCam(oscam.OSCam):
    """Finds slots among the accounts that the parser gives, and free ones line by line."""

    def survey(self, data: bytes) -> Survey:
        found = Survey(free=self._free(data))
        for account in oscam.parse(data):
            form = self._in_place(data, account)
            if form is not None and account.start % self.width == 0 and form.user not in found.slots:
                found.slots[form.user] = account.start
                found.parked |= {form.user} if form.kind == "off" else set()
            elif (moved := self._form_of(account)) is not None:
                found.strays.append(Stray(moved.user, account.start, account.end, moved.kind == "on"))
            else:
                found.foreign.add(account.user.decode("latin-1"))
        return found

    def _read(self, slot: bytes) -> oscam.Form | None:
        form = super()._read(slot)
        return form if form is None or self._render(form) == slot else None

    def _free(self, data: bytes) -> list[int]:
        found: list[int] = []
        waiting: list[int] = []
        for at, line in physical_lines(data, oscam.READ_BUFFER):
            text = line.split(b"\0")[0].rstrip(b" \t\r\n")
            text = text.lstrip(b" \t\r\n") if text.startswith(b" ") else text
            begins = at == 0 or data[at - 1 : at] == b"\n"
            if at % self.width == 0 and begins and data.startswith(self.free_slot(), at):
                waiting.append(at)
            elif len(text) >= oscam.SHORTEST_LINE and not text.startswith(b"#"):
                if text.startswith(b"[") and text.endswith(b"]"):
                    found, waiting = found + waiting, []
                elif b"=" in text:
                    waiting = []
        return found + waiting


NAMES: Final = ("alder22", "birch22", "alder22_x")
STATES: Final = (Wanted.PRESENT, Wanted.BLOCKED)


def slot(kind: Kind, name: str, revision: int, wanted: Wanted) -> bytes:
    """One slot as the engine writes it; every other one of OSCam with its values in the spare lines."""
    data = carried_out(b"", plan_for(kind.daemon, b"", [half(name, revision)]))
    for step in (half(name, revision + 1, password="other23"), half(name, revision + 2, wanted=wanted)):
        if revision % 2 or step.wanted is not Wanted.PRESENT:
            data = carried_out(data, plan_for(kind.daemon, data, [step]))
    return data[: kind.daemon.width]


def respaced(part: tuple[bytes, int, int]) -> bytes:
    """A slot in which one blank has moved to where other blanks are."""
    record, take, give = part
    gaps = [match.start() for match in re.finditer(b"  ", record)]
    cut, put = gaps[take % len(gaps)], gaps[give % len(gaps)]
    return record[:put] + b" " + record[put:cut] + record[cut + 1 :] if put < cut else record[:cut] + record[cut + 1 :]


def pieces(kind: Kind) -> st.SearchStrategy[bytes]:
    """Parts of a file: slots, whole or damaged, what a human writes, and what brings them out of step."""
    width = kind.daemon.width
    slots = [slot(kind, name, revision, wanted) for name in NAMES[:2] for revision in (1, 2) for wanted in STATES]
    most = multics.READ_BUFFER if kind.protocol == "multics" else oscam.READ_BUFFER
    lines = [
        *(b"\n", b"# a note\n", b"\\\n", b"\\ # note\n", b"#\\\n", b"# x \\\0y\n", b"no newline", b"\0", b"\r\n"),
        *(b"F: alder22 foreignpw\n", b"F: bert pw { rev=1 }\n", b"CCCAM PORT: 12000\n", b"F: cut { \\\n"),
        *(b"[account]\nuser = alder22\n", b"[account]\nuser = bert\npwd = x\n", b"[x]\n", b"group = 2\n", b"a=b\n"),
        b"\n" * (-most % width) + b"x" * most,
    ]
    aligned = st.integers(0, width).map(lambda length: b"#".ljust(max(0, length - 1)) + b"\n")
    damaged = st.tuples(st.sampled_from(slots), st.integers(0, width - 1), st.sampled_from(b" #\n\\~x\0")).map(
        lambda part: part[0][: part[1]] + bytes([part[2]]) + part[0][part[1] + 1 :]
    )
    moved = st.tuples(st.sampled_from(slots), st.integers(0, 99), st.integers(0, 99)).map(respaced)
    shorter = st.tuples(st.sampled_from(slots), st.integers(1, 40)).map(lambda part: part[0][: -part[1]] + b"\n")
    return st.one_of(
        *(st.sampled_from(slots), st.just(kind.daemon.free_slot()), st.sampled_from(slots)),
        *(st.sampled_from(lines), damaged, moved, shorter, aligned, st.binary(max_size=4)),
    )


def files(kind: Kind) -> st.SearchStrategy[bytes]:
    """Files in which most slots stand where slots may stand."""
    width = kind.daemon.width

    def joined(parts: list[tuple[bytes, bool]]) -> bytes:
        data = b""
        for part, align in parts:
            gap = -len(data) % width
            data += (b"#".ljust(gap - 1) + b"\n" if align and gap > 1 else b"") + part
        return data

    return st.lists(st.tuples(pieces(kind), st.booleans()), max_size=9).map(joined)


@EXAMPLES
@given(files(MULTICS))
def test_a_multics_survey_is_that_of_a_reading_line_by_line(data: bytes) -> None:
    slow = LineByLineMultiCS(width=128, zone=ZoneInfo("UTC"), server_id=1, deadline=1.0)
    assert MULTICS.daemon.survey(data) == slow.survey(data)


@EXAMPLES
@given(files(OSCAM))
def test_an_oscam_survey_is_that_of_a_reading_line_by_line(data: bytes) -> None:
    slow = LineByLineOSCam(width=512, zone=ZoneInfo("UTC"), groups=(1,), reload=Trigger("get"), deadline=1.0)
    assert OSCAM.daemon.survey(data) == slow.survey(data)


@pytest.mark.parametrize("kind", [MULTICS, OSCAM], ids=lambda kind: kind.protocol)
def test_a_survey_finds_every_slot_of_a_full_host(kind: Kind) -> None:
    halves = [half(f"line{number:04d}", 1, ends_at=END + timedelta(days=number)) for number in range(500)]
    data = carried_out(b"", plan_for(kind.daemon, b"", halves))
    off = [half(f"line{number:04d}", 2, wanted=Wanted.BLOCKED) for number in range(0, 500, 7)]
    data = carried_out(data, plan_for(kind.daemon, data, off))
    found = kind.daemon.survey(data)
    assert set(found.slots) == {each.username for each in halves}
    assert found.parked == {each.username for each in off}
    assert (found.strays, found.foreign, len(found.free)) == ([], set(), 16)
