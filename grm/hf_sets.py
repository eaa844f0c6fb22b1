"""The paper's public preference sets: one converter per set, from its own rows to preferences.

    hf:openbmb/UltraFeedback                        instruction, completions[] of {response, overall_score, annotations}
    hf:NCSOFT/offsetbias                            instruction, output_1, output_2, label 1 | 2
    hf:Skywork/Skywork-Reward-Preference-80K-v0.2   chosen, rejected: lists of {role, content}
    hf:nvidia/HelpSteer2                            prompt, response_1, response_2, preference_strength
    hf:nvidia/HelpSteer2:validation                 the rows that the set itself holds out
    hf:nvidia/OpenMathInstruct-1                    question, generated_solution, is_correct: a single response a row
    hf:nvidia/OpenMathInstruct-1:pairs              a right and a wrong solution of each question
    hf:nvidia/OpenMathInstruct-1:singles            one solution of each question, right or wrong (grm.solutions)

`hf:<name>@<folder>` reads a copy of the set in a folder, as `datasets.load_dataset` does, and `hf:<name>@<revision>` the set as
it was at a commit, branch or tag of its repository: what stands behind a name can be another tomorrow. Users cannot correct
these sets: a row whose content cannot be used (an empty response, no preference) is skipped and counted, while a row of another
shape is a DataError.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, isfinite
from pathlib import Path
from typing import Any, TypeGuard

from grm import solutions
from grm.json_rows import JsonRow, messages
from grm.mixing import MixedRow, mixing_place
from grm.preferences import (
    CONTEXTS_DIFFER,
    EMPTY_RESPONSE,
    TWO_BEST,
    DataError,
    Preference,
    Question,
    Skipped,
    clean,
    conversation,
)

EMPTY_QUERY = "empty query"
NO_SCORE = "response without a score"
FEW_RESPONSES = "fewer than two responses"
OTHER_SPLIT = "row of another split"
DOUBTFUL_TEN = "overall score of 10 without aspect ratings above 4 (UltraFeedback's 10 for 1)"
ONE_VERDICT = "question without both a right and a wrong solution"

REVISION = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")  # a commit, branch or tag; a path has a `/` in it, or is there

_OWN_SHAPE = "use the set as published, or write its rows as .jsonl (see grm.preference_files)"
_TURN = "<extra_id_1>"  # HelpSteer2: "user turn\n<extra_id_1>Assistant\nassistant turn\n<extra_id_1>User\n"

Converter = Callable[..., Preference | Skipped]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicSet:
    """How a set is read."""

    convert: Converter
    """Converts one of its rows, or the rows of one question that belong together."""
    choose: Callable[[Sequence[solutions.Problem]], list[tuple[int, ...]]] | None = None
    """Chooses rows of each question that become one preference; None: each row is one."""
    data_dir: str | None = None
    """The folder inside its repository; None: the whole."""


def mixed_rows(source: str, *, name: str = "") -> Iterator[MixedRow]:
    """Yield a set's training rows by their place in the mixture; each is decoded when its turn comes.

    Args:
        source: `<name>`, `<name>@<folder>` or `<name>@<revision>`.
        name: What stands before the row number in ids; "": the set's name.

    Raises:
        DataError: The set is unknown, cannot be read, or has a row of another shape.
    """
    known, folder, revision = parts(source)
    if known not in SETS:
        raise DataError(f"hf:{known}: not a set with a known schema; known are {', '.join(sorted(SETS))}")
    table = training_rows(folder or repository(known), SETS[known].data_dir, revision)
    return _converted(table, known, name or known, SETS[known])


def repository(name: str) -> str:
    """Return the repository of a set: `<name>` without what stands behind a colon, which is how it is read."""
    return name.partition(":")[0]


def parts(source: str) -> tuple[str, str, str | None]:
    """Return name, folder ("": none) and revision of `<name>`, `<name>@<folder>` or `<name>@<revision>`."""
    name, _, place = source.partition("@")
    named = REVISION.fullmatch(place) is not None and not os.path.isdir(place)
    return (name, "", place) if named else (name, place, None)


def ultrafeedback(row: JsonRow) -> Preference | Skipped:
    """Convert a row of usually four completions; the best has the highest overall score.

    A bug of the set once turned an overall score of 1 into 10: of 2,628 tens many were of responses whose critique was harsh.
    Its authors mended it (2023-12-29) by the mean of the four aspect ratings: a 10 stands where that is above 4, the others
    were changed or annotated again. Copies and revisions from before that day still have the bug, so a row whose best is such a
    ten is skipped. (Others use the mean itself as the score.)
    """
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
    if max(scores) == 10 and (_mean_rating(completions[scores.index(10)]) or 0) <= 4:
        return Skipped(reason=DOUBTFUL_TEN)
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
    """Convert a row of the training split: two responses. preference_strength < 0: response 1 is better, > 0: response 2."""
    return _helpsteer2(row, held_out=False)


def helpsteer2_validation(row: JsonRow) -> Preference | Skipped:
    """Convert a row that the set itself holds out: of its `val` split."""
    return _helpsteer2(row, held_out=True)


def _helpsteer2(row: JsonRow, *, held_out: bool) -> Preference | Skipped:
    """Convert a row of one of the two splits; the table has the rows of both."""
    if (row.text("split", _OWN_SHAPE) != "train") is not held_out:
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


def openmath_pair(*rows: JsonRow) -> Preference | Skipped:
    """Convert a right and a wrong solution of one problem; a lone row is of a problem that has no other verdict."""
    if len(rows) < 2:
        return Skipped(reason=ONE_VERDICT)
    first = rows[0]
    texts = [row.text("generated_solution", _OWN_SHAPE) for row in rows]
    subset = first.text("dataset", _OWN_SHAPE, default="")
    return labelled(first, first.text("question", _OWN_SHAPE), texts, 0, subset)


SETS: Mapping[str, PublicSet] = {
    "openbmb/UltraFeedback": PublicSet(convert=ultrafeedback),
    "NCSOFT/offsetbias": PublicSet(convert=offsetbias),
    "Skywork/Skywork-Reward-Preference-80K-v0.2": PublicSet(convert=skywork),
    "nvidia/HelpSteer2": PublicSet(convert=helpsteer2, data_dir="preference"),
    "nvidia/HelpSteer2:validation": PublicSet(convert=helpsteer2_validation, data_dir="preference"),
    "nvidia/OpenMathInstruct-1": PublicSet(convert=openmath),
    "nvidia/OpenMathInstruct-1:pairs": PublicSet(convert=openmath_pair, choose=solutions.pairs),
    "nvidia/OpenMathInstruct-1:singles": PublicSet(convert=openmath, choose=solutions.singles),
}


def _mean_rating(completion: Mapping[str, object]) -> float | None:
    """Return the mean of UltraFeedback's aspect ratings ("1".."5", or "N/A"); None where there are none."""
    aspects = completion.get("annotations")
    if not isinstance(aspects, dict):
        return None
    ratings = [aspect.get("Rating") for aspect in aspects.values() if isinstance(aspect, dict)]
    numbers = [float(rating) for rating in ratings if isinstance(rating, str) and rating in ("1", "2", "3", "4", "5")]
    return fsum(numbers) / len(numbers) if numbers else None


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


