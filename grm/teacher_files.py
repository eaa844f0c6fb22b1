"""Judgements that a teacher wrote for the cold start, in a JSONL file, one object per line (UTF-8).

    {"preference": id, "permutation": [1, 0], "text": judgement}       permutation[shown place] = index of the response

`preference` is the id of a training preference, or file name and line number of one without (`train:7`); its label decides
whether the judgement is right. The text is what the teacher wrote, scores in the shown order; of a single response it is 1
(right) or 0, as in training, and the permutation may be left out. A preference may have several rows. Optional: "hinted" (true:
the teacher was told the best response, so a right judgement is kept however easy the preference is). Other fields are ignored.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grm.json_rows import JsonRow, printable
from grm.opening import rows
from grm.preferences import DataError, Preference


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherJudgement:
    """A judgement of a training preference, as its author wrote it."""

    preference: str
    """Id of the preference."""
    permutation: tuple[int, ...]
    """The order in which the responses were shown: `permutation[shown place]` is an index in the preference's own order."""
    hinted: bool
    """Whether its author was told the best response."""
    text: str
    """The whole completion."""


def load(path: Path, preferences: Iterable[Preference]) -> list[TeacherJudgement]:
    """Return the judgements of a file, in its order; every row is checked.

    Args:
        path: The file.
        preferences: The training preferences of the run.

    Raises:
        DataError: The file cannot be used; names file, line, field and remedy.
    """
    named: dict[str, list[Preference]] = {}
    for preference in preferences:
        for name in {preference.line, preference.question.id} - {""}:
            named.setdefault(name, []).append(preference)
    judgements = list(_judgements(path, named))
    if not judgements:
        raise DataError(f"{printable(path)}: no rows; give one JSON object per line")
    return judgements


def _judgements(path: Path, named: Mapping[str, Sequence[Preference]]) -> Iterator[TeacherJudgement]:
    for row in rows(path):
        question = _preference(row, named).question
        hinted = row.fields.get("hinted", False)
        if not isinstance(hinted, bool):
            raise row.error("hinted", f"is {hinted!r:.80}", "give true, false, or leave it out")
        text = row.filled("text", "give the judgement, as the teacher wrote it")
        yield TeacherJudgement(
            preference=question.id, permutation=_permutation(row, len(question.responses)), hinted=hinted, text=text
        )


def _preference(row: JsonRow, named: Mapping[str, Sequence[Preference]]) -> Preference:
    value = row.fields.get("preference")
    name = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if name not in named:
        what = "is missing" if value is None else f"{value!r:.80} is the id of no training preference"
        raise row.error(
            "preference",
            what,
            'give an id of data.train (the field "id" of its row, else file name and line number as train:7), and see whether'
            " data.train_limit leaves it out",
        )
    if len(named[name]) > 1:
        where = "stands in two files of that name"
        raise row.error("preference", f"{name!r:.80} {where}", 'give the rows of data.train a field "id", and name that')
    return named[name][0]


def _permutation(row: JsonRow, n: int) -> tuple[int, ...]:
    value = row.fields.get("permutation", [0] if n == 1 else None)
    right = isinstance(value, list) and all(type(item) is int for item in value) and sorted(value) == list(range(n))
    if not isinstance(value, list) or not right:
        what = "is missing" if value is None else f"{value!r:.80} is no order of {n} responses"
        raise row.error("permutation", what, f"give the indices 0 to {n - 1} of the responses in the order they were shown in")
    return tuple(value)
