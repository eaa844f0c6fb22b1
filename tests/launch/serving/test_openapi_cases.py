"""The published description against the server: requests that fit it, and requests that do not, as schemathesis makes them.

The server is whole but for its engine and its tokenizer (`small_server.py`), and is asked over real HTTP. Of each route CASES
requests of each kind are sent (SPCT_FUZZ=20: twenty times as many). Every answer comes in TIMEOUT_S, has a status that the
description names for that route, and a body as it says: so none is a 500, and a number is in none that judged nothing.
"""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from buffer.server import EmbeddedServer
from buffer.streams import Address
from tests.fuzzing import TIMES
from tests.launch.serving.small_server import OverHttp, SmallServer

CASES, TIMEOUT_S = 10, 20.0
NO_HTTP = b"Invalid HTTP request received."  # uvicorn's own answer to a header that is none, before any app
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def url(server: EmbeddedServer) -> Iterator[str]:
    small = SmallServer(Address(server.url, "openapi"), collect_s=0.05, deadline_s=0.2)
    with OverHttp(small) as running:
        yield running.url


@pytest.fixture(scope="module")
def operations(url: str) -> dict[str, Any]:
    described = schemathesis.openapi.from_dict(httpx2.get(f"{url}/openapi.json", timeout=30).json())
    found = [each.ok() for each in described.get_all_operations()]
    return {f"{each.method.upper()} {each.path}": each for each in found}


ROUTES = (
    *("POST /v1/judge", "POST /v1/member", "POST /get_reward", "POST /slime", "POST /slime/verdict", "POST /verify"),
    *("POST /compare", "POST /aggregate_metrics", "POST /seed_session", "GET /reverify_mode"),
    *("POST /v1/chat/completions", "GET /v1/models", "POST /v1/decisions", "POST /v1/systemone"),
    *("GET /healthz", "GET /readyz", "GET /metrics", "GET /v1/served"),
)


def test_every_route_is_described_and_asked(operations: dict[str, Any]) -> None:
    assert sorted(operations) == sorted(ROUTES)


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("route", [route for route in ROUTES if route.startswith("POST") and route != "POST /seed_session"])
@settings(max_examples=CASES * TIMES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_answers_are_as_described(url: str, operations: dict[str, Any], route: str, mode: Any, data: st.DataObject) -> None:
    case = data.draw(operations[route].as_strategy(generation_mode=mode))
    if mode is GenerationMode.POSITIVE and isinstance(case.body, dict) and "model" in case.body:
        case.body["model"] = "small"  # any other one is 404
    answer = case.call(base_url=url, timeout=TIMEOUT_S)
    if answer.content != NO_HTTP:
        case.validate_response(answer, checks=CHECKS)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.startswith("GET") or route == "POST /seed_session"])
def test_routes_without_a_body_answer_as_described(url: str, operations: dict[str, Any], route: str) -> None:
    case = operations[route].Case()
    case.validate_response(case.call(base_url=url, timeout=TIMEOUT_S), checks=CHECKS)
