"""Whatever comes in from outside ends in a value or in its own clear error, never in a crash, and takes memory in proportion.

How many inputs each test tries stands here; SPCT_FUZZ=20 tries twenty times as many. They are the same at every start.
"""

from __future__ import annotations

import json
import os
import re
import time
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, get_args

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buffer.fields import MAX_ITEMS
from buffer.messages import CodecError, ExperienceGroup, Prompt, RolloutGroup, decode, encode
from configs.load import PRESETS, ConfigError, load
from configs.schema import Config
from grm import instructions, preference_files, sources
from grm.judgement import Judgement, Reason, parse
from grm.preferences import DataError
from launch.judging.endpoint import Endpoint, EndpointError
from launch.judging.protocol import Answer, Ask
from launch.monitoring.plain_text import ACTING
from learner import checkpoint
from learner.checkpoint import CheckpointError, Record
from tests.buffer.test_messages import EXPERIENCE, PROMPT, ROLLOUTS
from tests.launch.judging.fake_server import FakeServer, Reply, completion

TIMES = int(os.environ.get("SPCT_FUZZ", "1"))
MESSAGES, JUDGEMENTS, CONFIGS, OVERRIDES, DATA, SOURCES, ANSWERS, RECORDS = 300, 400, 300, 300, 200, 300, 40, 300
DEPTH = 1024  # of msgpack's own stack: so many arrays are open at a time, each with its MAX_ITEMS places of 8 bytes
KEY = "sk-correct-horse"

T = TypeVar("T")
Folders = pytest.TempPathFactory
SOURCES_OF = ["tiny", "tinyheld", "hf", ":", ":", "1", "2", "0", "-1", "x", "/", "\x00", "\x1b", "٣", "y" * 300]


def inputs(count: int) -> settings:
    return settings(max_examples=count * TIMES, suppress_health_check=list(HealthCheck))


def safe(said: str, most: int = 2000) -> bool:
    """Whether an error's text can be shown on a terminal, on one line."""
    return len(said) <= most and not any(unicodedata.category(c) in ACTING for c in said)


def outcome(call: Callable[[], T], known: type[Exception], *, most: int = 2000) -> T | None:
    """What the call gives; None after its own error."""
    try:
        return call()
    except known as error:
        said = str(error)
    assert safe(said, most)
    return None


def maps(tree: Any) -> list[dict[str, Any]]:
    """All maps in it that hold something."""
    inner = list(tree.values()) if isinstance(tree, dict) else tree if isinstance(tree, list) else []
    return [tree] * (isinstance(tree, dict) and bool(tree)) + [found for one in inner for found in maps(one)]


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from([-1, 2**63, 1e308, "", "stop", "\x1b[2J", "\u202e", "\x00", "<script>"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4), max_leaves=8
)


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
    """A message in which fields have other values, and then some bytes too."""
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
        found = outcome(lambda: decode(payload, kind), CodecError)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < DEPTH * MAX_ITEMS * 8 + 100 * len(payload) + 2**20
    assert found is None or decode(encode(found), kind) == found


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
def test_a_completion_is_a_judgement_or_a_reason(text: str, n: int, scale: tuple[int, int]) -> None:
    began = time.thread_time()
    read = parse(text, n, low=scale[0], high=scale[1])
    assert time.thread_time() - began < 5.0, "linear time"
    if isinstance(read, Judgement):
        assert len(read.scores) == n
        assert all(scale[0] <= score <= scale[1] for score in read.scores)
        assert len(read.principles) + len(read.critique) <= len(text)
    else:
        assert read.reason in get_args(Reason)


# ---- configuration ---------------------------------------------------------------------------------------------------

