"""Which processes lie on which node, as a pure function."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.load import load
from launch.setup.gpu_blocks import (
    ENGINE,
    META_RM,
    POLICY,
    Block,
    Part,
    drawn,
    held_parts,
    lay_out,
    nodes_needed,
    parts_of,
)


def laid_out(counts: dict[str, int], nodes: list[int]) -> list[tuple[str, int, int]] | None:
    blocks = lay_out([Part(name=name, count=count) for name, count in counts.items()], nodes)
    return None if blocks is None else [(block.part, block.gpus, block.node) for block in blocks]


def test_a_part_that_fits_a_node_lies_on_the_fullest_that_holds_it() -> None:
    assert laid_out({POLICY: 4, META_RM: 3, ENGINE: 1}, [8]) == [(POLICY, 4, 0), (META_RM, 3, 0), (ENGINE, 1, 0)]
    assert laid_out({POLICY: 4}, [8, 5, 3]) == [(POLICY, 4, 1)]
    assert laid_out({POLICY: 6, META_RM: 6, ENGINE: 4}, [8, 8]) == [
        (POLICY, 6, 0),
        (META_RM, 6, 1),
        (ENGINE, 2, 0),
        (ENGINE, 2, 1),
    ]


def test_a_larger_one_fills_nodes() -> None:
    assert laid_out({POLICY: 19}, [8, 8, 8]) == [(POLICY, 8, 0), (POLICY, 8, 1), (POLICY, 3, 2)]
    assert laid_out({POLICY: 12}, [3, 6, 6]) == [(POLICY, 6, 1), (POLICY, 6, 2)], "the emptiest first"
    assert laid_out({POLICY: 12}, [5, 6]) is None
    assert laid_out({POLICY: 1}, []) is None


def test_a_process_of_several_gpus_never_spans_nodes() -> None:
    engines = [Part(name=ENGINE, count=3, gpus=3)]
    assert lay_out(engines, [8, 3]) == [
        Block(part=ENGINE, processes=2, gpus=6, node=0),
        Block(part=ENGINE, processes=1, gpus=3, node=1),
    ]
    assert lay_out(engines, [8, 2]) is None
    assert nodes_needed(engines) == 2
    assert nodes_needed([Part(name=ENGINE, count=1, gpus=9)]) is None


def test_a_process_of_several_gpus_chooses_first_where_it_would_find_no_room() -> None:
    """Six ranks on each node would leave two GPUs here and two there, and no four of one node."""
    parts = [Part(name=POLICY, count=6), Part(name=META_RM, count=6), Part(name=ENGINE, count=1, gpus=4)]
    blocks = lay_out(parts, [8, 8])
    assert blocks is not None
    assert drawn(blocks, ["a", "b"]) == ["a: engine 4, meta-RM 4", "b: policy 6, meta-RM 2"]
    assert lay_out(parts, [8, 7]) is None
    assert nodes_needed(parts) == 2


@given(
    st.lists(st.builds(Part, name=st.sampled_from("abc"), count=st.integers(1, 20), gpus=st.integers(1, 4)), max_size=4),
    st.lists(st.integers(0, 8), max_size=8),
)
def test_nobody_is_left_out_and_no_node_holds_more_than_it_has(parts: list[Part], nodes: list[int]) -> None:
    blocks = lay_out(parts, nodes)
    if blocks is None:
        return
    assert sum(block.processes for block in blocks) == sum(part.count for part in parts)
    assert sum(block.gpus for block in blocks) == sum(part.count * part.gpus for part in parts)
    for number, gpus in enumerate(nodes):
        assert sum(block.gpus for block in blocks if block.node == number) <= gpus


def test_the_27b_preset_on_seven_nodes_of_eight() -> None:
    """32 ranks on four nodes, 15 on two, 9 engines on what is left: no node has ranks of both learners."""
    parts = parts_of(load("gemma2-27b"))
    assert nodes_needed(parts) == 7
    blocks = lay_out(parts, [8] * 7)
    assert blocks is not None
    assert drawn(blocks, [*"abcdefg"]) == ["a, b, c, d: policy 8", "e: meta-RM 8", "f: meta-RM 7, engine 1", "g: engine 8"]


def test_a_run_holds_all_its_ranks_and_one_engine() -> None:
    config = load("gemma2-27b")
    assert [(part.name, part.count) for part in held_parts(config, "all")] == [(POLICY, 32), (META_RM, 15), (ENGINE, 1)]
    assert [part.name for part in held_parts(config, "cold_start")] == [POLICY], "its engines use the GPUs of the ranks"
    own_nodes = load("gemma2-27b", ["rollout.resource=sampling"])
    assert [part.name for part in held_parts(own_nodes, "cold_start")] == [POLICY, ENGINE], "no rank's GPU has the resource"
    assert held_parts(load("tiny"), "all") == held_parts(load("qwen3-1.7b-1gpu"), "all") == []


@pytest.mark.parametrize(
    ("ranks", "held", "nodes", "blocks"),
    [
        (4, [(ENGINE, 1, 4)], [3, 4], ["b: engine 4"]),  # not three of one node and one of another
        (8, [(ENGINE, 1, 4), (POLICY, 4, 1)], [6, 2], ["a: engine 4, policy 2", "b: policy 2"]),
        (2, [(ENGINE, 1, 4)], [8], ["a: engine 4"]),  # two of the four fine-tune
    ],
)
def test_a_cold_start_holds_room_for_an_engine_of_several_gpus_on_one_node(
    ranks: int, held: list[tuple[str, int, int]], nodes: list[int], blocks: list[str]
) -> None:
    """Engine and ranks follow one another on the same GPUs. As a part of four ranks the first would be laid over both nodes."""
    config = load("qwen3-8b", [f"learner.ranks={ranks}", "rollout.tensor_parallel=4"])
    parts = held_parts(config, "cold_start")
    assert [(part.name, part.count, part.gpus) for part in parts] == held
    laid = lay_out(parts, nodes)
    assert laid is not None
    assert drawn(laid, [*"ab"][: len(nodes)]) == blocks
    own_nodes = load("qwen3-8b", [f"learner.ranks={ranks}", "rollout.tensor_parallel=4", "rollout.resource=sampling"])
    assert [(part.count, part.gpus) for part in held_parts(own_nodes, "cold_start")] == [(ranks, 1), (1, 4)]
