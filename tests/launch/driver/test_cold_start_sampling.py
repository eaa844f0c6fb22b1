"""The cold start's sampling: real actors on a real server with a fake engine, in threads."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.reward import RewardActor
from actors.rollout import RolloutActor
from buffer import streams
from buffer.ledger import Ledger
from buffer.server import EmbeddedServer
from buffer.streams import EXPERIENCE, Address, dead_letters
from configs.schema import Config
from grm.preferences import Preference
from launch.cluster import calls
from launch.cluster.failures import RunFailed
from launch.driver import cold_start_sampling, format_diagnosis
from launch.driver.cold_start_sampling import Planned, Sampling, verdict_counts
from launch.monitoring import jsonl_log
from launch.setup.model_files import TINY
from launch.setup.tokenizer import Tokenizer
from tests.fakes import LocalWeights
from tests.launch.cluster.local_ray import LocalRay
from tests.launch.driver.cold_start_plans import CONFIG, SCRIPTS, TRAIN, ScriptedEngine, planned, script_of, settings
from tests.launch.driver.local_actors import LocalActors, Notes, ready_group


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(str(TINY))


Stage = Callable[..., LocalActors]


@pytest.fixture
def stage(server: EmbeddedServer, address: Address, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Makes stages; each finds a fresh namespace under the same name, as `SamplingActors` does."""
    monkeypatch.setattr(calls, "ray", LocalRay)
    monkeypatch.setattr(calls, "SLICE_S", 0.1)
    stages: list[LocalActors] = []

    def end(actors: LocalActors) -> None:
        for group in (actors.reward_group, *actors.rollout_groups):
            group.end()
        actors.redis.close()

    def made(
        groups: list[Planned], *, config: Config = CONFIG, known: list[Preference] = TRAIN, workers: int = 1
    ) -> LocalActors:
        for actors in stages:
            end(actors)
        client = streams.connect(address)
        streams.remove(client, address.run_id)
        streams.setup(client, address.run_id, meta_rm=False)
        engines = [ScriptedEngine(groups) for _ in range(workers)]
        rollouts = [
            RolloutActor(config=config, name=f"r{i}", address=address, source=LocalWeights(), build=lambda e=engine: e)
            for i, engine in enumerate(engines)
        ]
        for rollout in rollouts:
            rollout.ready()
        reward = RewardActor(config=config, name="reward-0", address=address, preferences=known)
        stages.append(
            LocalActors(
                redis=client,
                address=address,
                reward_group=ready_group("the reward actor", reward),
                rollout_groups=[ready_group(f"rollout actor {i}", actor) for i, actor in enumerate(rollouts)],
                engines=engines,
            )
        )
        return stages[-1]

    yield made
    for actors in stages:
        end(actors)
    with streams.connect(address) as client:
        streams.remove(client, address.run_id)


def sampling(
    actors: Any,
    groups: list[Planned],
    tokenizer: Tokenizer,
    path: Path,
    *,
    config: Config = CONFIG,
    progress: Notes | None = None,
) -> Sampling:
    return Sampling(config, actors=actors, planned=groups, tokenizer=tokenizer, path=path, progress=progress or Notes())


def by_key(path: Path) -> dict[tuple[str, bool], dict[str, Any]]:
    rows = jsonl_log.repair_and_read(path)
    by_key = {(row["preference"], row["hinted"]): row for row in rows}
    assert len(by_key) == len(rows), "a group is there twice"
    return by_key


