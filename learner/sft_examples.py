"""Examples to fine-tune on: read, split, and dealt to optimiser steps (pure, standard library).

    {"prompt_ids": [int, ...], "completion_ids": [int, ...], "preference": text}       one object per line (UTF-8)

``preference`` is the id of what the example was made from; general data has none. Other fields are ignored.
"""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HELDOUT_SHARE = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A completion to learn, behind its prompt. source: what it was made from, its preference or else its line."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ExampleLimits:
    """What can be trained on: token ids below ``vocabulary``, ``tokens`` of a prompt and its completion together."""

    vocabulary: int
    tokens: int


def read_examples(path: Path, limits: ExampleLimits) -> list[Example]:
    """The examples of a file, in its order; every line is checked.

    Raises:
        ValueError: a line is malformed or breaks a limit; names file, line and field.
        OSError: the file cannot be read.
    """
    with path.open("rb") as lines:
        return [_example(line, path, number, limits) for number, line in enumerate(lines, start=1) if line.strip()]


def split(examples: Sequence[Example], *, share: float = HELDOUT_SHARE, seed: int) -> tuple[list[Example], list[Example]]:
    """Training and held-out examples, each in the given order; all of one source fall on the same side.

    Held out are ``share`` of the sources, rounded, and at least one: those with the smallest hashes of seed and source.
    So the order of the file does not matter, and a few more sources move few to the other side.

    Raises:
        ValueError: there are fewer than two sources.
    """
    ranked = sorted({example.source for example in examples}, key=lambda source: _hash(seed, source))
    if len(ranked) < 2:
        raise ValueError(
            f"{len(examples)} examples of {len(ranked)} sources cannot be split into a training and a held-out part:"
            " give examples of two preferences at least"
        )
    count = min(max(1, round(share * len(ranked))), len(ranked) - 1)
    heldout = frozenset(ranked[:count])
    return (
        [example for example in examples if example.source not in heldout],
        [example for example in examples if example.source in heldout],
    )


def order(count: int, *, seed: int, epoch: int) -> list[int]:
    """The indices 0 .. count - 1 as epoch ``epoch`` goes through them."""
    indices = list(range(count))
    random.Random(f"{seed}:{epoch}").shuffle(indices)
    return indices


def batch_at(examples: Sequence[Example], step: int, *, batch: int, seed: int) -> list[Example]:
    """The ``batch`` examples of optimiser step ``step`` (from 0), a function of its arguments alone.

    Batches are cut from the epochs one behind the other, so one may span two of them (and then may hold an example
    twice). If the data set is smaller than a batch, all of it is one.
    """
    count = len(examples)
    if batch > count:
        return list(examples)
    places = range(step * batch, (step + 1) * batch)
    orders = {epoch: order(count, seed=seed, epoch=epoch) for epoch in {places[0] // count, places[-1] // count}}
    return [examples[orders[place // count][place % count]] for place in places]


def _example(line: bytes, path: Path, number: int, limits: ExampleLimits) -> Example:
    where = f"{path}:{number}"
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not JSON ({error}); give one JSON object per line") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{where}: not a JSON object; give one per line")
    prompt, completion = (_ids(fields, name, where, limits) for name in ("prompt_ids", "completion_ids"))
    if len(prompt) + len(completion) > limits.tokens:
        raise ValueError(
            f"{where}: fields 'prompt_ids' and 'completion_ids': {len(prompt)} + {len(completion)} tokens, the limit"
            f" is {limits.tokens}; raise learner.micro_tokens, or leave the example out"
        )
    source = fields.get("preference", f"line {number}")
    if not isinstance(source, str) or not source:
        raise ValueError(f"{where}: field 'preference': is no text; give the preference's id, or leave the field out")
    return Example(prompt_ids=prompt, completion_ids=completion, source=source)


def _ids(fields: Mapping[str, object], name: str, where: str, limits: ExampleLimits) -> tuple[int, ...]:
    """The token ids in a field, at least one."""
    if name not in fields:
        raise ValueError(f"{where}: field {name!r}: is missing; give a list of token ids")
    ids = fields[name]
    if not isinstance(ids, list) or not ids or any(type(token) is not int for token in ids):  # a bool is an int, too
        raise ValueError(f"{where}: field {name!r}: is no list of integers; give at least one token id")
    wrong = next((token for token in ids if not 0 <= token < limits.vocabulary), None)
    if wrong is not None:
        raise ValueError(
            f"{where}: field {name!r}: token id {wrong} is not in the vocabulary of {limits.vocabulary}; make the data"
            " set with the tokenizer of this model"
        )
    return tuple(ids)


def _hash(seed: int, source: str) -> bytes:
    return hashlib.sha256(json.dumps([seed, source]).encode()).digest()
