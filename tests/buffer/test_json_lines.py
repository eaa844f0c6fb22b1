"""Files of JSON lines larger than memory: what is read, and how little of it stays in memory."""

import json
import random
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from buffer.json_lines import JsonLines, rows, scan
from learner.cold_start_batches import ColdStartBatches
from learner.sft_examples import ExampleLimits, batch_at, read_examples, split

MEGABYTE = 1 << 20
SIZE = 5 * MEGABYTE
PREFERENCES = 200
TOKENS = 3600  # of the completions of a preference
BOUND = MEGABYTE  # whole, these files take more than 25 as Python integers; one line takes 0.1


def ids(rng: random.Random, count: int) -> list[int]:
    return rng.choices(range(1000, 150_000), k=count)


def test_lines_are_found_by_their_offsets(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes('{"a": 1}\n\n  \n{"a": "ü\\n"}\n{"a": 3}'.encode())
    assert [(number, line.strip()[:4]) for number, _, line in scan(path)] == [(1, b'{"a"'), (4, b'{"a"'), (5, b'{"a"')]
    read = list(rows(path))
    assert [row["a"] for _, row in read] == [1, "ü\n", 3]
    lines = JsonLines(path, [offset for offset, _ in reversed(read)])
    assert len(lines) == 3
    assert [row["a"] for row in lines] == [3, "ü\n", 1]
    assert [row["a"] for row in lines.subset([2, 0, 2])] == [1, 3, 1]
    with pytest.raises(IndexError):
        lines[3]


def test_no_file_has_no_rows(tmp_path: Path) -> None:
    assert list(rows(tmp_path / "none.jsonl")) == []


@pytest.mark.parametrize("line", ["[1]", "7", '{"a": ', "[" * 100_000])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl:2: .*remove the line"):
        list(rows(path))


def test_a_file_that_is_replaced_does_not_mix_with_the_open_one(tmp_path: Path) -> None:
    path, other = tmp_path / "rows.jsonl", tmp_path / "other.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    lines = JsonLines(path, [offset for offset, _ in rows(path)])
    other.write_text('{"b": "longer"}\n')
    other.rename(path)
    assert [row["a"] for row in lines] == [1, 2]


# ---- memory ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `sampled.jsonl` of 5 MB."""

    def row(number: int, rng: random.Random, tokens: int) -> dict[str, Any]:
        completions = [{"view": 0, "ids": ids(rng, tokens // 8), "text": "", "reward": 1.0, "failure": ""} for _ in range(8)]
        views = [{"prompt_ids": ids(rng, 100)}]
        return {"preference": f"p{number:04}", "hinted": False, "views": views, "completions": completions}

    return fill(tmp_path_factory.mktemp("sampled") / "sampled.jsonl", row)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `dataset.jsonl` of 5 MB."""

    def row(number: int, rng: random.Random, tokens: int) -> dict[str, Any]:
        return {"preference": f"p{number:04}", "prompt_ids": ids(rng, 100), "completion_ids": ids(rng, tokens)}

    return fill(tmp_path_factory.mktemp("dataset") / "dataset.jsonl", row)


def fill(path: Path, row: Callable[[int, random.Random, int], dict[str, Any]]) -> Path:
    rng = random.Random(0)
    with path.open("w") as file:
        for number in range(PREFERENCES):
            file.write(json.dumps(row(number, rng, TOKENS)) + "\n")
    assert SIZE < path.stat().st_size < 1.2 * SIZE
    return path


@pytest.fixture
def peak() -> Iterator[Callable[[], int]]:
    """How many bytes Python has held at most, since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


def test_reading_a_data_set_takes_a_small_part_of_its_size(dataset: Path, peak: Callable[[], int]) -> None:
    examples = read_examples(dataset, ExampleLimits(vocabulary=150_000, tokens=8000))
    training, heldout = map(examples.subset, split(examples.preferences, seed=0))
    assert (len(training), len(heldout)) == (190, 10)
    assert sum(len(example.completion_ids) for example in training) == 190 * TOKENS
    assert len(batch_at(training, 3, batch=2, seed=0)) == 2
    assert peak() < BOUND


def test_indexing_the_samples_takes_a_small_part_of_their_size(sampled: Path, peak: Callable[[], int]) -> None:
    batches = ColdStartBatches(sampled, 16)
    assert len(batches) == PREFERENCES // 2
    assert len(batches[7]) == 2
    assert peak() < BOUND
    firsts = [batches[number][0].prompt_ids for number in range(len(batches))]
    assert all(first != second for first, second in pairwise(firsts))
