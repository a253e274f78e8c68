"""The alert rules of deploy/, as far as tests have to read them; `promtool` reads them for good."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "alerts.yml"
RUNBOOKS = ROOT / "docs" / "runbooks"


@dataclass(frozen=True)
class Rule:
    """One alert."""

    name: str
    text: str

    @property
    def metrics(self) -> set[str]:
        """The metrics that its expression asks for."""
        return set(re.findall(r"\b(?:twinline|temporal)_\w+", self.text.partition("labels:")[0]))


def rules() -> list[Rule]:
    """All alerts, in their order."""
    parts = RULES.read_text().split("      - alert: ")[1:]
    return [Rule(part.partition("\n")[0].strip(), part) for part in parts]


def names_in_rules() -> set[str]:
    """Every metric that some alert asks for."""
    return {name for rule in rules() for name in rule.metrics}
