"""Rollout actors as a judge, with threads for actors: a worker that dies, stops or leaves takes no answer with it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from actors.generator import Request
from buffer.messages import Completion
from configs.load import load
from launch.cluster import calls
from launch.cluster.actor_group import State
from launch.cluster.failures import FinalError, RunFailed
from launch.cluster.stage_actors import StageActors
from launch.judging.engine_judge import EngineJudge
from launch.judging.protocol import Answer, JudgeRequest, NotJudged
from tests.launch.cluster.local_ray import LocalActor, LocalCluster, LocalRay, RayError, local_group, up


class FakeTokenizer:
    """A token for each character."""

    def escape_special_tokens(self, text: str) -> str:
        return text

    def encode(self, message: str) -> tuple[int, ...]:
        return tuple(map(ord, message))


class Worker:
    """A rollout actor that judges at once, or as the test sets it."""

    def __init__(
        self,
        *,
        dies: bool = False,
        slow: bool = False,
        refuses: bool = False,
        version: int = 3,
        starts: str = "",
        next_starts: str = "",
    ) -> None:
        self.dies, self.slow, self.version, self.starts, self.next_starts = dies, slow, version, starts, next_starts
        self.refuses = refuses
        self.asked: list[str] = []
        self.stopped = threading.Event()
        self._requests: list[Request] = []

    def __ray_ready__(self) -> None:
        """Answers when it can."""

    def ready(self) -> str:
        if self.starts == "never":
            raise RuntimeError("no room")
        if self.starts == "late":
            assert self.stopped.wait(10)
        return "ready"

    def judge(self, requests: Sequence[Request], version: int) -> None:
        self._requests = list(requests)
        self.asked += [text(request) for request in requests]

    def judged(self, seconds: float) -> list[tuple[Completion, ...]] | int:
        if self.refuses:
            raise ValueError("no such prompt")
        if self.dies:
            raise RayError("the engine ended")
        if self.slow:
            time.sleep(min(seconds, 0.05))
            return 0
        return [(completion(text(request), self.version),) * request.samples for request in self._requests]


def text(request: Request) -> str:
    return "".join(map(chr, request.token_ids))


def completion(words: str, version: int) -> Completion:
    return Completion(token_ids=(1, 2), logprobs=(-0.1, -0.1), versions=(2, version), text=f"on {words}", finish="stop")


def request(message: str, samples: int = 1) -> JudgeRequest:
    return JudgeRequest(message=message, samples=samples, temperature=0.0, max_new_tokens=8, seed=1)


REQUESTS = [request(letter) for letter in "abcdef"]
Stage = Callable[..., tuple[StageActors, list[Worker]]]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Makes a stage of these workers; each that is replaced is followed by a healthy one. All workers are in the list."""
    monkeypatch.setattr(calls, "ray", LocalRay)
    monkeypatch.setattr(calls, "SLICE_S", 0.05)
    made: list[LocalActor] = []

    def of(*first: Worker, overrides: Sequence[str] = ()) -> tuple[StageActors, list[Worker]]:
        workers: list[Worker] = []
        config = load("tiny", ["cluster.restarts=2", "waits.judge_s=5", *overrides])
        actors = StageActors(LocalCluster(), config, model="m", note=print)  # type: ignore[arg-type]

        def maker(worker: Worker) -> Callable[[], dict[str, LocalActor]]:
            lives = iter([worker])

            def make() -> dict[str, LocalActor]:
                followed = Worker(dies=worker.dies and worker.slow, starts=worker.next_starts)
                workers.append(next(lives, followed))
                made.append(LocalActor(workers[-1]))
                return {f"rollout-{len(made)}": made[-1]}

            return make

        actors.rollout_groups = [up(local_group("a rollout actor", maker(worker), lambda gone: None)) for worker in first]
        actors.watch = lambda: None  # type: ignore[method-assign]  # there are no heartbeats
        return actors, workers

    yield of
    for actor in made:
        actor.end()


def judge(actors: StageActors) -> EngineJudge:
    return EngineJudge(actors._config, actors=actors, tokenizer=FakeTokenizer(), version=2)  # type: ignore[arg-type]


def texts(answers: Sequence[tuple[Answer, ...] | NotJudged]) -> list[str]:
    return [answered[0].text for answered in answers if isinstance(answered, tuple)]


ALL = [f"on {letter}" for letter in "abcdef"]


def test_workers_share_the_asks_and_answers_come_in_their_order(stage: Stage) -> None:
    actors, workers = stage(Worker(), Worker())
    answers = judge(actors).judge(REQUESTS)
    assert texts(answers) == ALL
    assert [worker.asked for worker in workers] == [["a", "c", "e"], ["b", "d", "f"]]
    assert answers[0] == (Answer(text="on a", tokens=2, finish="stop", version=3),), "the newest version behind it"


def test_a_prompt_that_is_too_long_is_an_error_among_the_answers(stage: Stage) -> None:
    actors, _ = stage(Worker())
    first, second = judge(actors).judge([request("x" * 5000), request("b", samples=2)])
    assert isinstance(first, NotJudged)
    assert "a prompt of 5000 tokens, the limit is" in str(first)
    assert isinstance(second, tuple)
    assert len(second) == 2


