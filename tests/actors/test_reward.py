"""The reward actor on a real server: labels join, the rule speaks, the permutation is undone."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
import redis

from actors import reward
from actors.reward import RewardActor, RewardReport
from buffer.ledger import Cursor, Ledger, Offer
from buffer.messages import CodecError, Completion, ExperienceGroup, Prompt, RolloutGroup, View, decode, encode
from buffer.streams import EXPERIENCE, GRPO, PROMPTS, ROLLOUT, ROLLOUTS, Address, Consumer, dead_letters, lengths
from configs.load import load
from configs.schema import Config
from grm.preferences import Preference, Question

CONFIG = load("tiny")
CUT = "…"
PREFERENCES = [
    Preference(question=Question(id="two", query="q", responses=("a", "b")), label=1, subset="s"),
    Preference(question=Question(id="three", query="q", responses=("a", "b", "c")), label=0, subset="s"),
    Preference(question=Question(id="one", query="q", responses=("a",)), label=0, subset="s"),
]


def judgement(*scores: int) -> str:
    return f"Specific Criteria: brevity 70%\nAnalysis: fine.\nScores: \\boxed{{{', '.join(map(str, scores))}}}"


def completion(text: str) -> Completion:
    """A text that ends with CUT was cut there."""
    finish: Literal["stop", "length"] = "length" if text.endswith(CUT) else "stop"
    text = text.removesuffix(CUT)
    return Completion(token_ids=(5, 6), logprobs=(-0.1, -0.2), versions=(4, 4), text=text, finish=finish)


def roll(client: redis.Redis, address: Address, preference: str, permutation: tuple[int, ...], *texts: str) -> int:
    """Put a rollout group on the stream as a rollout actor would: all its completions have read one order."""
    return roll_views(client, address, preference, (permutation, texts))


def roll_views(client: redis.Redis, address: Address, preference: str, *views: tuple[tuple[int, ...], Sequence[str]]) -> int:
    """The same for a group of several orders, each with its completions."""
    ledger = Ledger(client, address.run_id)
    group = ledger.cursor().group
    asked = tuple(
        View(permutation=permutation, token_ids=(number,), samples=len(texts))
        for number, (permutation, texts) in enumerate(views, start=1)
    )
    prompt = Prompt(group=group, preference=preference, views=asked, issued_at=0)
    completions = tuple(completion(text) for _, texts in views for text in texts)
    ledger.issue([Offer(group=group, payload=encode(prompt), after=Cursor(group=group + 1))], version=0, limit=100)
    worker = Consumer(client, address.run_id, PROMPTS, ROLLOUT, "test", claim_timeout_s=60)
    (entry,) = worker.claim(1, block_s=0)
    worker.hand_off(entry, ROLLOUTS, encode(RolloutGroup(prompt=prompt, completions=completions)))
    return group


def actor(address: Address, config: Config = CONFIG) -> RewardActor:
    return RewardActor(config=config, name="reward-0", address=address, preferences=PREFERENCES)


def score_all(worker: RewardActor, client: redis.Redis, address: Address) -> list[RewardReport]:
    """The reports of as many slices as it takes until no rollout waits."""
    reports, deadline = [worker.work(0.05)], time.monotonic() + 60
    while lengths(client, address.run_id)["rollouts"]:
        assert time.monotonic() < deadline
        reports.append(worker.work(0.05))
    return reports


def scored(client: redis.Redis, address: Address) -> list[ExperienceGroup]:
    reader = Consumer(client, address.run_id, EXPERIENCE, GRPO, "test", claim_timeout_s=None)
    return [decode(entry.payload, ExperienceGroup) for entry in reader.claim(100, block_s=0)]


def test_the_rule_is_applied_in_the_preferences_own_order(client: redis.Redis, address: Address) -> None:
    # label 1; shown (1, 0): the first score belongs to response 1
    roll(client, address, "two", (1, 0), judgement(9, 2), judgement(2, 9), judgement(5, 5), "Scores: none")
    roll(client, address, "two", (0, 1), judgement(9, 2), judgement(2, 9), judgement(5, 5), "Scores: none")
    reports = score_all(actor(address), client, address)
    first, second = scored(client, address)
    assert first.rewards == (1.0, -1.0, -1.0, -1.0)
    assert second.rewards == (-1.0, 1.0, -1.0, -1.0)
    assert first.failures == ("", "", "", "no_box")
    assert first.completion_ids == ((5, 6),) * 4
    assert first.versions == ((4, 4),) * 4
    assert second.failures == ("", "", "", "no_box")
    assert (sum(report.completions for report in reports), sum(report.lost for report in reports)) == (8, 0)


def test_each_completion_is_mapped_back_through_the_order_that_it_read(client: redis.Redis, address: Address) -> None:
    """Who says "the second" whatever it reads is right in one order and wrong in the other: on average nothing is gained."""
    second, first = judgement(2, 9), judgement(9, 2)
    roll_views(client, address, "two", ((0, 1), [second, second, first]), ((1, 0), [second, judgement(5, 5)]))
    score_all(actor(address), client, address)
    (group,) = scored(client, address)
    assert group.rewards == (1.0, 1.0, -1.0, -1.0, -1.0)
    assert group.picks == (1, 1, 0, 0, None)
    assert group.places == (1, 1, 0, 1, None)
    assert (group.responses, group.prompt_ids, group.samples) == (2, ((1,), (2,)), (3, 2))


def test_three_responses_are_mapped_back_through_their_own_orders(client: redis.Redis, address: Address) -> None:
    roll_views(client, address, "three", ((2, 0, 1), [judgement(1, 9, 2)]), ((1, 0, 2), [judgement(1, 2, 9)]))
    score_all(actor(address), client, address)
    (group,) = scored(client, address)
    assert group.rewards == (1.0, -1.0)
    assert (group.picks, group.places) == ((0, 2), (1, 2))


def test_single_responses_are_scored_zero_or_one(client: redis.Redis, address: Address) -> None:
    roll(client, address, "one", (0,), judgement(0), judgement(1), judgement(7))
    score_all(actor(address), client, address)
    (group,) = scored(client, address)
    assert group.rewards == (1.0, -1.0, -1.0)
    assert group.failures == ("", "", "out_of_range")
    assert group.picks == group.places == (None,) * 3


def test_the_wrong_number_of_scores_is_no_judgement(client: redis.Redis, address: Address) -> None:
    roll(client, address, "three", (2, 0, 1), judgement(1, 9, 2), judgement(9, 1), judgement(1, 2, 3, 4))
    reports = score_all(actor(address), client, address)
    (group,) = scored(client, address)
    assert group.rewards == (1.0, -1.0, -1.0)  # shown position 1 is response 0, the label
    assert group.failures == ("", "wrong_count", "wrong_count")
    assert sum(report.completions for report in reports) == 3


def test_a_completion_that_was_cut_is_a_failure_whatever_it_says(client: redis.Redis, address: Address) -> None:
    """Cut before the scores it may hold another box; behind them it is right, but no example to follow."""
    midway = "Analysis: x - 1 = 0, so the answer is \\boxed{1}. Now the resp"
    roll(client, address, "one", (0,), midway, judgement(0) + CUT, judgement(0) + "\nmore" + CUT, judgement(0) + "\nmore")
    score_all(actor(address), client, address)
    (group,) = scored(client, address)
    assert group.rewards == (-1.0, -1.0, -1.0, 1.0)
    assert group.failures == ("no_scores", "cut_short", "cut_short", "")
    assert group.truncated == (False, True, True, False)


def test_groups_of_one_reward_carry_no_gradient(client: redis.Redis, address: Address) -> None:
    roll(client, address, "two", (0, 1), judgement(1, 2), judgement(3, 9))
    roll(client, address, "two", (0, 1), judgement(2, 1), "?")
    score_all(actor(address), client, address)
    groups = scored(client, address)
    assert [group.rewards for group in groups] == [(1.0, 1.0), (-1.0, -1.0)]
    assert [group.informative for group in groups] == [False, False]


def test_no_label_and_no_rollout_are_dead_letters_with_a_reason(client: redis.Redis, address: Address) -> None:
    roll(client, address, "unknown", (0, 1), judgement(1, 2))
    worker = actor(address)
    reports = score_all(worker, client, address)
    (letter,) = dead_letters(client, address.run_id)
    assert letter.reason == "no label for preference 'unknown'"
    assert sum(report.completions for report in reports) == 0
    assert Ledger(client, address.run_id).outstanding() == {}


def test_nothing_that_reaches_the_learner_holds_the_label_or_the_text(client: redis.Redis, address: Address) -> None:
    roll(client, address, "two", (1, 0), judgement(9, 2), judgement(1, 2))
    score_all(actor(address), client, address)
    (group,) = scored(client, address)
    assert not hasattr(group, "label")
    assert b"brevity" not in encode(group)


def test_the_size_of_a_scored_group_is_limited_by_the_config_and_not_by_the_codec(
    client: redis.Redis, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    roll(client, address, "two", (0, 1), judgement(9, 2))
    worker = actor(address)
    assert encode.__kwdefaults__ is not None
    monkeypatch.setitem(encode.__kwdefaults__, "max_bytes", 10)  # as if redis.max_entry_mb were above the codec's 64
    score_all(worker, client, address)
    assert [group.group for group in scored(client, address)] == [0]


def test_a_group_that_is_too_large_to_hand_on_is_a_dead_letter_that_names_the_setting(
    client: redis.Redis, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses_the_first(group: ExperienceGroup, *, max_bytes: int = 0) -> bytes:
        if group.group == 0:
            raise CodecError(f"payload: at most {max_bytes} bytes")
        return encode(group)

    roll(client, address, "two", (0, 1), judgement(9, 2))
    roll(client, address, "two", (0, 1), judgement(9, 2))
    worker = actor(address)
    monkeypatch.setattr(reward, "encode", refuses_the_first)
    score_all(worker, client, address)
    (letter,) = dead_letters(client, address.run_id)
    assert (letter.stream, letter.group) == (ROLLOUTS, 0)
    assert "redis.max_entry_mb" in letter.reason
    assert [group.group for group in scored(client, address)] == [1], "the next one is scored"
    assert Ledger(client, address.run_id).outstanding() == {1: 0}, "its credit refills"


def test_a_completion_that_ended_at_the_token_limit_is_marked(client: redis.Redis, address: Address) -> None:
    ledger = Ledger(client, address.run_id)
    views = (View(permutation=(0, 1), token_ids=(1,), samples=2),)
    prompt = Prompt(group=0, preference="two", views=views, issued_at=0)
    ledger.issue([Offer(group=0, payload=encode(prompt), after=Cursor(group=1))], version=0, limit=100)
    worker = Consumer(client, address.run_id, PROMPTS, ROLLOUT, "test", claim_timeout_s=60)
    (entry,) = worker.claim(1, block_s=0)
    whole = completion(judgement(1, 2))
    cut = Completion(token_ids=(5,), logprobs=(-0.1,), versions=(4,), text="Specific", finish="length")
    worker.hand_off(entry, ROLLOUTS, encode(RolloutGroup(prompt=prompt, completions=(whole, cut))))
    score_all(actor(address), client, address)
    (group,) = scored(client, address)
    assert group.truncated == (False, True)


def test_a_rule_of_the_users_own_rewards_what_the_policy_wrote(client: redis.Redis, address: Address, tmp_path: Path) -> None:
    right = "judged.scores and judged.scores[judged.label] > 5"
    text = f"def reward(judged):\n    return 0.25 * len(judged.critique) if {right} else -2\n"
    (tmp_path / "rules.py").write_text(text)
    worker = actor(address, load("tiny", [f"grpo.reward={tmp_path / 'rules.py'}:reward"]))
    roll(client, address, "two", (1, 0), judgement(9, 2), judgement(2, 9), "no scores")
    score_all(worker, client, address)
    (group,) = scored(client, address)
    assert group.rewards == (0.25 * len("fine."), -2, -2), "the label is response 1, which was shown first"
