"""The paper's public preference sets: one converter per set, from its own rows to preferences.

    hf:openbmb/UltraFeedback                        instruction, completions[] of {response, overall_score}
    hf:NCSOFT/offsetbias                            instruction, output_1, output_2, label 1 | 2
    hf:Skywork/Skywork-Reward-Preference-80K-v0.2   chosen, rejected: lists of {role, content}
    hf:nvidia/HelpSteer2                            prompt, response_1, response_2, preference_strength
    hf:nvidia/OpenMathInstruct-1                    question, generated_solution, is_correct

`hf:<name>@<folder>` reads a copy of the set in a folder, as `datasets.load_dataset` does, and `hf:<name>@<revision>` the set as
it was at a commit, branch or tag of its repository: what stands behind a name can be another tomorrow. Users cannot correct
these sets: a row whose content cannot be used (an empty response, no preference) is skipped and counted, while a row of another
shape is a DataError.
"""

import os
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, TypeGuard

from grm.preference_files import JsonRow, messages
from grm.preferences import (
    EMPTY_RESPONSE,
    TWO_BEST,
    DataError,
    Loaded,
    Preference,
    Question,
    Skipped,
    clean,
    collect,
    conversation,
)

EMPTY_QUERY = "empty query"
NO_SCORE = "response without a score"
FEW_RESPONSES = "fewer than two responses"
CONTEXTS_DIFFER = "chosen and rejected answer different conversations"
OTHER_SPLIT = "row of the validation split"

REVISION = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")  # a commit, branch or tag; a path has a `/` in it, or is there

_OWN_SHAPE = "use the set as published, or write its rows as .jsonl (see grm.preference_files)"
_TURN = "<extra_id_1>"  # HelpSteer2: "user turn\n<extra_id_1>Assistant\nassistant turn\n<extra_id_1>User\n"

Converter = Callable[[JsonRow], Preference | Skipped]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicSet:
    """How a set is read."""

    convert: Converter
    """Converts one of its rows."""
    data_dir: str | None = None
    """The folder inside its repository; None: the whole."""


def load(source: str, *, limit: int | None = None, name: str = "") -> Loaded:
    """Return a set's training rows in a fixed random order, up to `limit` preferences.

    Args:
        source: `<name>` or `<name>@<folder>`.
        limit: Most preferences; None: all.
        name: What stands before the row number in ids; "": the set's name.

    Raises:
        DataError: The set is unknown, cannot be read, or has a row of another shape.
    """
    known, folder, revision = parts(source)
    if known not in SETS:
        raise DataError(f"hf:{known}: not a set with a known schema; known are {', '.join(sorted(SETS))}")
    rows = training_rows(folder or known, SETS[known].data_dir, revision)
    return collect(_converted(rows, known, name or known, SETS[known].convert), limit=limit)


def parts(source: str) -> tuple[str, str, str | None]:
    """Return name, folder ("": none) and revision of `<name>`, `<name>@<folder>` or `<name>@<revision>`."""
    name, _, place = source.partition("@")
    named = REVISION.fullmatch(place) is not None and not os.path.isdir(place)
    return (name, "", place) if named else (name, place, None)


def ultrafeedback(row: JsonRow) -> Preference | Skipped:
    """Convert a row of usually four completions; the best has the highest overall score."""
    completions = row.fields.get("completions")
    if not isinstance(completions, list) or not all(isinstance(completion, dict) for completion in completions):
        raise row.error("completions", "is not a list of objects", _OWN_SHAPE)
    scores = [completion.get("overall_score") for completion in completions]
    responses = [completion.get("response") for completion in completions]
    if len(completions) < 2:
        return Skipped(reason=FEW_RESPONSES)
    if not all(_is_number(score) for score in scores):
        return Skipped(reason=NO_SCORE)
    if not all(isinstance(response, str) for response in responses):
        raise row.error("completions", "holds a response that is not text", _OWN_SHAPE)
    if scores.count(max(scores)) > 1:
        return Skipped(reason=TWO_BEST)
    query, subset = row.text("instruction", _OWN_SHAPE), row.text("source", _OWN_SHAPE, default="")
    return labelled(row, query, responses, scores.index(max(scores)), subset)


def offsetbias(row: JsonRow) -> Preference | Skipped:
    """Convert a row of two outputs; label 1 or 2 names the better one."""
    label = row.fields.get("label")
    if not _is_number(label) or label not in (1, 2):
        raise row.error("label", f"is {label!r:.40}, not 1 or 2", _OWN_SHAPE)
    outputs = (row.text("output_1", _OWN_SHAPE), row.text("output_2", _OWN_SHAPE))
    best = 0 if label == 1 else 1
    return labelled(row, row.text("instruction", _OWN_SHAPE), outputs, best, "offsetbias")


