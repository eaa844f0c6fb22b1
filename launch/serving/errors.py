"""Why the reward server gives no verdict: an error for each status. Its message quotes no text of the request."""

from typing import Any


class ServingError(Exception):
    """A request gets no answer; the message says why and what to do, and quotes no text of a user."""

    status = 500

    def __init__(self, message: str, *, field: str = "") -> None:
        """Takes the message, and the field of the request that is meant; "": none."""
        super().__init__(message)
        self.message, self.field = message, field

    def __reduce__(self) -> tuple[Any, ...]:
        """It may come from another process; an exception is made anew from its arguments alone, otherwise."""
        return _restored, (type(self), self.message, dict(self.__dict__))


def _restored(cls: type["ServingError"], message: str, fields: dict[str, Any]) -> "ServingError":
    error = cls.__new__(cls, message)
    error.args = (message,)
    error.__dict__.update(fields)
    return error


class Unauthorised(ServingError):
    """There is no key, or none that is known."""

    status = 401


class BadRequest(ServingError):
    """What it asks for makes no sense: another of the same kind would be refused as well."""

    status = 422


class SlotTaken(ServingError):
    """Another response has the slot, or another request the idempotency key."""

    status = 409


class TooLarge(ServingError):
    """A text or a body is larger than is taken."""

    status = 413


class TooSlow(ServingError):
    """A request did not come whole in time."""

    status = 408


class TooMany(ServingError):
    """More requests than are taken at a time: the same one may be sent again later."""

    status = 429


class Unjudged(ServingError):
    """There is no verdict."""

    status = 503

    def __init__(self, message: str, *, final: bool) -> None:
        """Takes the message, and whether the same request will never get one: its judgements could not be read, say. Else it
        may be sent again, and goes on with the votes that are there."""
        super().__init__(message)
        self.final = final


class ModelUnknown(ServingError):
    """Another model than the served one is asked for."""

    status = 404
