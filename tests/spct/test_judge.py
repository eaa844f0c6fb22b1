"""A judge in Python, against a fake server; the same scores as `launch/evaluate.py`; and that an import costs nothing."""

import asyncio
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import spct
from configs.load import load
from grm.sources import load as load_preferences
from launch.evaluate import main
from launch.judging.prepared_judge import prepare
from launch.setup.judge_settings import settings_files, settings_of
from launch.setup.model_files import TINY
from launch.setup.tokenizer import Tokenizer
from spct.judge import question
from tests.launch.evaluation import ROWS, reply, rows
from tests.launch.judging.fake_server import FakeServer, Reply, failure
from tests.launch.whole_run import ROOT

PAIRS = load_preferences("tiny:1:4:2").preferences
GOOD, BAD = "a good answer", "a bad one"


@pytest.fixture
def server(judge_server: FakeServer) -> FakeServer:
    judge_server.reply = reply
    return judge_server


def opened(server: FakeServer, **more: object) -> spct.Judge:
    return spct.Judge(server.url, model="judge", **more)


def test_the_five_lines_of_the_readme(server: FakeServer) -> None:
    with opened(server) as judge:
        scored = judge.score("q", [BAD, GOOD], votes=8)
        assert scored.best == 1
        assert scored.shares == (0, 1)
        assert scored.scores == (2, 9)
        assert len(scored.judgements) == 8
        assert {judgement.order for judgement in scored.judgements} == {(0, 1), (1, 0)}
        assert judge.rank("q", [BAD, GOOD, "bad too"]) == (1, 0, 2)
        compared = judge.compare("q", GOOD, BAD)
        assert (compared.winner, compared.margin) == (0, 7)
        assert judge.score("q", [GOOD], votes=0).scores == (9,)
        assert judge.compute_score("data", GOOD, "", {"question": "q"}) == 9


def test_the_same_scores_as_an_evaluation_of_the_same_rows(server: FakeServer, tmp_path: Path) -> None:
    """The fake answers by the seed, so another seed, order or number of samples would show."""
    data, out = rows(tmp_path / "data.jsonl", *ROWS), tmp_path / "out"
    usual = ["--endpoint", server.url, "--model", "judge", "--data", data, "--out", str(out), "--k", "1,4"]
    assert main([*usual, "run.seed=3", "tracking.mode=disabled"]) == 0
    evaluated = sorted(json.dumps(body, sort_keys=True) for body in server.asked)
    server.asked.clear()
    questions = [preference.question for preference in load_preferences(data).preferences]
    with opened(server, seed=3) as judge:
        voted = judge.score_many(questions, votes=4)
        greedy = judge.score_many(questions, votes=0)
    assert sorted(json.dumps(body, sort_keys=True) for body in server.asked) == evaluated
    by_id = {row["id"]: row["samples"] for row in map(json.loads, (out / "judgements.jsonl").read_text().splitlines()[1:])}
    for each, votes, plain in zip(questions, voted, greedy, strict=True):
        wanted = [sample for sample in by_id[each.id] if sample["kind"] == "vote"]
        assert [judgement.text for judgement in votes.judgements] == [sample["text"] for sample in wanted]
        assert [judgement.scores and [*judgement.scores] for judgement in votes.judgements] == [s["scores"] for s in wanted]
        assert len(plain.judgements) == min(2, len(each.responses))
    assert any(not judgement.voted for scored in voted for judgement in scored.judgements), (
        "the fake breaks the format at times"
    )


def test_from_event_loops_and_inside_one(server: FakeServer) -> None:
    async def both() -> list[spct.Scored]:
        async with opened(server) as judge:
            assert judge.score("q", [GOOD], votes=1).scores == (9,), "as in a notebook"
            return await asyncio.gather(*(judge.score_async("q", [answer], votes=1) for answer in (GOOD, BAD)))

    assert [scored.scores for scored in asyncio.run(both())] == [(9,), (2,)]


def test_a_failure_is_never_a_number(server: FakeServer) -> None:
    server.reply = lambda body: failure(400, "too long") if "long" in body["messages"][0]["content"] else reply(body)
    with opened(server) as judge:
        lost, kept = judge.score_many([question("long", [GOOD]), question("q", [GOOD])], votes=1)
        assert (lost.scores, lost.shares, lost.best) == (None, None, None)
        assert "HTTP 400: too long" in lost.error
        assert kept.scores == (9,)
        assert judge.reward_fn()(["long", "q"], [GOOD, GOOD]) == [None, 9]
        for ask in (
            lambda: judge.rank("long", [GOOD, BAD]),
            lambda: judge.compare("long", GOOD, BAD),
            lambda: judge.compute_score("data", GOOD, "", {"question": "long"}),
        ):
            with pytest.raises(spct.NotJudged, match="too long"):
                ask()


