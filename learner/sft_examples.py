"""Examples to fine-tune on: indexed, split, and dealt to optimiser steps (pure, standard library).

    {"prompt_ids": [int, ...], "completion_ids": [int, ...], "preference": text}       one object per line (UTF-8)

`preference` is the id of what the example was made from; general data has none. Other fields are ignored.
"""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, overload

from buffer.json_lines import JsonLines, scan

HELDOUT_SHARE = 0.05
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A completion to train on, behind its prompt."""

    prompt_ids: tuple[int, ...]
    """Token ids of the prompt: a condition, never a target."""
    completion_ids: tuple[int, ...]
    """Token ids to train on."""
    source: str
    """What it was made from: its preference, or else its line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExampleLimits:
    """What can be trained on."""

    vocabulary: int
    """Token ids are below this."""
    tokens: int
    """Most tokens of a prompt and its completion together."""


class Examples(Sequence[Example]):
    """Examples in a file, decoded each time that they are read: only their offsets and sources stay in memory."""

    def __init__(self, lines: JsonLines, sources: Sequence[str]) -> None:
        """Take the lines of a file, already checked, and the source of each."""
        self._lines, self.sources = lines, sources

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> "Examples": ...
    def __getitem__(self, index: int | slice) -> "Example | Examples":
        if isinstance(index, slice):
            return self.subset(range(len(self))[index])
        row = self._lines[index]
        prompt_ids, completion_ids = tuple(row["prompt_ids"]), tuple(row["completion_ids"])
        return Example(prompt_ids=prompt_ids, completion_ids=completion_ids, source=self.sources[index])

    def subset(self, indices: Sequence[int]) -> "Examples":
        """Return some of the examples, in this order."""
        return Examples(self._lines.subset(indices), [self.sources[index] for index in indices])


def read_examples(path: Path, limits: ExampleLimits) -> Examples:
    """Return the examples of a file, in its order; every line is checked here, once.

    Raises:
        ValueError: a line is malformed or breaks a limit; names file, line and field.
        OSError: the file cannot be read.
    """
    offsets, sources = [], []
    known: dict[str, str] = {}
    for number, offset, line in scan(path):
        example = _example(line, path, number, limits)
        offsets.append(offset)
        sources.append(known.setdefault(example.source, example.source))  # one string per source
    return Examples(JsonLines(path, offsets), sources)


def split(sources: Sequence[str], *, share: float = HELDOUT_SHARE, seed: int) -> tuple[list[int], list[int]]:
    """Return the indices of the training and of the held-out examples, ascending; all of one source are on one side.

    Held out are `share` of the sources, rounded, and at least one: those with the smallest hashes of seed and source.
    So the order of the file does not matter, and a few more sources move few to the other side.

    Args:
        sources: of each example.
        share: of the sources, held out.
        seed: of the choice.

    Raises:
        ValueError: there are fewer than two sources.
    """
    ranked = sorted(set(sources), key=lambda source: _hash(seed, source))
    if len(ranked) < 2:
        raise ValueError(
            f"{len(sources)} examples of {len(ranked)} sources cannot be split into a training and a held-out part:"
            " give examples of two preferences at least"
        )
    count = min(max(1, round(share * len(ranked))), len(ranked) - 1)
    heldout = frozenset(ranked[:count])
    return (
        [index for index, source in enumerate(sources) if source not in heldout],
        [index for index, source in enumerate(sources) if source in heldout],
    )


def order(count: int, *, seed: int, epoch: int) -> list[int]:
    """Return the indices 0 .. count - 1 in the order of epoch `epoch`."""
    indices = list(range(count))
    random.Random(f"{seed}:{epoch}").shuffle(indices)
    return indices


def batch_at(examples: Sequence[T], step: int, *, batch: int, seed: int) -> list[T]:
    """Return the `batch` examples of optimiser step `step` (from 0), a function of the arguments alone.

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
    place = f"{path}:{number}"
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: not JSON ({error}); give one JSON object per line") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{place}: not a JSON object; give one per line")
    prompt, completion = (_ids(fields, name, place, limits) for name in ("prompt_ids", "completion_ids"))
    if len(prompt) + len(completion) > limits.tokens:
        raise ValueError(
            f"{place}: fields 'prompt_ids' and 'completion_ids': {len(prompt)} + {len(completion)} tokens, the limit"
            f" is {limits.tokens}; raise learner.micro_tokens, or leave the example out"
        )
    source = fields.get("preference", f"line {number}")
    if not isinstance(source, str) or not source:
        raise ValueError(f"{place}: field 'preference': is no text; give the preference's id, or leave the field out")
    return Example(prompt_ids=prompt, completion_ids=completion, source=source)


def _ids(fields: Mapping[str, object], name: str, place: str, limits: ExampleLimits) -> tuple[int, ...]:
    """Return the token ids in a field, at least one."""
    if name not in fields:
        raise ValueError(f"{place}: field {name!r}: is missing; give a list of token ids")
    ids = fields[name]
    if not isinstance(ids, list) or not ids or any(type(token) is not int for token in ids):  # a bool is an int, too
        raise ValueError(f"{place}: field {name!r}: is no list of integers; give at least one token id")
    wrong = next((token for token in ids if not 0 <= token < limits.vocabulary), None)
    if wrong is not None:
        raise ValueError(
            f"{place}: field {name!r}: token id {wrong} is not in the vocabulary of {limits.vocabulary}; make the data"
            " set with the tokenizer of this model"
        )
    return tuple(ids)


def _hash(seed: int, source: str) -> bytes:
    return hashlib.sha256(json.dumps([seed, source]).encode()).digest()
