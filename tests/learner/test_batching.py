import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.batching import PAD, PackedRow, collate, pack_rows, per_token, shard, split_micro_batches

lengths_lists = st.lists(st.integers(2, 50), min_size=1, max_size=40)


@given(lengths=lengths_lists, budget=st.integers(50, 400), ranks=st.integers(1, 5))
def test_every_sequence_once_within_the_budget_and_as_many_micro_batches_on_each_rank(
    lengths: list[int], budget: int, ranks: int
) -> None:
    cuts = split_micro_batches(lengths, budget, ranks)
    assert sorted(index for part in cuts for index in part) == list(range(len(lengths)))
    for part in cuts:
        assert len(part) * max((lengths[index] for index in part), default=0) <= budget
    assert len(cuts) % ranks == 0
    shares = [shard(cuts, rank, ranks) for rank in range(ranks)]
    assert {len(share) for share in shares} == {len(cuts) // ranks}
    assert sorted(map(tuple, cuts)) == sorted(tuple(part) for share in shares for part in share)
    empty = sum(not part for part in cuts)
    assert empty == 0 or (empty < ranks and all(len(part) <= 1 for part in cuts)), "a rank idles only when it must"


def test_worked_example() -> None:
    assert split_micro_batches([3, 9, 5, 9], 18, 1) == [[1, 3], [2, 0]]
    assert split_micro_batches([9, 9, 9], 27, 1) == [[0, 1, 2]]
    assert split_micro_batches([9, 9, 9], 26, 1) == [[0, 1], [2]]
    assert split_micro_batches([3, 9, 5, 9], 100, 1) == [[1, 3, 2, 0]]
    assert split_micro_batches([3, 9, 5, 9], 100, 2) == [[1, 3], [2, 0]]  # all would fit into one, but two ranks work at once
    assert split_micro_batches([3, 9, 5, 9], 100, 3) == [[1], [3], [2, 0]]
    assert split_micro_batches([4], 10, 3) == [[0], [], []]


def test_a_row_over_the_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="51 tokens does not fit into a micro-batch of 50"):
        split_micro_batches([3, 51], 50, 1)


def test_sharding_needs_a_multiple() -> None:
    with pytest.raises(ValueError, match="cannot be dealt evenly to 2 ranks"):
        shard([[0], [1], [2]], 0, 2)


def test_pack_rows() -> None:
    groups = [([1, 2, 3], [[4], [5, 6], [7]]), ([8], [[9]])]
    assert pack_rows(groups, 6, share=True) == [
        PackedRow(prompt=[1, 2, 3], completions=(0, 1), length=6),
        PackedRow(prompt=[1, 2, 3], completions=(2,), length=4),
        PackedRow(prompt=[8], completions=(3,), length=2),
    ]
    alone = pack_rows(groups, 6, share=False)
    assert [row.completions for row in alone] == [(0,), (1,), (2,), (3,)]
    assert [row.length for row in alone] == [4, 5, 4, 2]


def test_collate() -> None:
    rows = [PackedRow(prompt=[1, 2, 3], completions=(0, 1), length=6), PackedRow(prompt=[4], completions=(2,), length=3)]
    tokens = collate(rows, [[5], [6, 7], [8, 9]])
    assert tokens.input_ids.tolist() == [[1, 2, 3, 5, 6, 7], [4, 8, 9, PAD, PAD, PAD]]
    assert tokens.positions.tolist() == [[0, 1, 2, 3, 3, 4], [0, 1, 2, 0, 0, 0]]
    assert tokens.segments.tolist() == [[0, 0, 0, 1, 2, 2], [0, 1, 1, -1, -1, -1]]
    assert tokens.targets.tolist() == [5, 6, 7, 8, 9]
    assert tokens.predicting.tolist() == [2, 2, 4, 6, 7]  # the prompt's last token predicts the first of each completion
    assert tokens.ends.tolist() == [3, 5, 8]


def test_collate_nothing_is_one_row_with_one_target() -> None:
    tokens = collate([], [])
    assert tokens.input_ids.shape == (1, 2)
    assert tokens.targets.tolist() == [PAD]


ids = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@given(
    groups=st.lists(st.tuples(ids, st.lists(ids, min_size=1, max_size=4)), min_size=1, max_size=5),
    limit=st.integers(12, 40),
    share=st.booleans(),
)
def test_every_completion_stands_behind_its_prompt_in_one_row(
    groups: list[tuple[list[int], list[list[int]]]], limit: int, share: bool
) -> None:
    rows = pack_rows(groups, limit, share=share)
    completions = [completion for _, group in groups for completion in group]
    prompts = [prompt for prompt, group in groups for _ in group]
    assert [index for row in rows for index in row.completions] == list(range(len(completions)))
    assert all(row.length <= limit for row in rows)
    tokens = collate(rows, completions)
    assert tokens.targets.tolist() == [token for completion in completions for token in completion]
    width = tokens.input_ids.shape[1]
    index = 0
    for number, row in enumerate(rows):
        for segment in range(1, len(row.completions) + 1):
            visible = (tokens.segments[number] == 0) | (tokens.segments[number] == segment)
            assert tokens.input_ids[number][visible].tolist() == [*prompts[index], *completions[index]]
            assert tokens.positions[number][visible].tolist() == list(range(int(visible.sum())))
            assert tokens.ends[index] == number * width + int(visible.nonzero().max())
            index += 1
    flat_positions, flat_segments = tokens.positions.flatten(), tokens.segments.flatten()
    following = [i for prompt, completion in zip(prompts, completions, strict=True) for i in range(len(completion))]
    starts = [len(prompt) - 1 for prompt, completion in zip(prompts, completions, strict=True) for _ in completion]
    assert flat_positions[tokens.predicting].tolist() == [a + b for a, b in zip(starts, following, strict=True)]
    assert (flat_segments[tokens.predicting] >= 0).all()


def test_per_token() -> None:
    assert per_token([0.5, -1.0], [1, 3]).tolist() == [0.5, -1.0, -1.0, -1.0]
