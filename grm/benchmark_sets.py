"""The benchmarks of the paper's table: one converter each, from its own rows to preferences.

    bench:reward-bench[@PLACE]      prompt, chosen, rejected, subset              pairs; `filtered`, without the prior sets
    bench:ppe-preference[@PLACE]    prompt, response_1, response_2, winner        pairs; ties are left out
    bench:ppe-correctness[@PLACE]   prompt, response_1.., scores, sampled_conflict_pairs    a row holds several pairs
    bench:rmb@FOLDER                conversation_input; chosen, reject | bon_best, loser_list   pairs, and lists of n >= 3
    bench:realmistake[@PLACE]       input, llm_response, error_label              single responses: 1 has no error

PLACE is a folder with a copy, or a revision of the set on the hub. `rmb` is read from a clone of its repository. Each subset
has the benchmark's name in front, so that `grm.macro` finds it in a table. None of these may be trained on.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grm.hf_sets import parts, training_rows
from grm.json_rows import JsonRow, printable
from grm.preferences import TWO_BEST, DataError, Loaded, Preference, Skipped, collect
from grm.shapes import benchmarks as shapes
from grm.shapes.fields import labelled

PREFIX = "bench:"
EQUAL_SCORES = "pair of equal scores"
PPE_CORRECTNESS_SETS = ("MMLU-Pro", "MATH", "GPQA", "MBPP-Plus", "IFEval")
REALMISTAKE_TASKS = ("math_word_problem_generation", "finegrained_fact_verification", "answerability_classification")
REALMISTAKE_MODELS = ("gpt4", "llama2")
RMB_GOALS = ("Helpfulness", "Harmlessness")
LARGEST_FILE = 256 << 20  # bytes of one of RMB's files

_OWN_SHAPE = "use the benchmark as published, or write its rows as .jsonl (docs/data.md)"

Item = Preference | Skipped
Converter = Callable[[JsonRow, str], Iterable[Item]]
"""Yields what a row holds, given the subset's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One table of a benchmark."""

    subset: str
    """Name of its subset, or what stands before the subset that a row names."""
    location: str
    """Name on the hub."""
    split: str
    """Its split there."""
    config: str | None = None
    """Its configuration there; None: the only one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """How a benchmark is read."""

    parts: tuple[Part, ...]
    """Its tables."""
    convert: Converter
    """Converts one of their rows."""


def load(source: str) -> Loaded:
    """Return a benchmark's preferences, in its own order.

    Args:
        source: `<name>` or `<name>@<place>`.

    Raises:
        DataError: The benchmark is unknown, cannot be read, or has a row of another shape.
    """
    name, folder, revision = parts(source)
    if name == "rmb":
        placed = list(_rmb(folder))
    elif name in BENCHMARKS:
        placed = [each for part in BENCHMARKS[name].parts for each in _table(name, part, folder, revision)]
    else:
        raise DataError(f"{PREFIX}{name}: no such benchmark; known are {', '.join(sorted([*BENCHMARKS, 'rmb']))}")
    return collect(placed)


def reward_bench(row: JsonRow, subset: str) -> Iterator[Item]:
    """Yield the pair of a row of RewardBench (arXiv:2403.13787)."""
    responses = (row.text("chosen", _OWN_SHAPE), row.text("rejected", _OWN_SHAPE))
    yield labelled(row, row.text("prompt", _OWN_SHAPE), responses, 0, f"{subset}/{row.text('subset', _OWN_SHAPE)}")


def ppe_preference(row: JsonRow, subset: str) -> Iterator[Item]:
    """Yield the pair of a row of PPE's human preferences (arXiv:2410.14872), of which people named one the better."""
    winner = row.text("winner", _OWN_SHAPE)
    if winner not in ("model_a", "model_b"):
        yield Skipped(reason=TWO_BEST)
        return
    responses = (row.text("response_1", _OWN_SHAPE), row.text("response_2", _OWN_SHAPE))
    yield labelled(row, row.text("prompt", _OWN_SHAPE), responses, int(winner == "model_b"), subset)


def ppe_correctness(row: JsonRow, subset: str) -> Iterator[Item]:
    """Yield the pairs that a row of PPE's verifiable sets names: a right and a wrong response to one question each."""
    scores, pairs = row.fields.get("scores"), row.fields.get("sampled_conflict_pairs")
    if not isinstance(scores, list) or not isinstance(pairs, list):
        raise row.error("sampled_conflict_pairs", "there are no lists of scores and pairs", _OWN_SHAPE)
    for number, pair in enumerate(pairs):
        if not isinstance(pair, list) or len(pair) != 2 or not all(_is_index(i, len(scores)) for i in pair):
            raise row.error("sampled_conflict_pairs", f"holds {pair!r:.40}, no pair of places in scores", _OWN_SHAPE)
        first, second = pair
        if scores[first] == scores[second]:
            yield Skipped(reason=EQUAL_SCORES)
            continue
        responses = tuple(row.text(f"response_{i + 1}", _OWN_SHAPE) for i in pair)
        own = JsonRow(fields=row.fields, where=row.where, default_id=f"{row.default_id}.{number}")
        yield labelled(own, row.text("prompt", _OWN_SHAPE), responses, int(scores[second] > scores[first]), subset)


