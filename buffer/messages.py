"""The wire: the codec of the three message types (msgpack with a schema version; never pickle, I5).

A payload is the map `{"v": SCHEMA, "t": type, field: value, ...}` with exactly the fields of its type. Long sequences travel
as bytes: token ids as int32 and log-probs as float32, both little-endian; policy versions as runs
`[version, count, version, count, ...]`, since the weights change seldom within a sequence. Encoding is deterministic: equal
messages have equal payloads. `decode` trusts nothing: it checks the size, then msgpack within limits, then every field.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import msgpack

from buffer import fields
from buffer.fields import MAX_ITEMS, MAX_TOTAL, CodecError, each, exactly, require
from buffer.message_types import (
    Completion,
    ExperienceGroup,
    Prompt,
    RolloutGroup,
    View,
    first_completions,
    view_numbers,
)

__all__ = [
    "MAX_BYTES",
    "SCHEMA",
    "CodecError",
    "Completion",
    "ExperienceGroup",
    "Prompt",
    "RolloutGroup",
    "View",
    "decode",
    "encode",
    "first_completions",
    "view_numbers",
]

SCHEMA = 4
MAX_BYTES = 64 * 2**20  # in one payload


Message = TypeVar("Message", Prompt, RolloutGroup, ExperienceGroup)
_Body = dict[str, object]
_PROMPT = ("group", "preference", "views", "issued_at", "seed")
_VIEW = ("permutation", "token_ids", "samples")
_COMPLETION = ("token_ids", "logprobs", "versions", "text", "finish")
_ROLLOUTS = ("prompt", "completions")
_SCORED = ("completion_ids", "logprobs", "versions", "rewards", "failures", "truncated", "picks", "places")
_EXPERIENCE = ("group", "preference", "issued_at", "responses", "prompt_ids", "samples", *_SCORED)


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
        "views": [_write_view(f"views[{i}].", view) for i, view in enumerate(prompt.views)],
        "issued_at": fields.integer("issued_at", prompt.issued_at),
        "seed": fields.optional("seed", prompt.seed),
    }


def _write_view(at: str, view: View) -> _Body:
    return {
        "permutation": each(f"{at}permutation", view.permutation, fields.integer),
        "token_ids": fields.pack_ids(f"{at}token_ids", view.token_ids),
        "samples": fields.integer(f"{at}samples", view.samples),
    }


def _read_prompt(payload: bytes, max_bytes: int) -> Prompt:
    return _prompt(_open(payload, "prompt", _PROMPT, max_bytes))


def _prompt(body: _Body) -> Prompt:
    return Prompt(
        group=fields.integer("group", body["group"]),
        preference=fields.name("preference", body["preference"]),
        views=each("views", body["views"], _view),
        issued_at=fields.integer("issued_at", body["issued_at"]),
        seed=fields.optional("seed", body["seed"]),
    )


def _view(where: str, value: object) -> View:
    body = exactly(value, _VIEW, where)
    return View(
        permutation=each(f"{where}.permutation", body["permutation"], fields.integer),
        token_ids=fields.unpack_ids(f"{where}.token_ids", body["token_ids"]),
        samples=fields.integer(f"{where}.samples", body["samples"]),
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
        "responses": fields.integer("responses", group.responses),
        "prompt_ids": each("prompt_ids", group.prompt_ids, fields.pack_ids),
        "samples": each("samples", group.samples, fields.integer),
        "completion_ids": each("completion_ids", group.completion_ids, fields.pack_ids),
        "logprobs": each("logprobs", group.logprobs, fields.pack_logprobs),
        "versions": each("versions", group.versions, fields.pack_versions),
        "rewards": each("rewards", group.rewards, fields.number),
        "failures": each("failures", group.failures, fields.reason),
        "truncated": each("truncated", group.truncated, fields.flag),
        "picks": each("picks", group.picks, fields.optional),
        "places": each("places", group.places, fields.optional),
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
        responses=fields.integer("responses", body["responses"]),
        prompt_ids=each("prompt_ids", body["prompt_ids"], fields.unpack_ids),
        samples=each("samples", body["samples"], fields.integer),
        completion_ids=completion_ids,
        logprobs=each("logprobs", body["logprobs"], fields.unpack_logprobs),
        versions=tuple(versions),
        rewards=each("rewards", body["rewards"], fields.number),
        failures=each("failures", body["failures"], fields.reason),
        truncated=each("truncated", body["truncated"], fields.flag),
        picks=each("picks", body["picks"], fields.optional),
        places=each("places", body["places"], fields.optional),
    )


_READERS: dict[type, Callable[[bytes, int], object]] = {
    Prompt: _read_prompt,
    RolloutGroup: _read_rollouts,
    ExperienceGroup: _read_experience,
}
