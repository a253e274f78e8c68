"""The description of the API is whole, and all its examples are true."""

import csv
import io
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from starter.api.problems import KNOWN
from tests.api.conftest import PROBLEM, Api
from tests.api.described import DESCRIPTION, OPERATIONS, Operation, fits


def names(operations: tuple[Operation, ...]) -> list[str]:
    return [operation.name for operation in operations]


async def test_what_is_served_is_what_is_tested_and_it_refers_to_nothing_that_is_not_there(api: Api) -> None:
    served = await replace(api, token=None).get("/api/openapi.json")
    assert served.json == DESCRIPTION
    known = {f"#/components/schemas/{name}" for name in DESCRIPTION["components"]["schemas"]}
    assert set(re.findall(r'"\$ref":"([^"]+)"', served.body.decode())) <= known


def rows_of(media_type: str, text: str) -> list[dict[str, Any]]:
    """The rows of a file, read by the rules of its type."""
    if media_type == "text/csv":
        return list(csv.DictReader(io.StringIO(text), strict=True))
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("operation", OPERATIONS, ids=names(OPERATIONS))
def test_every_operation_has_words_and_examples_that_fit(operation: Operation) -> None:
    described = operation.described
    assert described["summary"]
    assert described["tags"]
    for parameter in operation.parameters:
        example = parameter.get("example") or parameter["schema"].get("examples", [None])[0]
        if parameter.get("required"):
            assert example, parameter["name"]
        assert example is None or fits(parameter["schema"], example)
    if operation.body is not None:
        assert fits(operation.body["schema"], operation.body["example"])
        assert not fits(operation.body["schema"], {**operation.body["example"], "caller": "shop"})
        assert set(operation.body["example"]) <= set(operation.body["schema"]["properties"])
    for media_type, media in operation.files.items():
        assert fits(media["schema"], media["example"])
        assert fits(media["schema"]["contentSchema"], rows_of(media_type, media["example"]))
        for wrong in ("", "nothing\nx\n", "line;reason\nx;y\n", "[]", 7):
            assert not fits(media["schema"], wrong)
    good = {status: answer for status, answer in described["responses"].items() if status.startswith("2")}
    assert good
    for answer in good.values():
        for media_type, media in answer["content"].items():
            assert "example" in media
            assert media_type == "text/plain" or fits(media["schema"], media["example"])


@pytest.mark.parametrize("operation", OPERATIONS, ids=names(OPERATIONS))
def test_every_operation_tells_which_problems_it_may_answer_with(operation: Operation) -> None:
    problems = {
        status: answer["content"][PROBLEM]
        for status, answer in operation.described["responses"].items()
        if PROBLEM in answer.get("content", {})
    }
    expected = {"500"}
    if operation.needs_token:
        expected |= {"401", "403", "429", "503"}
    if operation.body is not None:
        expected |= {"400", "408", "413", "415", "422"}
    if "{" in operation.path:
        expected |= {"404"}
    assert expected <= problems.keys()
    for status, media in problems.items():
        for name, example in media["examples"].items():
            assert example["value"]["type"] == f"/api/errors/{name}"
            assert KNOWN[name][0].value == example["value"]["status"] == int(status)
            assert fits(media["schema"], example["value"])
