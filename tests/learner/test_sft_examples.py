"""The data set of the fine-tuning: what is read, how it is split, in which order it is trained on."""

import json
import tracemalloc
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.sft_examples import (
    Example,
    ExampleLimits,
    batch_at,
    heldout_preferences,
    order,
    preference_hash,
    read_examples,
    split,
)

LIMITS = ExampleLimits(vocabulary=100, tokens=8)


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def row(**changes: object) -> dict[str, object]:
    return {"prompt_ids": [1, 2], "completion_ids": [3, 4, 99], "preference": "p7"} | changes


def test_reads_its_fields_and_ignores_others(tmp_path: Path) -> None:
    general = {"prompt_ids": [5], "completion_ids": [6]}
    path = write(tmp_path / "set.jsonl", row(hinted=True, text="ignored"), "", general, row(completion_ids=[0] * 6))
    examples = read_examples(path, LIMITS)
    expected = [
        Example(prompt_ids=(1, 2), completion_ids=(3, 4, 99), preference="p7"),
        Example(prompt_ids=(5,), completion_ids=(6,), preference=""),
        Example(prompt_ids=(1, 2), completion_ids=(0,) * 6, preference="p7"),
    ]
    assert list(examples) == [examples[index] for index in range(3)] == expected
    assert list(examples.subset([2, 0])) == [expected[2], expected[0]]
    assert list(examples[1:]) == expected[1:]
    assert list(examples.preferences) == [example.preference for example in expected]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"prompt_ids": [1]}, "field 'completion_ids': is missing"),
        (row(prompt_ids="1 2"), "field 'prompt_ids': is no list of integers"),
        (row(prompt_ids=[]), "field 'prompt_ids': is no list of integers; give at least one"),
        (row(completion_ids=[]), "field 'completion_ids': is no list of integers; give at least one"),
        (row(completion_ids=[3, True]), "field 'completion_ids': is no list of integers"),
        (row(completion_ids=[3, 4.0]), "field 'completion_ids': is no list of integers"),
        (row(completion_ids=[3, 100]), "field 'completion_ids': token id 100 is not in the vocabulary of 100"),
        (row(prompt_ids=[3, -1]), "field 'prompt_ids': token id -1 is not in the vocabulary"),
        (row(prompt_ids=[1] * 6), r"'prompt_ids' and 'completion_ids': 6 \+ 3 tokens, the limit is 8; raise learner"),
        (row(preference=7), "field 'preference': is no text"),
        (row(preference=""), "field 'preference': is no text"),
        ([1, 2], "not a JSON object"),
        ('{"prompt_ids": [1], ', "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_malformed_line_is_named_by_file_line_and_field(tmp_path: Path, line: object, problem: str) -> None:
    path = write(tmp_path / "set.jsonl", row(), line)
    with pytest.raises(ValueError, match=rf"set\.jsonl:2: .*{problem}"):
        read_examples(path, LIMITS)


def test_no_text_at_all(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(ValueError, match=r"set\.jsonl:1: not JSON"):
        read_examples(path, LIMITS)


@given(
    preferences=st.lists(st.text(max_size=3), max_size=60).filter(lambda names: len({*names} - {""}) > 1),
    share=st.floats(0.0, 1.0),
    most=st.integers(1, 9),
    seed=st.integers(0, 5),
)
def test_a_preference_is_on_one_side_and_general_data_is_never_held_out(
    preferences: list[str], share: float, most: int, seed: int
) -> None:
    training, heldout = split(preferences, share=share, most=most, seed=seed)
    judged, held = {preferences[index] for index in training} - {""}, {preferences[index] for index in heldout}
    assert judged
    assert held == set(heldout_preferences(preferences, share=share, most=most, seed=seed))
    assert 1 <= len(held) <= most
    assert not judged & held
    assert "" not in held
    assert sorted((*training, *heldout)) == list(range(len(preferences)))
    assert training == sorted(training), "each side keeps the order"
    assert heldout == sorted(heldout)
    backwards = split(preferences[::-1], share=share, most=most, seed=seed)
    last = len(preferences) - 1
    assert [training, heldout] == [[last - index for index in side[::-1]] for side in backwards]


def test_the_share_is_of_preferences_and_the_seed_chooses_them() -> None:
    names = [f"p{number // 3}" for number in range(300)] + [""] * 5000
    sides = [{names[index] for index in split(names, seed=seed)[1]} for seed in (0, 0, 1)]
    assert [len(side) for side in sides] == [5, 5, 5]
    assert sides[0] == sides[1] != sides[2]


def test_what_is_read_at_each_measurement_is_bounded() -> None:
    training, heldout = split([f"p{number}" for number in range(62_800)], seed=0)
    assert (len(training), len(heldout)) == (62_288, 512)


def test_those_held_out_come_by_their_hash() -> None:
    names = [f"p{number}" for number in range(100)]
    held = heldout_preferences(names, seed=3)
    threshold = preference_hash(3, held[-1])
    assert set(held) == {name for name in names if preference_hash(3, name) <= threshold}


@pytest.mark.parametrize("names", [["p", "p"], ["p", ""], [""]])
def test_one_preference_cannot_be_split(names: list[str]) -> None:
    with pytest.raises(ValueError, match=r"judgements of \d preferences cannot be split .* of two preferences at least"):
        split(names, seed=0)


def test_an_example_takes_a_few_bytes_of_memory(tmp_path: Path) -> None:
    ids = list(range(100, 800))
    rows = [{"prompt_ids": ids, "completion_ids": [1], "preference": f"p{i // 4}"} for i in range(2000)]
    path = write(tmp_path / "set.jsonl", *rows[:1000], *({**row, "preference": None} for row in rows[1000:]))
    limits = ExampleLimits(vocabulary=1000, tokens=1000)
    tracemalloc.start()
    examples = read_examples(path, limits)
    training = examples.subset(split(examples.preferences, seed=0)[0])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(training) > 1900
    assert held / 2000 < 60, f"{held / 2000:.0f} bytes an example: twice 16, and a name for every eighth"


@given(count=st.integers(1, 50), seed=st.integers(0, 3), epoch=st.integers(0, 3))
def test_an_epoch_goes_through_all(count: int, seed: int, epoch: int) -> None:
    assert sorted(order(count, seed=seed, epoch=epoch)) == list(range(count))


def test_each_epoch_and_each_seed_has_an_order_of_its_own() -> None:
    orders = [order(20, seed=seed, epoch=epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(indices) for indices in orders}) == 9


@given(count=st.integers(1, 30), batch=st.integers(1, 30), seed=st.integers(0, 3))
def test_batches_are_the_epochs_cut(count: int, batch: int, seed: int) -> None:
    examples = list(range(100, 100 + count))
    steps = [batch_at(examples, step, batch=batch, seed=seed) for step in range(12)]
    if batch > count:
        assert steps == [examples] * 12
        return
    epochs = chain.from_iterable(order(count, seed=seed, epoch=epoch) for epoch in range(12))
    assert [example - 100 for step in steps for example in step] == [next(epochs) for _ in range(12 * batch)]