def rmb_pair(row: JsonRow, subset: str) -> Iterator[Item]:
    """Yield the pair of a row of RMB's pairwise sets."""
    yield _within(shapes.rmb_pair(row), subset)


def rmb_best_of_n(row: JsonRow, subset: str) -> Iterator[Item]:
    """Yield the list of a row of RMB's best-of-N sets."""
    yield _within(shapes.rmb_best_of_n(row), subset)


def realmistake(row: JsonRow, subset: str) -> Iterator[Item]:
    """Yield the single response of a row of ReaLMistake."""
    yield _within(shapes.realmistake(row), subset)


def _within(item: Item, subset: str) -> Item:
    return replace(item, subset=subset) if isinstance(item, Preference) else item


BENCHMARKS: Mapping[str, Benchmark] = {
    "reward-bench": Benchmark(
        parts=(Part(subset="reward-bench", location="allenai/reward-bench", split="filtered"),), convert=reward_bench
    ),
    "ppe-preference": Benchmark(
        parts=(Part(subset="ppe-preference", location="lmarena-ai/PPE-Human-Preference-V1", split="test"),),
        convert=ppe_preference,
    ),
    "ppe-correctness": Benchmark(
        parts=tuple(
            Part(subset=f"ppe-correctness/{name}", location=f"lmarena-ai/PPE-{name}-Best-of-K", split="train")
            for name in PPE_CORRECTNESS_SETS
        ),
        convert=ppe_correctness,
    ),
    "realmistake": Benchmark(
        parts=tuple(
            Part(subset=f"realmistake/{task}/{split}", location="ryokamoi/realmistake", split=split, config=task)
            for task in REALMISTAKE_TASKS
            for split in REALMISTAKE_MODELS
        ),
        convert=realmistake,
    ),
}
RMB_SETS: Mapping[str, tuple[str, Converter]] = {"Pairwise": ("Pairwise_set", rmb_pair), "BoN": ("BoN_set", rmb_best_of_n)}


def _table(name: str, part: Part, folder: str, revision: str | None) -> Iterator[tuple[str, Item]]:
    """Yield (place, preference or skip) of a table's rows. In a folder, a benchmark of several tables has a folder for each."""
    location = _copy(name, part, Path(folder)) if folder else part.location
    config = None if folder else part.config
    rows = training_rows(location, None, revision, split=part.split, config=config, kind=PREFIX)
    key = "/".join(filter(None, (part.location.split("/")[-1], part.config, part.split)))
    for number in range(len(rows)):
        where = f"{PREFIX}{key} row {number}"
        row = JsonRow(fields=rows[number], where=where, default_id=f"{key}:{number}")
        for item in BENCHMARKS[name].convert(row, part.subset):
            yield where, item


def _copy(name: str, part: Part, folder: Path) -> str:
    """Return where a copy of a table lies: in the folder itself, or in the one of its name inside."""
    inside = [folder / (part.config or part.location.split("/")[-1])] if len(BENCHMARKS[name].parts) > 1 else [folder]
    if part.config:  # ReaLMistake: one file for each model that answered
        model = {"gpt4": "gpt-4-0613", "llama2": "Llama-2-70b-chat-hf"}[part.split]
        inside = [inside[0] / f"{model}.jsonl"]
    if not inside[0].exists():
        raise DataError(
            f"{PREFIX}{name}@{printable(folder)}: has no {inside[0].name}; give a folder with a copy of the benchmark"
        )
    return str(inside[0])


def _rmb(folder: str) -> Iterator[tuple[str, Item]]:
    """Yield (place, preference or skip) of RMB's rows, which lie in a file for each scenario."""
    if not folder:
        raise DataError(f"{PREFIX}rmb: clone RMB-Reward-Model-Benchmark and give the folder, as {PREFIX}rmb@FOLDER")
    inner = Path(folder) / "RMB_dataset"
    root = inner if inner.is_dir() else Path(folder)
    found = False
    for kind, (directory, convert) in RMB_SETS.items():
        for goal in RMB_GOALS:
            for path in sorted((root / directory / goal).rglob("*.json")):
                found = True
                place = path.relative_to(root)
                for number, fields in enumerate(_json_rows(path)):
                    where = f"{printable(path)} row {number}"
                    row = JsonRow(fields=fields, where=where, default_id=f"rmb/{place.with_suffix('')}:{number}")
                    for item in convert(row, f"rmb/{goal} {kind}"):
                        yield where, item
    if not found:
        raise DataError(
            f"{PREFIX}rmb@{printable(root)}: has no {'/, '.join(d for d, _ in RMB_SETS.values())}/ with .json files"
        )


def _json_rows(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(f"{printable(path)}: is larger than {LARGEST_FILE >> 20} MiB")
        rows = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{printable(path)}: cannot be read ({error}); give the benchmark as published") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{printable(path)}: is not a list of objects; give the benchmark as published")
    return rows


def _is_index(value: object, size: int) -> bool:
    return type(value) is int and 0 <= value < size


def hub_sets(source: str) -> list[tuple[str, str | None]]:
    """Return (name, revision) of the sets that a source takes from the hub; none for a folder, or for what is no benchmark."""
    name, folder, revision = parts(source.removeprefix(PREFIX))
    if not source.startswith(PREFIX) or folder or name not in BENCHMARKS:
        return []
    return [(location, revision) for location in dict.fromkeys(part.location for part in BENCHMARKS[name].parts)]
