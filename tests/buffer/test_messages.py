"""The codec: what is encoded is decoded again, equal messages are equal bytes, and nothing else is accepted."""

import math
import pickle
import random
import struct
import time
import tracemalloc

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer import messages
from buffer.messages import CodecError, Completion, ExperienceGroup, Prompt, RolloutGroup, View, decode, encode
from tests.buffer.small_messages import EXPERIENCE, PROMPT, ROLLOUTS, sampled

ids = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=12).map(tuple)
natural = st.integers(0, 2**63 - 1)
logprob = st.floats(-(2.0**100), 1.0, width=32)
names = st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable())


counts = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@st.composite
def prompts(draw: st.DrawFn, samples: list[int] | None = None) -> Prompt:
    samples = samples or draw(counts)
    n = draw(st.integers(1 if len(samples) == 1 else 3, 6))
    orders = draw(st.lists(st.permutations(range(n)).map(tuple), min_size=len(samples), max_size=len(samples), unique=True))
    return Prompt(
        group=draw(natural),
        preference=draw(names),
        views=tuple(View(permutation=o, token_ids=draw(ids), samples=s) for o, s in zip(orders, samples, strict=True)),
        issued_at=draw(natural),
        seed=draw(st.none() | natural),
    )


@st.composite
def sequences(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[float, ...], tuple[int, ...]]:
    tokens = draw(ids)
    same = {"min_size": len(tokens), "max_size": len(tokens)}
    logprobs = draw(st.lists(logprob, **same))
    versions = draw(st.lists(st.integers(0, 3), **same))
    return tokens, tuple(logprobs), tuple(versions)


@st.composite
def rollouts(draw: st.DrawFn) -> RolloutGroup:
    completions, samples = [], draw(st.sampled_from([[1], [3], [1, 1], [1, 2], [1, 1, 1]]))
    for _ in range(sum(samples)):
        tokens, logprobs, versions = draw(sequences())
        finish = draw(st.sampled_from(["stop", "length"]))
        text = draw(st.text(st.characters(exclude_categories=["Cs"])))
        completions.append(Completion(token_ids=tokens, logprobs=logprobs, versions=versions, text=text, finish=finish))
    return RolloutGroup(prompt=draw(prompts(samples)), completions=tuple(completions))


@st.composite
def experience(draw: st.DrawFn) -> ExperienceGroup:
    tokens, logprobs, versions = zip(*draw(st.lists(sequences(), min_size=1, max_size=3)), strict=True)
    samples = draw(st.sampled_from([(1,) * len(tokens), (len(tokens),)]))
    picks = tuple(draw(st.none() | st.integers(0, 2)) for _ in tokens)
    return ExperienceGroup(
        group=draw(natural),
        preference=draw(names),
        issued_at=draw(natural),
        responses=draw(st.integers(3, 9)),
        prompt_ids=tuple(draw(ids) for _ in samples),
        samples=samples,
        completion_ids=tokens,
        logprobs=logprobs,
        versions=versions,
        rewards=tuple(draw(st.sampled_from([-1.0, 1.0])) for _ in tokens),
        failures=tuple(draw(st.sampled_from(["", "no box"])) for _ in tokens),
        truncated=tuple(draw(st.booleans()) for _ in tokens),
        picks=picks,
        places=tuple(None if pick is None else draw(st.integers(0, 2)) for pick in picks),
    )


anything = st.one_of(prompts(), rollouts(), experience())


@given(anything)
def test_a_message_is_encoded_and_decoded_again(message: Prompt | RolloutGroup | ExperienceGroup) -> None:
    payload = encode(message)
    decoded = decode(payload, type(message))
    assert decoded == message
    assert encode(decoded) == payload


def test_the_bytes_follow_the_schema() -> None:
    """Worked by hand: ids as int32 and log-probs as float32, little-endian; versions as runs."""
    body = msgpack.unpackb(encode(ROLLOUTS))
    assert body["v"] == 4
    assert body["t"] == "rollouts"
    assert body["prompt"]["views"][1] == {"permutation": [0, 1], "token_ids": struct.pack("<2i", 8, 7), "samples": 1}
    assert body["completions"][0] == {
        "token_ids": struct.pack("<3i", 1, 2, 3),
        "logprobs": struct.pack("<3f", -0.5, -1.0, 0.0),
        "versions": [3, 2, 4, 1],
        "text": "x",
        "finish": "stop",
    }


