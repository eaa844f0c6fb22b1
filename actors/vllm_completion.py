"""From vLLM's output to a completion. Imports no vLLM.

Where nothing but the sampled tokens is asked for, vLLM neither decodes them one by one nor makes an object of each log-prob.
Their text is decoded here, once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from actors.generator import CompletionWithChoices
from buffer.messages import Completion
from grm.expected_scores import TokenChoice, trimmed

Decode = Callable[[Sequence[int]], str]
TAIL = 4  # tokens of the prompt that say how a completion begins: some tokenizers drop the blank before a first word


def completion_of(output: Any, prompt: Sequence[int], decode: Decode) -> Completion:
    """Returns a `CompletionOutput` with flat log-probs and without a text as what the streams carry.

    Args:
        output: vLLM's.
        prompt: Token ids before it.
        decode: Returns the text of token ids, without special tokens.
    """
    token_ids = tuple(int(t) for t in output.token_ids)
    logprobs = tuple(output.logprobs.logprobs)
    if len(logprobs) != len(token_ids):
        raise ValueError(
            f"{len(logprobs)} log-probs for {len(token_ids)} tokens: vLLM gave alternatives that were not asked for"
        )
    finish = _finish(output)
    said = token_ids[:-1] if finish == "stop" else token_ids
    return Completion(
        token_ids=token_ids, logprobs=logprobs, versions=_versions(output), text=text_of(said, prompt, decode), finish=finish
    )


def text_of(token_ids: Sequence[int], prompt: Sequence[int], decode: Decode) -> str:
    """Returns the text of tokens that stand behind a prompt."""
    tail = list(prompt[-TAIL:])
    before, whole = decode(tail), decode([*tail, *token_ids])
    return whole[len(before) :] if whole.startswith(before) else decode(token_ids)


def completion_with_choices_of(output: Any) -> CompletionWithChoices:
    """Returns a `CompletionOutput` of a request that asked for alternatives."""
    token_ids = tuple(int(t) for t in output.token_ids)
    return CompletionWithChoices(
        token_ids=token_ids,
        logprobs=tuple(float(step[t].logprob) for step, t in zip(output.logprobs, token_ids, strict=True)),
        versions=_versions(output),
        text=output.text,
        finish=_finish(output),
        choices=trimmed(_choice(step, t) for step, t in zip(output.logprobs, token_ids, strict=True)),
    )


def _versions(output: Any) -> tuple[int, ...]:
    return tuple(int(span.version) for span in output.weight_versions for _ in range(span.end - span.start))


def _finish(output: Any) -> Any:
    return "stop" if output.finish_reason == "stop" else "length"


def _choice(step: Mapping[int, Any], token_id: int) -> TokenChoice:
    top = tuple((each.decoded_token or "", float(each.logprob)) for each in step.values())
    return TokenChoice(text=step[token_id].decoded_token or "", top=top)
