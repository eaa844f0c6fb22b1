"""What the meta-RM thinks of votes: asked by permutation, kept on disk, put back in the order of the samples."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.load import load
from launch.cluster import calls
from launch.judging import meta_scores as module
from launch.judging.meta_scores import COMPLETIONS, meta_scores, start_scorers
from learner.meta_scorer import MetaScorer
from tests.launch.judging.fake_judge import PREFERENCES, FakeJudge, collect, digest, vote_plan_of


class FakeTokenizer:
    """In place of the meta-RM's tokenizer: texts are kept as texts, so that the fake scorer can look at them."""

    def escape_special_tokens(self, text: str) -> str:
        return text

    def encode(self, message: str) -> tuple[str, ...]:
        return (message,)

    def completion(self, text: str, *, ended: bool) -> tuple[str, bool]:
        return text, ended


class FakeScorer:
    """In place of a `MetaScorer` actor: the logit of a judgement is a digest of its text. `asked` counts completions."""

    def __init__(self, batches: int = 10**6) -> None:
        self.left, self.asked, self.prompts, self.ended = batches, list[str](), list[str](), list[bool]()
        self.score = self  # scorer.score.remote(...)

    def remote(self, asked: Sequence[Any]) -> Callable[[], list[list[float]]]:
        def answer() -> list[list[float]]:
            if not self.left:
                raise TimeoutError("the driver waited 3 s for the meta-RM to score (waits.judge_s)")
            self.left -= 1
            self.prompts += [prompt for (prompt,), _ in asked]
            self.asked += [text for _, completions in asked for text, _ in completions]
            self.ended += [ended for _, completions in asked for _, ended in completions]
            return [[logit(text) for text, _ in completions] for _, completions in asked]

        return answer


def logit(text: str) -> float:
    return digest(text) * 0.25 - int(text.split()[2])