def _converted(table: Any, known: str, name: str, public: PublicSet) -> Iterator[MixedRow]:
    """Yield (place, preference or skip) by place, which is that of the id: the number of the (first) row behind the name."""

    def row(index: int) -> JsonRow:
        return JsonRow(fields=table[index], where=f"hf:{known} row {index}", default_id=f"{name}:{index}")

    def place(rows: Sequence[int]) -> int:
        return mixing_place(f"{name}:{rows[0]}")

    chosen: Sequence[Sequence[int]] = [(index,) for index in range(len(table))]
    if public.choose is not None:
        chosen = public.choose(solutions.drawn(_verdicts(table, known), name))
    for rows in sorted(chosen, key=place):
        yield MixedRow(place=place(rows), item=public.convert(*map(row, rows)))


def _verdicts(table: Any, known: str) -> Iterator[tuple[str, bool]]:
    """Yield question and verdict of each row, in large bites: no solution is decoded for it."""
    fields, index = ("question", "is_correct"), 0
    for bite in table.select_columns(list(fields)).iter(batch_size=10_000):
        for question, is_correct in zip(*(bite[name] for name in fields), strict=True):
            row = JsonRow(fields={"question": question}, where=f"hf:{known} row {index}", default_id="")
            if not isinstance(is_correct, bool):
                raise row.error("is_correct", "is not true or false", _OWN_SHAPE)
            yield row.text("question", _OWN_SHAPE), is_correct
            index += 1


def training_rows(
    location: str,
    data_dir: str | None,
    revision: str | None,
    *,
    split: str = "train",
    config: str | None = None,
    kind: str = "hf:",
) -> Any:
    """Return the table of a set, with len() and [index] -> row: from a folder or file, the cache or the net.

    A copy without the split is read whole if it has one split only: files that tell no splits are all `train`.
    `kind` is what the source begins with, for errors.
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise DataError(f"{kind} sources need the `datasets` library; pip install datasets") from None
    try:
        if Path(location).is_file():
            return datasets.load_dataset("json", data_files=location, split="train")
        if not Path(location).is_dir():
            return datasets.load_dataset(location, name=config, data_dir=data_dir, split=split, revision=revision)
        every = datasets.load_dataset(location, data_dir=data_dir, revision=revision)
        return every[split] if split in every or len(every) > 1 else next(iter(every.values()))
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        remedy = f"check the name and the network, or give {kind}<name>@<folder with a copy>"
        at = f"@{revision}" if revision else ""
        raise DataError(f"{kind}{location}{at}: cannot be loaded ({error}); {remedy}") from error
