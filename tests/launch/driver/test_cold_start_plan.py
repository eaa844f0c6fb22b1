"""What a cold start plans to sample: a pure function of the config and the data."""

import re

import pytest

from grm.preferences import Preference, Question
from launch.driver.cold_start_sampling import Planned, plan, row, verdict_counts
from launch.setup.model_files import TINY
from launch.setup.prompt_source import PromptSource, prompt_template
from launch.setup.tokenizer import Tokenizer
from tests.launch.driver.cold_start_plans import CONFIG, TRAIN, planned, settings


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(str(TINY))


def test_each_preference_is_sampled_without_a_hint_and_once_with_one(tokenizer: Tokenizer) -> None:
    groups = planned(tokenizer)
    assert sorted(group.key for group in groups) == sorted((p.question.id, hinted) for p in TRAIN for hinted in (False, True))
    assert {(group.hinted, samples(group)) for group in groups} == {(False, 3), (True, 1)}
    for group in groups:
        asked, plain = ([(v.permutation, v.samples) for v in draft.views] for draft in (group.asked, group.plain))
        assert asked == plain, "the judgement is learnt under what it was written for"
        assert group.asked.preference == group.plain.preference
        assert (group.asked == group.plain) is not group.hinted


def samples(group: Planned) -> int:
    return sum(view.samples for view in group.asked.views)


def orders(groups: list[Planned], preference: str) -> list[tuple[int, ...]]:
    """What each judgement of a preference reads, the hinted one last."""
    views = [view for group in groups if group.asked.preference == preference for view in group.asked.views]
    return [view.permutation for view in views for _ in range(view.samples)]


def test_the_four_judgements_of_a_pair_read_each_order_twice(tokenizer: Tokenizer) -> None:
    """Three plain and one hinted: whatever a judge's habit, it meets the best as often first as second."""
    groups = planned(tokenizer)
    for preference in TRAIN:
        read = orders(groups, preference.question.id)
        assert len(read) == 4
        if len(preference.question.responses) == 2:
            assert sorted(read) == [(0, 1), (0, 1), (1, 0), (1, 0)]
    firsts = {orders(groups, p.question.id)[0] for p in TRAIN if len(p.question.responses) == 2}
    assert len(firsts) == 2, "which order is read by two of three plain judgements is drawn"


def test_in_one_order_all_judgements_of_a_preference_read_the_same(tokenizer: Tokenizer) -> None:
    groups = planned(tokenizer, settings("rollout.orders=1"))
    assert all(len(set(orders(groups, p.question.id))) == 1 for p in TRAIN)


def test_the_plan_is_a_function_of_the_seed(tokenizer: Tokenizer) -> None:
    groups, other = planned(tokenizer), planned(tokenizer, settings("run.seed=1"))
    assert groups == planned(tokenizer)
    order, other_order = ([g.asked.preference for g in each if g.hinted] for each in (groups, other))
    assert sorted(order) == sorted(other_order)
    assert order != other_order
    assert order != [p.question.id for p in TRAIN]
    assert [g.asked.views[0].permutation for g in other] != [g.asked.views[0].permutation for g in groups]


def test_no_two_groups_share_a_seed_and_no_two_runs(tokenizer: Tokenizer) -> None:
    seeds = [group.seed for run in (0, 1) for group in planned(tokenizer, settings(f"run.seed={run}"))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_group_does_not_depend_on_the_others(tokenizer: Tokenizer) -> None:
    groups = {group.key: group for group in planned(tokenizer)}
    for overrides in (["cold_start.samples=0"], ["cold_start.hinted=false"], ["cold_start.preferences=5"]):
        for group in planned(tokenizer, settings(*overrides)):
            assert group == groups[group.key]


@pytest.mark.parametrize(("override", "hinted"), [("cold_start.samples=0", {True}), ("cold_start.hinted=false", {False})])
def test_either_kind_can_be_left_out(tokenizer: Tokenizer, override: str, hinted: set[bool]) -> None:
    groups = planned(tokenizer, settings(override))
    assert len(groups) == len(TRAIN)
    assert {group.hinted for group in groups} == hinted


def test_a_limit_takes_the_first_of_the_shuffled_order(tokenizer: Tokenizer) -> None:
    assert planned(tokenizer, settings("cold_start.preferences=4")) == planned(tokenizer)[:8]


def test_what_is_too_long_is_left_out_whole(tokenizer: Tokenizer) -> None:
    question = Question(id="long", query="q", responses=("word " * 2000, "x"))
    long = Preference(question=question, label=0, subset="s")
    groups = planned(tokenizer, train=[*TRAIN, long])
    assert {group.asked.preference for group in groups} == {p.question.id for p in TRAIN}


def test_what_is_too_long_with_its_hint_alone_is_left_out_alone(tokenizer: Tokenizer) -> None:
    train = TRAIN[:1]
    (plain,) = planned(tokenizer, settings("cold_start.hinted=false"), train)
    exact = PromptSource(
        [p.question for p in train],
        tokenizer=tokenizer,
        template=prompt_template(CONFIG),
        seed=CONFIG.run.seed,
        max_tokens=max(len(view.token_ids) for view in plain.plain.views),
        orders=CONFIG.rollout.orders,
    )
    assert plan(CONFIG, exact, train) == [plain]


def test_the_hint_names_the_shown_position_of_the_best_and_stands_in_no_plain_prompt(tokenizer: Tokenizer) -> None:
    by_id = {p.question.id: p for p in TRAIN}
    moved = 0
    for group in planned(tokenizer):
        preference = by_id[group.asked.preference]
        assert not any("Hint" in tokenizer.decode(view.token_ids) for view in group.plain.views)
        hints = [hint for v in group.asked.views for hint in re.findall(r"Hint: (.*)\.\n", tokenizer.decode(v.token_ids))]
        if not group.hinted:
            assert hints == []
        elif len(preference.question.responses) == 1:
            assert hints == [f"the response is {'right' if preference.label else 'wrong'}"]
        else:
            shown = group.asked.views[0].permutation.index(preference.label)
            assert hints == [f"Response {shown + 1} is the best"]
            moved += shown != preference.label
    assert moved, "or own position and shown position could not be distinguished"


def test_a_judgement_that_goes_on_behind_its_scores_is_not_kept(tokenizer: Tokenizer) -> None:
    group = next(group for group in planned(tokenizer) if len(group.plain.views[0].permutation) == 1)
    texts = ("Scores: \\boxed{1}\n\nUser: more", "Scores: \\boxed{1}", "Scores: \\boxed{0} and more")
    judged = [(0, (5, 6), text, reward, "") for text, reward in zip(texts, (1.0, 1.0, -1.0), strict=True)]
    written = row(group.plain, judged, ("kept", "kept", "wrong"), hinted=False)
    assert [c["verdict"] for c in written["completions"]] == ["rambling", "kept", "wrong"]
    written = row(group.plain, judged[:2], ("hinted_kept", "too_easy"), hinted=True)
    assert [c["verdict"] for c in written["completions"]] == ["rambling", "too_easy"]
    assert verdict_counts([written])["rambling"] == 1
