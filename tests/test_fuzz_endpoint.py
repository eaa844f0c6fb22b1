"""Any answer of a judge's HTTP server ends in judgements or in an EndpointError."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.judging.endpoint import Endpoint, EndpointError, EndpointLimits
from launch.judging.protocol import Answer, JudgeRequest
from tests.fuzzing import inputs, maps, safe, values
from tests.launch.judging.fake_server import FakeServer, Reply, completion

KEY = "sk-correct-horse"
ANSWERS = 40  # inputs of the test


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def endpoint(server: FakeServer) -> Iterator[Endpoint]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        connected = Endpoint(server.url, "judge", limits=EndpointLimits(tries=1, timeout_s=20.0), api_key=KEY)
    yield connected
    connected.close()


KINDS = ["application/json", "text/html", "application/json; charset=utf-7", "text/plain; charset=nonsense", ""]


STATUS = [200, 201, 204, 302, 400, 401, 404, 408, 422, 429, 500, 503, 599]


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    """Anything, or an answer of the right form in which some places hold other values."""
    odd = st.sampled_from([10**400, -1, 3, "\ud800", "\x1b[2J", KEY, "long " * 2000]) | values
    answer = {**completion("a", "b")[1], "usage": {"completion_tokens": draw(odd)}, "data": [{"id": draw(odd)}]}
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.sampled_from(maps(answer)))
        at[draw(st.sampled_from([*at, "error", "message"]))] = draw(odd)
    if draw(st.booleans()):
        return 200, answer, {}
    more = draw(st.sampled_from([{}, {"Content-Encoding": "gzip"}, {"Location": "http://[/"}]))
    body = draw(st.just(answer) | st.binary(max_size=200) | values | st.sampled_from([b"[" * 5000, KEY * 300]))
    return draw(st.sampled_from(STATUS)), body, {"Content-Type": draw(st.sampled_from(KINDS)), **more}


@inputs(ANSWERS)
@given(replies())
def test_an_answer_is_read_or_an_endpoint_error(server: FakeServer, endpoint: Endpoint, reply: Reply) -> None:
    server.reply, server.models = (lambda body: reply), reply
    (item,) = endpoint.judge([JudgeRequest(message="m", samples=2, temperature=0.5, max_new_tokens=9, seed=1)])
    errors = [item] if isinstance(item, EndpointError) else []
    assert errors or all(isinstance(answer, Answer) for answer in item)  # type: ignore[union-attr]
    try:
        endpoint.check()
    except EndpointError as error:
        errors.append(error)
    for message in map(str, errors):
        assert KEY not in message
        assert safe(message)
