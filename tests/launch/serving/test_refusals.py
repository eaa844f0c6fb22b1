"""What a refusal says: the field as its caller wrote it, and what may stand there."""

import pytest

from launch.serving.decisions import Decision
from launch.serving.errors import BadRequest
from launch.serving.member import MemberBody
from launch.serving.refusals import fields_at, renamed
from launch.serving.systemone import SystemOne


@pytest.mark.parametrize(
    ("body", "place", "there"),
    [
        (MemberBody, ["messages", 0], ["content", "role"]),
        (Decision, ["questions", 0, "choice"], ["choices", "instructions", "name", "type"]),
        (Decision, ["questions", 1, "choice", "choices", 3], ["description", "value"]),
        (SystemOne, ["questions", "any id", "noul"], ["criteria", "instructions", "type"]),
        (SystemOne, ["state"], []),
        (Decision, ["prompt_cache_options", "x"], []),
        (None, [], []),
    ],
)
def test_the_fields_at_a_place(body: object, place: list[str | int], there: list[str]) -> None:
    assert fields_at(body, place) == there


def test_an_error_of_the_core_names_the_field_as_it_was_written() -> None:
    error = renamed(BadRequest("votes: 65; give a whole number, 1 to 64", field="votes"), {"votes": "k"})
    assert (error.message, error.field) == ("k: 65; give a whole number, 1 to 64", "k")
    other = renamed(BadRequest("meta: no", field="meta"), {"votes": "k"})
    assert (other.message, other.field) == ("meta: no", "meta")