def test_every_planned_group_becomes_a_line_with_the_right_verdicts(stage: Stage, tokenizer: Tokenizer, tmp_path: Path) -> None:
    groups, progress, path = planned(tokenizer), Notes(), tmp_path / "sampled.jsonl"
    actors = stage(groups, workers=2)
    sampling(actors, groups, tokenizer, path, progress=progress).run()
    rows = by_key(path)
    assert rows.keys() == {group.key for group in groups}
    for group in groups:
        row = rows[group.key]
        written, written_hinted, plain, hinted = SCRIPTS[script_of(group.asked.preference)]
        assert [completion["verdict"] for completion in row["completions"]] == (hinted if group.hinted else plain)
        kinds = written_hinted if group.hinted else written
        assert [completion["reward"] > 0 for completion in row["completions"]] == [kind == "r" for kind in kinds]
        assert [completion["failure"] for completion in row["completions"]] == [
            "no_box" if kind == "u" else "" for kind in kinds
        ]
        samples = [sample for view in group.asked.views for sample in range(view.samples)]
        assert [completion["ids"] for completion in row["completions"]] == [[3 + i, 4 + i, 5 + i, 6 + i] for i in samples]
        assert all(completion["text"] == tokenizer.decode(completion["ids"]) for completion in row["completions"])
    counts = {"kept": 4, "wrong": 20, "too_easy": 12, "hinted_kept": 4, "hinted_wrong": 8, "rambling": 0}
    assert verdict_counts(rows.values()) == counts
    assert sum(request.samples for request in actors.asked) == 48
    assert {group.seed for group in groups} <= {request.seed for request in actors.asked}
    assert progress.shown == [("cold start: sampling judgements", done, 24) for done in range(25)]
    assert progress.notes == []


def test_a_line_holds_the_plain_prompt_whatever_was_asked(stage: Stage, tokenizer: Tokenizer, tmp_path: Path) -> None:
    groups, path = planned(tokenizer), tmp_path / "sampled.jsonl"
    actors = stage(groups)
    sampling(actors, groups, tokenizer, path).run()
    assert {request.token_ids for request in actors.asked} == {view.token_ids for group in groups for view in group.asked.views}
    for group in groups:
        row = by_key(path)[group.key]
        views = [(tuple(view["permutation"]), tuple(view["prompt_ids"])) for view in row["views"]]
        assert views == [(view.permutation, view.token_ids) for view in group.plain.views]
        counts = Counter(completion["view"] for completion in row["completions"])
        assert [*counts.values()] == [view.samples for view in group.plain.views]
    texts = [tokenizer.decode(view["prompt_ids"]) for row in by_key(path).values() for view in row["views"]]
    assert "Hint" not in "".join(texts)


def test_the_accounts_are_settled_and_the_streams_empty(stage: Stage, tokenizer: Tokenizer, tmp_path: Path) -> None:
    groups = planned(tokenizer)
    actors = stage(groups)
    sampling(actors, groups, tokenizer, tmp_path / "sampled.jsonl").run()
    outcomes = Ledger(actors.redis, actors.address.run_id).outcomes()
    assert (outcomes["issued"], outcomes["trained"], outcomes["filtered"], outcomes["dead_letter"]) == (24, 8, 16, 0)
    assert all(actors.redis.xlen(streams.key(actors.address.run_id, name)) == 0 for name in ("prompts", "rollouts", EXPERIENCE))


