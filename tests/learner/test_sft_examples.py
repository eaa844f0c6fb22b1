import json
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.sft_examples import Example, ExampleLimits, batch_at, order, read_examples, split

LIMITS = ExampleLimits(vocabulary=100, tokens=8)


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def row(**changes: object) -> dict[str, object]:
    return {"prompt_ids": [1, 2], "completion_ids": [3, 4, 99], "preference": "p7"} | changes


def of(source: str, *, number: int = 0) -> Example:
    return Example(prompt_ids=(1,), completion_ids=(number,), source=source)


def test_reads_what_counts_and_ignores_the_rest(tmp_path: Path) -> None:
    general = {"prompt_ids": [5], "completion_ids": [6]}
    path = write(tmp_path / "set.jsonl", row(hinted=True, text="ignored"), "", general, row(completion_ids=[0] * 6))
    assert read_examples(path, LIMITS) == [
        Example(prompt_ids=(1, 2), completion_ids=(3, 4, 99), source="p7"),
        Example(prompt_ids=(5,), completion_ids=(6,), source="line 3"),
        Example(prompt_ids=(1, 2), completion_ids=(0,) * 6, source="p7"),
    ]


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
    sources=st.lists(st.text(max_size=3), min_size=2, max_size=60).filter(lambda found: len(set(found)) > 1),
    share=st.floats(0.0, 1.0),
    seed=st.integers(0, 5),
)
def test_a_source_is_on_one_side_and_neither_side_is_empty(sources: list[str], share: float, seed: int) -> None:
    examples = [of(source, number=number) for number, source in enumerate(sources)]
    training, heldout = split(examples, share=share, seed=seed)
    assert training
    assert heldout
    assert not {one.source for one in training} & {one.source for one in heldout}
    assert sorted((*training, *heldout), key=lambda one: one.completion_ids) == examples
    assert [one for one in examples if one in training] == training, "each side keeps the order"
    backwards = split(examples[::-1], share=share, seed=seed)
    assert (training, heldout) == (backwards[0][::-1], backwards[1][::-1])


def test_the_share_is_of_sources_and_the_seed_chooses_them() -> None:
    examples = [of(f"p{number // 3}") for number in range(300)]
    sides = [{one.source for one in split(examples, seed=seed)[1]} for seed in (0, 0, 1)]
    assert [len(side) for side in sides] == [5, 5, 5]
    assert sides[0] == sides[1] != sides[2]


def test_one_source_cannot_be_split() -> None:
    with pytest.raises(ValueError, match=r"2 examples of 1 sources cannot be split .* give examples of two preferences"):
        split([of("p"), of("p", number=1)], seed=0)


@given(count=st.integers(1, 50), seed=st.integers(0, 3), epoch=st.integers(0, 3))
def test_an_epoch_goes_through_all(count: int, seed: int, epoch: int) -> None:
    assert sorted(order(count, seed=seed, epoch=epoch)) == list(range(count))


def test_each_epoch_and_each_seed_has_an_order_of_its_own() -> None:
    orders = [order(20, seed=seed, epoch=epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(one) for one in orders}) == 9


@given(count=st.integers(1, 30), batch=st.integers(1, 30), seed=st.integers(0, 3))
def test_batches_are_the_epochs_cut(count: int, batch: int, seed: int) -> None:
    examples = [of("p", number=number) for number in range(count)]
    steps = [batch_at(examples, step, batch=batch, seed=seed) for step in range(12)]
    if batch > count:
        assert steps == [examples] * 12
        return
    epochs = chain.from_iterable(order(count, seed=seed, epoch=epoch) for epoch in range(12))
    assert [one.completion_ids[0] for step in steps for one in step] == [next(epochs) for _ in range(12 * batch)]
