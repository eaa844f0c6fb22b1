"""The wire: three message types and their codec (msgpack with a schema version; never pickle, I5).

A payload is the map `{"v": SCHEMA, "t": type, field: value, ...}` with exactly the fields of its type. Long sequences travel
as bytes: token ids as int32 and log-probs as float32, both little-endian; policy versions as runs
`[version, count, version, count, ...]`, since the weights change seldom within a sequence. Encoding is deterministic: equal
messages have equal payloads. `decode` trusts nothing: it checks the size, then msgpack within limits, then every field.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

import msgpack

from buffer import fields
from buffer.fields import MAX_ITEMS, MAX_TOTAL, CodecError, each, exactly, require

__all__ = [
    "MAX_BYTES",
    "SCHEMA",
    "CodecError",
    "Completion",
    "ExperienceGroup",
    "Prompt",
    "RolloutGroup",
    "decode",
    "encode",
]

SCHEMA = 2
MAX_BYTES = 64 * 2**20  # in one payload


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """One group to roll out. It has no label, so a worker that reads it can leak none (I6)."""

    group: int
    """Number of the group in this run: consecutive, >= 0."""
    preference: str
    """Id of the preference, by which the reward actor finds the label."""
    permutation: tuple[int, ...]
    """permutation[shown position] = index of the response in the preference's own order."""
    token_ids: tuple[int, ...]
    """What the policy reads."""
    issued_at: int
    """Policy version u at issue."""
    samples: int
    """Number of completions to sample, G >= 1."""
    seed: int | None = None
    """Seed of the sampling: the same prompt gives the same completions on any worker. None: the engine's own stream."""

    def __post_init__(self) -> None:
        shown = len(self.permutation)
        require(0 < shown <= MAX_ITEMS, "permutation", f"1..{MAX_ITEMS} responses, not {shown}")
        good = sorted(self.permutation) == list(range(shown))
        require(good, "permutation", f"a permutation of 0..{shown - 1}", self.permutation)
        require(len(self.token_ids) > 0, "token_ids", "at least one token")
        require(0 < self.samples <= MAX_ITEMS, "samples", f"1..{MAX_ITEMS} completions, not {self.samples}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """One completion of T >= 1 tokens."""

    token_ids: tuple[int, ...]
    """T token ids."""
    logprobs: tuple[float, ...]
    """T log-probs of the behaviour policy at the sampling temperature: finite, float32 on the wire."""
    versions: tuple[int, ...]
    """The policy version that produced each of the T tokens."""
    text: str
    """The decoded tokens."""
    finish: Literal["stop", "length"]
    """`stop`, or `length` if it was cut off."""

    def __post_init__(self) -> None:
        _per_token("", self.token_ids, self.logprobs, self.versions)


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutGroup:
    """A prompt with its completions."""

    prompt: Prompt
    """The prompt as issued."""
    completions: tuple[Completion, ...]
    """G = `prompt.samples` completions."""

    def __post_init__(self) -> None:
        samples, count = self.prompt.samples, len(self.completions)
        require(count == samples, "completions", f"{samples} completions, one per sample of the prompt, not {count}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperienceGroup:
    """A scored group of G >= 1 completions, as the learners read it: numbers only, no text and no label."""

    group: int
    """Number of the group in this run."""
    preference: str
    """Id of the preference."""
    issued_at: int
    """Policy version u at issue."""
    prompt_ids: tuple[int, ...]
    """Token ids of the prompt."""
    completion_ids: tuple[tuple[int, ...], ...]
    """G sequences of T_i >= 1 token ids."""
    logprobs: tuple[tuple[float, ...], ...]
    """G sequences of T_i behaviour log-probs."""
    versions: tuple[tuple[int, ...], ...]
    """G sequences of T_i policy versions."""
    rewards: tuple[float, ...]
    """G finite numbers; the rule gives -1 or +1."""
    failures: tuple[str, ...]
    """G reasons why a completion could not be parsed; "" where it could."""

    def __post_init__(self) -> None:
        require(len(self.prompt_ids) > 0, "prompt_ids", "at least one token")
        samples = len(self.completion_ids)
        require(0 < samples <= MAX_ITEMS, "completion_ids", f"1..{MAX_ITEMS} completions, not {samples}")
        for name in ("logprobs", "versions", "rewards", "failures"):
            count = len(getattr(self, name))
            require(count == samples, name, f"{samples} values, one per completion, not {count}")
        for i in range(samples):
            _per_token(f"[{i}]", self.completion_ids[i], self.logprobs[i], self.versions[i])

    @property
    def informative(self) -> bool:
        """Whether the rewards differ: a group with std r = 0 carries no policy gradient."""
        return max(self.rewards) != min(self.rewards)


def _per_token(at: str, ids: tuple[int, ...], logprobs: tuple[float, ...], versions: tuple[int, ...]) -> None:
    tokens = len(ids)
    require(tokens > 0, f"token ids{at}", "at least one token in each completion")
    require(len(logprobs) == tokens, f"logprobs{at}", f"{tokens} values, one per token, not {len(logprobs)}")
    require(len(versions) == tokens, f"versions{at}", f"{tokens} values, one per token, not {len(versions)}")


Message = TypeVar("Message", Prompt, RolloutGroup, ExperienceGroup)
_Body = dict[str, object]
_PROMPT = ("group", "preference", "permutation", "token_ids", "issued_at", "samples", "seed")
_COMPLETION = ("token_ids", "logprobs", "versions", "text", "finish")
_ROLLOUTS = ("prompt", "completions")
_SCORED = ("completion_ids", "logprobs", "versions", "rewards", "failures")
_EXPERIENCE = ("group", "preference", "issued_at", "prompt_ids", *_SCORED)


def encode(message: Prompt | RolloutGroup | ExperienceGroup, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the payload of a message. CodecError if a field does not have its type, or the payload is too long."""
    match message:
        case Prompt():
            tag, body = "prompt", _write_prompt(message)
        case RolloutGroup():
            tag, body = "rollouts", _write_rollouts(message)
        case ExperienceGroup():
            tag, body = "experience", _write_experience(message)
    body = {"v": SCHEMA, "t": tag, **body}
    require(fields.items(body) <= MAX_TOTAL, "payload", f"at most {MAX_TOTAL} items in all")
    payload = cast(bytes, msgpack.packb(body))
    require(len(payload) <= max_bytes, "payload", f"at most {max_bytes} bytes, not {len(payload)}")
    return payload


def decode(payload: bytes, kind: type[Message], *, max_bytes: int = MAX_BYTES) -> Message:
    """Return the message of type `kind` in a payload. CodecError, which names the field, if it is anything else."""
    return cast(Message, _READERS[kind](payload, max_bytes))


def _open(payload: bytes, tag: str, names: tuple[str, ...], max_bytes: int) -> _Body:
    require(len(payload) <= max_bytes, "payload", f"at most {max_bytes} bytes, not {len(payload)}")
    limits = {"max_array_len": MAX_ITEMS, "max_map_len": 64, "max_ext_len": 0}
    try:
        count = fields.ItemCount()
        body = msgpack.unpackb(payload, object_pairs_hook=count.map, list_hook=count.array, **limits)
    except CodecError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        why = f"{type(error).__name__}: {error}"
        raise CodecError(f"payload: expected msgpack within limits ({why})") from None
    require(isinstance(body, dict), "payload", "a map", body)
    version, kind = body.pop("v", None), body.pop("t", None)
    require(type(version) is int and version == SCHEMA, "v", f"schema version {SCHEMA}", version)
    require(kind == tag, "t", f"message type {tag!r}", kind)
    return exactly(body, names, tag)


def _write_prompt(prompt: Prompt) -> _Body:
    return {
        "group": fields.integer("group", prompt.group),
        "preference": fields.name("preference", prompt.preference),
        "permutation": each("permutation", prompt.permutation, fields.integer),
        "token_ids": fields.pack_ids("token_ids", prompt.token_ids),
        "issued_at": fields.integer("issued_at", prompt.issued_at),
        "samples": fields.integer("samples", prompt.samples),
        "seed": None if prompt.seed is None else fields.integer("seed", prompt.seed),
    }


def _read_prompt(payload: bytes, max_bytes: int) -> Prompt:
    return _prompt(_open(payload, "prompt", _PROMPT, max_bytes))


def _prompt(body: _Body) -> Prompt:
    return Prompt(
        group=fields.integer("group", body["group"]),
        preference=fields.name("preference", body["preference"]),
        permutation=each("permutation", body["permutation"], fields.integer),
        token_ids=fields.unpack_ids("token_ids", body["token_ids"]),
        issued_at=fields.integer("issued_at", body["issued_at"]),
        samples=fields.integer("samples", body["samples"]),
        seed=None if body["seed"] is None else fields.integer("seed", body["seed"]),
    )


def _write_rollouts(group: RolloutGroup) -> _Body:
    completions = [_write_completion(f"completions[{i}].", c) for i, c in enumerate(group.completions)]
    return {"prompt": _write_prompt(group.prompt), "completions": completions}


def _write_completion(at: str, completion: Completion) -> _Body:
    return {
        "token_ids": fields.pack_ids(f"{at}token_ids", completion.token_ids),
        "logprobs": fields.pack_logprobs(f"{at}logprobs", completion.logprobs),
        "versions": fields.pack_versions(f"{at}versions", completion.versions),
        "text": fields.text(f"{at}text", completion.text),
        "finish": fields.finish(f"{at}finish", completion.finish),
    }


def _read_rollouts(payload: bytes, max_bytes: int) -> RolloutGroup:
    body = _open(payload, "rollouts", _ROLLOUTS, max_bytes)
    prompt = _prompt(exactly(body["prompt"], _PROMPT, "prompt"))
    return RolloutGroup(prompt=prompt, completions=each("completions", body["completions"], _completion))


def _completion(where: str, value: object) -> Completion:
    body = exactly(value, _COMPLETION, where)
    token_ids = fields.unpack_ids(f"{where}.token_ids", body["token_ids"])
    return Completion(
        token_ids=token_ids,
        logprobs=fields.unpack_logprobs(f"{where}.logprobs", body["logprobs"]),
        versions=fields.unpack_versions(f"{where}.versions", body["versions"], len(token_ids)),
        text=fields.text(f"{where}.text", body["text"]),
        finish=fields.finish(f"{where}.finish", body["finish"]),
    )


def _write_experience(group: ExperienceGroup) -> _Body:
    return {
        "group": fields.integer("group", group.group),
        "preference": fields.name("preference", group.preference),
        "issued_at": fields.integer("issued_at", group.issued_at),
        "prompt_ids": fields.pack_ids("prompt_ids", group.prompt_ids),
        "completion_ids": each("completion_ids", group.completion_ids, fields.pack_ids),
        "logprobs": each("logprobs", group.logprobs, fields.pack_logprobs),
        "versions": each("versions", group.versions, fields.pack_versions),
        "rewards": each("rewards", group.rewards, fields.number),
        "failures": each("failures", group.failures, fields.reason),
    }


def _read_experience(payload: bytes, max_bytes: int) -> ExperienceGroup:
    body = _open(payload, "experience", _EXPERIENCE, max_bytes)
    completion_ids = each("completion_ids", body["completion_ids"], fields.unpack_ids)
    lengths = [len(ids) for ids in completion_ids]
    runs = each("versions", body["versions"], lambda _, value: value)
    require(len(runs) == len(lengths), "versions", f"{len(lengths)} values, not {len(runs)}")
    versions = [fields.unpack_versions(f"versions[{i}]", run, lengths[i]) for i, run in enumerate(runs)]
    return ExperienceGroup(
        group=fields.integer("group", body["group"]),
        preference=fields.name("preference", body["preference"]),
        issued_at=fields.integer("issued_at", body["issued_at"]),
        prompt_ids=fields.unpack_ids("prompt_ids", body["prompt_ids"]),
        completion_ids=completion_ids,
        logprobs=each("logprobs", body["logprobs"], fields.unpack_logprobs),
        versions=tuple(versions),
        rewards=each("rewards", body["rewards"], fields.number),
        failures=each("failures", body["failures"], fields.reason),
    )


_READERS: dict[type, Callable[[bytes, int], object]] = {
    Prompt: _read_prompt,
    RolloutGroup: _read_rollouts,
    ExperienceGroup: _read_experience,
}
