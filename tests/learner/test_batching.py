import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learner.batching import PAD, collate, cut, deal, per_token

lengths_lists = st.lists(st.integers(2, 50), min_size=1, max_size=40)


@given(lengths=lengths_lists, budget=st.integers(50, 400), ranks=st.integers(1, 5))
def test_every_sequence_once_within_the_budget_and_as_many_parts_on_each_rank(
    lengths: list[int], budget: int, ranks: int
) -> None:
    cuts = cut(lengths, budget, ranks)
    assert sorted(index for part in cuts for index in part) == list(range(len(lengths)))
    for part in cuts:
        assert len(part) * max((lengths[index] for index in part), default=0) <= budget
    assert len(cuts) % ranks == 0
    shares = [deal(cuts, rank, ranks) for rank in range(ranks)]
    assert {len(share) for share in shares} == {len(cuts) // ranks}
    assert sorted(map(tuple, cuts)) == sorted(tuple(part) for share in shares for part in share)
    empty = sum(not part for part in cuts)
    assert empty == 0 or empty < ranks and all(len(part) <= 1 for part in cuts), "a rank idles only when it must"


def test_worked_example() -> None:
    assert cut([3, 9, 5, 9], 18, 1) == [[1, 3], [2, 0]]
    assert cut([3, 9, 5, 9], 100, 1) == [[1, 3, 2, 0]]
    assert cut([3, 9, 5, 9], 100, 2) == [[1, 3], [2, 0]]  # all would fit into one, but two ranks work at once
    assert cut([3, 9, 5, 9], 100, 3) == [[1], [3], [2, 0]]
    assert cut([4], 10, 3) == [[0], [], []]


def test_a_sequence_over_the_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="51 tokens does not fit into a micro-batch of 50"):
        cut([3, 51], 50, 1)


def test_dealing_needs_a_multiple() -> None:
    with pytest.raises(ValueError, match="cannot be dealt evenly to 2 ranks"):
        deal([[0], [1], [2]], 0, 2)


def test_collate() -> None:
    tokens = collate([[1, 2, 3], [4]], [[5], [6, 7]])
    assert tokens.input_ids.tolist() == [[1, 2, 3, 5], [4, 6, 7, PAD]]
    assert tokens.lengths.tolist() == [4, 3]
    assert tokens.rows.tolist() == [0, 1, 1]
    assert tokens.columns.tolist() == [2, 0, 1]  # the position before each completion token
    assert tokens.targets.tolist() == [5, 6, 7]


def test_collate_nothing_is_one_row_with_one_target() -> None:
    tokens = collate([], [])
    assert tokens.input_ids.shape == (1, 2)
    assert tokens.targets.tolist() == [PAD]


ids = st.lists(st.integers(0, 9), min_size=1, max_size=6)


@given(st.lists(st.tuples(ids, ids), min_size=1, max_size=6))
def test_collate_finds_every_completion_token(pairs: list[tuple[list[int], list[int]]]) -> None:
    prompts, completions = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    tokens = collate(prompts, completions)
    assert tokens.targets.tolist() == [token for completion in completions for token in completion]
    assert torch.equal(tokens.input_ids[tokens.rows, tokens.columns + 1], tokens.targets)
    starts = [len(prompt) - 1 + i for prompt, completion in pairs for i in range(len(completion))]
    assert tokens.columns.tolist() == starts


def test_per_token() -> None:
    assert per_token([0.5, -1.0], [1, 3]).tolist() == [0.5, -1.0, -1.0, -1.0]
