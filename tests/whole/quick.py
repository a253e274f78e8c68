"""What makes hosts in this process quick: none of it changes which writes are made, or in which order."""

import pytest

from twinline.hosts import helper_program, image


def make_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few free slots, no pauses for readers that are not there, no leases that would keep out nobody but ourselves."""
    monkeypatch.setattr(image, "GROWTH", 1)
    monkeypatch.setattr(helper_program, "SETTLE_SECONDS", 0.0001)
    monkeypatch.setattr(helper_program, "lease", _no_lease)


def _no_lease(descriptor: int, kind: int, patience: float) -> bool:
    return True
