"""Our own engines as a judge: the rollout actors of a stage share the requests, beside the groups that they roll out.

requests ─▶ PendingRequests ─ a shard for each worker ─▶ rollout actors ─▶ answers
             ▲ a worker dies, drains or is replaced: its shard is asked again of another ┘
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.generator import Request
from configs.schema import Config
from launch.cluster import calls
from launch.cluster.actor_group import State
from launch.cluster.failures import ActorLost, FinalError, RunFailed
from launch.cluster.stage_actors import StageActors
from launch.judging.engine_requests import answer_of, encoded, engine_request
from launch.judging.protocol import Answer, JudgeRequest, NotJudged
from launch.setup.tokenizer import Tokenizer

Answers = list[tuple[Answer, ...] | NotJudged]


@dataclass(slots=True)
class _Shard:
    """What one worker was asked: places among the requests, and the calls that it has yet to answer."""

    actor: Any
    places: list[int]
    pending: list[Any] = field(default_factory=list)
    answered: int = 0
    """How many of them the worker has answered by now, and keeps until all are."""


class PendingRequests:
    """Requests under way on the rollout actors that are ready. `advance` takes what is there; somebody else mends the stage."""

    def __init__(
        self, config: Config, *, actors: StageActors, tokenizer: Tokenizer, version: int, requests: Sequence[JudgeRequest]
    ) -> None:
        """Sends nothing yet.

        Args:
            config: The run's.
            actors: The stage whose rollout actors judge.
            tokenizer: The policy's.
            version: Policy version that the first tokens are sampled under, at least.
            requests: What is asked.
        """
        self._config, self._actors, self._version = config, actors, version
        limit = config.max_prompt_tokens
        self._answers: Answers = []
        self._engine_requests: dict[int, Request] = {}
        for place, request in enumerate(requests):
            token_ids = encoded(tokenizer, request, limit)
            self._answers.append(token_ids if isinstance(token_ids, NotJudged) else NotJudged("not answered yet"))
            if not isinstance(token_ids, NotJudged):
                self._engine_requests[place] = engine_request(request, token_ids)
        self._left = list(self._engine_requests)  # places that no worker has
        self._shards: list[_Shard] = []
        self.lost: list[Any] = []
        """Actors that died under it; their groups may not have noticed yet."""
        self._deaths: Counter[int] = Counter()  # by place: workers that died with it
        self._last_answer_at = time.monotonic()

    @property
    def answered(self) -> int:
        """Requests that have an answer by now, those among them that a worker still keeps."""
        waiting = len(self._left) + sum(len(shard.places) - shard.answered for shard in self._shards)
        return len(self._answers) - waiting

    @property
    def pending(self) -> list[Any]:
        """The calls under way."""
        return [ref for shard in self._shards for ref in shard.pending]

    def advance(self, seconds: float) -> Answers | None:
        """Take the answers that are there, and ask again what a worker took with it.

        Args:
            seconds: How long a worker waits inside a call for its answers; 0 while it has other work between two calls.

        Returns:
            All answers in the order of the requests, or None while some are missing.

        Raises:
            FinalError: A worker failed for good; it is named.
            RunFailed: More than `cluster.restarts` workers died one after the other with the same request.
            TimeoutError: Nothing was answered for `waits.judge_s`.
        """
        ready = self._actors.rollouts
        for shard in list(self._shards):
            if shard.actor not in ready:
                self._take_back(shard)
            elif calls.is_over(shard.pending):
                self._collect(shard, seconds)
        if not self._left and not self._shards:
            return self._answers
        self._hand_out(seconds)
        self._check_progress()
        return None

    def _hand_out(self, seconds: float) -> None:
        busy = [*(shard.actor for shard in self._shards), *self.lost]
        free = [actor for actor in self._actors.rollouts if actor not in busy]
        left, self._left = (self._left, []) if free else ([], self._left)
        for i, actor in enumerate(free):
            places = left[i :: len(free)]
            if places:
                asked = actor.judge.remote([self._engine_requests[place] for place in places], self._version)
                self._shards.append(_Shard(actor, places, [asked, actor.judged.remote(seconds)]))

    def _collect(self, shard: _Shard, seconds: float) -> None:
        try:
            *_, completions = calls.values(shard.pending)
        except ActorLost as error:
            self._deaths.update(shard.places)
            deaths = max(self._deaths[place] for place in shard.places)
            if deaths > self._config.cluster.restarts:
                raise RunFailed(
                    f"{deaths} rollout actors died in a row under one request to judge (cluster.restarts ="
                    f" {self._config.cluster.restarts}); the last time: {error}"
                ) from error
            self._actors.end_rollout(shard.actor)
            self.lost.append(shard.actor)
            self._take_back(shard)
            return
        except FinalError as error:
            raise error.of("a rollout actor") from error
        if isinstance(completions, int):
            shard.answered = completions
            shard.pending = [shard.actor.judged.remote(seconds)]
            return
        self._shards.remove(shard)
        self._last_answer_at = time.monotonic()
        for place, samples in zip(shard.places, completions, strict=True):
            self._answers[place] = tuple(map(answer_of, samples))

    def _take_back(self, shard: _Shard) -> None:
        self._shards.remove(shard)
        self._left += shard.places
        self._last_answer_at = time.monotonic()

    def _check_progress(self) -> None:
        limit_s = self._config.waits.judge_s
        if not self._shards and any(group.state is State.MAKING for group in self._actors.rollout_groups):
            self._last_answer_at = time.monotonic()  # while it waits for a worker: `waits.start_s` limits that
        if time.monotonic() - self._last_answer_at > limit_s:
            missing = len(self._left) + sum(len(shard.places) for shard in self._shards)
            raise TimeoutError(
                f"the driver waited {limit_s:.0f} s for {missing} of {len(self._engine_requests)} prompts to be judged"
                " (waits.judge_s)"
            )


class EngineJudge:
    """A `Judge`: the rollout actors of a stage, under one policy version, at least `version`."""

    def __init__(
        self,
        config: Config,
        *,
        actors: StageActors,
        tokenizer: Tokenizer,
        version: int,
        answered: Callable[[int, int], None] = lambda answers, asked: None,
    ) -> None:
        """As `PendingRequests`.

        Args:
            answered: Gets how many of the requests that `judge` waits for are answered, and how many there are.
        """
        self._config, self._actors, self._tokenizer, self._version = config, actors, tokenizer, version
        self._answered = answered

    def escape_special_tokens(self, text: str) -> str:
        """Returns the text without special tokens of the policy's tokenizer."""
        return self._tokenizer.escape_special_tokens(text)

    def begin(self, requests: Sequence[JudgeRequest]) -> PendingRequests:
        """Returns requests that a caller with other work advances itself."""
        return PendingRequests(
            self._config, actors=self._actors, tokenizer=self._tokenizer, version=self._version, requests=requests
        )

    def judge(self, requests: Sequence[JudgeRequest]) -> Answers:
        """Returns the answers, waiting for them. Meanwhile workers that die are replaced, and the others go on.

        Errors as of `PendingRequests.advance` and `StageActors.replace_lost_rollouts`.
        """
        asked = self.begin(requests)
        self._actors.replace_lost_rollouts([])  # one that is ready by now takes its share from the start
        while (answers := asked.advance(calls.SLICE_S)) is None:
            self._actors.replace_lost_rollouts(asked.lost)
            self._actors.wait([*asked.pending, *self._actors.starting_rollouts])
            self._answered(asked.answered, len(requests))
        return answers
