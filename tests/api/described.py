"""What the API says of itself, as tests walk through it: a new route is tested because it is described."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from starter.api.app import create_app
from starter.desk import Desk

DESCRIPTION: dict[str, Any] = create_app(Desk.__new__(Desk)).openapi()
"""No desk is asked for it."""


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    described: Mapping[str, Any]

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.method} {self.path}"

    @property
    def needs_token(self) -> bool:
        """Whether it is for those who have a token."""
        return "security" in self.described

    @property
    def parameters(self) -> list[Mapping[str, Any]]:
        """In path, query and headers."""
        return list(self.described.get("parameters", ()))

    @property
    def body(self) -> Mapping[str, Any] | None:
        """The schema and the example of its body."""
        return (
            None
            if "requestBody" not in self.described
            else self.described["requestBody"]["content"]["application/json"]
        )

    @property
    def files(self) -> Mapping[str, Mapping[str, Any]]:
        """The schema and the example of each other form that its body may have, by media type."""
        content = self.described.get("requestBody", {}).get("content", {})
        return {media_type: media for media_type, media in content.items() if media_type != "application/json"}

    def address(self, **names: str) -> str:
        """Its path, with the described examples where nothing else is given."""
        for parameter in self.parameters:
            if parameter["in"] == "path":
                example = parameter["schema"].get("examples", parameter.get("examples", [""]))[0]
                names.setdefault(parameter["name"], example)
        return self.path.format(**names)


def operations() -> Iterator[Operation]:
    """All that are described."""
    for path, methods in DESCRIPTION["paths"].items():
        for method, described in methods.items():
            yield Operation(method.upper(), path, described)


OPERATIONS = tuple(operations())
OF_TOKENS = tuple(operation for operation in OPERATIONS if operation.needs_token)
WITH_BODY = tuple(operation for operation in OF_TOKENS if operation.body is not None)


def fits(schema: Mapping[str, Any], value: object) -> bool:
    """Whether a value is as a schema of the description has it."""
    return bool(_validator(schema).is_valid(value))


def _validator(schema: Mapping[str, Any]) -> Any:
    whole = {**schema, "components": DESCRIPTION["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)