def skywork(row: JsonRow) -> Preference | Skipped:
    """Convert a row of two conversations that differ in the last turn."""
    chosen, rejected = (_turns(row, field) for field in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        return Skipped(reason=CONTEXTS_DIFFER)
    subset = row.text("source", _OWN_SHAPE, default="")
    return labelled(row, conversation(chosen[:-1]), (chosen[-1][1], rejected[-1][1]), 0, subset)


def helpsteer2(row: JsonRow) -> Preference | Skipped:
    """Convert a row of two responses. preference_strength < 0: response 1 is better, > 0: response 2.

    The table has the rows of both splits.
    """
    if row.text("split", _OWN_SHAPE) != "train":
        return Skipped(reason=OTHER_SPLIT)
    strength = row.fields.get("preference_strength")
    if not _is_number(strength):
        raise row.error("preference_strength", f"is {strength!r:.40}, not a finite number", _OWN_SHAPE)
    if strength == 0:
        return Skipped(reason=TWO_BEST)
    first, *later = row.text("prompt", _OWN_SHAPE).split(_TURN)
    turns = [("User", first.strip("\n"))]
    for turn in later:
        role, _, content = turn.partition("\n")
        turns.append((role, content.strip("\n")))
    responses = (row.text("response_1", _OWN_SHAPE), row.text("response_2", _OWN_SHAPE))
    return labelled(row, conversation(turns), responses, 0 if strength < 0 else 1, "helpsteer2")


def openmath(row: JsonRow) -> Preference | Skipped:
    """Convert a row of one generated solution (n = 1) of a MATH or GSM8K problem, checked against the reference answer."""
    correct = row.fields.get("is_correct")
    if not isinstance(correct, bool):
        raise row.error("is_correct", "is not true or false", _OWN_SHAPE)
    solution, subset = row.text("generated_solution", _OWN_SHAPE), row.text("dataset", _OWN_SHAPE, default="")
    return labelled(row, row.text("question", _OWN_SHAPE), (solution,), int(correct), subset)


SETS: Mapping[str, PublicSet] = {
    "openbmb/UltraFeedback": PublicSet(convert=ultrafeedback),
    "NCSOFT/offsetbias": PublicSet(convert=offsetbias),
    "Skywork/Skywork-Reward-Preference-80K-v0.2": PublicSet(convert=skywork),
    "nvidia/HelpSteer2": PublicSet(convert=helpsteer2, data_dir="preference"),
    "nvidia/OpenMathInstruct-1": PublicSet(convert=openmath),
}


def _is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a field is a finite number; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or isfinite(value)  # an integer may be too large for isfinite


def labelled(row: JsonRow, query: str, responses: Sequence[str], label: int, subset: str) -> Preference | Skipped:
    """Return the preference of a row, or that it has an empty query or response."""
    if not query.strip():
        return Skipped(reason=EMPTY_QUERY)
    if not all(response.strip() for response in responses):
        return Skipped(reason=EMPTY_RESPONSE)
    cleaned = tuple(clean(response) for response in responses)
    question = Question(id=row.default_id, query=query, responses=cleaned)
    return Preference(question=question, label=label, subset=subset)


def _turns(row: JsonRow, field: str) -> list[tuple[str, str]]:
    turns = row.fields.get(field)
    if not isinstance(turns, list) or len(turns) < 2:
        raise row.error(field, "is not a list of at least two messages", _OWN_SHAPE)
    return messages(row, field, turns)


def _converted(
    rows: Sequence[Mapping[str, object]], known: str, name: str, convert: Converter
) -> Iterator[tuple[str, Preference | Skipped]]:
    """Yield (place, preference or skip) of each row, in a random order that depends on the number of rows only."""
    for index in random.Random(0).sample(range(len(rows)), len(rows)):
        where = f"hf:{known} row {index}"
        yield where, convert(JsonRow(fields=rows[index], where=where, default_id=f"{name}:{index}"))


def training_rows(
    location: str, data_dir: str | None, revision: str | None, *, split: str = "train", config: str | None = None
) -> Any:
    """Return the table of a set, with len() and [index] -> row: from a folder or file, the cache or the net.

    A copy without the split is read whole if it has one split only: files that tell no splits are all `train`.
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise DataError("hf: sources need the `datasets` library; pip install datasets") from None
    try:
        if Path(location).is_file():
            return datasets.load_dataset("json", data_files=location, split="train")
        if not Path(location).is_dir():
            return datasets.load_dataset(location, name=config, data_dir=data_dir, split=split, revision=revision)
        every = datasets.load_dataset(location, data_dir=data_dir, revision=revision)
        return every[split] if split in every or len(every) > 1 else next(iter(every.values()))
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        remedy = "check the name and the network, or give hf:<name>@<folder with a copy>"
        at = f"@{revision}" if revision else ""
        raise DataError(f"hf:{location}{at}: cannot be loaded ({error}); {remedy}") from error
