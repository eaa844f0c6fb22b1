"""The cold start's samples as the meta-RM's first batches."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from learner.cold_start_batches import ColdStartBatches
from learner.parsed import ParsedCompletions


def line(
    number: int, *, rewards: Sequence[float] = (1.0, -1.0, -1.0), hinted: bool = False, failures: Sequence[str] = ()
) -> dict[str, Any]:
    completions = [
        {"ids": [number, i], "text": "t", "reward": reward, "failure": failure}
        for i, (reward, failure) in enumerate(zip(rewards, failures or [""] * len(rewards), strict=True))
    ]
    return {"preference": f"p{number}", "hinted": hinted, "prompt_ids": [number, 7], "completions": completions}


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def batches(path: Path, size: int) -> list[list[ParsedCompletions]]:
    index = ColdStartBatches(path, size)
    return [index[number] for number in range(len(index))]


def numbers(path: Path, size: int) -> list[list[int]]:
    return [[group.prompt_ids[0] for group in batch] for batch in batches(path, size)]


def test_a_group_is_what_stands_in_the_file(tmp_path: Path) -> None:
    ((group,),) = batches(write(tmp_path / "s.jsonl", [line(4)]), 3)
    assert group == ParsedCompletions(
        preference="p4", prompt_ids=(4, 7), completion_ids=((4, 0), (4, 1), (4, 2)), rewards=(1.0, -1.0, -1.0)
    )


def test_right_and_wrong_are_in_and_hinted_ones_are_not(tmp_path: Path) -> None:
    rows = [line(0, rewards=(1.0,) * 3), line(0, hinted=True), line(1, hinted=True), line(2, rewards=(-1.0,) * 3)]
    assert sorted(numbers(write(tmp_path / "s.jsonl", rows), 3)) == [[0], [2]]


def test_what_never_votes_is_left_out_and_not_counted(tmp_path: Path) -> None:
    rows = [line(0, failures=("cut_short", "", "no_box")), line(1, failures=("no_box",) * 3), line(2, failures=("", "", "x"))]
    path = write(tmp_path / "s.jsonl", rows)
    assert numbers(path, 4) == []
    (batch,) = batches(path, 3)
    kept = {group.preference: (group.completion_ids, group.rewards) for group in batch}
    assert kept == {"p0": (((0, 1),), (-1.0,)), "p2": (((2, 0), (2, 1)), (1.0, -1.0))}


def test_batches_are_whole_groups_of_enough_completions_and_a_rest_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", [line(number) for number in range(8)])
    order = [number for (number,) in numbers(path, 3)]
    assert sorted(order) == list(range(8))
    assert numbers(path, 6) == [order[0:2], order[2:4], order[4:6], order[6:8]]
    assert numbers(path, 7) == [order[0:3], order[3:6]]
    assert numbers(path, 24) == [order]
    assert numbers(path, 25) == []


def test_a_batch_is_of_all_sources(tmp_path: Path) -> None:
    rows = [line(number) | {"preference": f"{source}:{number:03}"} for source in "ab" for number in range(100)]
    order = [group.preference for batch in batches(write(tmp_path / "s.jsonl", rows), 3) for group in batch]
    assert 30 <= sum(name.startswith("a") for name in order[:100]) <= 70
    fewer = batches(write(tmp_path / "s.jsonl", rows[::2]), 3)
    kept = {row["preference"] for row in rows[::2]}
    assert [group.preference for batch in fewer for group in batch] == [name for name in order if name in kept]


def test_the_order_of_arrival_does_not_matter(tmp_path: Path) -> None:
    rows = [line(number) for number in range(8)]
    first = batches(write(tmp_path / "s.jsonl", rows), 6)
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        assert batches(write(tmp_path / "s.jsonl", rows), 6) == first


def test_a_cold_start_with_hints_only_gives_no_batch(tmp_path: Path) -> None:
    assert batches(write(tmp_path / "s.jsonl", [line(0, hinted=True)]), 1) == []
    assert batches(write(tmp_path / "s.jsonl", []), 1) == []


def test_a_group_whose_completions_were_all_left_out_is_no_group(tmp_path: Path) -> None:
    assert numbers(write(tmp_path / "s.jsonl", [line(0, rewards=()), line(1)]), 1) == [[1]]
