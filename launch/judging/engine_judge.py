"""Our own engines as a judge: the rollout actors of a actors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from actors.vllm_engine import Request
from buffer.messages import Completion
from configs.schema import Config
from launch.cluster.stage_actors import StageActors
from launch.judging.protocol import Answer, Ask, NotJudged
from launch.setup.tokenizer import Tokenizer


class EngineJudge:
    """The rollout actors of a actors, under one policy version, at least `version`."""

    def __init__(self, config: Config, *, actors: StageActors, tokenizer: Tokenizer, version: int) -> None:
        self._config, self._actors, self._tokenizer, self._version = config, actors, tokenizer, version

    def escape_special_tokens(self, text: str) -> str:
        return self._tokenizer.escape_special_tokens(text)

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
        for place, completions in self._actors.persist(lambda: self._sample(requests)):
            found[place] = tuple(Answer(text=c.text, tokens=len(c.token_ids), finish=c.finish) for c in completions)
        return found

    def _sample(self, requests: Mapping[int, Request]) -> list[tuple[int, tuple[Completion, ...]]]:
        """The completions of each request, with its place; the actors share the work."""
        actors = self._actors.rollouts
        shards = [list(requests)[i :: len(actors)] for i in range(len(actors))]
        refs = [
            actor.judge.remote([requests[place] for place in shard], self._version)
            for actor, shard in zip(actors, shards, strict=True)
        ]
        what = f"{len(requests)} prompts to be judged (waits.judge_s)"
        judged = self._actors.answers(refs, limit_s=self._config.waits.judge_s, what=what)
        return [pair for shard, answers in zip(shards, judged, strict=True) for pair in zip(shard, answers, strict=True)]


def _request(ask: Ask, token_ids: tuple[int, ...]) -> Request:
    return Request(
        token_ids=token_ids,
        samples=ask.samples,
        temperature=ask.temperature,
        max_new_tokens=ask.max_new_tokens,
        seed=ask.seed,
    )
