"""Fakes of the callers of a reward server: each with the time-out, the tries and the rule for errors that its own client has in
the version named. They ask a real server over HTTP; nothing of theirs is installed or copied here.

A caller's seconds are shortened by its `Pace`, so that the 180 s of OpenRLHF fit in a test.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp


class RolloutEnded(Exception):
    """What ends a rollout, or a whole run, in the trainer that raises it."""


@dataclass(frozen=True)
class Pace:
    """Seconds of a caller as seconds of the test."""

    limits: float = 1 / 90
    """Of its time-outs: 180 s are 2 s. Shorter ones would end a call that is well on a busy machine."""
    pauses: float = 1 / 1000
    """Of its pauses between tries."""

    def limit(self, seconds: float) -> float:
        return seconds * self.limits

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds * self.pauses)

    def total(self, seconds: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=self.limit(seconds))


@dataclass
class Ended:
    """How a call ended for the trainer."""

    reward: Any = None
    """What it trains on; None: the sample has no reward."""
    tries: int = 0
    """Requests that it sent."""
    raised: str = ""
    """What it raised; "" where it went on."""
    masked: bool = False
    """Whether the trainer leaves the sample out."""
    body: Any = None
    """The last whole answer."""


async def openrlhf(url: str, query: str, prompt: str, label: Any = None, *, pace: Pace = Pace()) -> Ended:
    """OpenRLHF 0.11.2: 180 s, 5 tries 1 s apart on any error, also 4xx; the last one is logged, and the reward stays None."""
    ended = Ended()
    for attempt in range(5):
        ended.tries += 1
        try:
            async with (
                aiohttp.ClientSession(timeout=pace.total(180)) as session,
                session.post(url, json={"query": [query], "prompts": [prompt], "labels": [label]}) as response,
            ):
                response.raise_for_status()
                body = await response.json()
                rewards = body["rewards"]
                ended.reward = rewards[0] if isinstance(rewards, list) else rewards
                for name, values in (body.get("extra_logs") or {}).items():
                    assert all(isinstance(each, int | float) for each in values), f"{name}: becomes a tensor"
                ended.body = body
                return ended
        except Exception as error:
            ended.body = repr(error)
            if attempt < 4:
                await pace.sleep(1)
    return ended


async def slime(
    url: str,
    prompt: Any,
    response: str,
    label: str | None = None,
    *,
    reward_key: str = "",
    pace: Pace = Pace(),
) -> Ended:
    """slime 624b824: 120 s, 10 tries, pauses of min(2^n, 30) s and some more, on any error; then it ends the rollout."""
    ended = Ended()
    async with aiohttp.ClientSession(timeout=pace.total(120)) as session:
        for attempt in range(10):
            ended.tries += 1
            try:
                async with session.post(url, json={"prompt": prompt, "response": response, "label": label}) as answer:
                    answer.raise_for_status()
                    ended.body = await answer.json()
                    ended.reward = ended.body[reward_key] if reward_key else ended.body
                    return ended
            except Exception as error:
                ended.raised = repr(error)
                if attempt < 9:
                    await pace.sleep(min(2**attempt, 30) + random.random())
    raise RolloutEnded(ended.raised)


async def miles(url: str, prompt: Any, response: str, label: str | None = None, *, pace: Pace = Pace()) -> Ended:
    """Miles 31f1ca9: the same body, a session for each call, aiohttp's 300 s, one try."""
    async with (
        aiohttp.ClientSession(timeout=pace.total(300)) as session,
        session.post(url, json={"prompt": prompt, "response": response, "label": label}) as answer,
    ):
        answer.raise_for_status()
        body = await answer.json()
        return Ended(reward=body, tries=1, body=body)


async def nemo_gym(url: str, body: dict[str, Any], *, pace: Pace = Pace(), enough: Callable[[], bool] = lambda: False) -> Ended:
    """NeMo-Gym: no total time-out; a lost connection is tried again every 0.5 s without end (`enough` ends it in a test), any
    other error three times; a row with a mask field is left out of the loss."""
    ended, others = Ended(), 0
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        while True:
            ended.tries += 1
            try:
                async with session.post(url, json=body) as answer:
                    ended.body = await answer.json()
                    if answer.status != 200:
                        raise RolloutEnded(f"HTTP {answer.status}: {ended.body}")
                    ended.reward = ended.body["reward"]
                    ended.masked = bool(ended.body.get("mask_sample")) or "_ng_failure_class" in ended.body
                    return ended
            except aiohttp.ClientConnectionError as error:
                if enough():
                    raise RolloutEnded("still waiting") from error
                await pace.sleep(0.5)
            except aiohttp.ClientError as error:
                others += 1
                if others == 3:
                    raise RolloutEnded(repr(error)) from error


async def verl_naive(compute_score: Callable[..., Awaitable[Any]], **arguments: Any) -> Ended:
    """verl's manager `naive`: no time-out; an exception of the function propagates and ends the run."""
    result = await compute_score(**arguments)
    return Ended(reward=result["score"] if isinstance(result, dict) else result, tries=1, body=result)


async def verl_rate_limited(compute_score: Callable[..., Awaitable[Any]], *, pace: Pace = Pace(), **arguments: Any) -> Ended:
    """verl's manager `rate_limited`: 300 s; a time-out or an exception becomes a score of 0.0 and a flag."""
    try:
        result = await asyncio.wait_for(compute_score(**arguments), pace.limit(300))
    except TimeoutError:
        return Ended(reward=0.0, tries=1, body={"timeout": True})
    except Exception as error:
        return Ended(reward=0.0, tries=1, body={"error": str(error)})
    return Ended(reward=result["score"] if isinstance(result, dict) else result, tries=1, body=result)


def verl_batch(results: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """verl's way to a batch: the keys of the first result are looked up in all."""
    return {key: [result[key] for result in results] for key in results[0]}


def trl_rewards(function: Callable[..., Any], prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
    """TRL 1.16, GRPO: a list of the right length, None becomes NaN and is left out of the weighted sum."""
    output = function(
        prompts=prompts, completions=completions, completion_ids=[[1]] * len(prompts), trainer_state=None,
        log_extra=lambda *_: None, log_metric=lambda *_: None, **columns,
    )  # fmt: skip
    if len(output) != len(completions):
        raise ValueError("a reward function returned the wrong number of rewards")
    return [float("nan") if reward is None else float(reward) for reward in output]


def trl_advantages(rewards: list[float], group: int) -> list[float]:
    """Advantages of groups of neighbours, unscaled; a sample without a reward has none (0), and no part in the mean."""
    advantages = []
    for start in range(0, len(rewards), group):
        judged = [each for each in rewards[start : start + group] if each == each]
        mean = sum(judged) / len(judged) if judged else 0.0
        advantages += [each - mean if each == each else 0.0 for each in rewards[start : start + group]]
    return advantages


async def areal(function: Callable[..., float], executor: Executor, *arguments: Any, pace: Pace = Pace(), **row: Any) -> Ended:
    """AReaL 1.0.4: an executor, 15 s, tried again three times; behind the last time-out a reward of 0, behind the last
    exception that exception."""
    ended = Ended()
    for attempt in range(4):
        ended.tries += 1
        future = asyncio.get_running_loop().run_in_executor(executor, partial(function, *arguments, **row))
        try:
            ended.reward = await asyncio.wait_for(future, pace.limit(15))
            return ended
        except TimeoutError:
            if attempt == 3:
                ended.reward = 0.0
        except Exception as error:
            if attempt == 3:
                raise RolloutEnded(repr(error)) from error
    return ended
