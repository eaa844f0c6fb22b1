"""Any message, completion, data file or checkpoint record ends in a value or in its own error, never in a crash.

SPCT_FUZZ=20 tries twenty times as many inputs. They are the same at every start.
"""

import json
import re
import time
import tracemalloc
from collections.abc import Callable
from typing import Any, get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer.fields import MAX_ITEMS
from buffer.messages import CodecError, ExperienceGroup, Prompt, RolloutGroup, decode, encode
from grm import instructions, preference_files, sources
from grm.judgement import Judgement, Reason, parse
from grm.preferences import DataError
from learner import checkpoint
from learner.checkpoint import CheckpointError, Record
from tests.buffer.test_messages import EXPERIENCE, PROMPT, ROLLOUTS
from tests.fuzzing import as_json, inputs, maps, outcome, values

MESSAGES, JUDGEMENTS, DATA, SOURCES, RECORDS = 300, 400, 200, 300, 300  # inputs of each test
DEPTH = 1024  # of msgpack's own stack: open arrays at one time, each with MAX_ITEMS places of 8 bytes

Folders = pytest.TempPathFactory
SOURCES_OF = ["tiny", "tinyheld", "hf", ":", ":", "1", "2", "0", "-1", "x", "/", "\x00", "\x1b", "٣", "y" * 300]


# ---- messages --------------------------------------------------------------------------------------------------------

