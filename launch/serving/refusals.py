"""What a refused request is told, for every interface: which field is wrong and what may stand there, and never what was given.

errors of pydantic ─▶ refused ─▶ BadRequest "k: ..."          names of the core ─▶ renamed ─▶ names that the caller wrote
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from grm.preferences import clean
from launch.serving.errors import BadRequest, ModelUnknown, ServingError, SlotTaken, TooLarge, TooMany, Unauthorised, Unjudged


class Problem(BaseModel):
    """Why there is no answer."""

    type: str = Field(description="bad_request, unauthorised, slot_taken, too_large, too_slow, too_many, unjudged and others.")
    message: str = Field(description="What was wrong and what to do. It quotes no text of the request.")
    field: str | None = Field(None, description="The field that is meant.")
    final: bool | None = Field(None, description="Of `unjudged`: the same request will never get a verdict.")


class Refusal(BaseModel):
    """The body of every answer but 200."""

    error: Problem


class OpenAIProblem(BaseModel):
    """Why there is no answer, as OpenAI's interfaces say it."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None
    code: str


class OpenAIRefusal(BaseModel):
    """OpenAI's error object."""

    error: OpenAIProblem


WORDS: Mapping[type[ServingError], str] = {
    Unauthorised: "No key, or none that is known",
    SlotTaken: "Another response has the place, or another request the idempotency key",
    TooLarge: "Larger than is taken, or than the judge's context",
    BadRequest: "It makes no sense; `field` says where",
    TooMany: "Too many at a time: send it again later",
    Unjudged: "No verdict now; `final`: never",
}


def described(bad_request: int, body: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """Returns what a route answers beside a verdict, for its description. What the door refuses has the server's own body.

    Args:
        bad_request: Status of what makes no sense.
        body: Of the route's own refusals.
    """
    told: dict[int | str, dict[str, Any]] = {408: {"description": "The body did not come whole in time", "model": Refusal}}
    for error, text in WORDS.items():
        at_the_door = error in (Unauthorised, TooLarge, TooMany)
        model: Any = Refusal | body if at_the_door and body is not Refusal else body
        told[bad_request if error is BadRequest else error.status] = {"description": text, "model": model}
    if body is OpenAIRefusal:
        told[ModelUnknown.status] = {"description": "There is no model of that name here", "model": body}
    return told


def without_others(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns a description of routes without the refusals that FastAPI adds, and that no route of ours sends."""
    for path in schema["paths"].values():
        for route in path.values():
            told = route["responses"].get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
            if told.get("$ref", "").endswith("/HTTPValidationError"):
                del route["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
    return schema


def refused(errors: Sequence[Mapping[str, Any]], body: Any) -> BadRequest:
    """Returns the first of pydantic's errors as one of ours: field and problem, without what was given.

    Args:
        errors: Of pydantic.
        body: The model of the request; None: it is not known.
    """
    first = errors[0]
    place = [each for each in first["loc"] if each != "body"]
    field = clean(".".join(map(str, place)))[:100]
    problem = str(first["msg"])
    if first["type"] == "json_invalid":
        problem = "it is no JSON"
    elif first["type"] == "union_tag_invalid":  # the one whose message quotes what was given
        problem = f"its type is none of {first['ctx']['expected_tags']}"
    elif first["type"] == "extra_forbidden":
        there = fields_at(body, place[:-1])
        problem = f"there is no field of this name; leave it out{', or give one of ' + ', '.join(there) if there else ''}"
    return BadRequest(f"{field or 'body'}: {problem}", field=field)


def fields_at(body: Any, place: Sequence[str | int]) -> list[str]:
    """Returns the names of the fields that a request has at a place: [] where it has no named ones.

    Example: of a decision, `["questions", 0, "choice"]` -> ["choices", "instructions", "name", "type"].
    """
    if not (isinstance(body, type) and issubclass(body, BaseModel)):
        return []
    whole = body.model_json_schema()

    def resolved(here: Mapping[str, Any]) -> Mapping[str, Any]:
        found = [here, *here.get("anyOf", ())]
        inner = next((each for each in found if "$ref" in each or "properties" in each or "items" in each), here)
        return resolved(whole["$defs"][inner["$ref"].rpartition("/")[2]]) if "$ref" in inner else inner

    here = resolved(whole)
    for step in place:
        if isinstance(step, int):
            inner = here.get("items")
        else:
            tags = here.get("discriminator", {}).get("mapping", {})
            names = here.get("properties", {})
            inner = names.get(step) or ({"$ref": tags[step]} if step in tags else here.get("additionalProperties"))
        if not isinstance(inner, Mapping):
            return []
        here = resolved(inner)
    return sorted(here.get("properties", {}))


def renamed(error: ServingError, names: Mapping[str, str]) -> ServingError:
    """Returns an error of the core in the words of an interface: field `votes` is what its caller wrote as `k`."""
    if error.field in names:
        own = names[error.field]
        error.message = (
            own + error.message.removeprefix(error.field) if error.message.startswith(error.field) else error.message
        )
        error.field = own
    return error