def test_what_a_dead_worker_was_asked_is_asked_of_another(stage: Stage) -> None:
    actors, workers = stage(Worker(), Worker(dies=True))
    assert texts(judge(actors).judge(REQUESTS)) == ALL
    assert sorted(workers[0].asked) == list("abcdef"), "the one that lives took over, and nothing was asked of it twice"


def test_a_worker_that_died_is_replaced_before_the_next_asks(stage: Stage) -> None:
    actors, workers = stage(Worker(), Worker(dies=True))
    engines = judge(actors)
    assert texts(engines.judge(REQUESTS)) == ALL
    calls.answers([ref for group in actors.rollout_groups for ref in group.ready_calls], limit_s=60, what="the replacement")
    workers[0].asked.clear()
    assert texts(engines.judge(REQUESTS)) == ALL
    assert [sorted(worker.asked) for worker in workers] == [["a", "c", "e"], ["b", "d", "f"], ["b", "d", "f"]]


def test_the_others_go_on_while_a_replacement_starts(stage: Stage) -> None:
    actors, workers = stage(Worker(), Worker(dies=True, next_starts="late"))
    engines = judge(actors)
    for _ in range(2):
        assert texts(engines.judge(REQUESTS)) == ALL
    assert actors.rollout_groups[1].state is State.MAKING
    assert not workers[2].asked
    workers[2].stopped.set()


def test_many_workers_that_die_at_once_end_nothing_while_one_lives(stage: Stage) -> None:
    actors, _ = stage(*(Worker(dies=True) for _ in range(4)), Worker())  # as with their node; cluster.restarts is 2
    pending = judge(actors).begin(REQUESTS)
    assert until_answered(pending) == ALL
    assert len(pending.lost) == 4


def test_replacements_that_fail_to_start_end_it(stage: Stage) -> None:
    actors, workers = stage(Worker(dies=True, next_starts="never"))
    with pytest.raises(RunFailed, match=r"a rollout actor failed 3 times in a row .*\(cluster.restarts = 2\); .*no room"):
        judge(actors).judge(REQUESTS)
    assert len(workers) == 4


def test_the_only_worker_is_replaced_when_it_dies(stage: Stage) -> None:
    actors, workers = stage(Worker(dies=True))
    assert texts(judge(actors).judge(REQUESTS)) == ALL
    assert len(workers) == 2


def test_a_worker_that_stops_answering_is_ended_by_its_heartbeat_and_replaced(stage: Stage) -> None:
    actors, workers = stage(Worker(slow=True))
    stopped = actors.rollouts[0]
    actors.watch = lambda: actors.end_rollout(stopped)  # type: ignore[method-assign]  # as after `waits.heartbeat_s`
    assert texts(judge(actors).judge(REQUESTS)) == ALL
    assert len(workers) == 2


def test_workers_that_die_of_it_again_and_again_end_it(stage: Stage) -> None:
    actors, _ = stage(Worker(dies=True, slow=True))  # and so do those that follow it
    with pytest.raises(RunFailed, match=r"3 rollout actors died in a row under one request to judge \(cluster.restarts = 2\)"):
        judge(actors).judge(REQUESTS)


def test_a_final_error_of_a_worker_ends_it_at_once_and_names_the_worker(stage: Stage) -> None:
    """While training, too: `Training` leaves an evaluation out after RunFailed and TimeoutError only."""
    actors, workers = stage(Worker(refuses=True), Worker())
    with pytest.raises(FinalError, match=r"^a rollout actor: ValueError: no such prompt$"):
        judge(actors).judge(REQUESTS)
    assert len(workers) == 2, "none was made again"


def test_answers_that_do_not_come_are_a_timeout_that_counts_them(stage: Stage) -> None:
    actors, _ = stage(Worker(slow=True), overrides=["waits.judge_s=0.2"])
    with pytest.raises(TimeoutError, match=r"the driver waited 0 s for 6 of 6 prompts to be judged \(waits.judge_s\)"):
        judge(actors).judge(REQUESTS)


def until_answered(pending: Any) -> list[str]:
    """As the training loop does between two polls."""
    deadline = time.monotonic() + 60
    while (answers := pending.advance(0.0)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return texts(answers)


def test_a_worker_that_drains_meanwhile_takes_nothing_with_it(stage: Stage) -> None:
    actors, workers = stage(Worker(), Worker(slow=True))
    pending = judge(actors).begin(REQUESTS)
    assert pending.advance(0.0) is None
    actors.rollout_groups[1].drain()
    assert until_answered(pending) == ALL
    assert sorted(workers[0].asked) == list("abcdef")


def test_asks_wait_for_a_worker_while_there_is_none(stage: Stage) -> None:
    actors, workers = stage(Worker())
    actors.rollout_groups[0].replace()
    pending = judge(actors).begin(REQUESTS)
    assert [pending.advance(0.0) for _ in range(3)] == [None] * 3
    assert pending.pending == []
    actors.rollout_groups[0].mark_ready()
    assert until_answered(pending) == ALL
    assert workers[0].asked == []
