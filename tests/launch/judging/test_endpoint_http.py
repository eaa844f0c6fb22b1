"""An endpoint that is somebody else's: what it sends cannot fill the memory, and nothing goes to a place that was not given."""

import gzip
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from launch.judging.endpoint import Endpoint, EndpointError, EndpointLimits
from launch.judging.endpoint_http import ANSWER_BYTES
from launch.judging.openai_shapes import ChatCompletion, ModelList
from launch.judging.protocol import JudgeRequest
from tests.launch.judging.fake_server import FakeServer, completion, echo

BOMB_MIB = 16  # unpacked


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.close()


@pytest.fixture
def elsewhere() -> Iterator[FakeServer]:
    """A server that was not given, and answers as a judge would."""
    fake = FakeServer()
    yield fake
    fake.close()


@pytest.fixture
def endpoint(server: FakeServer) -> Iterator[Endpoint]:
    endpoint = Endpoint(server.url, "judge", limits=EndpointLimits(tries=3, timeout_s=20.0))
    yield endpoint
    endpoint.close()


def error_of(endpoint: Endpoint) -> str:
    (item,) = endpoint.judge([JudgeRequest(message="private data", samples=1, temperature=0.7, max_new_tokens=64, seed=1)])
    assert isinstance(item, EndpointError), item
    return str(item)


def packed(encoding: str) -> bytes:
    """A completion whose text is BOMB_MIB of one letter."""
    text = b'{"choices": [{"message": {"content": "' + b"A" * (BOMB_MIB << 20) + b'"}}]}'
    return gzip.compress(text) if encoding == "gzip" else zlib.compress(text)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "gzip, gzip", "br"])
@pytest.mark.parametrize("status", [200, 500])
def test_a_packed_answer_is_refused_before_it_is_unpacked(
    server: FakeServer, endpoint: Endpoint, encoding: str, status: int
) -> None:
    bomb = packed(encoding)
    server.reply = lambda body: (status, bomb, {"Content-Encoding": encoding})
    tracemalloc.start()
    text = error_of(endpoint)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert f"the server packed its answer ({encoding})" in text
    assert peak < BOMB_MIB << 19, f"{peak >> 20} MiB"
    assert len(server.asked) == 1, "another try would bring the same"


def test_an_answer_is_asked_for_as_it_is(server: FakeServer, endpoint: Endpoint) -> None:
    server.reply = lambda body: (*echo(body)[:2], {"Content-Encoding": "identity"})
    (answers,) = endpoint.judge([JudgeRequest(message="m", samples=1, temperature=0.7, max_new_tokens=64, seed=1)])
    assert not isinstance(answers, EndpointError)
    endpoint.check()
    assert set(server.encodings) == {"identity"}


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_without_end_is_read_up_to_the_bound(
    server: FakeServer, endpoint: Endpoint, status: int, chunked: bool
) -> None:
    body = b'{"choices": [' + b" " * (ANSWER_BYTES + 1) + b"]}"
    server.reply = lambda _: (status, body, {"Transfer-Encoding": "chunked"} if chunked else {})
    assert "the server's answer is longer than 8 MiB; ask for fewer" in error_of(endpoint)
    assert len(server.asked) == 1


def test_an_answer_up_to_the_bound_is_read(server: FakeServer, endpoint: Endpoint) -> None:
    server.reply = lambda _: completion("A" * (ANSWER_BYTES - 1000))
    (answers,) = endpoint.judge([JudgeRequest(message="m", samples=1, temperature=0.7, max_new_tokens=64, seed=1)])
    assert not isinstance(answers, EndpointError)
    assert len(answers[0].text) == ANSWER_BYTES - 1000


@pytest.mark.parametrize(("shape", "field"), [(ChatCompletion, "choices"), (ModelList, "data")])
def test_many_wrong_items_are_one_error(shape: type[ChatCompletion | ModelList], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        shape.model_validate_json(f'{{"{field}": [{",".join(["{}"] * 1000)}]}}')
    assert caught.value.error_count() == 1, "an error each would take many times what the items take"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_with_its_place(
    server: FakeServer, elsewhere: FakeServer, endpoint: Endpoint, status: int
) -> None:
    place = elsewhere.url.replace("127.0.0.1", "localhost") + "/chat/completions"
    server.reply = lambda body: (status, b"", {"Location": place})
    server.models = (status, b"", {"Location": elsewhere.url + "/models"})
    text = error_of(endpoint)
    assert f"HTTP {status}: the server redirects to {place}, where nothing was sent; give that address yourself" in text
    with pytest.raises(EndpointError, match=f"redirects to {elsewhere.url}/models"):
        endpoint.check()
    assert elsewhere.asked == elsewhere.keys == [], "neither the prompt nor a question came here"


@pytest.mark.parametrize(
    "location", ["", "http://[/", "//other/", f"http://h/{'x' * 9000}", "http://user:hidden@h/\x7f"], ids=range(5)
)
def test_a_redirect_to_no_place_is_an_error_of_one_line(server: FakeServer, endpoint: Endpoint, location: str) -> None:
    server.reply = lambda body: (307, b"", {"Location": location} if location else {})
    text = error_of(endpoint)
    assert "HTTP 307: the server redirects to " in text
    assert len(text) < 1000
    assert "hidden" not in text


def test_what_a_hostile_server_quotes_of_the_environment_is_masked(
    server: FakeServer, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    server.reply = lambda body: (500, {"error": {"message": "you sent hf_abcdefgh"}}, {"Retry-After-Ms": "1"})
    text = error_of(endpoint)
    assert "you sent ***" in text