HEADERS = [
    b"\xdd\xff\xff\xff\xff",
    b"\xdc\x10\x00",
    b"\xdc\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xde\x00\x40",
    b"\x91",
    b"\x9f",
    b"\x81\xa1a",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xd9\xff",
    b"\xc1",
    b"\xdc\x10\x00" + b"\x80" * MAX_ITEMS,
    b"\xdc\x10\x00" + b"\xe0" * MAX_ITEMS,
]
bombs = st.tuples(st.sampled_from(HEADERS), st.sampled_from([1, 2, 10, 100, 1023, 1024, 1025, 3000])).map(
    lambda pair: pair[0] * min(pair[1], 400_000 // len(pair[0]))
)


def packed(value: Any) -> bytes:
    return bytes(msgpack.packb(value, unicode_errors="surrogatepass"))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A message in which some fields have other values, and then some bytes."""
    body = msgpack.unpackb(encode(draw(st.sampled_from([PROMPT, ROLLOUTS, EXPERIENCE]))))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.sampled_from(maps(body)))
        at[draw(st.sampled_from(sorted(at)) | st.text(max_size=4))] = draw(values | st.binary(max_size=12))
    payload = packed(body)
    for _ in range(draw(st.integers(0, 3))):
        start, end = sorted((draw(st.integers(0, len(payload))), draw(st.integers(0, len(payload)))))
        payload = payload[:start] + draw(st.binary(max_size=6) | bombs) + payload[draw(st.sampled_from([start, end])) :]
    return payload


@inputs(MESSAGES)
@given(
    st.binary(max_size=300) | values.map(packed) | mutated() | bombs,
    st.sampled_from([Prompt, RolloutGroup, ExperienceGroup]),
)
def test_a_payload_is_a_message_or_a_codec_error(payload: bytes, kind: type[Prompt]) -> None:
    tracemalloc.start()
    try:
        message = outcome(lambda: decode(payload, kind), CodecError)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < DEPTH * MAX_ITEMS * 8 + 100 * len(payload) + 2**20
    assert message is None or decode(encode(message), kind) == message


# ---- judgements ------------------------------------------------------------------------------------------------------

PARTS = [
    "\\boxed{",
    "\\\\boxed{",
    "}",
    "{",
    "\\text{",
    "\\mathrm{",
    "Scores:",
    "Analysis:",
    "Specific Criteria:",
    "**",
    "\n",
    " ",
    "1",
    "7, 3",
    "10",
    "-1",
    "999999999999",
    "٣",
    "½",
    ",",
    "[",
    "]",
    "~",
    "\\,",
    "1. ",
    "#",
    "> ",
    "\x00",
    "\ud800",
]
repeated = st.tuples(st.sampled_from(PARTS), st.sampled_from([50, 3000])).map(lambda pair: pair[0] * pair[1])
texts = st.lists(st.sampled_from(PARTS) | st.text(max_size=6) | repeated, max_size=12).map("".join)


@inputs(JUDGEMENTS)
@given(texts, st.integers(1, 4), st.sampled_from([(1, 10), (0, 1)]))
def test_a_completion_is_a_judgement_or_a_reason(text: str, n: int, score_range: tuple[int, int]) -> None:
    began = time.thread_time()
    low, high = score_range
    parsed = parse(text, n, low=low, high=high)
    assert time.thread_time() - began < 5.0, "linear time"
    if isinstance(parsed, Judgement):
        assert len(parsed.scores) == n
        assert all(low <= score <= high for score in parsed.scores)
        assert len(parsed.principles) + len(parsed.critique) <= len(text)
    else:
        assert parsed.reason in get_args(Reason)


# ---- configuration ---------------------------------------------------------------------------------------------------


# ---- data ------------------------------------------------------------------------------------------------------------

plain = st.text("abcdefgh", min_size=1, max_size=5)
turns = st.lists(st.fixed_dictionaries({"role": plain | values, "content": plain | values}) | values, max_size=3)
numbers = st.integers(-2, 11) | st.floats() | st.just(10**400)
likely: dict[str, st.SearchStrategy[Any]] = {
    "prompt": plain,
    "responses": st.lists(plain, max_size=3),
    "preferred": st.integers(-1, 3),
    "messages": turns,
    "scores": st.lists(numbers, max_size=3),
    "chosen": plain,
    "rejected": plain,
    "completion": plain,
    "response": plain,
    "id": plain,
    "subset": plain,
    "other": values,
}
rows = st.sets(st.sampled_from(sorted(likely)), max_size=5).flatmap(
    lambda names: st.fixed_dictionaries({name: likely[name] | likely[name] | values for name in sorted(names)})
)
lines = (
    rows.map(as_json)
    | values.map(as_json)
    | st.binary(max_size=30)
    | rows.map(lambda row: json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    | st.sampled_from([b"[" * 5000, b'{"a":' * 5000, b"9" * 5000, b"\xef\xbb\xbf{}", b"\r", b'{"prompt": "\\ud800"}'])
)


@inputs(DATA)
@given(st.lists(lines, max_size=4))
def test_a_file_is_data_or_a_data_error(tmp_path_factory: Folders, content: list[bytes]) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.jsonl"
    file.write_bytes(b"\n".join(content))
    readers: list[Callable[[], object]] = [
        lambda: preference_files.load(file),
        lambda: sources.load(str(file), limit=2),
        lambda: instructions.load(file),
    ]
    for read in readers:
        str(outcome(read, DataError)).encode()  # no lone surrogate got in


@inputs(SOURCES)
@given(st.lists(st.sampled_from(SOURCES_OF) | st.text(max_size=3), max_size=8).map("".join), st.none() | st.integers(1, 3))
def test_a_source_is_data_or_a_data_error(source: str, limit: int | None) -> None:
    if source.startswith("hf:") or re.search("[0-9]{5}", source):
        return  # a public set, or too many preferences for a test
    outcome(lambda: sources.load(source, limit=limit), DataError, most=10_000)


# ---- the HTTP client -------------------------------------------------------------------------------------------------


# ---- checkpoints -----------------------------------------------------------------------------------------------------


@inputs(RECORDS)
@given(
    st.binary(max_size=60)
    | values.map(as_json)
    | st.sampled_from([b"9" * 5000, b'{"entries": []}'])
    | st.fixed_dictionaries(dict.fromkeys(("version", "entries", "ranks", "zero_stage", "files"), values)).map(as_json)
)
def test_a_record_is_read_or_a_checkpoint_error(tmp_path_factory: Folders, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed-checkpoints" / "version-000001"
    path.mkdir(parents=True, exist_ok=True)
    (path / checkpoint.RECORD).write_bytes(content)
    newest = outcome(lambda: checkpoint.newest(path.parent), CheckpointError)
    assert newest is None or isinstance(newest[1], Record)
