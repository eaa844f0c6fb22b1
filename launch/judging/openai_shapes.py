"""The parts of an OpenAI-compatible server's answers that are read; servers differ in the rest."""

from typing import Annotated, Any, Protocol

from pydantic import BaseModel, BeforeValidator, FailFast, Field, ValidationError

from grm.expected_scores import TokenChoice, trimmed

# One error is shown, so one is made: millions of items of a wrong shape would give millions of errors, larger than themselves.
_FIRST_ERROR = FailFast()
_NONE_IS_EMPTY = BeforeValidator(lambda value: [] if value is None else value)


class RawResponse(Protocol):
    """The part of openai's raw response that is read."""

    @property
    def content(self) -> bytes:
        """The body."""
        ...

    @property
    def text(self) -> str:
        """The body as text."""
        ...


class Message(BaseModel):
    """What the model wrote."""

    content: str | None = None
    """Its text; missing where the server answered with something else. What it thought (`reasoning_content`) is not read."""


class TopLogprob(BaseModel):
    """A token that might have stood in a place."""

    token: str
    """Its text."""
    logprob: float
    """Its log-prob."""


class TokenLogprob(TopLogprob):
    """A token of an answer."""

    top_logprobs: Annotated[list[TopLogprob], _FIRST_ERROR, _NONE_IS_EMPTY] = []
    """The likeliest tokens in its place."""


class Logprobs(BaseModel):
    """The log-probs of an answer."""

    content: Annotated[list[TokenLogprob], _FIRST_ERROR, _NONE_IS_EMPTY] = []
    """Those of its tokens."""


class Choice(BaseModel):
    """One of the answers."""

    message: Message
    """The answer."""
    finish_reason: str | None = None
    """`length` when it was cut at the limit."""
    logprobs: Any = None
    """`Logprobs`; missing unless they were asked for, and where a server does not tell them. Others are nobody's concern."""

    def token_choices(self) -> tuple[TokenChoice, ...]:
        """Returns the answer's tokens with their alternatives, where a score may stand; none where the server told none."""
        try:
            told = Logprobs.model_validate(self.logprobs or {})
        except ValidationError:
            return ()
        return trimmed(TokenChoice(text=each.token, top=_with_itself(each)) for each in told.content)


def _with_itself(token: TokenLogprob) -> tuple[tuple[str, float], ...]:
    """Returns (text, log-prob) of the likeliest tokens and of the one that was sampled, which need not be among them."""
    listed = [(each.token, each.logprob) for each in token.top_logprobs]
    itself = [] if any(text == token.token for text, _ in listed) else [(token.token, token.logprob)]
    return (*itself, *listed)


class Usage(BaseModel):
    """What the answers took."""

    completion_tokens: Annotated[int, Field(ge=0, le=2**53)] | None = None
    """Tokens of all answers together; more would not go into a mean."""


class ChatCompletion(BaseModel):
    """The part of a chat completion that is read; servers differ in the rest."""

    choices: Annotated[list[Choice], _FIRST_ERROR]
    """The answers, which may be fewer than were asked for."""
    usage: Usage | None = None
    """Missing where the server does not count."""


class ServedModel(BaseModel):
    """A model that the server serves."""

    id: str
    """Its name."""


class ModelList(BaseModel):
    """The part of a list of models that is read."""

    data: Annotated[list[ServedModel], _FIRST_ERROR]
    """All that are served."""
