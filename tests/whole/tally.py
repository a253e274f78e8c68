"""What many lives came to, piece by piece, so that a long run can be split, stopped and taken up again.

TWINLINE_TALLY names a file to which every finished piece is appended as a line of JSON; pieces that stand there are not
gone through again, and processes with other seeds may add theirs.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel


class Piece(BaseModel):
    """Some lives that were gone through with one seed."""

    seed: int
    lives: int
    seconds: int
    counts: dict[str, int]
    """How often each thing happened in them."""
    broken: str | None
    """What broke a law, with its story and where it was noticed."""


class Tally:
    """All pieces so far, from the file if there is one."""

    def __init__(self) -> None:
        named = os.environ.get("TWINLINE_TALLY")
        self._file = Path(named) if named else None
        self._pieces: list[Piece] = []

    @property
    def pieces(self) -> Sequence[Piece]:
        if self._file is not None and self._file.exists():
            return [Piece.model_validate_json(line) for line in self._file.read_text().splitlines()]
        return self._pieces

    def add(self, piece: Piece) -> None:
        self._pieces.append(piece)
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(f"{piece.model_dump_json()}\n")

    def seeds(self) -> set[int]:
        return {piece.seed for piece in self.pieces}

    def lives(self) -> int:
        return sum(piece.lives for piece in self.pieces)

    def counts(self) -> Counter[str]:
        """How often each thing happened in all of them."""
        return sum((Counter(piece.counts) for piece in self.pieces), Counter[str]())

    def broken(self) -> Sequence[str]:
        return [f"seed {piece.seed}: {piece.broken}" for piece in self.pieces if piece.broken is not None]


def missing(counts: Counter[str], wanted: Sequence[str]) -> Sequence[str]:
    """Which of the wanted are part of nothing that happened."""
    return [each for each in wanted if not any(each in what for what in counts)]
