"""What a judge is asked in the words of an engine, and what the engine answers in the words of a judge."""

from actors.generator import CompletionWithChoices, Request
from buffer.messages import Completion
from launch.judging.protocol import Answer, JudgeRequest, NotJudged
from launch.setup.tokenizer import Tokenizer


def encoded(tokenizer: Tokenizer, request: JudgeRequest, limit: int) -> tuple[int, ...] | NotJudged:
    """Returns the prompt in token ids, or why it is not asked: it has more than `limit` of them, and text is never cut."""
    token_ids = tokenizer.encode(request.message)
    if len(token_ids) > limit:
        return NotJudged(f"a prompt of {len(token_ids)} tokens, the limit is {limit}: raise model.context")
    return token_ids


def engine_request(request: JudgeRequest, token_ids: tuple[int, ...]) -> Request:
    """Returns the request for an engine."""
    return Request(
        token_ids=token_ids,
        samples=request.samples,
        temperature=request.temperature,
        max_new_tokens=request.max_new_tokens,
        seed=request.seed,
        alternatives=request.alternatives,
    )


def answer_of(completion: Completion) -> Answer:
    """Returns a completion of an engine as an answer."""
    return Answer(
        text=completion.text,
        tokens=len(completion.token_ids),
        finish=completion.finish,
        version=max(completion.versions),
        choices=completion.choices if isinstance(completion, CompletionWithChoices) else (),
    )
