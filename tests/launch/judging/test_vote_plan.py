"""What a judge is asked about a preference: both orders greedily, and votes in balanced orders."""

from dataclasses import replace

import pytest

from configs.load import load
from grm.prompts import template
from grm.vote_estimates import are_balanced
from launch.judging.vote_plan import vote_plan
from tests.launch.judging.fake_judge import SHOWN, preference, vote_plan_of


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("k", [0, 1, 8])
def test_greedy_judgements_in_both_orders_and_k_votes(n: int, k: int) -> None:
    asked = vote_plan_of(k=k).requests(preference("a", n).question)
    greedy, voted = ([each for each in asked if each.kind == kind] for kind in ("greedy", "vote"))
    assert [(each.request.samples, each.request.temperature, each.places) for each in greedy] == [
        (1, 0.0, (place,)) for place in range(min(n, 2))
    ]
    assert greedy[-1].permutation == greedy[0].permutation[:: -1 if n > 1 else 1]
    assert sum(each.request.samples for each in voted) == k
    assert {each.request.temperature for each in voted} <= {0.5}
    assert len({each.permutation for each in voted}) == len(voted), "votes that share a permutation are asked together"
    assert sorted(place for each in voted for place in each.places) == list(range(k))
    for each in asked:
        assert (each.id, each.request.max_new_tokens) == ("a", 64)
        assert sorted(each.permutation) == list(range(n))
        assert SHOWN.findall(each.request.message) == [f"answer {own}" for own in each.permutation]


def test_one_order_may_be_asked_alone() -> None:
    question = preference("a", 3).question
    both, one = vote_plan_of(k=0).requests(question), vote_plan_of(k=0, both_orders=False).requests(question)
    assert one == both[:1]
    assert (vote_plan_of().settings()["both_orders"], vote_plan_of(both_orders=False).settings()["both_orders"]) == (
        True,
        False,
    )


@pytest.mark.parametrize("n", [2, 3, 4])
def test_votes_are_asked_in_balanced_orders(n: int) -> None:
    orders: dict[int, tuple[int, ...]] = {}
    for each in vote_plan_of(k=4 * n).votes(preference("a", n).question):
        orders |= dict.fromkeys(each.places, each.permutation)
    in_turn = [orders[place] for place in range(4 * n)]
    assert are_balanced(in_turn)
    assert all(one == other[::-1] for one, other in zip(in_turn[::2], in_turn[1::2], strict=True))
    for place in range(n):
        assert {own: [order[place] for order in in_turn].count(own) for own in range(n)} == dict.fromkeys(range(n), 4)


def test_a_single_response_is_asked_on_the_scale_of_ten() -> None:
    for each in vote_plan_of().requests(preference("a", 1).question):
        assert "from 1 to 10" in each.request.message
        assert each.request.message == vote_plan_of().message(preference("a", 1).question, (0,))


def test_what_is_asked_depends_on_the_seed_and_the_question_alone() -> None:
    question = preference("a", 4).question
    assert vote_plan_of().requests(question) == vote_plan_of().requests(question)
    other = replace(question, id="b")
    plans = [(vote_plan_of(k=8), question), (vote_plan_of(k=8, seed=2), question), (vote_plan_of(k=8), other)]
    asked = [each for plan, about in plans for each in plan.requests(about)]
    seeds = {each.request.seed for each in asked}
    assert len(seeds) >= len(asked) - 6, "another seed for each question and permutation; greedy shares its votes'"
    assert all(0 <= seed < 2**31 for seed in seeds)
    drawn = {tuple(each.permutation for each in plan.requests(about)) for plan, about in plans}
    assert len(drawn) == 3


def test_the_first_votes_have_the_same_orders_whatever_k_is() -> None:
    question, found = preference("a", 4).question, dict[int, list[tuple[int, ...]]]()
    for k in (1, 3, 8, 20):
        orders: dict[int, tuple[int, ...]] = {}
        for each in vote_plan_of(k=k).votes(question):
            orders |= dict.fromkeys(each.places, each.permutation)
        found[k] = [orders[place] for place in range(k)]
    assert all(found[20][:k] == orders for k, orders in found.items())


def test_a_wave_fills_the_engines_twice() -> None:
    config = load("tiny", ["rollout.workers=2", "rollout.max_groups=8", "rollout.samples=4", "run.seed=9"])
    made = vote_plan(config, template("compact"), 6)
    assert (made.k, made.seed, made.temperature, made.max_new_tokens) == (6, 9, 0.5, 64)
    assert made.wave == 2 * 64 // 8
    assert vote_plan(config, template("compact"), 1000).wave == 1
    assert vote_plan(load("tiny", ["eval.both_orders=false"]), template("compact"), 0).both_orders is False
