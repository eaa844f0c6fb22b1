"""The adapters of trainers that call Python, against a real server over a fake core: what they hand to the trainer when the
judge is well, dead, late, or dies half-way, by the rules of each (`tests/launch/serving/trainers.py`)."""

import asyncio
import math
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from launch.serving.member import member
from launch.serving.native import native
from launch.serving.protocol import CohortMember, VerdictRequest
from spct import areal as areal_adapter
from spct import reward_client, swift, trl, verl
from spct import slime as slime_adapter
from spct.reward_client import NoVerdict, RewardClient
from spct.served import ServedJudge
from tests.fakes import SkippingClock
from tests.launch.serving.fake_service import FakeService, Live, called, first, live, not_now, rule, unreadable
from tests.launch.serving.trainers import (
    Pace,
    RolloutEnded,
    areal,
    trl_advantages,
    trl_rewards,
    verl_batch,
    verl_naive,
    verl_rate_limited,
)

MESSAGES = [{"role": "user", "content": "Name a prime."}]


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def server(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> Iterator[Live]:
    with live(service, native, member) as running:
        monkeypatch.setenv("SPCT_REWARD_URL", running.url)
        yield running
    verl._judge.cache_clear()
    areal_adapter._judge.cache_clear()


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked again is asked at once, until the clock has gone on by all that the client waits."""
    monkeypatch.setattr(reward_client, "time", SkippingClock())


# ---- verl ------------------------------------------------------------------------------------------------------------


def row(response: str, **kwargs: Any) -> dict[str, Any]:
    """What verl gives to a function for a sample of a row that `with_prompt` has made."""
    made = verl.with_prompt({"prompt": np.array(MESSAGES, dtype=object), "extra_info": {"index": 3}})
    info = made["extra_info"] | {"num_turns": 2, "rollout_reward_scores": {}}
    return {"data_source": "primes", "solution_str": response, "ground_truth": "7", "extra_info": info, "wait_s": 30, **kwargs}


def test_verl_judges_the_samples_of_a_prompt_beside_each_other(server: Live, service: FakeService) -> None:
    async def batch() -> list[Any]:
        return await asyncio.gather(*(verl_naive(verl.compute_score, **row("a" * count, group_size=3)) for count in (1, 2, 3)))

    ended = asyncio.run(batch())
    assert [each.reward for each in ended] == [1.0, 2.0, 3.0]
    assert service.judged == 1
    columns = verl_batch([each.body for each in ended])
    assert columns["share"] == [0.0, 0.0, 1.0]
    asked = service.requests[0]
    assert isinstance(asked, CohortMember)
    assert (asked.query, asked.size, len(asked.group)) == ("Name a prime.", 3, 16)


def test_verl_gets_an_exception_and_never_a_number(server: Live, service: FakeService, no_pauses: None) -> None:
    service.fail = not_now
    with pytest.raises(NoVerdict, match="no replica runs"):
        asyncio.run(verl_naive(verl.compute_score, **row("a")))
    limited = asyncio.run(verl_rate_limited(verl.compute_score, **row("a")))
    assert limited.reward == 0.0, "verl's own rule, for which docs/serving.md warns of this manager"
    assert "no replica runs" in limited.body["error"]
    server.kill()
    with pytest.raises(NoVerdict, match="no verdict within"):
        asyncio.run(verl_naive(verl.compute_score, **row("a")))


def test_verl_waits_for_a_server_that_starts_again(server: Live, service: FakeService) -> None:
    service.size = 2

    async def half_way() -> list[Any]:
        one = asyncio.create_task(verl_naive(verl.compute_score, **row("a", group_size=2)))
        await called(service, one)
        await asyncio.to_thread(server.kill)
        server.again()
        return await asyncio.gather(one, verl_naive(verl.compute_score, **row("aaa", group_size=2)))

    assert [each.reward for each in asyncio.run(half_way())] == [1.0, 3.0]
    assert service.judged == 1


def test_verl_rows_bring_their_prompt_and_group() -> None:
    text = verl.with_prompt({"prompt": "Name a prime.", "data_source": "primes"})
    assert text["extra_info"]["prompt"] == "Name a prime."
    one, other = (verl.with_prompt({"prompt": MESSAGES, "extra_info": {"index": index}})["extra_info"] for index in (1, 2))
    assert one["prompt"] == MESSAGES
    assert one[verl.GROUP] != other[verl.GROUP]
    assert one[verl.GROUP] == verl.with_prompt({"prompt": MESSAGES, "extra_info": {"index": 1}})["extra_info"][verl.GROUP]
    with pytest.raises(KeyError, match="add the query to the data set's extra_info"):
        asyncio.run(verl.compute_score("primes", "7", None, {}))


class Samples:
    """In place of verl's DataProto: rows of one sample, as its agent loop hands them over."""

    def __init__(self, text: str, *, uid: str, validate: bool = False, padding: int = 3) -> None:
        codes = [ord(each) for each in text]
        self.meta_info = {"validate": validate}
        self.batch = {
            "responses": np.array([*codes, *[0] * padding]),
            "attention_mask": np.array([1, 1, *[1] * len(codes), *[0] * padding]),
        }
        self.non_tensor_batch = {"raw_prompt": np.array(MESSAGES, dtype=object), "uid": uid}

    def __getitem__(self, place: Any) -> "Samples":
        return self


class Letters:
    """In place of a tokenizer: a letter is a token."""

    def decode(self, ids: Any, *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return "".join(map(chr, ids))


def test_verls_manager_sees_prompt_group_and_size_by_itself(server: Live, service: FakeService) -> None:
    config = {
        "reward": {"reward_kwargs": {"votes": 2, "wait_s": 30}},
        "actor_rollout_ref": {"rollout": {"n": 2, "val_kwargs": {"n": 1}}},
    }
    manager = verl.JudgeRewardManager(config, Letters(), None, reward_router_address=None, reward_model_tokenizer=None)

    async def run() -> list[Any]:
        two = (manager.run_single(Samples("a" * count, uid="u1")) for count in (2, 4))
        return await asyncio.gather(*two, manager.run_single(Samples("aaa", uid="u2", validate=True)))

    results = asyncio.run(run())
    assert [each["reward_score"] for each in results] == [2.0, 4.0, 3.0]
    assert len({tuple(each["reward_extra_info"]) for each in results}) == 1
    assert service.judged == 2
    members = [each for each in service.requests if isinstance(each, CohortMember)]
    assert sorted((each.group, each.size, each.response) for each in members) == [
        ("u1", 2, "aa"),
        ("u1", 2, "aaaa"),
        ("u2", 1, "aaa"),
    ]
    service.fail = unreadable
    with pytest.raises(NoVerdict, match="could be read"):
        asyncio.run(manager.run_single(Samples("a", uid="u3")))


# ---- TRL, ms-swift ---------------------------------------------------------------------------------------------------


def test_trl_asks_once_for_each_prompt(server: Live, service: FakeService) -> None:
    reward = trl.judge_reward(votes=8)
    prompts = ["p", "p", "p", "p", "q", "q", "q", "q"]
    completions = ["a" * count for count in (1, 2, 3, 4, 5, 6, 7, 8)]
    assert trl_rewards(reward, prompts, completions, answer=["7"] * 8) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [each.votes for each in service.requests if isinstance(each, VerdictRequest)] == [8, 8]
    turns = [[{"role": "assistant", "content": "aa"}], [{"role": "assistant", "content": "aaa"}]]
    assert trl_rewards(reward, [MESSAGES] * 2, turns) == [2, 3]
    assert trl_rewards(reward, ["p"], ["a"]) == [1], "AsyncGRPO: one group a call"


def test_trl_leaves_out_what_was_not_judged(server: Live, service: FakeService) -> None:
    calls = iter([unreadable, lambda: None])
    service.fail = lambda: next(calls)()
    rewards = trl_rewards(trl.judge_reward(), ["p", "p", "q", "q"], ["a", "aa", "a", "aa"])
    judged = [each for each in rewards if not math.isnan(each)]
    assert (len(judged), sorted(judged)) == (2, [1.0, 2.0]), "one of the groups has rewards"
    assert sorted(trl_advantages(rewards, 2)) == [-0.5, 0.0, 0.0, 0.5]


def test_trl_goes_on_without_rewards_when_the_judge_is_dead(server: Live, service: FakeService, no_pauses: None) -> None:
    server.kill()
    with pytest.warns(RuntimeWarning, match="none of 2 completions was judged.*ConnectionRefusedError"):
        rewards = trl_rewards(trl.judge_reward(wait_s=30), ["p", "p"], ["a", "aa"])
    assert all(map(math.isnan, rewards))
    assert trl_advantages(rewards, 2) == [0.0, 0.0]
    server.again()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trl_rewards(trl.judge_reward(), ["p", "p"], ["a", "aa"]) == [1.0, 2.0], "the next call asks again"


def test_what_comes_late_is_waited_for(server: Live, service: FakeService) -> None:
    service.late_s, service.fail = [0.3], first(2)
    assert trl_rewards(trl.judge_reward(wait_s=60), ["p"], ["aaa"]) == [3.0]
    assert service.judged == 1


def test_ms_swift_has_numbers_or_an_exception(server: Live, service: FakeService) -> None:
    reward = swift.JudgeReward(args=None)
    answered = [[*MESSAGES, {"role": "assistant", "content": "a"}], [*MESSAGES, {"role": "assistant", "content": "aa"}]]
    assert reward(["a", "aa"], messages=answered, solution=["7", "7"]) == [1.0, 2.0]
    assert reward(["aaa"], messages=[MESSAGES]) == [3.0]
    assert [each.responses for each in service.requests if isinstance(each, VerdictRequest)] == [("a", "aa"), ("aaa",)]
    with pytest.raises(ValueError, match="no column `messages`, which holds the prompts; the columns are solution"):
        reward(["a"], solution=["7"])
    service.fail = unreadable
    with pytest.warns(RuntimeWarning), pytest.raises(NoVerdict, match="1 of 1 completions were not judged"):
        reward(["aaaa"], messages=[MESSAGES])


# ---- AReaL, slime ----------------------------------------------------------------------------------------------------


def test_areal_gets_a_number_or_an_exception_within_its_time(
    server: Live, service: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert areal_adapter.DEADLINE_S < areal_adapter.WAIT_S < 15, "behind 15 s AReaL's reward is 0"
    pace = Pace(limits=1 / 3)
    prompt = "<|im_start|>user\nName a prime.<|im_end|>\n<|im_start|>assistant\n"
    with ThreadPoolExecutor(4) as pool:
        ended = asyncio.run(areal(areal_adapter.judge_reward, pool, prompt, "aaa<|im_end|>", [1], [2], pace=pace, answer="7"))
        assert (ended.reward, ended.tries) == (3.0, 1)
        asked = service.requests[0]
        assert isinstance(asked, CohortMember)
        assert (asked.query, asked.response, asked.size, asked.deadline_s) == ("Name a prime.", "aaa", 1, 10.0)
        areal_adapter._judge.cache_clear()
        monkeypatch.setattr(areal_adapter, "WAIT_S", 0.2)
        service.fail = not_now
        with pytest.raises(RolloutEnded, match="NoVerdict"):
            asyncio.run(areal(areal_adapter.judge_reward, pool, prompt, "aaaa", pace=pace, messages=MESSAGES))


def test_slime_sees_its_groups(server: Live, service: FakeService) -> None:
    samples = [SimpleNamespace(prompt=MESSAGES, response="a" * count, label=None) for count in (3, 1)]
    args = SimpleNamespace(rm_url=server.url)
    assert asyncio.run(slime_adapter.group_rewards(args, samples)) == [3.0, 1.0]
    assert service.judged == 1
    service.fail = unreadable
    with pytest.raises(NoVerdict, match="could be read"):
        asyncio.run(slime_adapter.group_rewards(args, [SimpleNamespace(prompt="p", response="aaaa")]))


# ---- the client ------------------------------------------------------------------------------------------------------


def test_a_verdict_arrives_whole(server: Live, service: FakeService) -> None:
    from spct.judge import question

    service.unread = 1
    asked = question("Name a prime.", ["a", "aaa"], criteria=["Be right."], reference="7")
    (scored,) = ServedJudge(client=RewardClient(url=server.url), deadline_s=9.0).score_many([asked], votes=2, meta=False)
    assert (scored.scores, scored.totals, scored.shares, scored.best) == ((1.0, 3.0), (1.0, 3.0), (0.0, 1.0), 1)
    assert [each.voted for each in scored.judgements] == [False, True]
    assert scored.judgements[1].critique == "Response 1 has some."
    request = service.requests[0]
    assert isinstance(request, VerdictRequest)
    assert (request.criteria, request.reference, request.deadline_s) == (("Be right.",), "7", 9.0)
    assert (request.votes, request.meta, rule("aaa")) == (2, False, 3)


def test_another_server_is_no_judge() -> None:
    from spct.served import scored_of, seen_of

    for answer in ({}, {"responses": [{"score": None}], "judgements": []}, [1]):
        with pytest.raises(NoVerdict, match="is this a reward server"):
            scored_of(answer)
        with pytest.raises(NoVerdict, match="is this a reward server"):
            seen_of(answer)
