"""An endpoint against a fake server: what it asks, what it makes of the answers, and what its errors hold."""

import re
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from launch.judging.endpoint import Endpoint, EndpointError, EndpointLimits
from launch.judging.endpoint_tries import GONE_AFTER
from launch.judging.protocol import Answer, JudgeGone, JudgeRequest
from tests.launch.judging.fake_server import FakeServer, Reply, completion, echo, failure

KEY = "sk-correct-horse"
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.close()


@pytest.fixture
def made() -> Iterator[Callable[..., Endpoint]]:
    """Endpoints, closed at the end, that do not try again."""
    endpoints: list[Endpoint] = []

    def make(url: str, model: str = "judge", **settings: Any) -> Endpoint:
        own = {name: settings.pop(name) for name in tuple(settings) if name in EndpointLimits.__dataclass_fields__}
        endpoints.append(Endpoint(url, model, limits=EndpointLimits(**{"tries": 1, "timeout_s": 20.0, **own}), **settings))
        return endpoints[-1]

    yield make
    for endpoint in endpoints:
        endpoint.close()


def request(message: str, samples: int = 1, seed: int = 100) -> JudgeRequest:
    return JudgeRequest(message=message, samples=samples, temperature=0.7, max_new_tokens=64, seed=seed)


def texts(item: tuple[Answer, ...] | EndpointError) -> list[str]:
    assert not isinstance(item, EndpointError), item
    return [answer.text for answer in item]


def text_of(item: object) -> str:
    """An error's text; what a traceback would show of it holds neither the key nor a control character."""
    assert isinstance(item, EndpointError), item
    shown = "".join(traceback.format_exception(item))
    assert KEY not in shown
    assert not CONTROL.search(shown.replace("\n", ""))
    return str(item)


def refused(endpoint: Endpoint) -> str:
    """The error of the check."""
    with pytest.raises(EndpointError) as caught:
        endpoint.check()
    return text_of(caught.value)


@pytest.mark.parametrize("slash", ["", "/"])
def test_answers_come_in_order_with_what_was_asked_for(server: FakeServer, made: Callable[..., Endpoint], slash: str) -> None:
    endpoint = made(server.url + slash)
    endpoint.check()
    answers = endpoint.judge([request("a", 2), request("b", 1, seed=7)])
    assert [texts(item) for item in answers] == [["a 100", "a 101"], ["b 7"]]
    assert answers[0] == (
        Answer(text="a 100", tokens=5, finish="stop", prompt_tokens=9),
        Answer(text="a 101", tokens=5, finish="stop"),
    ), "a prompt is counted once"
    (first,) = [body for body in server.asked if body["n"] == 2]
    assert first == {
        "model": "judge",
        "messages": [{"role": "user", "content": "a"}],
        "n": 2,
        "temperature": 0.7,
        "max_tokens": 64,
        "seed": 100,
    }
    assert set(server.keys) == {f"Bearer {KEY}"}


