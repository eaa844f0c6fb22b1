"""Judgements that a teacher wrote for the cold start, in a JSONL file, one object per line (UTF-8).

    {"preference": id, "permutation": [1, 0], "text": judgement}       permutation[shown place] = index of the response

`preference` is the id of a training preference, whose label decides whether the judgement is right. The text is what the
teacher wrote, scores in the shown order; of a single response it is 1 (right) or 0, as in training, and the permutation may be
left out. A preference may have several rows. Optional: "hinted" (true: the teacher was told the best response, so a right
judgement is kept however easy the preference is). Other fields are ignored.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from grm.preference_files import JsonRow, printable, rows
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
    sizes = {p.question.id: len(p.question.responses) for p in preferences}
    judgements = list(_judgements(path, sizes))
    if not judgements:
        raise DataError(f"{printable(path)}: no rows; give one JSON object per line")
    return judgements


def _judgements(path: Path, sizes: Mapping[str, int]) -> Iterator[TeacherJudgement]:
    for row in rows(path):
        name = _preference(row, sizes)
        hinted = row.fields.get("hinted", False)
        if not isinstance(hinted, bool):
            raise row.error("hinted", f"is {hinted!r:.80}", "give true, false, or leave it out")
        text = row.filled("text", "give the judgement, as the teacher wrote it")
        yield TeacherJudgement(preference=name, permutation=_permutation(row, sizes[name]), hinted=hinted, text=text)


def _preference(row: JsonRow, sizes: Mapping[str, int]) -> str:
    value = row.fields.get("preference")
    name = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if name not in sizes:
        what = "is missing" if value is None else f"{value!r:.80} is the id of no training preference"
        raise row.error(
            "preference",
            what,
            'give an id of data.train (the field "id" of its row, else file name and line number as train:7), and see whether'
            " data.train_limit leaves it out",
        )
    return name


def _permutation(row: JsonRow, n: int) -> tuple[int, ...]:
    value = row.fields.get("permutation", [0] if n == 1 else None)
    right = isinstance(value, list) and all(type(item) is int for item in value) and sorted(value) == list(range(n))
    if not isinstance(value, list) or not right:
        what = "is missing" if value is None else f"{value!r:.80} is no order of {n} responses"
        raise row.error("permutation", what, f"give the indices 0 to {n - 1} of the responses in the order they were shown in")
    return tuple(value)
