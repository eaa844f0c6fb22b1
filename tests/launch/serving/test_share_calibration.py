"""Brier score and calibration error of an evaluation, beside the shares that they are about, and beside no others."""

import asyncio
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from buffer.connection import Address
from configs.load import ConfigError
from grm.scored import Judgement, counted
from launch.serving.calibration import measured
from launch.serving.protocol import Calibration, Verdict
from launch.serving.shares import calibration_of
from launch.setup.model_files import fingerprint
from tests.launch.serving.fake_service import verdict_on
from tests.launch.serving.small_server import BAD, GOOD, SmallServer
from tests.launch.serving.test_served import prepared

KNOWN = Calibration(
    votes=4, brier=0.2, brier_interval=(0.1, 0.3), ece=0.05, ece_interval=(0.02, 0.1), preferences=50, data=("held.jsonl",),
    policy_version=7,
)  # fmt: skip


def evaluation(folder: Path, **changes: Any) -> Path:
    """The files of an evaluation, as `launch/evaluate.py` writes them, that are read here."""
    judge = prepared()
    plan = judge.plan
    settings = {"template": plan.template.graded, "max_new_tokens": plan.max_new_tokens, **plan.settings()}
    settings |= {"fingerprint": fingerprint(judge.found.model)} | changes

    def figure(value: float) -> dict[str, float]:
        return {"value": value, "low": value / 2, "high": 2 * value, "rows": 50}

    figures = {"brier@4": figure(0.2), "ece@4": figure(0.05)}
    table = {"data": ["/data/held.jsonl"], "subsets": {"part": {"figures": {}}, "overall": {"rows": 60, "figures": figures}}}
    (folder / "table.json").write_text(json.dumps(table))
    (folder / "judgements.jsonl").write_text(json.dumps({"settings": settings}) + "\n")
    return folder


def test_the_figures_of_an_evaluation_of_this_judge(tmp_path: Path) -> None:
    found = measured(evaluation(tmp_path), prepared(), votes=4)
    assert (found.brier, found.brier_interval, found.ece, found.preferences, found.votes) == (0.2, (0.1, 0.4), 0.05, 50, 4)
    assert found.data == ("held.jsonl",), "no folder of the machine"


@pytest.mark.parametrize(
    ("changes", "votes", "why"),
    [
        ({"fingerprint": "another"}, 4, "it measured another judge than"),
        ({"temperature": 0.1, "template": "other"}, 4, "the judge was asked with another template, temperature than here"),
        ({}, 8, r"no Brier score of 8 votes \(it has those of 4 votes\); evaluate with --k 8"),
    ],
)
def test_figures_of_something_else_are_refused(tmp_path: Path, changes: dict[str, Any], votes: int, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        measured(evaluation(tmp_path, **changes), prepared(), votes=votes)


def test_a_folder_that_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--evaluation .*give the folder of an evaluation that came to its end"):
        measured(tmp_path, prepared(), votes=4)


def test_figures_stand_beside_shares_of_what_was_measured_alone() -> None:
    whole = verdict_on(["a", "aaa"], asked=4)
    assert calibration_of(whole, KNOWN) == KNOWN
    assert calibration_of(whole, None) is None
    assert calibration_of(verdict_on(["a", "aaa"], asked=4, unread=1), KNOWN) == KNOWN, "an evaluation has such, too"
    others: list[Verdict] = [
        verdict_on(["a", "aaa"], asked=8),
        verdict_on(["a"], asked=4),
        replace(whole, asked=5, cut=1),
        replace(whole, judgements=chosen(whole.judgements)),
    ]
    assert [calibration_of(each, KNOWN) for each in others] == [None] * 4


def chosen(judgements: tuple[Judgement, ...]) -> tuple[Judgement, ...]:
    """As a meta-RM leaves them: the better half votes."""
    return counted(judgements, [1.0, 0.5, -0.5, -1.0]).judgements


def test_a_verdict_says_how_far_its_shares_are_probabilities(address: Address) -> None:
    server = SmallServer(address, calibration=KNOWN)

    async def ask() -> list[Any]:
        body = {"query": "q", "responses": [BAD, GOOD]}
        choices = [{"value": "b", "description": BAD}, {"value": "g", "description": GOOD}]
        choice = {"type": "choice", "instructions": "Which?", "choices": choices}
        yes = {"type": "predicate", "instructions": "Good?"}
        judged = await server.post("/v1/judge", body)
        fewer = await server.post("/v1/judge", body | {"k": 2})
        decided = await server.post("/v1/decisions", {"model": "small", "input": "q", "questions": [choice, yes]})
        return [judged.json(), fewer.json(), *decided.json()["answers"]]

    judged, fewer, choice, yes = asyncio.run(ask())
    told = json.loads(json.dumps(asdict(KNOWN)))
    assert judged["calibration"] == choice["calibration"] == told
    assert fewer["calibration"] is None
    assert "calibration" not in yes, "what was measured is a choice"
    assert server.core.served().calibration == KNOWN
