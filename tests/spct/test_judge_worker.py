"""The judge's thread: what is asked meanwhile is judged together, and every error reaches whoever asked."""

import threading
from collections.abc import Sequence

import pytest

from grm.preferences import Question
from grm.scored import Scored, not_judged
from spct.worker import Asked, Worker


class SlowJudge:
    """In place of a judge: it answers when the test lets it, and says what it was asked together."""

    start_s = 30.0

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.threads: set[int] = set()

    def open(self) -> "SlowJudge":
        self.threads.add(threading.get_ident())
        return self

    def judge(self, asked: Sequence[Asked]) -> list[Scored]:
        self.threads.add(threading.get_ident())
        self.batches.append([each.question.query for each in asked])
        self.begun.set()
        assert self.go.wait(30)
        if "bad" in self.batches[-1]:
            raise ValueError("bad was asked")
        return [not_judged(each.question.query) for each in asked]

    def close(self) -> None:
        self.threads.add(threading.get_ident())


def asked(*queries: str) -> list[Asked]:
    return [Asked(question=Question(id=query, query=query, responses=("a",)), votes=1, meta=False) for query in queries]


def test_what_is_asked_meanwhile_is_judged_together_in_one_thread() -> None:
    judge = SlowJudge()
    worker = Worker(judge)
    first = worker.ask(asked("1"))
    assert judge.begun.wait(30)
    others = [worker.ask(asked("2", "3")), worker.ask([]), worker.ask(asked("4"))]
    judge.go.set()
    assert [scored.error for scored in first.result(30)] == ["1"]
    assert [[scored.error for scored in future.result(30)] for future in others] == [["2", "3"], [], ["4"]]
    assert judge.batches == [["1"], ["2", "3", "4"]]
    worker.close()
    worker.close()
    assert len(judge.threads) == 1
    with pytest.raises(RuntimeError, match="the judge is closed; open it again"):
        worker.ask(asked("5"))


def test_an_error_reaches_whoever_asked_and_the_judge_goes_on() -> None:
    judge = SlowJudge()
    judge.go.set()
    worker = Worker(judge)
    with pytest.raises(ValueError, match="bad was asked"):
        worker.ask(asked("bad")).result(30)
    assert worker.ask(asked("good")).result(30)[0].error == "good"
    worker.close()


def test_what_was_asked_before_the_end_is_still_judged() -> None:
    judge = SlowJudge()
    worker = Worker(judge)
    futures = [worker.ask(asked("1")), worker.ask(asked("2"))]
    judge.go.set()
    worker.close()
    assert [future.result(0)[0].error for future in futures] == ["1", "2"]


def test_what_opening_raises_the_constructor_raises() -> None:
    class Broken(SlowJudge):
        def open(self) -> "SlowJudge":
            raise TimeoutError("no server")

    class Stuck(SlowJudge):
        start_s = 0.01

        def __init__(self) -> None:
            super().__init__()
            self.closed = threading.Event()

        def open(self) -> "SlowJudge":
            assert self.go.wait(30)
            return self

        def close(self) -> None:
            self.closed.set()

    with pytest.raises(TimeoutError, match="no server"):
        Worker(Broken())
    stuck = Stuck()
    with pytest.raises(TimeoutError, match=r"not open after 0 s \(waits.start_s\)"):
        Worker(stuck)
    stuck.go.set()
    assert stuck.closed.wait(30), "what opens later holds no engine for ever"