def test_a_reward_function_outlives_an_outage_and_says_so(server: FakeServer) -> None:
    answers = server.reply = lambda body: reply({**body, "temperature": 0})
    with opened(server) as judge:
        rewards = judge.reward_fn()
        assert rewards(["q", "r"], [GOOD, BAD]) == [9, 2]
        server.reply = lambda body: failure(401, "restarting")
        with pytest.warns(RuntimeWarning, match="none of 2 completions was judged, .*HTTP 401: restarting"):
            assert rewards(["q", "r"], [GOOD, BAD]) == [None, None]
        server.reply = answers
        assert rewards(["q", "r"], [GOOD, BAD]) == [9, 2]


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    for options in ({"model": "judge"}, {}):
        with pytest.raises(spct.NotJudged, match="the address holds a user name or a password") as caught:
            spct.Judge("http://user:hidden@127.0.0.1:9/v1", **options)
        assert "hidden" not in str(caught.value)


def test_votes_that_were_answered_count_where_others_were_not(server: FakeServer) -> None:
    def good_first(body: dict[str, Any]) -> Reply:
        shown = body["messages"][0]["content"]
        return reply({**body, "temperature": 0}) if shown.index(GOOD) < shown.index(BAD) else failure(400, "too long")

    server.reply = good_first
    with opened(server) as judge:
        scored = judge.score("q", [BAD, GOOD], votes=8)
        assert scored.scores == (2, 9)
        assert scored.totals == (8, 36), "four votes of eight"
        assert len(scored.judgements) == 8
        missed = [judgement for judgement in scored.judgements if not judgement.voted]
        assert [judgement.order for judgement in missed] == [(0, 1)] * 4
        assert all("no answer: " in judgement.failure and "HTTP 400: too long" in judgement.failure for judgement in missed)


def test_a_mistake_of_one_caller_is_not_the_others(server: FakeServer) -> None:
    """What the worker judges together may be of several callers."""
    judging, go = threading.Event(), threading.Event()

    def slow(body: dict[str, Any]) -> Reply:
        judging.set()
        assert go.wait(30)
        return reply({**body, "temperature": 0})

    server.reply = slow

    async def all_of_them() -> list[Any]:
        async with opened(server) as judge:
            first = asyncio.create_task(judge.score_async("first", [GOOD], votes=1))
            await asyncio.to_thread(judging.wait, 30)
            others = [judge.score_async("q", [GOOD], votes=1), judge.score_async("q", [GOOD], votes=1, meta=True)]
            waiting = asyncio.gather(first, *others, return_exceptions=True)
            await asyncio.sleep(0)  # all have asked
            go.set()
            return await waiting

    first, second, third = asyncio.run(all_of_them())
    assert (first.scores, second.scores) == ((9,), (9,))
    assert isinstance(third, spct.ConfigError)
    assert "this judge has no meta-RM" in str(third)


