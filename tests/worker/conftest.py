"""The embedded world, shared by the tests that leave it as they found it."""

from tests.support.world import world

__all__ = ["world"]