@pytest.mark.parametrize("killed", ["after a group", "between disk and acknowledgement", "inside a line"])
def test_what_was_sampled_is_not_sampled_again(
    killed: str, stage: Stage, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, path, whole = planned(tokenizer), tmp_path / "sampled.jsonl", tmp_path / "whole.jsonl"
    sampling(stage(groups), groups, tokenizer, whole).run()
    if killed == "between disk and acknowledgement":
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "release", lambda *given, **more: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                sampling(stage(groups), groups, tokenizer, path).run()
        assert len(by_key(path)) == 1
    else:
        with pytest.raises(KeyboardInterrupt):
            sampling(stage(groups), groups, tokenizer, path, progress=Notes(stop_at=10)).run()
        assert len(by_key(path)) == 10
    if killed == "inside a line":
        path.write_text(path.read_text()[:-20])
    done = set(by_key(path))
    progress = Notes()
    actors = stage(groups)
    sampling(actors, groups, tokenizer, path, progress=progress).run()
    rest = [group for group in groups if group.key not in done]
    asked = {request.token_ids for request in actors.asked}
    assert asked == {view.token_ids for group in rest for view in group.asked.views}
    assert len(asked) == len(actors.asked)
    assert by_key(path) == by_key(whole)
    assert progress.shown[-1][1:] == (24, 24)
    again = stage(groups)
    sampling(again, groups, tokenizer, path).run()
    assert again.asked == [], "nothing is left to sample"
    assert by_key(path) == by_key(whole)


def test_dead_letters_do_not_hang_it_and_are_tried_again(stage: Stage, tokenizer: Tokenizer, tmp_path: Path) -> None:
    groups, path = planned(tokenizer), tmp_path / "sampled.jsonl"
    actors = stage(groups, known=TRAIN[1:])
    sampling(actors, groups, tokenizer, path).run()
    lost = {(TRAIN[0].question.id, hinted) for hinted in (False, True)}
    assert by_key(path).keys() == {group.key for group in groups} - lost
    letters = dead_letters(actors.redis, actors.address.run_id)
    assert [letter.reason for letter in letters] == [f"no label for preference {TRAIN[0].question.id!r}"] * 2
    sampling(stage(groups), groups, tokenizer, path).run()
    assert by_key(path).keys() == {group.key for group in groups}


def test_a_cold_start_whose_groups_all_become_dead_letters_ends_with_their_reasons(
    stage: Stage, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    groups, path = planned(tokenizer), tmp_path / "sampled.jsonl"
    reason = r"all 24 groups of the cold start became dead letters: 16 x no label for preference 'tiny"
    with pytest.raises(RunFailed, match=reason):
        sampling(stage(groups, known=[]), groups, tokenizer, path).run()


def test_that_no_judgement_is_kept_is_said_on_the_way(
    stage: Stage, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, progress = planned(tokenizer), Notes()
    actors = stage(groups)
    actors.engines[0]._text = lambda request, sample: "nothing that could be parsed"
    monkeypatch.setattr(cold_start_sampling, "NOTE_S", -1.0)
    sampling(actors, groups, tokenizer, tmp_path / "sampled.jsonl", progress=progress).run()
    assert progress.notes[-1] == "cold start: 24 of 24 groups sampled, none of 48 judgements is kept (100% did not parse)"


def test_a_policy_that_keeps_no_format_ends_it_with_a_completion_and_the_remedies(
    stage: Stage, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups, path = planned(tokenizer), tmp_path / "sampled.jsonl"
    actors = stage(groups)
    actors.engines[0]._text = lambda request, sample: "I like the second one."
    monkeypatch.setattr(format_diagnosis, "HOPELESS", 20)
    with pytest.raises(RunFailed) as caught:
        sampling(actors, groups, tokenizer, path).run()
    text = str(caught.value)
    assert re.match(r"none of 2\d judgements was read, so nothing can be learnt\none of them \(\w+\):\n  \| ", text)
    assert "  - prompts.style=example: the prompt shows a judgement" in text
    assert 0 < len(by_key(path)) < 24, "long before the end"


def test_a_wait_without_a_result_names_the_processes(stage: Stage, tokenizer: Tokenizer, tmp_path: Path) -> None:
    groups, config = planned(tokenizer), settings("waits.progress_s=1.0", "rollout.max_groups=2")
    actors = stage(groups, config=config, workers=2)
    for engine in actors.engines:
        engine.automatic, engine.places = False, 2
    with pytest.raises(TimeoutError) as caught:
        sampling(actors, groups, tokenizer, tmp_path / "sampled.jsonl", config=config).run()
    progress = str(caught.value)
    assert "the cold start waited 1 s for a scored group (waits.progress_s); 0 of 24 are on disk" in progress
    assert re.search(r"\nr0 .*\nr1 .*\nreward-0 ", progress, re.DOTALL)  # the processes, and what each is doing
    assert re.search(r"\nprompts +rollout +4 +4 +group ", progress)
    outstanding = Ledger(actors.redis, actors.address.run_id).outstanding()
    assert len(outstanding) == 8, "twice what the engines hold, and not one more"


def test_a_group_that_fails_too_often_ends_it_with_its_name(stage: Stage, tokenizer: Tokenizer, tmp_path: Path) -> None:
    groups, config = planned(tokenizer), settings("cluster.restarts=0")
    actors = stage(groups, config=config)
    actors.engines[0]._views = {}
    with pytest.raises(RunFailed, match=r"rollout actor 0 failed 1 times in a row .*KeyError"):
        sampling(actors, groups, tokenizer, tmp_path / "sampled.jsonl", config=config).run()


def test_lines_are_plain_json(stage: Stage, tokenizer: Tokenizer, tmp_path: Path) -> None:
    groups, path = planned(tokenizer)[:2], tmp_path / "sampled.jsonl"
    sampling(stage(groups), groups, tokenizer, path).run()
    for line in path.read_text(encoding="utf-8").splitlines():
        assert json.loads(line).keys() == {"preference", "hinted", "views", "completions"}