NASTY = [
    "1e-6",
    "2001-99-99",
    "2001-01-01",
    "0b_",
    "0x_",
    "0o8",
    "1:99",
    ".nan",
    "-.inf",
    "1e999",
    "9" * 5000,
    "0x" + "f" * 6000,
    "!!int ''",
    "!!bool x",
    "!!timestamp x",
    "!!float x",
    "!!binary x",
    "!!python/object:os.system x",
    "!!set {a}",
    "!!omap [a]",
    "~",
    "[" * 2000,
    "{a: " * 1000,
    "&a [*a]",
    "&a {<<: *a}",
    "*b",
    "<<",
    "? [a]",
    "- x",
    '"\\e[2J"',
    "\u202e",
    "\x85",
    "'",
    "\t",
    "@",
    "tiny:1:2",
    "x" * 5000,
    "/" + "y" * 300,
    "auto",
    "yes",
    "%YAML 3.0",
    "---",
    "...",
    "|",
    ">-",
]
SECTIONS = sorted(Config.model_fields)
LEAVES = sorted({leaf for section in load("tiny").model_dump().values() for leaf in section})
scribbles = st.sampled_from(NASTY) | st.text(max_size=10) | st.integers().map(str) | st.floats().map(str)
branches = st.tuples(
    st.sampled_from(SECTIONS) | scribbles, st.lists(st.tuples(st.sampled_from(LEAVES) | scribbles, scribbles), max_size=4)
).map(lambda one: f"{one[0]}:\n" + "".join(f"  {leaf}: {value}\n" for leaf, value in one[1]))
preset = (PRESETS / "tiny.yaml").read_text(encoding="utf-8")
documents = st.tuples(st.sampled_from(["", preset]), st.lists(branches | scribbles, max_size=4).map("\n".join)).map("".join)
assigned = st.tuples(st.sampled_from(SECTIONS), st.sampled_from(LEAVES), scribbles).map(lambda o: f"{o[0]}.{o[1]}={o[2]}")


@inputs(CONFIGS)
@given(st.binary(max_size=100) | documents.map(lambda text: text.encode("utf-8", "replace")))
def test_a_file_is_a_config_or_a_config_error(tmp_path_factory: Folders, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    file.write_bytes(content)
    outcome(lambda: load(file), ConfigError, most=10_000)


@inputs(OVERRIDES)
@given(
    st.just("tiny") | st.sampled_from(["", ".", "/", "\x00", "x" * 5000, "\x1b[2J"]), st.lists(assigned | scribbles, max_size=3)
)
def test_overrides_are_a_config_or_a_config_error(source: str, overrides: list[str]) -> None:
    outcome(lambda: load(source, overrides), ConfigError, most=10_000)


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
        return  # a public set, or more preferences than a test wants to make
    outcome(lambda: sources.load(source, limit=limit), DataError, most=10_000)


# ---- the HTTP client -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def endpoint(server: FakeServer) -> Iterator[Endpoint]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        made = Endpoint(server.url, "judge", tries=1, timeout_s=20.0, api_key=KEY)
    yield made
    made.close()


KINDS = ["application/json", "text/html", "application/json; charset=utf-7", "text/plain; charset=nonsense", ""]
STATUS = [200, 201, 204, 302, 400, 401, 404, 408, 422, 429, 500, 503, 599]


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    """Anything, or an answer of the right form in which some places hold other values."""
    odd = st.sampled_from([10**400, -1, 3, "\ud800", "\x1b[2J", KEY, "long " * 2000]) | values
    answer = {**completion("a", "b")[1], "usage": {"completion_tokens": draw(odd)}, "data": [{"id": draw(odd)}]}
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.sampled_from(maps(answer)))
        at[draw(st.sampled_from([*at, "error", "message"]))] = draw(odd)
    if draw(st.booleans()):
        return 200, answer, {}
    more = draw(st.sampled_from([{}, {"Content-Encoding": "gzip"}, {"Location": "http://[/"}]))
    body = draw(st.just(answer) | st.binary(max_size=200) | values | st.sampled_from([b"[" * 5000, KEY * 300]))
    return draw(st.sampled_from(STATUS)), body, {"Content-Type": draw(st.sampled_from(KINDS)), **more}


@inputs(ANSWERS)
@given(replies())
def test_an_answer_is_read_or_an_endpoint_error(server: FakeServer, endpoint: Endpoint, reply: Reply) -> None:
    server.reply, server.models = (lambda body: reply), reply
    (item,) = endpoint.judge([Ask(message="m", samples=2, temperature=0.5, max_new_tokens=9, seed=1)])
    errors = [item] if isinstance(item, EndpointError) else []
    assert errors or all(isinstance(answer, Answer) for answer in item)  # type: ignore[union-attr]
    try:
        endpoint.check()
    except EndpointError as error:
        errors.append(error)
    for said in map(str, errors):
        assert KEY not in said
        assert safe(said)


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
    found = outcome(lambda: checkpoint.newest(path.parent), CheckpointError)
    assert found is None or isinstance(found[1], Record)
