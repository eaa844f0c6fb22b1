"""The answers that a chat completion holds, or why it holds none. Pure functions."""

from typing import Any

from launch.judging.endpoint_errors import ErrorTexts, MayPass
from launch.judging.openai_shapes import ChatCompletion, Choice
from launch.judging.protocol import Answer


def answers_of(texts: ErrorTexts, tried: str, completion: ChatCompletion, *, n: int, alternatives: bool) -> list[Answer]:
    """Return at most n answers, as many as there are; for n = 1 exactly one.

    Args:
        texts: Of the endpoint, for the errors.
        tried: The request.
        completion: What the server sent.
        n: Answers that were asked for.
        alternatives: Whether the log-probs of the tokens were asked for, too.

    Raises:
        MayPass: One of the answers is an error.
        EndpointError: There is none, or it has no log-probs.
    """
    choices = completion.choices[:n]
    if n == 1 and not choices:
        raise texts.error(tried, "the answer holds no choice", "look into the server's log")
    if broken := [choice for choice in choices if choice.error or choice.finish_reason == "error"]:
        happened = f"HTTP 200 with an error inside: {texts.quote(_words(broken[0].error))}"
        raise MayPass(texts.text(tried, happened, "look into the server's log, then run again"))
    if alternatives and not all(choice.token_choices() for choice in choices):
        remedy = "judge with our own engines, or set eval.expected_scores=false"
        raise texts.error(tried, "the answer holds no log-probs of its tokens, which expected scores are made of", remedy)
    usage = completion.usage
    used, prompt = (usage.completion_tokens or 0, usage.prompt_tokens or 0) if usage else (0, 0)
    return [
        Answer(
            text=choice.message.content or choice.message.refusal,
            tokens=round(used / len(completion.choices)),
            finish="length" if choice.cut_short else "stop",
            choices=choice.token_choices() if alternatives else (),
            thought=choice.message.thought,
            refused=_refused(choice),
            prompt_tokens=0 if place else prompt,
            fingerprint=completion.system_fingerprint,
        )
        for place, choice in enumerate(choices)
    ]


def _refused(choice: Choice) -> bool:
    return choice.filtered or bool(choice.message.refusal and not choice.message.content)


def _words(broken: Any) -> str:
    words = broken.get("message") if isinstance(broken, dict) else broken
    return str(words or "finish_reason is `error`")
