"""The parts of an OpenAI-compatible server's answers that are read; servers differ in the rest."""

from collections.abc import Mapping
from typing import Annotated, Any, Protocol

from pydantic import AliasChoices, BaseModel, BeforeValidator, FailFast, Field, ValidationError, model_validator

from grm.expected_scores import TokenChoice, trimmed

# One error is shown, so one is made: millions of items of a wrong shape would give millions of errors, larger than themselves.
FIRST_ERROR = FailFast()
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


def _joined(content: Any) -> Any:
    """Return the text of content that is given in parts; thoughts and what is no text are no part of it."""
    if not isinstance(content, list):
        return content
    texts = [each if isinstance(each, str) else each.get("text") for each in content if isinstance(each, str | dict)]
    return "".join(text for text in texts if isinstance(text, str))


def _thought_parts(content: Any) -> str:
    parts = [each for each in content if isinstance(each, dict)] if isinstance(content, list) else []
    thoughts = [each.get("thinking") or each.get("reasoning") for each in parts]
    return "".join(thought for thought in thoughts if isinstance(thought, str))


class Message(BaseModel):
    """What the model wrote."""

    content: Annotated[str | None, BeforeValidator(_joined)] = None
    """Its text; missing where the server answered with something else."""
    thought: str = ""
    """What it thought, where the server tells it apart (`reasoning_content`, `reasoning`, parts of kind `thinking`). It is no
    part of the answer: no verdict stands in it."""
    refusal: str = ""
    """Its refusal to answer, where the server tells it apart."""

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping):
            return fields
        told = [fields.get("reasoning_content"), fields.get("reasoning"), _thought_parts(fields.get("content"))]
        refusal = fields.get("refusal")
        return {
            "content": fields.get("content"),
            "thought": next((each for each in told if isinstance(each, str) and each), ""),
            "refusal": refusal if isinstance(refusal, str) else "",
        }


class TopLogprob(BaseModel):
    """A token that might have stood in a place."""

    token: str
    """Its text."""
    logprob: float
    """Its log-prob."""


class TokenLogprob(TopLogprob):
    """A token of an answer."""

    top_logprobs: Annotated[list[TopLogprob], FIRST_ERROR, _NONE_IS_EMPTY] = []
    """The likeliest tokens in its place."""


class Logprobs(BaseModel):
    """The log-probs of an answer."""

    content: Annotated[list[TokenLogprob], FIRST_ERROR, _NONE_IS_EMPTY] = []
    """Those of its tokens."""


class Choice(BaseModel):
    """One of the answers."""

    message: Message
    """The answer."""
    finish_reason: str | None = None
    """Why it ended."""
    error: Any = None
    """What went wrong with this answer alone; OpenRouter's."""
    logprobs: Any = None
    """`Logprobs`; missing unless they were asked for, and where a server does not tell them. Others are nobody's concern."""

    @model_validator(mode="before")
    @classmethod
    def _completed(cls, fields: Any) -> Any:
        """Read the `text` of an older completion as the message."""
        if isinstance(fields, Mapping) and "message" not in fields and isinstance(fields.get("text"), str):
            return {**fields, "message": {"content": fields["text"]}}
        return fields

    @property
    def cut_short(self) -> bool:
        """Whether it was cut at the limit."""
        return (self.finish_reason or "").lower() in ("length", "max_tokens", "max_output_tokens")

    @property
    def filtered(self) -> bool:
        """Whether the server's filter ended it."""
        return (self.finish_reason or "").lower() in ("content_filter", "safety", "refusal", "prohibited_content")

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


Count = Annotated[int, Field(ge=0, le=2**53)]  # more would not go into a mean


class Usage(BaseModel):
    """What the answers took."""

    prompt_tokens: Count | None = None
    """Tokens of the prompt, once for all answers."""
    completion_tokens: Count | None = None
    """Tokens of all answers together, thoughts among them."""


class ChatCompletion(BaseModel):
    """The part of a chat completion that is read; servers differ in the rest."""

    choices: Annotated[list[Choice], FIRST_ERROR]
    """The answers, which may be fewer than were asked for."""
    usage: Usage | None = None
    """Missing where the server does not count."""
    system_fingerprint: Annotated[str, BeforeValidator(lambda value: value if isinstance(value, str) else "")] = ""
    """Of the weights and the configuration that answered, where the server tells it."""


class ServedModel(BaseModel):
    """A model that the server serves."""

    id: str = Field(validation_alias=AliasChoices("id", "name", "model"))
    """Its name."""


class ModelList(BaseModel):
    """The part of a list of models that is read."""

    data: Annotated[list[ServedModel], FIRST_ERROR] = Field(validation_alias=AliasChoices("data", "models"))
    """All that are served."""

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """Read a bare list, too."""
        return {"data": value} if isinstance(value, list) else value
