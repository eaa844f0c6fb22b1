"""What a served judge does wrong, or unusually: a reply for each, by name. `server.reply` is one of these."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.launch.evaluation import reply as right
from tests.launch.judging.fake_server import Reply, completion, failure

Body = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Misbehaviour:
    """One way, and what comes of it."""

    reply: Callable[[list[Body], Body], Reply]
    """Given all requests so far, this one among them, and this one."""
    status: int
    """Exit status of the evaluation."""
    says: str
    """What the person reads."""
    requests: int
    """HTTP requests spent on two pairs, greedily in both orders: four answers are wanted."""
    options: tuple[str, ...] = ()
    """More options of the command."""
    lacks: tuple[str, ...] = ()
    """Fields that the last request does not hold."""
    holds: dict[str, Any] = field(default_factory=dict)
    """Fields that it holds."""
    mends: bool = True
    """Whether a right answer follows once the server behaves: the second start ends with 0."""


def _refuses(name: str, message: str, status: int = 400, **more: Any) -> Callable[[list[Body], Body], Reply]:
    error = {"error": {"message": message, "type": "invalid_request_error", **more}}
    return lambda asked, body: (status, error, {}) if name in body else right({"n": 1, "seed": 1, "temperature": 0, **body})


def _always(reply: Reply) -> Callable[[list[Body], Body], Reply]:
    return lambda asked, body: reply


def _first(count: int, reply: Reply) -> Callable[[list[Body], Body], Reply]:
    """Misbehaves that often, then not any more."""
    return lambda asked, body: reply if len(asked) <= count else right(body)


def _after(count: int, reply: Reply) -> Callable[[list[Body], Body], Reply]:
    """Answers so often, then misbehaves for ever."""
    return lambda asked, body: right(body) if len(asked) <= count else reply


def _message(body: Body, **message: Any) -> Reply:
    status, answer, headers = right(body)
    for choice in answer["choices"]:
        choice["message"] = {name: value(choice["message"]["content"]) for name, value in message.items()}
    return status, answer, headers


def _inside(**error: Any) -> Reply:
    return 200, {"error": error}, {}


def _changed(body: Body, **fields: Any) -> Reply:
    status, answer, headers = right(body)
    answer["choices"][0] |= fields
    return status, answer, headers


EXTRA = ("--extra-body", json.dumps({"chat_template_kwargs": {"enable_thinking": False}}))
NO_FIELD = "Unsupported parameter: '{}' is not supported with this model."

REFUSED_FIELDS = {
    "max_tokens": Misbehaviour(
        reply=_refuses(
            "max_tokens", NO_FIELD.format("max_tokens") + " Use 'max_completion_tokens' instead.", param="max_tokens"
        ),
        status=0,
        says="the server refuses max_tokens: max_completion_tokens is sent in its place",
        requests=5,
        lacks=("max_tokens",),
        holds={"max_completion_tokens": 1024},
    ),
    "max_tokens, in words alone": Misbehaviour(
        reply=_refuses("max_tokens", "max_tokens is deprecated, use max_completion_tokens"),
        status=0,
        says="max_completion_tokens is sent in its place",
        requests=5,
        lacks=("max_tokens",),
    ),
    "both names of the limit": Misbehaviour(
        reply=lambda asked, body: failure(400, f"unknown field '{next(name for name in body if 'tokens' in name)}'"),
        status=2,
        says="none of 2 preferences was judged",
        requests=5,
    ),
    "temperature": Misbehaviour(
        reply=_refuses(
            "temperature", "Unsupported value: 'temperature' does not support 0 with this model.", param="temperature"
        ),
        status=0,
        says="greedy judgements are no longer greedy",
        requests=5,
        lacks=("temperature",),
    ),
    "seed, Google's words": Misbehaviour(
        reply=_refuses("seed", 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'),
        status=0,
        says="the server refuses seed, which is left out",
        requests=5,
        lacks=("seed",),
    ),
    "seed, FastAPI's form": Misbehaviour(
        reply=lambda asked, body: (
            (422, {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}, {})
            if "seed" in body
            else right({"seed": 1, **body})
        ),
        status=0,
        says="the server refuses seed, which is left out",
        requests=5,
        lacks=("seed",),
    ),
    "n as a field": Misbehaviour(
        reply=_refuses("n", "unknown field", param="n"),
        status=0,
        says="each vote is asked for by a request of its own",
        requests=5,
        lacks=("n",),
    ),
    "chat_template_kwargs": Misbehaviour(
        reply=_refuses("chat_template_kwargs", "Unrecognized request argument supplied: chat_template_kwargs"),
        status=0,
        says="the server refuses chat_template_kwargs, which is left out: its own default counts",
        requests=5,
        options=EXTRA,
        lacks=("chat_template_kwargs",),
    ),
    "three fields, one after the other": Misbehaviour(
        reply=lambda asked, body: next(
            (failure(400, NO_FIELD.format(name)) for name in ("seed", "max_tokens", "temperature") if name in body),
            right({"n": 1, "seed": 1, "temperature": 0, **body}),
        ),
        status=0,
        says="the server refuses temperature",
        requests=7,
        lacks=("seed", "max_tokens", "temperature"),
    ),
    "n above 1": Misbehaviour(
        reply=lambda asked, body: right(body) if body["n"] == 1 else failure(400, "Only one completion choice is allowed"),
        status=0,
        says="the server does not give several answers to a request (n)",
        requests=4 + 8 + 1,
        options=("--k", "4", "--concurrency", "1"),
        holds={"n": 1},
    ),
    "a prompt that is too long": Misbehaviour(
        reply=lambda asked, body: (
            failure(
                400, "'max_tokens' is too large: 1024. This model's maximum context length is 1200 tokens", param="max_tokens"
            )
            if "q one" in body["messages"][0]["content"]
            else right(body)
        ),
        status=1,
        says="1 of 2 preferences got no answer",
        requests=4,
        holds={"max_tokens": 1024},
    ),
}

FAILURES = {
    "a revoked key": Misbehaviour(
        reply=_after(2, failure(401, "key revoked")),
        status=1,
        says="HTTP 401: key revoked; set OPENAI_API_KEY",
        requests=3,
        options=("--concurrency", "1"),
    ),
    "a wrong key from the start": Misbehaviour(
        reply=_always(failure(401, "no such key")),
        status=1,
        says="judged 0 of 2 preferences, which are kept; then the judge was gone: ",
        requests=1,
    ),
    "no money": Misbehaviour(
        reply=_always(failure(402, "Insufficient credits")),
        status=1,
        says="pay for more, or use another key or model",
        requests=1,
    ),
    "a quota that no wait mends": Misbehaviour(
        reply=_always((429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}, {})),
        status=1,
        says="pay for more, or use another key or model",
        requests=1,
    ),
    "a model that was taken away": Misbehaviour(
        reply=_after(1, failure(404, "The model `judge` does not exist")),
        status=1,
        says="correct the address or the model",
        requests=2,
        options=("--concurrency", "1"),
    ),
    "errors without end": Misbehaviour(
        reply=_always(failure(500, "CUDA out of memory")),
        status=1,
        says="3 tries: HTTP 500: CUDA out of memory; look into the server's log, then run again",
        requests=3,
        options=("--tries", "3"),
    ),
    "an error that passes": Misbehaviour(reply=_first(2, failure(503, "loading")), status=0, says="judged 2 of 2", requests=6),
    "one vote that fails": Misbehaviour(
        reply=lambda asked, body: failure(500, "no") if len(asked) == 4 else right(body),
        status=1,
        says="1 judgements of preferences that have others got no answer",
        requests=4,
        options=("--tries", "1", "--concurrency", "1"),
    ),
    "a quota without Retry-After": Misbehaviour(
        reply=_first(3, failure(429, "slow down")), status=0, says="judged 2 of 2", requests=7
    ),
    "a quota with Retry-After": Misbehaviour(
        reply=_first(1, failure(429, "slow down", Retry_After="0.01")), status=0, says="judged 2 of 2", requests=5
    ),
    "a quota of a day": Misbehaviour(
        reply=_always(failure(429, "daily limit", Retry_After="40000")),
        status=1,
        says="(it asks to wait 40000 s)",
        requests=1,
    ),
    "a quota that never ends": Misbehaviour(
        reply=_always(failure(429, "slow down")),
        status=1,
        says="set --requests-per-minute and --tokens-per-minute to your quota",
        requests=3,
        options=("--tries", "3"),
    ),
    "HTTP 200 with a passing error": Misbehaviour(
        reply=_first(1, _inside(message="upstream overloaded", code=502)), status=0, says="judged 2 of 2", requests=5
    ),
    "HTTP 200 with an error and no code": Misbehaviour(
        reply=_always(_inside(message="upstream died")),
        status=1,
        says="HTTP 200 with an error inside: upstream died",
        requests=2,
        options=("--tries", "2"),
    ),
    "HTTP 200 with a wrong key": Misbehaviour(
        reply=_always(_inside(message="no such key", code=401)), status=1, says="set OPENAI_API_KEY", requests=1
    ),
    "HTTP 200 with an error in the choice": Misbehaviour(
        reply=lambda asked, body: (
            _changed(body, error={"message": "provider timed out"}, finish_reason="error") if len(asked) == 1 else right(body)
        ),
        status=0,
        says="judged 2 of 2",
        requests=5,
    ),
    "a web page": Misbehaviour(
        reply=_always((200, b"<html>welcome</html>", {"Content-Type": "text/html"})),
        status=2,
        says="the answer is not of the OpenAI form",
        requests=4,
    ),
    "a redirect": Misbehaviour(
        reply=_always((307, b"", {"Location": "http://elsewhere/"})),
        status=2,
        says="the server redirects to http://elsewhere/, where nothing was sent",
        requests=4,
    ),
    "a stream that nobody asked for": Misbehaviour(
        reply=_always((200, b'data: {"choices": []}\n\ndata: [DONE]\n\n', {"Content-Type": "text/event-stream"})),
        status=2,
        says="the server streams its answer, though nobody asked for it",
        requests=4,
    ),
    "no choice": Misbehaviour(reply=_always(completion()), status=2, says="the answer holds no choice", requests=4),
    "a moderated prompt": Misbehaviour(
        reply=lambda asked, body: (
            failure(403, "input was flagged by moderation") if "q one" in body["messages"][0]["content"] else right(body)
        ),
        status=1,
        says="1 of 2 preferences got no answer",
        requests=4,
    ),
}

UNUSUAL = {
    "content in parts": Misbehaviour(
        reply=lambda asked, body: _message(
            body, content=lambda text: [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": text}]
        ),
        status=0,
        says="judged 2 of 2",
        requests=4,
    ),
    "a thought told apart": Misbehaviour(
        reply=lambda asked, body: _message(body, content=str, reasoning_content=lambda text: "Scores: \\boxed{1, 1}"),
        status=0,
        says="judged 2 of 2",
        requests=4,
    ),
    "an older completion": Misbehaviour(
        reply=lambda asked, body: (
            200,
            {"choices": [{"text": each["message"]["content"]} for each in right(body)[1]["choices"]]},
            {},
        ),
        status=0,
        says="judged 2 of 2",
        requests=4,
    ),
    "blanks and a mark before the JSON": Misbehaviour(
        reply=lambda asked, body: (200, b"\xef\xbb\xbf\n\n" + json.dumps(right(body)[1]).encode(), {}),
        status=0,
        says="judged 2 of 2",
        requests=4,
    ),
    "no usage, no fingerprint, other fields": Misbehaviour(
        reply=lambda asked, body: (200, {"choices": right(body)[1]["choices"], "usage": None, "system_fingerprint": 7}, {}),
        status=0,
        says="the server counted no tokens",
        requests=4,
    ),
    "more choices than asked for": Misbehaviour(
        reply=lambda asked, body: right(body | {"n": 3}), status=0, says="judged 2 of 2", requests=4
    ),
}

UNREADABLE = {
    "cut at the limit": Misbehaviour(
        reply=_always(completion("Analysis: the first response is", finish="length")),
        status=0,
        says="only 0 of 4 judgements parsed (0%): the figures below are mostly of what did not. Why: 4 x cut at the limit"
        " (raise rollout.max_new_tokens)",
        requests=4,
        mends=False,
    ),
    "cut at the limit, Google's word": Misbehaviour(
        reply=_always(completion("Analysis: the first", finish="MAX_TOKENS")),
        status=0,
        says="4 x cut at the limit",
        requests=4,
        mends=False,
    ),
    "empty beside its thought": Misbehaviour(
        reply=lambda asked, body: _message(body, content=lambda text: None, reasoning_content=str),
        status=0,
        says="4 x empty beside its thought (raise rollout.max_new_tokens, or switch thinking off with --extra-body)",
        requests=4,
        mends=False,
    ),
    "empty": Misbehaviour(reply=_always(completion("")), status=0, says="4 x empty", requests=4, mends=False),
    "a refusal in its field": Misbehaviour(
        reply=lambda asked, body: _message(body, content=lambda text: None, refusal=lambda text: "This is not for me."),
        status=0,
        says="4 x refused",
        requests=4,
        mends=False,
    ),
    "a refusal in words": Misbehaviour(
        reply=_always(completion("I'm sorry, but I can't help with that.")),
        status=0,
        says="4 x refused",
        requests=4,
        mends=False,
    ),
    "a content filter": Misbehaviour(
        reply=_always(completion("", finish="content_filter")), status=0, says="4 x refused", requests=4, mends=False
    ),
    "no scores": Misbehaviour(
        reply=_always(completion("Both are fine.")), status=0, says="4 x no scores", requests=4, mends=False
    ),
    "no box": Misbehaviour(
        reply=_always(completion("Scores: none")), status=0, says="4 x no box behind the scores", requests=4, mends=False
    ),
    "scores out of range": Misbehaviour(
        reply=_always(completion("Scores: \\boxed{70, 20}")),
        status=0,
        says="4 x scores outside of 1..10 (set eval.clip_scores=true",
        requests=4,
        mends=False,
    ),
}

MISBEHAVIOURS = REFUSED_FIELDS | FAILURES | UNUSUAL | UNREADABLE
