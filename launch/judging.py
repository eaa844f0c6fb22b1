"""Our own engines as a judge: the rollout actors of a crew."""

from __future__ import annotations

from collections.abc import Sequence

import ray

from actors.engine import Request
from configs.schema import Config
from grm.preferences import Question
from launch.asking import Answer, Ask, NotJudged
from launch.crew import Crew
from launch.issuing import Tokenizer


class EngineJudge:
    """The rollout actors of a crew, under one policy version, at least `version`."""

    def __init__(self, config: Config, *, crew: Crew, tokenizer: Tokenizer, version: int) -> None:
        self._config, self._crew, self._tokenizer, self._version = config, crew, tokenizer, version

    def defuse(self, question: Question) -> Question:
        return self._tokenizer.defuse(question)

    def judge(self, asks: Sequence[Ask]) -> list[tuple[Answer, ...] | NotJudged]:
        """TimeoutError when an engine does not answer within `waits.judge_s`."""
        limit = self._config.max_prompt_tokens
        found: list[tuple[Answer, ...] | NotJudged] = []
        requests: dict[int, Request] = {}
        for place, ask in enumerate(asks):
            token_ids = self._tokenizer.encode(ask.message)
            found.append(NotJudged(f"a prompt of {len(token_ids)} tokens, the limit is {limit}: raise model.context"))
            if len(token_ids) <= limit:
                requests[place] = _request(ask, token_ids)
        actors = self._crew.rollouts
        shards = [list(requests)[i :: len(actors)] for i in range(len(actors))]
        refs = [
            actor.judge.remote([requests[place] for place in shard], self._version)
            for actor, shard in zip(actors, shards, strict=True)
        ]
        try:
            judged = ray.get(refs, timeout=self._config.waits.judge_s)
        except ray.exceptions.GetTimeoutError as error:
            waited = f"the driver waited {self._config.waits.judge_s:.0f} s for {len(requests)} prompts to be judged"
            raise TimeoutError(f"{waited} (waits.judge_s)") from error
        for shard, answers in zip(shards, judged, strict=True):
            for place, completions in zip(shard, answers, strict=True):
                found[place] = tuple(Answer(text=c.text, tokens=len(c.token_ids), finish=c.finish) for c in completions)
        return found


def _request(ask: Ask, token_ids: tuple[int, ...]) -> Request:
    return Request(
        token_ids=token_ids,
        samples=ask.samples,
        temperature=ask.temperature,
        max_new_tokens=ask.max_new_tokens,
        seed=ask.seed,
    )
