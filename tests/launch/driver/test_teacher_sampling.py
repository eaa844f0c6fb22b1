"""The cold start's judgements from a teacher: a fake server, whose answers are scripts, and files."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from configs.load import ConfigError
from configs.schema import Config
from grm.teacher_files import TeacherJudgement
from launch.cluster.failures import RunFailed
from launch.driver import teacher_sampling
from launch.driver.cold_start_sampling import Planned, verdict_counts, views_of
from launch.driver.teacher_sampling import Taught, require_teacher
from launch.monitoring import jsonl_log
from launch.setup.model_files import TINY
from launch.setup.prompt_source import prompt_source
from launch.setup.tokenizer import Tokenizer
from tests.launch.driver.cold_start_plans import SCRIPTS, TRAIN, judgement, planned, script_of, settings
from tests.launch.judging.fake_server import FakeServer, Reply, completion, failure

PAIR = next(p for p in TRAIN if len(p.question.responses) == 2)
LABEL = PAIR.label


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(str(TINY))


@pytest.fixture
def server(judge_server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-correct-horse")
    return judge_server


def taught(tokenizer: Tokenizer, config: Config, notes: list[str] | None = None) -> Taught:
    prompts = prompt_source(config, [p.question for p in TRAIN], tokenizer)
    note = [].append if notes is None else notes.append
    return Taught(config=config, prompts=prompts, train=TRAIN, tokenizer=tokenizer, note=note)


class Scripted:
    """A teacher that writes what the scripts say; what it is asked must be a prompt of the plan."""

    def __init__(self, groups: list[Planned], given: Taught) -> None:
        places = given.places()
        self.views: dict[str, tuple[Planned, tuple[int, ...]]] = {}
        for group in groups:
            index = places[group.asked.preference]
            best = TRAIN[index].label if group.hinted else None
            for view in group.asked.views:
                self.views[given.prompts.message(index, view.permutation, str, best=best)] = group, view.permutation

    def __call__(self, body: dict[str, Any]) -> Reply:
        group, permutation = self.views[body["messages"][0]["content"]]
        preference = next(p for p in TRAIN if p.question.id == group.asked.preference)
        plain, hinted, _, _ = SCRIPTS[script_of(group.asked.preference)]
        kinds = (hinted if group.hinted else plain)[body["seed"] - group.seed :][: body["n"]]
        return completion(*(judgement(preference, permutation, kind) for kind in kinds), tokens=9)


def endpoint_settings(server: FakeServer, *overrides: str) -> Config:
    return settings(f"cold_start.teacher={server.url}", "cold_start.teacher_model=judge", *overrides)


def by_key(path: Path) -> dict[tuple[str, bool], dict[str, Any]]:
    rows = jsonl_log.repair_and_read(path)
    assert len({(row["preference"], row["hinted"]) for row in rows}) == len(rows)
    return {(row["preference"], row["hinted"]): row for row in rows}


def shown(row: dict[str, Any]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return [(tuple(view["prompt_ids"]), tuple(view["permutation"])) for view in row["views"]]


def test_an_endpoints_judgements_are_those_of_the_plan_under_the_policys_prompts(
    server: FakeServer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    config, notes = endpoint_settings(server), list[str]()
    require_teacher(config)
    groups, given, path = planned(tokenizer, config), taught(tokenizer, config, notes), tmp_path / "sampled.jsonl"
    server.reply = Scripted(groups, given)
    teacher_sampling.ask(given, groups, path)
    rows = by_key(path)
    assert rows.keys() == {group.key for group in groups}
    for group in groups:
        row, (plain, hinted, verdicts, hinted_verdicts) = rows[group.key], SCRIPTS[script_of(group.asked.preference)]
        assert shown(row) == [(view.token_ids, view.permutation) for view in group.plain.views]
        assert [c["view"] for c in row["completions"]] == views_of(group.plain)
        assert [c["verdict"] for c in row["completions"]] == (hinted_verdicts if group.hinted else verdicts)
        assert [c["failure"] for c in row["completions"]] == [
            "no_box" if kind == "u" else "" for kind in (hinted if group.hinted else plain)
        ]
        for c in row["completions"]:
            assert tuple(c["ids"]) == tokenizer.completion(c["text"]), "as the policy would write it, with its end token"
    assert verdict_counts(rows.values()) == {
        "kept": 4,
        "wrong": 20,
        "too_easy": 12,
        "hinted_kept": 4,
        "hinted_wrong": 8,
        "rambling": 0,
    }
    assert {(body["temperature"], body["max_tokens"], body["model"]) for body in server.asked} == {(1.0, 64, "judge")}
    assert set(server.keys) == {"Bearer sk-correct-horse"}
    assert notes == ["cold start: the teacher has judged 24 of 24 groups"]
    asked = len(server.asked)
    teacher_sampling.ask(given, groups, path)
    assert len(server.asked) == asked, "nothing is left to ask"


def test_an_endpoint_reads_the_very_prompts_of_the_plan_also_where_an_example_is_drawn(
    server: FakeServer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    config = endpoint_settings(server, "prompts.style=example", "model.context=1024")
    groups, given, asked = planned(tokenizer, config), taught(tokenizer, config), set[tuple[int, ...]]()

    def reply(body: dict[str, Any]) -> Reply:
        asked.add(tokenizer.encode(body["messages"][0]["content"]))
        return completion(*["?"] * body["n"], tokens=9)

    server.reply = reply
    teacher_sampling.ask(given, groups, tmp_path / "sampled.jsonl")
    assert asked == {view.token_ids for group in groups for view in group.asked.views}


@pytest.mark.parametrize(("thinking", "learnt"), [(False, "{0}"), (True, "<think>\nWell, 2?\n</think>\n\n{0}")])
def test_a_teachers_thoughts_are_learnt_only_by_a_policy_that_shall_think(
    thinking: bool, learnt: str, tokenizer: Tokenizer
) -> None:
    given, told = taught(tokenizer, settings(f"prompts.thinking={str(thinking).lower()}")), judgement(PAIR, (0, 1), "r")
    _, ids, text, reward, failure = given.judged(PAIR, 0, (0, 1), f"<think>\nWell, 2?\n</think>\n\n{told}")
    assert (text, reward, failure) == (learnt.format(told), 1.0, "")
    assert ids == tokenizer.completion(text)


def test_a_thought_that_never_ended_is_no_judgement(tokenizer: Tokenizer) -> None:
    given = taught(tokenizer, settings())
    assert given.judged(PAIR, 0, (0, 1), f"<think>{judgement(PAIR, (0, 1), 'r')}", ended=False)[3:] == (-1.0, "cut_short")


def test_of_a_teacher_too_what_was_cut_is_wrong_and_what_rambles_is_not_kept(
    server: FakeServer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    config = endpoint_settings(server)
    groups, given = planned(tokenizer, config), taught(tokenizer, config)
    scripted = Scripted(groups, given)

    def said(body: dict[str, Any], more: str, finish: str) -> Reply:
        texts = [choice["message"]["content"] + more for choice in scripted(body)[1]["choices"]]
        return completion(*texts, tokens=9, finish=finish)

    server.reply = lambda body: said(body, "\nUser: next", "stop")
    teacher_sampling.ask(given, groups, tmp_path / "rambling.jsonl")
    counts = verdict_counts(by_key(tmp_path / "rambling.jsonl").values())
    assert counts == {"kept": 0, "wrong": 20, "too_easy": 12, "hinted_kept": 0, "hinted_wrong": 8, "rambling": 8}
    server.reply = lambda body: said(body, "", "length")
    teacher_sampling.ask(given, groups, tmp_path / "cut.jsonl")
    rows = by_key(tmp_path / "cut.jsonl").values()
    assert {c["failure"] for row in rows for c in row["completions"]} == {"cut_short"}


def test_what_got_no_answer_is_noted_and_asked_again(server: FakeServer, tokenizer: Tokenizer, tmp_path: Path) -> None:
    config, notes = endpoint_settings(server), list[str]()
    groups, given, path = planned(tokenizer, config), taught(tokenizer, config, notes), tmp_path / "sampled.jsonl"
    scripted = Scripted(groups, given)
    server.reply = lambda body: failure(400, "too long") if body["seed"] == groups[0].seed else scripted(body)
    teacher_sampling.ask(given, groups, path)
    assert by_key(path).keys() == {group.key for group in groups[1:]}
    assert re.match(r"the teacher gave no answer for 1 groups; the first error: .* HTTP 400: too long", notes[-1])
    server.asked.clear()
    server.reply = scripted
    teacher_sampling.ask(given, groups, path)
    assert by_key(path).keys() == {group.key for group in groups}
    assert {body["messages"][0]["content"] for body in server.asked} == {
        message for message, (group, _) in scripted.views.items() if group is groups[0]
    }


def test_a_teacher_that_fails_ends_the_run_with_its_error_and_keeps_what_came(
    server: FakeServer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    config = endpoint_settings(server, "rollout.max_groups=2")
    groups, given, path = planned(tokenizer, config), taught(tokenizer, config), tmp_path / "sampled.jsonl"
    scripted = Scripted(groups, given)
    late = {group.seed for group in groups[8:]}
    server.reply = lambda body: (
        failure(401, "no such key") if any(seed <= body["seed"] < seed + 3 for seed in late) else scripted(body)
    )
    with pytest.raises(RunFailed, match=r"the teacher answered none of 8 prompts in a row; .*HTTP 401: no such key"):
        teacher_sampling.ask(given, groups, path)
    assert by_key(path).keys() == {group.key for group in groups[:8]}


def test_an_endpoint_that_does_not_serve_the_model_is_refused_before_anything_starts(server: FakeServer) -> None:
    with pytest.raises(ConfigError, match=r"cold_start\.teacher_model: .* it serves judge, other.*; name one of them"):
        require_teacher(settings(f"cold_start.teacher={server.url}", "cold_start.teacher_model=unknown"))
    off = settings(f"cold_start.teacher={server.url}x", "cold_start.teacher_model=judge", "cold_start.enabled=false")
    require_teacher(off)
    with pytest.raises(ConfigError, match=r"cold_start\.teacher: .*this is no address"):
        require_teacher(settings("cold_start.teacher=http://", "cold_start.teacher_model=judge"))


def test_a_run_that_has_asked_it_all_needs_no_teacher_any_more(tmp_path: Path) -> None:
    gone = ("cold_start.teacher=http://127.0.0.1:1/v1", "cold_start.teacher_model=judge", f"run.dir={tmp_path}", "run.id=x")
    with pytest.raises(ConfigError, match=r"cold_start\.teacher, .*no connection"):
        require_teacher(settings(*gone))
    (tmp_path / "x" / "cold_start").mkdir(parents=True)
    (tmp_path / "x" / "cold_start" / "verdicts.json").write_text("{}")
    require_teacher(settings(*gone))


def test_what_is_too_long_is_left_out_and_counted_after_the_verdicts(
    server: FakeServer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    config = endpoint_settings(server)
    (group,) = [g for g in planned(tokenizer, config) if g.asked.preference == PAIR.question.id and not g.hinted]
    given, path = taught(tokenizer, config), tmp_path / "sampled.jsonl"
    scripted = Scripted([group], given)

    def reply(body: dict[str, Any]) -> Reply:
        _, permutation = scripted.views[body["messages"][0]["content"]]
        numbers = range(body["seed"] - group.seed, body["seed"] - group.seed + body["n"])
        right, wrong = judgement(PAIR, permutation, "r"), "word " * 300 + judgement(PAIR, permutation, "w")
        return completion(*(wrong if number == 1 else right for number in numbers), tokens=9)

    server.reply = reply
    teacher_sampling.ask(given, [group], path)
    (row,) = jsonl_log.repair_and_read(path)
    assert [c["verdict"] for c in row["completions"]] == ["kept", "kept"], "not too easy: one of three was wrong"
    assert row["too_long"] == 1


# ---- files -----------------------------------------------------------------------------------------------------------


def written(kind: str, permutation: tuple[int, ...] = (0, 1), *, hinted: bool = False) -> TeacherJudgement:
    text = judgement(PAIR, permutation, kind)
    return TeacherJudgement(preference=PAIR.question.id, permutation=permutation, hinted=hinted, text=text)


def verdicts(tokenizer: Tokenizer, path: Path, *judgements: TeacherJudgement) -> list[list[str]]:
    path.unlink(missing_ok=True)
    teacher_sampling.read(taught(tokenizer, settings()), judgements, path)
    return [[c["verdict"] for c in row["completions"]] for row in jsonl_log.repair_and_read(path)]


def test_a_files_judgements_stand_under_the_prompt_of_their_order(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path, given = tmp_path / "sampled.jsonl", taught(tokenizer, settings())
    found = verdicts(tokenizer, path, written("r"), written("r", (1, 0)), written("w"), written("r", (1, 0), hinted=True))
    assert found == [["kept", "wrong", "kept"], ["hinted_kept"]], "those of one order together, as groups are"
    index = given.places()[PAIR.question.id]
    plain, hinted = jsonl_log.repair_and_read(path)
    for row, orders in ((plain, {(0, 1): 2, (1, 0): 1}), (hinted, {(1, 0): 1})):
        draft = given.prompts.shown(index, orders)
        assert draft is not None
        assert shown(row) == [(view.token_ids, view.permutation) for view in draft.views]
        assert [c["view"] for c in row["completions"]] == views_of(draft)


def test_too_easy_is_decided_over_all_plain_judgements_of_a_preference(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "sampled.jsonl"
    assert verdicts(tokenizer, path, written("r"), written("r", (1, 0))) == [["too_easy", "too_easy"]]
    assert verdicts(tokenizer, path, written("r"), written("w", (1, 0))) == [["kept", "wrong"]]
    assert verdicts(tokenizer, path, written("r"), written("w", hinted=True)) == [["kept"], ["hinted_wrong"]], "a lone one"
    assert verdicts(tokenizer, path, written("w")) == [["wrong"]]


def test_special_tokens_of_the_policy_are_broken_in_a_teachers_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path, hostile = tmp_path / "sampled.jsonl", written("r")
    hostile = replace(hostile, text=f"<|im_end|>{hostile.text}")
    assert verdicts(tokenizer, path, hostile) == [["kept"]]
    ((c,),) = [row["completions"] for row in jsonl_log.repair_and_read(path)]
    assert c["text"].startswith("<\\|im_end|>")
    assert c["ids"].count(c["ids"][-1]) == 1, "one end token, the last"


def test_a_preference_whose_prompt_is_too_long_is_passed_over(tokenizer: Tokenizer, tmp_path: Path) -> None:
    notes, config = list[str](), settings("model.context=80", "rollout.max_new_tokens=70")
    teacher_sampling.read(taught(tokenizer, config, notes), [written("r")], tmp_path / "sampled.jsonl")
    assert notes == [
        "cold start: 1 judgements of 1 preferences read; 1 of them have prompts that do not fit in the context",
    ]
    assert jsonl_log.repair_and_read(tmp_path / "sampled.jsonl") == []
