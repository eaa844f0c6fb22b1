"""The parts of an OpenAI-compatible server's answers that are read; servers differ in the rest."""

from typing import Annotated, Protocol

from pydantic import BaseModel, FailFast, Field

# One error is shown, so one is made: millions of items of a wrong shape would give millions of errors, larger than themselves.
_FIRST_ERROR = FailFast()


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


class Choice(BaseModel):
    """One of the answers."""

    message: Message
    """The answer."""
    finish_reason: str | None = None
    """`length` when it was cut at the limit."""


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
