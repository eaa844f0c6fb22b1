"""All shapes of rows, in the order in which they are tried: the first whose fields a row has reads it (pure).

    row ─without nulls, names in lower case─▶ shape by its fields ─▶ converter ─▶ preferences, or why there is none

To add one: a converter in a file of its family, a row below, and a row of your own in tests/grm/shapes/.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from grm.json_rows import JsonRow, shown
from grm.preferences import Preference, Skipped, clean
from grm.shapes import benchmarks, lists, pairs, sides, singles
from grm.shapes.fields import SAID, number

NOT_TEXT = {"image", "images", "video", "videos", "audio", "audios"}  # fields of what a query is about and text is not

Item = Preference | Skipped
Fields = Mapping[str, object]
Reader = Callable[[JsonRow], Item | list[Item]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How rows of one kind are known and read."""

    name: str
    """What people call it."""
    needs: frozenset[str]
    """Fields that a row of it has, in lower case and not null."""
    convert: Reader
    """Reads a row."""
    when: Callable[[Fields], bool] = bool
    """What its fields must be beside that."""


def _shape(name: str, needs: str, convert: Reader, when: Callable[[Fields], bool] = bool) -> Shape:
    return Shape(name=name, needs=frozenset(needs.split(",")), convert=convert, when=when)


def _texts(fields: Fields) -> bool:
    """Whether `chosen` and `rejected` are lists of answers, and not of messages."""
    return all(_is_texts(fields[name]) for name in ("chosen", "rejected"))


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _three_by_three(fields: Fields) -> bool:
    return _texts(fields) and all(len(fields[name]) == lists.STYLES for name in ("chosen", "rejected"))  # type: ignore[arg-type]


def _numeric(name: str) -> Callable[[Fields], bool]:
    return lambda fields: number(fields[name]) is not None


def _two(fields: Fields) -> bool:
    return any(first in fields and second in fields for first, second in sides.TWO)


SHAPES: Sequence[Shape] = (
    _shape("our own rows", "responses", lists.own),
    _shape("RMB pairs", "conversation_input,chosen,reject", benchmarks.rmb_pair),
    _shape("RMB best of N", "conversation_input,bon_best,loser_list", benchmarks.rmb_best_of_n),
    _shape("RM-Bench", "chosen,rejected,domain", lists.rm_bench, _three_by_three),
    _shape("RewardBench 2", "chosen,rejected", lists.rewardbench2, _texts),
    _shape("chosen and rejected", "chosen", pairs.pair),
    _shape("chosen and rejected", "rejected", pairs.pair),
    _shape("ms-swift", "messages,rejected_response", pairs.swift),
    _shape("ms-swift", "messages,rejected_messages", pairs.swift),
    _shape("UltraFeedback", "instruction,completions", lists.ultrafeedback),
    _shape("NeMo-RL", "completions", lists.nemo_rl),
    _shape("Nectar", "answers", lists.nectar),
    _shape("Arena conversations", "conversation_a,conversation_b,winner", sides.arena),
    _shape("Arena csv", "prompt,response_a,response_b,winner_model_a,winner_model_b", sides.arena_csv),
    _shape("HelpSteer2", "response_1,response_2,preference_strength", sides.helpsteer2),
    _shape("HelpSteer3", "response1,response2,overall_preference", sides.helpsteer3),
    _shape("SafeRLHF", "response_0,response_1,better_response_id", sides.safe_rlhf),
    _shape("auto-j", "response 1,response 2,label", sides.autoj),
    _shape("PandaLM", "response1,response2,label_0", sides.pandalm),
    _shape("PandaLM training", "inputs,outputs", sides.pandalm_training),
    _shape("AlpacaEval", "output_1,output_2,preference", sides.alpaca_eval, _numeric("preference")),
    _shape("LLMBar, OffsetBias", "output_1,output_2,label", sides.one_or_two, _numeric("label")),
    *(_shape("two responses and a letter", field, sides.named_side, _two) for field in SAID),
    _shape("ReaLMistake", "input,llm_response", benchmarks.realmistake),
    _shape("OpenMathInstruct", "question,generated_solution,is_correct", singles.openmath),
    _shape("KTO", "completion,label", singles.kto),
    _shape("single response and label", "response,label", singles.kto),
    _shape("KTO messages", "messages,label", singles.kto_messages),
    _shape("single response and score", "response", lists.own),
)


def normalised(row: JsonRow) -> JsonRow:
    """Return the row with names in lower case and without nulls, which unions of sets and holes of tables leave.

    Raises:
        RowError: Two names differ in case alone, and in what they say.
    """
    fields: dict[str, object] = {}
    for key, value in row.fields.items():
        name = key.strip().lower()
        if value is None:
            continue
        if name in fields and fields[name] != value:
            raise row.error(name, f"stands in it twice, once as {key!r}, and says two things", "keep one of the two")
        fields[name] = value
    nulls = frozenset(key.strip().lower() for key, value in row.fields.items() if value is None)
    return replace(row, fields=fields, nulls=nulls - fields.keys())


def shape_of(row: JsonRow) -> Shape:
    """Return the shape of a normalised row. RowError names the fields that were met where there is none."""
    for shape in SHAPES:
        if shape.needs <= row.fields.keys() and shape.when(row.fields):
            return shape
    if row.fields.keys() & {"prompt", "messages", "preferred", "scores"} or not row.fields:
        raise row.error("responses", "is missing", "give a list of texts")
    met = ", ".join(shown(name).strip("'") for name in sorted(row.fields)[:12])
    raise row.error(
        "responses",
        f"is missing, and the fields that are there ({met}) are of no shape that is read",
        "see the table in docs/data.md; the simplest is prompt, chosen, rejected",
    )


def converted(row: JsonRow, show: Collection[str] = ()) -> list[Item]:
    """Return what stands in a row: usually one preference, or why it has none. RowError for a malformed row.

    Args:
        row: As its file has it.
        show: Which of `reference` and `criteria` become part of the question. The others are not even looked at.
    """
    row = normalised(row)
    for name in sorted(NOT_TEXT & row.fields.keys()):
        if row.fields[name] and not isinstance(row.fields[name], int | float):  # a number, or NaN for none, is no picture
            raise row.error(name, "is there, which no judge is shown", "judges read text alone: remove the row or the field")
    found = shape_of(row).convert(row)
    items = found if isinstance(found, list) else [found]
    reference = _reference(row) if "reference" in show else ""
    criteria = _criteria(row) if "criteria" in show else ()
    if not reference and not criteria:
        return items
    return [_with(item, reference, criteria) if isinstance(item, Preference) else item for item in items]


def _with(preference: Preference, reference: str, criteria: tuple[str, ...]) -> Preference:
    return replace(preference, question=replace(preference.question, reference=reference, criteria=criteria))


def _reference(row: JsonRow) -> str:
    """Return the reference answer; "" where there is none."""
    return row.filled("reference", "give the reference answer as text") if "reference" in row.fields else ""


def _criteria(row: JsonRow) -> tuple[str, ...]:
    """Return what to judge by; () where it is not said."""
    values = row.fields.get("criteria")
    if values is None:
        return ()
    criteria = []
    for item in values if isinstance(values, list) else [values]:
        if not isinstance(item, str) or not item.strip():
            raise row.error("criteria", f"holds {shown(item)}", "give text, or a list of texts")
        criteria.append(clean(item))
    return tuple(criteria)
