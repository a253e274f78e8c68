"""The paths through our workflows of which a history is kept; modules beside this one add theirs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from tests.replay.studio import CALM, Setting, Studio

Walk = Callable[[Studio], Awaitable[str]]
"""Goes a path to its end, and gives the id of the workflow whose history shows it."""


@dataclass(frozen=True)
class Path:
    """One way through a workflow."""

    name: str
    """The workflow's type and what happens to it: `Trial/one_half_late`."""
    setting: Setting
    walk: Walk

    @property
    def workflow(self) -> str:
        """The type of the workflow."""
        return self.name.split("/", 1)[0]

    @property
    def recordings(self) -> tuple[str, ...]:
        """The names of what is kept of it: of a path over several runs, the first and the last run."""
        if self.setting.long_history is None:
            return (self.name,)
        return (f"{self.name}.first", f"{self.name}.last")


PATHS: Final[dict[str, Path]] = {}


def path(workflow: str, setting: Setting = CALM) -> Callable[[Walk], Walk]:
    """Add a path of this workflow, under the name of the function that goes it."""

    def add(walk: Walk) -> Walk:
        name = f"{workflow}/{walk.__name__}"
        assert name not in PATHS, name
        PATHS[name] = Path(name, setting, walk)
        return walk

    return add