def test_the_same_question_has_the_same_judgements_and_another_seed_has_others(server: FakeServer) -> None:
    server.reply = lambda body: reply({**body, "temperature": 0})
    with opened(server) as judge:
        judge.score("q", [GOOD, BAD], votes=2)
        judge.score("q", [GOOD, BAD], votes=2)
    with opened(server, seed=1) as judge:
        judge.score("q", [GOOD, BAD], votes=2)
    seeds = [sorted(body["seed"] for body in server.asked[at : at + 2]) for at in (0, 2, 4)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_what_cannot_be_opened_is_said_at_once(server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: {}")
    for source, options, message in (
        (server.url, {}, "give model=, the name of the served model"),
        ("tiny", {"model": "judge"}, "leave model= out"),
        ("tiny", {"engine": "vlm"}, "engine = 'vlm': give auto, vllm or transformers"),
        ("./nowhere", {}, "has no config.json"),
        (str(tmp_path), {}, "it has no trained judge yet"),
        ("tiny", {"overrides": ["prompts.style=compcat"]}, "prompts.style"),
        ("tiny", {"meta_rm": "./nowhere"}, "has no config.json"),
    ):
        with pytest.raises(spct.ConfigError, match=message):
            spct.Judge(source, **options)
    with pytest.raises(spct.NotJudged, match="the server does not serve this model"):
        spct.Judge(server.url, model="jugde")


def test_what_cannot_be_asked_is_said_at_once(server: FakeServer) -> None:
    with opened(server) as judge:
        with pytest.raises(ValueError, match="no responses; give at least one"):
            judge.score("q", [])
        with pytest.raises(ValueError, match="responses: a text; give a list"):
            judge.score("q", "a")
        with pytest.raises(ValueError, match="votes = -1"):
            judge.score("q", ["a"], votes=-1)
        with pytest.raises(spct.ConfigError, match="this judge has no meta-RM"):
            judge.score("q", ["a"], meta=True)
        assert judge.score("q", ["a"]).scores == (2,), "and it goes on"


def test_a_models_own_settings_are_those_that_it_is_asked_with(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(TINY, model)
    settings = settings_of(load("tiny"), PAIRS, Tokenizer(str(TINY)))
    for name, text in settings_files(settings).items():
        (model / name).write_text(text)
    options = {"model": "", "meta_rm": "", "engine": "transformers", "device": "cpu", "seed": 0}
    opening = prepare(str(model), **options, overrides=[])
    assert (opening.config.prompts.style, opening.config.model.context, opening.responses) == ("compact", 256, 2)
    with pytest.warns(UserWarning, match=r"prompts.style or prompts.template_path: the judge was trained with"):
        assert prepare(str(model), **options, overrides=["prompts.style=example"]).config.prompts.style == "example"
    (model / "judge.json").write_text(settings_files(settings.model_copy(update={"kind": "meta-rm"}))["judge.json"])
    with pytest.raises(spct.ConfigError, match="is a meta-RM, which writes no judgements; name it as meta_rm="):
        prepare(str(model), **options, overrides=[])


def test_an_import_loads_nothing_heavy() -> None:
    code = "import spct, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    heavy = {"launch", "configs", "buffer", "learner", "actors", "torch", "numpy", "pydantic", "transformers", "vllm", "ray"}
    assert "spct" in loaded
    assert sorted(heavy & {*loaded}) == []


# ---- early stopping --------------------------------------------------------------------------------------------------


def test_votes_that_cannot_change_the_best_are_spared(server: FakeServer) -> None:
    questions = [question(f"q {number}", [BAD, GOOD, "bad too"]) for number in range(4)]
    single = question("q", [GOOD])
    with opened(server) as judge:
        whole = judge.score_many([*questions, single], votes=8)
        every = sum(body["n"] for body in server.asked)
        server.asked.clear()
        early = judge.score_many([*questions, single], votes=8, early_stop=True)
    assert [scored.best for scored in early] == [scored.best for scored in whole]
    for few, all_ in zip(early, whole, strict=True):
        assert few.judgements == all_.judgements[: len(few.judgements)], "the first votes are the same"
        assert len(few.judgements) + few.spared == 8
        assert few.scores is not None
    assert all(scored.spared for scored in early[:4])
    assert early[4].spared == 0, "each vote moves the score of a single response"
    assert every == 5 * 8 == sum(body["n"] for body in server.asked) + sum(scored.spared for scored in early)


def test_votes_that_got_no_answer_are_made_up_for(server: FakeServer) -> None:
    """Of the first five the three in one order are refused: the other three of eight are asked for, as nobody knows what those
    would have said."""
    refused: set[str] = set()

    def refusing(body: dict[str, Any]) -> Reply:
        refused.add(body["messages"][0]["content"]) if not refused else None
        return failure(400, "moderated") if body["messages"][0]["content"] in refused else reply(body | {"temperature": 0})

    server.reply = refusing
    with opened(server) as judge:
        scored = judge.score("q", [BAD, GOOD], votes=8, early_stop=True)
    assert scored.best == 1
    assert (len(scored.judgements), scored.spared) == (8, 0)
    assert sum(judgement.failure.startswith("no answer") for judgement in scored.judgements) == 4, "that order once more"


def test_an_early_stop_is_refused_where_it_would_say_less_than_is_asked(server: FakeServer) -> None:
    with opened(server) as judge:
        for said, ask in (
            ("votes = 0", lambda: judge.score("q", [GOOD, BAD], votes=0, early_stop=True)),
            ("the meta-RM chooses among all votes", lambda: judge.score("q", [GOOD, BAD], meta=True, early_stop=True)),
            ("the order behind the best", lambda: judge.rank("q", [GOOD, BAD], early_stop=True)),
        ):
            with pytest.raises(ValueError, match=said):
                ask()
        assert server.asked == []
        assert judge.compare("q", GOOD, BAD, early_stop=True).winner == 0
        assert asyncio.run(judge.score_async("q", [GOOD, BAD], early_stop=True)).spared > 0
