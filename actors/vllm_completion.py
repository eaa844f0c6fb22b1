"""From vLLM's output to a completion. Imports no vLLM."""

from collections.abc import Mapping
from typing import Any

from actors.generator import CompletionWithChoices
from buffer.messages import Completion
from grm.expected_scores import TokenChoice, trimmed


def completion_of(output: Any) -> Completion:
    """Returns a `CompletionOutput` as what the streams carry; with the alternatives of its tokens if the request asked for
    some, as there is one log-prob at each place otherwise."""
    token_ids = tuple(int(t) for t in output.token_ids)
    versions: list[int] = []
    for span in output.weight_versions:
        versions += [int(span.version)] * (span.end - span.start)
    read: dict[str, Any] = {
        "token_ids": token_ids,
        "logprobs": tuple(float(step[t].logprob) for step, t in zip(output.logprobs, token_ids, strict=True)),
        "versions": tuple(versions),
        "text": output.text,
        "finish": "stop" if output.finish_reason == "stop" else "length",
    }
    if all(len(step) == 1 for step in output.logprobs):
        return Completion(**read)
    choices = trimmed(_choice(step, t) for step, t in zip(output.logprobs, token_ids, strict=True))
    return CompletionWithChoices(**read, choices=choices)


def _choice(step: Mapping[int, Any], token_id: int) -> TokenChoice:
    top = tuple((each.decoded_token or "", float(each.logprob)) for each in step.values())
    return TokenChoice(text=step[token_id].decoded_token or "", top=top)
