"""Public sets by name: their rows in the mixture's order, read by the shape of each row or by the set's own converter.

    hf:NAME[:SPLIT]                                 any set whose rows have a shape of docs/data.md; SPLIT is train by default
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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grm import solutions
from grm.content import unusable
from grm.json_rows import JsonRow, RowError
from grm.mixing import MixedRow, mixing_place
from grm.own_converters import RowConverter, as_read
from grm.preferences import NOT_VERIFIABLE, DataError, Preference, Skipped
from grm.shapes import lists, pairs, sides, singles
from grm.shapes.fields import labelled, score
from grm.shapes.table import converted, normalised

OTHER_SPLIT = "row of another split"
VERDICTS = ("label", "score", "scores")  # columns that say whether a single response is right
OF_SINGLES = {"response", "responses", "completion", "messages"}  # columns of which a single response has one
ONE_VERDICT = "question without both a right and a wrong solution"

REVISION = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")  # a commit, branch or tag; a path has a `/` in it, or is there
NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(:[\w.-]+)?")  # of a repository on the hub, and a split

_OWN_SHAPE = "use the set as published, or write its rows as .jsonl (docs/data.md)"

Item = Preference | Skipped
Converter = Callable[..., Item | list[Item]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicSet:
    """How a set is read."""

    convert: Converter
    """Converts one of its rows, or the rows of one question that belong together."""
    choose: Callable[[Sequence[solutions.Problem]], list[tuple[int, ...]]] | None = None
    """Chooses rows of each question that become one preference; None: each row is one."""
    data_dir: str | None = None
    """The folder inside its repository; None: the whole."""
    split: str = "train"
    """Its split there."""
    subset: str = ""
    """The subset of its rows; "": what a row names."""
    prepare: Callable[[JsonRow], JsonRow] = normalised
    """What is done to a row before that."""


def mixed_rows(
    source: str,
    *,
    name: str = "",
    show: Collection[str] = (),
    strict: bool = False,
    convert: RowConverter | None = None,
) -> Iterator[MixedRow]:
    """Yield a set's rows by their place in the mixture; each is decoded when its turn comes.

    Args:
        source: `<name>`, `<name>:<split>`, either with `@<folder>` or `@<revision>`.
        name: What stands before the row number in ids; "": the set's name. Behind the number stands the row's own id, if it has
            one and the set is none of SETS.
        show: Of a set that is none of SETS, which of `reference` and `criteria` become part of the question.
        strict: Whether a row that cannot be read is an error in any set, as it is in those of SETS; else it is skipped.
        convert: Of the user's own: makes each row one of a shape that is known, in any set. None: there is none.

    Raises:
        DataError: The set cannot be read, or has a row of another shape.
    """
    known, folder, revision = parts(source)
    if not NAME.fullmatch(known):
        raise DataError(f"hf:{known}: no name of a set; write hf:OWNER/NAME, hf:OWNER/NAME:SPLIT or either with @FOLDER")
    published = None if convert else SETS.get(known)
    public = published or _of_any_shape(known, show, strict, convert or as_read)
    table = training_rows(folder or repository(known), public.data_dir, revision, split=public.split)
    found = _converted(table, known, name or known, public)
    return found if published or not _has_ratings(table) else map(_without_single, found)


def _of_any_shape(known: str, show: Collection[str], strict: bool, own: RowConverter) -> PublicSet:
    """Return how a set without a converter of its own is read: by the shape of each row, whose own id stays in its id."""

    def convert(row: JsonRow) -> Item | list[Item]:
        try:
            known = own(row)
            if isinstance(known, Skipped):
                return known
            name = f":{known.id()}" if known.fields.get("id") is not None else ""
            return converted(replace(known, default_id=f"{row.default_id}{name}"), show)
        except RowError as error:
            if strict:
                raise
            return Skipped(reason=error.reason, detail=str(error))

    return PublicSet(convert=convert, split=known.partition(":")[2] or "train", prepare=as_read)


def _has_ratings(table: Any) -> bool:
    """Return whether a single response has a rating beyond 0/1: then the set's 0s and 1s are ratings too, not verdicts.

    All rows are looked at, since those in front of a limit may be 0s and 1s alone, but whole rows only where they may be it.
    """
    names = [name for name in table.column_names if name.strip().lower() in VERDICTS]
    if not {name.strip().lower() for name in table.column_names} & OF_SINGLES:
        return False
    index = 0
    for bite in table.select_columns(names).iter(batch_size=10_000) if names else ():
        for values in zip(*(bite[name] for name in names), strict=True):
            if any(_is_rating(value) for value in values) and _is_rated_single(table[index]):
                return True
            index += 1
    return False


def _is_rating(value: object) -> bool:
    found = score(value[0] if isinstance(value, list) and len(value) == 1 else value)
    return found is not None and found not in (0, 1)


def _is_rated_single(fields: Mapping[str, Any]) -> bool:
    try:
        items = converted(JsonRow(fields=fields, where="", default_id=""))
    except RowError:
        return False
    return any(isinstance(item, Skipped) and item.reason == NOT_VERIFIABLE for item in items)


def _without_single(row: MixedRow) -> MixedRow:
    item = row.item
    if isinstance(item, Skipped) or len(item.question.responses) > 1:
        return row
    return replace(row, item=Skipped(reason=NOT_VERIFIABLE, detail=item.question.id))


def repository(name: str) -> str:
    """Return the repository of a set: `<name>` without what stands behind a colon, which is how it is read."""
    return name.partition(":")[0]


def parts(source: str) -> tuple[str, str, str | None]:
    """Return name, folder ("": none) and revision of `<name>`, `<name>@<folder>` or `<name>@<revision>`."""
    name, _, place = source.partition("@")
    named = REVISION.fullmatch(place) is not None and not os.path.isdir(place)
    return (name, "", place) if named else (name, place, None)


def helpsteer2(row: JsonRow) -> Item:
    """Convert a row of the training split; the table has the rows of both."""
    return sides.helpsteer2(row) if row.text("split", _OWN_SHAPE) == "train" else Skipped(reason=OTHER_SPLIT)


def helpsteer2_validation(row: JsonRow) -> Item:
    """Convert a row that the set itself holds out: of its `val` split."""
    return sides.helpsteer2(row) if row.text("split", _OWN_SHAPE) != "train" else Skipped(reason=OTHER_SPLIT)


def openmath_pair(*rows: JsonRow) -> Item:
    """Convert a right and a wrong solution of one problem; a lone row is of a problem that has no other verdict."""
    if len(rows) < 2:
        return Skipped(reason=ONE_VERDICT)
    first = rows[0]
    texts = [row.text("generated_solution", _OWN_SHAPE) for row in rows]
    subset = first.text("dataset", _OWN_SHAPE, default="")
    return labelled(first, first.text("question", _OWN_SHAPE), texts, 0, subset)


SETS: Mapping[str, PublicSet] = {
    "openbmb/UltraFeedback": PublicSet(convert=lists.ultrafeedback),
    "NCSOFT/offsetbias": PublicSet(convert=sides.one_or_two, subset="offsetbias"),
    "Skywork/Skywork-Reward-Preference-80K-v0.2": PublicSet(convert=pairs.pair),
    "nvidia/HelpSteer2": PublicSet(convert=helpsteer2, data_dir="preference", subset="helpsteer2"),
    "nvidia/HelpSteer2:validation": PublicSet(convert=helpsteer2_validation, data_dir="preference", subset="helpsteer2"),
    "nvidia/OpenMathInstruct-1": PublicSet(convert=singles.openmath),
    "nvidia/OpenMathInstruct-1:pairs": PublicSet(convert=openmath_pair, choose=solutions.pairs),
    "nvidia/OpenMathInstruct-1:singles": PublicSet(convert=singles.openmath, choose=solutions.singles),
}


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
        found = public.convert(*(public.prepare(row(index)) for index in rows))
        items = found if isinstance(found, list) else [found]
        for number, item in enumerate(items):
            name_of = "" if len(items) == 1 else f".{number}"
            yield MixedRow(place=place(rows), item=_finished(item, row(rows[0]).where, name_of, public.subset))


def _finished(item: Item, where: str, behind: str, subset: str) -> Item:
    """Return what a row holds with its place, its whole id and its subset, or why it cannot be used."""
    if isinstance(item, Skipped):
        return replace(item, detail=item.detail or where)
    if reason := unusable(item):
        return Skipped(reason=reason, detail=where)
    question = replace(item.question, id=f"{item.question.id}{behind}")
    return replace(item, question=question, subset=subset or item.subset)


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
        why = f"{error}: {' '.join(str(error.__cause__).split())[:300]}" if error.__cause__ else f"{error}"
        at = f"@{revision}" if revision else ""
        raise DataError(f"{kind}{location}{at}: cannot be loaded ({why}); {remedy}") from error
