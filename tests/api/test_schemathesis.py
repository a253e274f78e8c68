"""Schemathesis, which knows nothing of us but the description, against the running API."""

# Schemathesis leaves some of its types open.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import asyncio
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from starter.api.problems import known_types
from tests.api.conftest import PROBLEM, Api

load_all_checks()
# That what is described is accepted can't be asked: there is no line of a name that somebody made up.
CHECKED = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "missing_required_header",
        "unsupported_method",
        "ignored_auth",
    ]
)


PATIENCE = 120
"""Seconds for an answer; a body of 8 MiB takes half a second of a quiet core."""


def ask_everything(api: Api, *, examples: int) -> Counter[str]:
    """Send so many requests to each operation, and go on whatever is found; how many requests each got."""
    base = f"http://127.0.0.1:{api.port}"
    schema = schemathesis.openapi.from_url(f"{base}/api/openapi.json")
    asked: Counter[str] = Counter()
    wrong: list[Exception] = []
    operations: list[Any] = list(schema.get_all_operations())
    for found in operations:
        operation = found.ok()
        for mode in GenerationMode:

            @settings(
                max_examples=examples,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                # In an address a list of one value stands as the value itself, which may be fine.
                assume(not any(isinstance(value, list) for value in (case.query or {}).values()))
                headers = {"Authorization": f"Bearer {api.token}"}
                response = case.call(headers=headers, timeout=PATIENCE)
                asked[case.operation.label] += 1
                case.validate_response(response, checks=CHECKED, headers=headers)
                if response.status_code >= 400 and case.path != "/readyz":
                    assert response.headers["content-type"] == [PROBLEM]
                    assert response.json()["type"].removeprefix("/api/errors/") in known_types()

            try:
                ask()
            except Unsatisfiable:
                # Where nothing is asked for, or any word will do, nothing can be wrong.
                assert mode is GenerationMode.NEGATIVE
                assert "requestBody" not in operation.definition.raw
            except Exception as error:  # noqa: BLE001 - one operation must not hide what is wrong with the others
                wrong.append(error)
    if wrong:
        raise ExceptionGroup("something is wrong", wrong)
    return asked


async def test_it_finds_nothing(api: Api) -> None:
    asked = await asyncio.to_thread(ask_everything, api, examples=3)
    assert len(asked) > 10


@pytest.mark.soak
@pytest.mark.timeout(5400)
async def test_it_finds_nothing_for_long(api: Api) -> None:
    asked = await asyncio.to_thread(ask_everything, api, examples=300)
    print(f"{asked.total()} requests to {len(asked)} operations")  # noqa: T201 - for docs/reliability.md
