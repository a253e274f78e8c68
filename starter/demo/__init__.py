"""The demo: one line's life in the embedded world, shown and checked."""

from starter.demo.breaks import BREAKS, Break
from starter.demo.story import Demo, run_demo

__all__ = ["BREAKS", "Break", "Demo", "run_demo"]