def meta(folder: Path, scorers: Sequence[FakeScorer], rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    return meta_scores(
        scorers,
        FakeTokenizer(),
        vote_plan_of(k=8),
        PREFERENCES,
        rows,
        path=folder / "meta.jsonl",
        timeout_s=3.0,  # type: ignore[arg-type]
    )


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that began last answers first, and two preferences are a call."""

    def next_answer(refs: Sequence[Any], *, limit_s: float, what: str) -> tuple[Any, Any]:
        assert (limit_s > 0, what) == (True, "the meta-RM to score (waits.judge_s)")
        return refs[-1], refs[-1]()

    monkeypatch.setattr(calls, "next_answer", next_answer)
    monkeypatch.setattr(module, "COMPLETIONS", 2 * 10)


class FakeCluster:
    """Starts actors: the `ready.remote()` of each is its number."""

    def __init__(self, gpus: int) -> None:
        self.gpus, self.started, self.awaited = gpus, list[tuple[Any, dict[str, Any]]](), list[dict[Any, str]]()

    def remote(self, kind: type, **arguments: Any) -> SimpleNamespace:
        number = len(self.started)
        self.started.append((kind, arguments))
        return SimpleNamespace(ready=SimpleNamespace(remote=lambda: number))

    def await_all(self, waiting: dict[Any, str]) -> None:
        self.awaited.append(waiting)


@pytest.mark.parametrize(("gpus", "count"), [(0, 1), (1, 1), (3, 3)])
def test_a_scorer_is_started_on_each_gpu_and_awaited(gpus: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Tokenizer", lambda model, thinking: f"tokenizer of {model}, thinking {thinking}")
    cluster, config = FakeCluster(gpus), load("tiny", [])
    scorers, tokenizer = start_scorers(cluster, config, "folder")
    assert (len(scorers), tokenizer) == (count, "tokenizer of folder, thinking False")
    assert cluster.started == [(MetaScorer, {"gpus": 1, "config": config, "model_path": "folder"})] * count
    assert cluster.awaited == [{number: f"meta-RM scorer {number}" for number in range(count)}]


@pytest.mark.usefixtures("no_ray")
def test_logits_are_in_the_order_of_the_samples(tmp_path: Path) -> None:
    rows = collect(tmp_path, FakeJudge(), k=8)
    scorer = FakeScorer()
    scores = meta(tmp_path, [scorer], rows)
    assert scores == {row["id"]: [logit(sample["text"]) for sample in row["samples"]] for row in rows}
    assert Counter(scorer.asked) == Counter(sample["text"] for row in rows for sample in row["samples"])
    orders = [len({tuple(sample["permutation"]) for sample in row["samples"]}) for row in rows]
    assert len(scorer.prompts) == sum(orders), "a prompt for each permutation"
    assert scorer.prompts[0] == vote_plan_of().message(PREFERENCES[0].question, rows[0]["samples"][0]["permutation"])


@pytest.mark.usefixtures("no_ray")
def test_a_completion_that_was_cut_is_scored_without_an_end(tmp_path: Path) -> None:
    (row, *_) = collect(tmp_path, FakeJudge(), PREFERENCES[:1], k=8)
    row["samples"][0]["finish"] = "length"
    scorer = FakeScorer()
    meta_scores(
        [scorer],
        FakeTokenizer(),
        vote_plan_of(k=8),
        PREFERENCES[:1],
        [row],
        path=tmp_path / "m",
        timeout_s=1,  # type: ignore[arg-type]
    )
    assert Counter(scorer.ended) == {True: 9, False: 1}


@pytest.mark.usefixtures("no_ray")
def test_what_was_scored_is_not_scored_again(tmp_path: Path) -> None:
    rows = collect(tmp_path, FakeJudge(), k=8)
    rows[4] = {"id": "e", "error": "the server said no"}
    first, second, third = FakeScorer(batches=1), FakeScorer(), FakeScorer()
    with pytest.raises(TimeoutError, match=r"waited 3 s for the meta-RM to score \(waits.judge_s\)"):
        meta(tmp_path, [first], rows)
    scores = meta(tmp_path, [second], rows)
    assert list(scores) == list("abcd"), "what has no judgement has no score"
    assert len(first.asked) == 2 * 10
    assert second.asked == [sample["text"] for row in rows[2:4] for sample in in_turn(row)]
    assert meta(tmp_path, [third], rows) == scores
    assert third.asked == []


@pytest.mark.usefixtures("no_ray")
def test_preferences_are_dealt_to_all_scorers_and_each_gets_the_next_when_it_has_answered(tmp_path: Path) -> None:
    rows = collect(tmp_path, FakeJudge(), k=8)
    slow, quick = FakeScorer(), FakeScorer()  # the one that began last answers first: `slow` has its first call to the end
    scores = meta(tmp_path, [slow, quick], rows)
    (tmp_path / "alone").mkdir()
    assert scores == meta(tmp_path / "alone", [FakeScorer()], rows)
    assert list(scores) == [row["id"] for row in rows]
    judgements = [len(row["samples"]) for row in rows]
    assert (len(slow.asked), len(quick.asked)) == (sum(judgements[:2]), sum(judgements[2:]))


def test_a_call_holds_whole_preferences_of_about_so_many_completions() -> None:
    missing: Any = [(None, {"samples": [None] * count}) for count in (COMPLETIONS, 1, COMPLETIONS - 1, 1)]
    assert [[len(row["samples"]) for _, row in shard] for shard in module._shards(missing)] == [
        [COMPLETIONS],
        [1, COMPLETIONS - 1],
        [1],
    ]


def in_turn(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The samples of a row by permutation, in the order in which these come first."""
    orders = list(dict.fromkeys(tuple(sample["permutation"]) for sample in row["samples"]))
    return sorted(row["samples"], key=lambda sample: orders.index(tuple(sample["permutation"])))


@pytest.mark.usefixtures("no_ray")
def test_scores_of_other_judgements_are_not_used(tmp_path: Path) -> None:
    """`judgements.jsonl` was removed and made anew, the file of the scores was left."""
    rows = collect(tmp_path, FakeJudge(), k=8)
    meta(tmp_path, [FakeScorer()], rows)
    (tmp_path / "judgements.jsonl").unlink()
    fresh = collect(tmp_path, FakeJudge(), k=8, seed=2)
    assert meta(tmp_path, [FakeScorer()], fresh) == {
        row["id"]: [logit(sample["text"]) for sample in row["samples"]] for row in fresh
    }
