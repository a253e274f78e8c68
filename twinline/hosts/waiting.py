"""Who waits for which line of one host, and how they are told."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from twinline.hosts.ports import Proven


@dataclass(frozen=True)
class _Waiter:
    revision: int
    afresh: bool
    answer: "asyncio.Future[Proven]"

    def is_served_by(self, proven: Proven, *, afresh: bool) -> bool:
        return self.revision <= proven.revision and (afresh or not self.afresh)


class Waiters:
    """Everybody who waits for a proof on one host, by line."""

    def __init__(self) -> None:
        self._by_line: dict[str, list[_Waiter]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_line)

    @property
    def lines(self) -> list[str]:
        """Ids of the lines that somebody waits for."""
        return list(self._by_line)

    def wanted(self) -> dict[str, int]:
        """The highest revision that somebody waits for, by line id; 0 if only what stands is to be written again."""
        return {line_id: max(waiter.revision for waiter in each) for line_id, each in self._by_line.items()}

    def afresh(self) -> frozenset[str]:
        """Lines that somebody wants written again although they are proven."""
        return frozenset(line_id for line_id, each in self._by_line.items() if any(waiter.afresh for waiter in each))

    def add(self, line_id: str, revision: int, *, afresh: bool = False) -> "asyncio.Future[Proven]":
        """Begin to wait; `afresh` for a proof that is still to come, whatever was proven before."""
        answer: asyncio.Future[Proven] = asyncio.get_running_loop().create_future()
        self._by_line.setdefault(line_id, []).append(_Waiter(revision, afresh, answer))
        return answer

    def answer(self, proven: Proven, *, afresh: bool) -> None:
        """Tell those for whom this proof is enough; `afresh` says that it was given just now."""
        for waiter in self._by_line.get(proven.line_id, []):
            if waiter.is_served_by(proven, afresh=afresh) and not waiter.answer.done():
                waiter.answer.set_result(proven)
        self._forget(proven.line_id)

    def fail(self, tried: Mapping[str, int], error: Exception) -> None:
        """Tell those who waited for what was tried; who came meanwhile for a later revision is none of them."""
        for line_id, revision in tried.items():
            for waiter in self._by_line.get(line_id, []):
                if waiter.revision <= revision and not waiter.answer.done():
                    waiter.answer.set_exception(error)
            self._forget(line_id)

    def fail_all(self, lines: Iterable[str], error: Exception) -> None:
        """Tell everybody who waits for these lines."""
        for line_id in lines:
            for waiter in self._by_line.pop(line_id, []):
                if not waiter.answer.done():
                    waiter.answer.set_exception(error)

    def cancel(self) -> None:
        """Let everybody go."""
        for each in self._by_line.values():
            for waiter in each:
                waiter.answer.cancel()
        self._by_line.clear()

    def _forget(self, line_id: str) -> None:
        """Keep those who still wait, and not those whose caller has gone."""
        left = [waiter for waiter in self._by_line.pop(line_id, []) if not waiter.answer.done()]
        if left:
            self._by_line[line_id] = left
