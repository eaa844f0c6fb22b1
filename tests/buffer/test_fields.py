"""Fields on the wire: what is packed is unpacked again, and both sides refuse everything else."""

import dataclasses
import math
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer import fields
from buffer.fields import MAX_ITEMS, MAX_NAME
from buffer.messages import CodecError, RolloutGroup, encode
from tests.buffer.small_messages import COMPLETION, PROMPT, VIEW


@given(st.lists(st.integers(0, 2**31 - 1), max_size=20).map(tuple))
def test_ids_are_packed_as_int32_and_unpacked_again(ids: tuple[int, ...]) -> None:
    assert fields.pack_ids("ids", ids) == struct.pack(f"<{len(ids)}i", *ids)
    assert fields.unpack_ids("ids", fields.pack_ids("ids", ids)) == ids


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20).map(tuple))
def test_logprobs_are_packed_as_float32_and_unpacked_again(logprobs: tuple[float, ...]) -> None:
    assert fields.pack_logprobs("logprobs", logprobs) == struct.pack(f"<{len(logprobs)}f", *logprobs)
    assert fields.unpack_logprobs("logprobs", fields.pack_logprobs("logprobs", logprobs)) == logprobs


@given(st.lists(st.integers(0, 3), max_size=30).map(tuple))
def test_versions_are_packed_as_runs_and_unpacked_again(versions: tuple[int, ...]) -> None:
    assert fields.pack_versions("versions", (3, 3, 4, 4, 4, 3)) == [3, 2, 4, 3, 3, 1]
    runs = fields.pack_versions("versions", versions)
    assert fields.unpack_versions("versions", runs, len(versions)) == versions
    with pytest.raises(CodecError, match=f"versions: expected runs of versions that cover {len(versions) + 1} tokens"):
        fields.unpack_versions("versions", runs, len(versions) + 1)


def test_a_claim_of_billions_of_versions_is_refused_before_it_is_expanded() -> None:
    with pytest.raises(CodecError, match="cover 3 tokens"):
        fields.unpack_versions("versions", [7, 2**62], 3)


def test_an_array_has_a_largest_number_of_items() -> None:
    assert fields.each("items", [1] * MAX_ITEMS, fields.integer) == (1,) * MAX_ITEMS
    with pytest.raises(CodecError, match=f"items: expected at most {MAX_ITEMS} items, not {MAX_ITEMS + 1}"):
        fields.each("items", [1] * (MAX_ITEMS + 1), fields.integer)


@pytest.mark.parametrize(
    ("check", "good", "bad", "expected"),
    [
        (fields.integer, [0, 2**63 - 1], [-1, 2**63, 1.0, True, None], "an integer 0..9223372036854775807"),
        (fields.number, [0.0, -1e300], [math.nan, math.inf, 1, "1"], "a finite float"),
        (fields.text, ["", "東京"], [b"x", None, "lone \ud800"], "a string|text without lone surrogates"),
        (fields.reason, ["", "x" * MAX_NAME], ["x" * (MAX_NAME + 1)], f"at most {MAX_NAME} characters"),
        (fields.name, ["x"], [""], "a name, not an empty string"),
        (fields.finish, ["stop", "length"], ["", None, "abort"], "'stop' or 'length'"),
    ],
)
def test_a_value_is_returned_or_refused_with_its_field(
    check: Callable[[str, object], object], good: list[object], bad: list[object], expected: str
) -> None:
    for value in good:
        assert check("some.field", value) == value
    for value in bad:
        with pytest.raises(CodecError, match=f"some.field: expected ({expected})"):
            check("some.field", value)


def test_a_map_has_exactly_its_fields() -> None:
    assert fields.exactly({"a": 1, "b": 2}, ("a", "b"), "prompt") == {"a": 1, "b": 2}
    with pytest.raises(CodecError, match="prompt: expected field b, which is missing"):
        fields.exactly({"a": 1}, ("a", "b"), "prompt")
    with pytest.raises(CodecError, match=r"prompt: expected only the fields a, b, not \['c'\]"):
        fields.exactly({"a": 1, "b": 2, "c": 3}, ("a", "b"), "prompt")
    with pytest.raises(CodecError, match="prompt: expected a map, not 7"):
        fields.exactly(7, ("a",), "prompt")


def test_items_are_counted_as_the_reader_counts_them() -> None:
    count = fields.ItemCount()
    value = {"a": [1, 2, 3], "b": {"c": 4}}
    before = count._left
    count.array([1, 2, 3])
    count.map([("c", 4)])
    count.map([("a", [1, 2, 3]), ("b", {"c": 4})])
    assert before - count._left == fields.items(value) == (1 + 3) + (1 + 1) + (1 + 2)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"views": (dataclasses.replace(VIEW, token_ids=(1, -2)),)}, "token_ids"),
        ({"views": (dataclasses.replace(VIEW, token_ids=(1, 2**31)),)}, "token_ids"),
        ({"views": (dataclasses.replace(VIEW, token_ids=(1, 2.5)),)}, "token_ids"),
        ({"views": (dataclasses.replace(VIEW, token_ids=[1, 2]),)}, "token_ids"),
        ({"views": (dataclasses.replace(VIEW, samples=True),)}, "samples"),
        ({"preference": "lone \ud800 surrogate"}, "preference"),
        ({"group": -1}, "group"),
        ({"group": True}, "group"),
    ],
)
def test_encode_refuses_what_no_reader_would_take(change: dict[str, object], named: str) -> None:
    with pytest.raises(CodecError, match=named):
        encode(dataclasses.replace(PROMPT, **change))


@pytest.mark.parametrize("logprobs", [(math.nan, 0.0, 0.0), (-math.inf, 0.0, 0.0), ("a", 0.0, 0.0)])
def test_encode_refuses_log_probs_that_are_no_numbers(logprobs: tuple[float, ...]) -> None:
    broken = dataclasses.replace(COMPLETION, logprobs=logprobs)
    with pytest.raises(CodecError, match=r"completions\[1\].logprobs"):
        encode(RolloutGroup(prompt=PROMPT, completions=(COMPLETION, broken)))