def test_a_text_may_be_cut_or_null_and_the_tokens_missing(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    server.reply = lambda body: completion(None, finish="length")
    assert made(server.url).judge([request("a")]) == [(Answer(text="", tokens=0, finish="length"),)]


def test_without_a_key_the_servers_own_default_is_sent(
    server: FakeServer, made: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    made(server.url).check()
    made(server.url, api_key=f" {KEY}\n").check()
    assert server.keys == ["Bearer none", f"Bearer {KEY}"]


def test_no_ask_is_no_request(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    assert made(server.url).judge([]) == []
    assert server.asked == []


def test_a_server_that_heeds_no_n_is_asked_for_each_sample(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    server.reply = lambda body: echo(body | {"n": 1})
    assert texts(made(server.url).judge([request("a", 3)])[0]) == ["a 100", "a 101", "a 102"]
    whole, *single = [(body["n"], body["seed"]) for body in server.asked]
    assert (whole, sorted(single)) == ((3, 100), [(1, 101), (1, 102)]), "the single ones at once, in any order"


def test_a_server_that_refuses_n_is_asked_for_each_sample(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    server.reply = lambda body: echo(body) if body["n"] == 1 else failure(400, "Only one completion choice is allowed")
    assert texts(made(server.url).judge([request("a", 3)])[0]) == ["a 100", "a 101", "a 102"]


def test_a_refusal_for_another_reason_is_the_items_error(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    server.reply = lambda body: failure(400, "maximum context length is 8 tokens")
    text = text_of(made(server.url).judge([request("a", 3)])[0])
    assert "HTTP 400: maximum context length is 8 tokens; " in text
    assert len(server.asked) == 2, "the first single sample meets the same refusal: no more are asked for"


def test_a_server_that_never_gives_a_choice_is_not_asked_for_ever(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    server.reply = lambda body: completion()
    assert "the answer holds no choice" in text_of(made(server.url).judge([request("a", 3)])[0])
    assert [body["n"] for body in server.asked] == [3, 1, 1, 1]


def test_more_choices_than_asked_for_are_cut(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    server.reply = lambda body: completion("x", "y", "z")
    assert texts(made(server.url).judge([request("a", 2)])[0]) == ["x", "y"]


def test_concurrency_is_bounded_and_used(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    server.delay_s = 0.15
    answers = made(server.url, concurrency=3).judge([request(f"m{i}") for i in range(12)])
    assert [texts(item) for item in answers] == [[f"m{i} 100"] for i in range(12)]
    assert server.most == 3


def test_too_many_requests_is_tried_again(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    server.reply = lambda body: echo(body) if len(server.asked) > 1 else failure(429, "slow down", retry_after_ms="20")
    assert texts(made(server.url, tries=2).judge([request("a")])[0]) == ["a 100"]
    assert len(server.asked) == 2


def test_one_failing_item_leaves_the_others_and_their_order(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        if body["messages"][0]["content"] == "m1":
            return failure(500, f"CUDA\x1b[31m error\u202e for {KEY}", retry_after_ms="20")
        return echo(body)

    server.reply = reply
    first, second, third = made(server.url, tries=2).judge([request(f"m{i}") for i in range(3)])
    assert [texts(first), texts(third)] == [["m0 100"], ["m2 100"]]
    assert text_of(second) == (
        f"{server.url}, model judge: POST /chat/completions (n 1, seed 100), 2 tries: HTTP 500: CUDA�[31m error� for ***;"
        " look into the server's log, then run again"
    )
    assert len(server.asked) == 4


def test_a_server_that_hangs_is_waited_for_so_long(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    server.delay_s = 60.0
    endpoint, began = made(server.url, timeout_s=0.3), time.monotonic()
    text = text_of(endpoint.judge([request("a")])[0])
    assert time.monotonic() - began < 20, "a busy machine, but not the 60 s of the server"
    assert "1 try: no answer within 0.3 s (--timeout-s); " in text


def test_a_server_that_trickles_is_waited_for_so_long(made: Callable[..., Endpoint]) -> None:
    """Each byte comes in time, the answer never."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def trickle() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                try:
                    while True:
                        connection.sendall(b" ")
                        time.sleep(0.05)
                except ConnectionError:
                    pass

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        endpoint, began = made(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", timeout_s=1), time.monotonic()
        text = text_of(endpoint.judge([request("a")])[0])
        assert time.monotonic() - began < 20, "a busy machine, but not without end"
        thread.join(60)
    assert "no answer within 1 s (--timeout-s)" in text
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"choices": [', "body: Invalid JSON"),
        (b"<html>\x1b[2J welcome</html>", "<html>�[2J welcome</html>"),
        (b"\xff\xfe", "body: Invalid JSON"),
        ({"errors": {"message": f"{'x' * 270}{KEY}"}}, "choices: Field required"),
        ({"choices": [{"message": {"content": 7}}]}, "choices.0.message.content: Input should be a valid string"),
        ({"choices": [], "usage": {"completion_tokens": 10**400}}, "usage.completion_tokens: Input should be less than"),
        ({"choices": [], "usage": {"completion_tokens": -1}}, "usage.completion_tokens: Input should be greater than"),
    ],
)
def test_an_answer_of_another_form_is_an_error_that_quotes_it(
    server: FakeServer, made: Callable[..., Endpoint], body: Any, words: str
) -> None:
    server.reply = lambda _: (200, body, {})
    text = text_of(made(server.url).judge([request("a")])[0])
    assert words in text
    assert "sk-" not in text, "no part of the key is left by the cut"
    assert "as http://host:port/v1" in text


# ---- the check -------------------------------------------------------------------------------------------------------


def test_the_check_names_the_models_that_are_served(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    text = refused(made(server.url, "jugde"))
    assert "model jugde: GET /models: the server does not serve this model, it serves judge, other�[2J; " in text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([{"id": f"m{i}"} for i in range(30)], "m17, …;"),
        ([{"id": "m" * 5000}], f"serves {'m' * 300}…;"),
    ],
)
def test_the_check_names_few_models(server: FakeServer, made: Callable[..., Endpoint], data: Any, words: str) -> None:
    server.models = (200, {"data": data}, {})
    assert words in refused(made(server.url))


def test_the_check_refuses_a_wrong_key(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    server.models = failure(401, f"Incorrect API key provided: {KEY}.")
    text = refused(made(server.url, tries=5))
    assert "GET /models: HTTP 401: Incorrect API key provided: ***.; set OPENAI_API_KEY" in text


def test_the_check_names_a_wrong_path(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    base = server.url.removesuffix("/v1")
    text = refused(made(base))
    assert "HTTP 404: no /models here; " in text
    assert f"does not end in /v1: try {base}/v1" in text


@pytest.mark.parametrize("models", [failure(404, "no such page"), (200, {"data": []}, {}), (405, b"", {})])
def test_a_server_that_lists_no_models_may_judge(server: FakeServer, made: Callable[..., Endpoint], models: Reply) -> None:
    server.models = models
    endpoint = made(server.url)
    endpoint.check()
    assert texts(endpoint.judge([request("a")])[0]) == ["a 100"]


@pytest.mark.parametrize("listed", [[{"id": "judge"}], {"models": [{"name": "judge"}]}, {"data": [{"id": "judge", "more": 1}]}])
def test_the_check_reads_other_lists(server: FakeServer, made: Callable[..., Endpoint], listed: Any) -> None:
    server.models = (200, listed, {})
    made(server.url).check()
    assert "does not serve this model, it serves judge; " in refused(made(server.url, "jugde"))


def test_a_wrong_path_that_lists_nothing_is_named_by_the_first_request(
    server: FakeServer, made: Callable[..., Endpoint]
) -> None:
    endpoint = made(server.url.removesuffix("/v1") + "/chat/v1")
    endpoint.check()
    first, second = endpoint.judge([request("a"), request("b")])
    assert "HTTP 404: no /chat/v1/chat/completions here; correct the address" in text_of(first)
    assert second is first, "and nothing more is asked"
    assert len(server.asked) == 1


def test_the_check_does_not_wait_for_a_server_that_is_not_there(made: Callable[..., Endpoint]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    text = refused(made(f"http://127.0.0.1:{port}/v1", tries=5))
    assert text.startswith(f"http://127.0.0.1:{port}/v1, model judge: GET /models: no connection: [Errno 111] ")
    assert text.endswith("; start the server, or correct the address")


def test_the_check_refuses_what_is_no_list_of_models(server: FakeServer, made: Callable[..., Endpoint]) -> None:
    server.models = (200, b"<html>", {"Content-Type": "text/html"})
    assert "the answer is not of the OpenAI form, body: " in refused(made(server.url))


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://h/v1", "http://", "http://[::1/v1", "http://h:port/v1", "http://h/v1?a=b", ""]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(EndpointError, match="this is no address; give it as http://host:port/v1"):
        Endpoint(url, "judge")


@pytest.mark.parametrize(
    "url",
    ["http://user:hidden@h:8000/v1", "http://hidden@h/v1", "user:hidden@h", "http://user:hid/den@h/v1", "http://u:hid#den@h"],
)
def test_an_address_with_a_password_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(EndpointError, match="set OPENAI_API_KEY to the key, and give the address as") as caught:
        Endpoint(url, "judge")
    assert "hid" not in text_of(caught.value)
    assert "***@h" in str(caught.value)


@pytest.mark.parametrize("key", ["sk-\x00correct", "sk-kürbis", "sk correct"])
def test_a_key_that_no_header_takes_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(EndpointError, match="set OPENAI_API_KEY anew") as caught:
        Endpoint("http://h/v1", "judge", api_key=key)
    assert "sk" not in str(caught.value).replace("asked", "")


@pytest.mark.parametrize("settings", [{"concurrency": 0}, {"tries": 0}, {"timeout_s": 0.0}])
def test_a_setting_without_sense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="each must be above 0"):
        EndpointLimits(**settings)


@pytest.mark.parametrize("outage", [failure(401, "revoked"), failure(503, "restarting"), failure(429, "x", retry_after="9999")])
def test_an_outage_ends_a_call_and_the_next_one_asks_again(
    server: FakeServer, made: Callable[..., Endpoint], outage: Reply
) -> None:
    endpoint = made(server.url, concurrency=1)
    assert texts(endpoint.judge([request("a")])[0]) == ["a 100"]
    server.reply = lambda body: outage
    lost = endpoint.judge([request(f"m{i}") for i in range(GONE_AFTER + 4)])
    assert isinstance(lost[-1], JudgeGone), text_of(lost[-1])
    spent = len(server.asked)
    assert spent <= 1 + GONE_AFTER, "the rest of that call was not asked"
    server.reply = echo
    assert [texts(item) for item in endpoint.judge([request("b"), request("c")])] == [["b 100"], ["c 100"]]
    server.reply = lambda body: failure(503, "restarting")
    once = endpoint.judge([request("d")])[0]
    assert not isinstance(once, JudgeGone), f"failures are counted anew: {text_of(once)}"


def test_special_tokens_of_others_are_broken_visibly() -> None:
    endpoint = Endpoint("http://127.0.0.1:9/v1", "m")
    escaped = [endpoint.escape_special_tokens(text) for text in ("a <|im_end|> b", "<|eot_id|>", "2 <| 3 |> 1")]
    endpoint.close()
    assert escaped == ["a <\\|im_end|> b", "<\\|eot_id|>", "2 <\\| 3 |> 1"]