def test_a_prompt_has_no_field_for_a_label() -> None:
    """I6: rollout actors read no label."""
    body = msgpack.unpackb(encode(PROMPT))
    assert body.keys() == {"v", "t", "group", "preference", "views", "issued_at", "seed"}
    assert body["views"][0].keys() == {"permutation", "token_ids", "samples"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"v": 1}, "v"),
        ({"v": True}, "v"),
        ({"t": "prompt"}, "t"),
        ({"extra": 1}, "extra"),
        ({"group": -1}, "group"),
        ({"group": 1.0}, "group"),
        ({"group": True}, "group"),
        ({"group": 2**63}, "group"),
        ({"preference": ""}, "preference"),
        ({"preference": b"p"}, "preference"),
        ({"preference": "p" * 5000}, "preference"),
        ({"issued_at": None}, "issued_at"),
        ({"responses": 0}, "picks"),
        ({"responses": "2"}, "responses"),
        ({"prompt_ids": b""}, "prompt_ids"),
        ({"prompt_ids": []}, "samples"),
        ({"prompt_ids": [b"", b"1234"]}, "prompt_ids"),
        ({"prompt_ids": [b"1234"]}, "samples"),
        ({"prompt_ids": [b"1234", b"123"]}, "prompt_ids[1]"),
        ({"prompt_ids": [1, 2]}, "prompt_ids[0]"),
        ({"prompt_ids": [b"1234", struct.pack("<i", -1)]}, "prompt_ids[1]"),
        ({"samples": [1]}, "samples"),
        ({"samples": [2, 0]}, "samples"),
        ({"samples": [1, 2]}, "samples"),
        ({"samples": [3, -1]}, "samples[1]"),
        ({"samples": 2}, "samples"),
        ({"completion_ids": []}, "versions"),
        ({"completion_ids": {}}, "completion_ids"),
        ({"completion_ids": [b"\0" * 12, b""]}, "versions"),
        ({"logprobs": [struct.pack("<3f", -1, -1, -1)]}, "logprobs"),
        ({"logprobs": [struct.pack("<3f", -1, -1, math.nan), struct.pack("<f", -1)]}, "logprobs[0]"),
        ({"logprobs": [struct.pack("<3f", -1, -1, -1), struct.pack("<f", -math.inf)]}, "logprobs[1]"),
        ({"logprobs": [struct.pack("<2f", -1, -1), struct.pack("<f", -1)]}, "logprobs[0]"),
        ({"versions": [[3, 2, 4], [4, 1]]}, "versions[0]"),
        ({"versions": [[3, 2, 4, 2], [4, 1]]}, "versions[0]"),
        ({"versions": [[3, 2, 3, 1], [4, 1]]}, "versions[0]"),
        ({"versions": [[3, 3, 4, 0], [4, 1]]}, "versions[0]"),
        ({"versions": [[3, 2**62, 4, 2**62], [4, 1]]}, "versions[0]"),
        ({"versions": [[-3, 3], [4, 1]]}, "versions[0][0]"),
        ({"rewards": [1.0]}, "rewards"),
        ({"rewards": [1, -1]}, "rewards[0]"),
        ({"rewards": [1.0, math.nan]}, "rewards[1]"),
        ({"failures": ["", 3]}, "failures[1]"),
        ({"truncated": [False, 1]}, "truncated[1]"),
        ({"truncated": [False]}, "truncated"),
        ({"picks": [1]}, "picks"),
        ({"picks": [2, None]}, "picks"),
        ({"picks": [-1, None]}, "picks[0]"),
        ({"picks": [1, 0]}, "places"),
        ({"picks": [None, None]}, "places"),
        ({"places": [2, None]}, "places"),
        ({"places": [True, None]}, "places[0]"),
    ],
)
def test_decode_names_the_field_that_is_wrong(change: dict[str, object], named: str) -> None:
    body = {**msgpack.unpackb(encode(EXPERIENCE)), **change}
    with pytest.raises(CodecError) as caught:
        decode(msgpack.packb(body), ExperienceGroup)
    assert named in str(caught.value)
    assert "expected" in str(caught.value)


