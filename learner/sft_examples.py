"""Examples to fine-tune on: indexed, split, and dealt to optimiser steps (pure, standard library).

    {"prompt_ids": [int, ...], "completion_ids": [int, ...], "preference": text}       one object per line (UTF-8)

`preference` is the id of what the example was made from; general data has none. Other fields are ignored.
"""

import hashlib
import json
import random
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar, overload

from buffer.json_lines import JsonLines, scan

HELDOUT_SHARE = 0.05  # of the preferences
MOST_HELDOUT = 512  # preferences: their judgements are read at each measurement
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A completion to train on, behind its prompt."""

    prompt_ids: tuple[int, ...]
    """Token ids of the prompt: a condition, never a target."""
    completion_ids: tuple[int, ...]
    """Token ids to train on."""
    preference: str
    """Id of the preference that it judges; "" where it is general data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExampleLimits:
    """What can be trained on."""

    vocabulary: int
    """Token ids are below this."""
    tokens: int
    """Most tokens of a prompt and its completion together."""


class Examples(Sequence[Example]):
    """Examples in a file, decoded each time that they are read.

    Only their offsets and preferences stay in memory: 16 bytes an example, and the name of each preference once.
    """

    def __init__(self, lines: JsonLines, preferences: Sequence[str]) -> None:
        """Take the lines of a file, already checked, and the preference of each; "" is general data."""
        self._lines, self.preferences = lines, preferences

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
        return Example(prompt_ids=prompt_ids, completion_ids=completion_ids, preference=self.preferences[index])

    def subset(self, indices: Sequence[int]) -> "Examples":
        """Return some of the examples, in this order."""
        return Examples(self._lines.subset(indices), [self.preferences[index] for index in indices])


def read_examples(path: Path, limits: ExampleLimits) -> Examples:
    """Return the examples of a file, in its order; every line is checked here, once.

    Raises:
        ValueError: a line is malformed or breaks a limit; names file, line and field.
        OSError: the file cannot be read.
    """
    offsets, preferences = array("Q"), list[str]()
    known: dict[str, str] = {}
    for number, offset, line in scan(path):
        example = _example(line, path, number, limits)
        offsets.append(offset)
        preferences.append(known.setdefault(example.preference, example.preference))  # one string for each
    return Examples(JsonLines(path, offsets), preferences)


def heldout_preferences(
    preferences: Iterable[str], *, share: float = HELDOUT_SHARE, most: int = MOST_HELDOUT, seed: int
) -> list[str]:
    """Return the preferences that `split` holds out, by ascending hash. Arguments and errors as there."""
    ranked = sorted({name for name in preferences if name}, key=lambda name: preference_hash(seed, name))
    if len(ranked) < 2:
        raise ValueError(
            f"judgements of {len(ranked)} preferences cannot be split into a training and a held-out part: give judgements of"
            " two preferences at least"
        )
    return ranked[: min(max(1, round(share * len(ranked))), len(ranked) - 1, most)]


def split(
    preferences: Sequence[str], *, share: float = HELDOUT_SHARE, most: int = MOST_HELDOUT, seed: int
) -> tuple[list[int], list[int]]:
    """Return the indices of the training and of the held-out examples, ascending; all of one preference are on one side.

    Held out are the judgements of `share` of the preferences, rounded, at least of one and at most of `most`: those with the
    smallest hashes of seed and preference. So the order of the file does not matter, and a few more preferences move few to
    the other side. General data is never held out: what is measured is judging.

    Args:
        preferences: of each example; "" is general data.
        share: of the preferences, held out.
        most: preferences held out.
        seed: of the choice.

    Raises:
        ValueError: there are judgements of fewer than two preferences.
    """
    heldout = frozenset(heldout_preferences(preferences, share=share, most=most, seed=seed))
    return (
        [index for index, name in enumerate(preferences) if name not in heldout],
        [index for index, name in enumerate(preferences) if name in heldout],
    )


@lru_cache(maxsize=2)
def order(count: int, *, seed: int, epoch: int) -> Sequence[int]:
    """Return the indices 0 .. count - 1 in the order of epoch `epoch`. Kept, since each batch asks for it."""
    indices = array("Q", range(count))
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
    preference = fields.get("preference")
    if preference is not None and (not isinstance(preference, str) or not preference):
        raise ValueError(f"{place}: field 'preference': is no text; give the preference's id, or leave the field out")
    return Example(prompt_ids=prompt, completion_ids=completion, preference=preference or "")


def _ids(fields: Mapping[str, object], name: str, place: str, limits: ExampleLimits) -> tuple[int, ...]:
    """Return the token ids in a field, at least one."""
    if name not in fields:
        raise ValueError(f"{place}: field {name!r}: is missing; give a list of token ids")
    ids = fields[name]
    if not isinstance(ids, list) or {*map(type, ids)} != {int}:  # a bool is an int, too
        raise ValueError(f"{place}: field {name!r}: is no list of integers; give at least one token id")
    if min(ids) < 0 or max(ids) >= limits.vocabulary:
        wrong = next(token for token in ids if not 0 <= token < limits.vocabulary)
        raise ValueError(
            f"{place}: field {name!r}: token id {wrong} is not in the vocabulary of {limits.vocabulary}; make the data"
            " set with the tokenizer of this model"
        )
    return tuple(ids)


def preference_hash(seed: int, preference: str) -> bytes:
    """Return what orders the preferences for `heldout_preferences`."""
    return hashlib.sha256(json.dumps([seed, preference]).encode()).digest()