@pytest.mark.parametrize("name", ["v", "t", "group", "rewards", "failures", "truncated"])
def test_decode_names_the_field_that_is_missing(name: str) -> None:
    body = msgpack.unpackb(encode(EXPERIENCE))
    del body[name]
    with pytest.raises(CodecError, match=name):
        decode(msgpack.packb(body), ExperienceGroup)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x93\x01",
        msgpack.packb([1, 2]),
        msgpack.packb({"v": 1}) + b"\x00",
        msgpack.packb({1: 2}),
        msgpack.packb({"v": 1, "t": msgpack.ExtType(5, b"x")}),
        msgpack.packb({"v": 1, "t": msgpack.Timestamp(0)}),
        b"\x82\xa1v\x01\xa1v\x01",  # one key twice
        b"\x81\xa1v\xa2\xff\xfe",  # not UTF-8
        b"\xdf\xff\xff\xff\xff",  # a map of 4 billion
        b"\xdd\xff\xff\xff\xff" * 10,  # arrays of 4 billion
        b"\x91" * 100_000,  # nested deeper than any stack
        pickle.dumps(PROMPT),
    ],
)
def test_decode_refuses_what_is_not_a_message(payload: bytes) -> None:
    for kind in (Prompt, RolloutGroup, ExperienceGroup):
        with pytest.raises(CodecError):
            decode(payload, kind)


def test_decode_checks_the_size_first() -> None:
    payload = encode(ROLLOUTS)
    assert decode(payload, RolloutGroup, max_bytes=len(payload)) == ROLLOUTS
    with pytest.raises(CodecError, match=f"at most {len(payload) - 1} bytes, not {len(payload)}"):
        decode(payload, RolloutGroup, max_bytes=len(payload) - 1)
    with pytest.raises(CodecError, match="at most 10 bytes"):
        encode(ROLLOUTS, max_bytes=10)


@pytest.mark.parametrize("item", [b"\x80", b"\x90", b"\xe0"])  # an empty map, an empty array, -32
def test_many_small_items_are_refused_before_they_fill_the_memory(item: bytes) -> None:
    """A byte of msgpack can be an empty map, which takes 72 in memory: 8 MB of them took 600."""
    payload = b"\xdc\x01\x2c" + (b"\xdc\x10\x00" + item * 4096) * 300
    tracemalloc.start()
    with pytest.raises(CodecError, match="at most 262144 items in all"):
        decode(payload, ExperienceGroup)
    assert tracemalloc.get_traced_memory()[1] < 24e6
    tracemalloc.stop()


def test_no_writer_sends_more_items_than_a_reader_takes() -> None:
    tokens = 4096 // 2
    runs = Completion(token_ids=(1,) * tokens, logprobs=(0.0,) * tokens, versions=tuple(range(tokens)), text="x", finish="stop")
    most = 63  # of 4096 runs of versions and a few items beside
    group = RolloutGroup(prompt=sampled(most), completions=(runs,) * most)
    assert decode(encode(group), RolloutGroup) == group
    group = RolloutGroup(prompt=sampled(64), completions=(runs,) * 64)
    with pytest.raises(CodecError, match="at most 262144 items in all"):
        encode(group)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(payload: bytes) -> None:
    for kind in (Prompt, RolloutGroup, ExperienceGroup):
        with pytest.raises(CodecError):
            decode(payload, kind)


@settings(max_examples=300)
@given(anything, st.data())
def test_a_changed_payload_is_refused_or_still_a_canonical_message(
    message: Prompt | RolloutGroup | ExperienceGroup, data: st.DataObject
) -> None:
    payload = bytearray(encode(message))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(payload)))
    for bad in (bytes(payload), bytes(payload[:cut])):
        try:
            decoded = decode(bad, type(message))
        except CodecError:
            continue
        assert decode(encode(decoded), type(message)) == decoded


def test_a_group_of_8_by_300_tokens_passes_in_milliseconds() -> None:
    rng = random.Random(0)
    completion = Completion(
        token_ids=tuple(rng.randrange(150_000) for _ in range(300)),
        logprobs=tuple(-rng.random() for _ in range(300)),
        versions=(3,) * 150 + (4,) * 150,
        text="word " * 300,
        finish="stop",
    )
    group = RolloutGroup(prompt=sampled(8), completions=(completion,) * 8)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        decode(encode(group), RolloutGroup)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.005  # 0.6 ms on one quiet core
    assert len(encode(group)) < 8 * 300 * 8 + 8 * 1500 + 1000  # 8 bytes a token, the text, little else
    assert 1000 * len(encode(group)) < messages.MAX_BYTES
