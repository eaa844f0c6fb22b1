"""Plans of a small cold start, for the tests of what is planned and of how it is sampled."""

from typing import Any

from actors.generator import Request
from configs.load import load
from configs.schema import Config
from grm.preferences import Preference
from grm.tiny_world import preferences
from launch.driver.cold_start_sampling import Planned, plan
from launch.setup.prompt_source import prompt_source
from launch.setup.tokenizer import Tokenizer
from tests.fakes import FakeEngine

TRAIN = preferences(seed=3, count=12)
assert {len(p.question.responses) for p in TRAIN} == {1, 2, 3}


def settings(*overrides: str) -> Config:
    return load("tiny", ["cold_start.samples=3", "cold_start.preferences=0", "rollout.max_groups=4", *overrides])


CONFIG = settings()


def planned(tokenizer: Tokenizer, config: Config = CONFIG, train: list[Preference] = TRAIN) -> list[Planned]:
    return plan(config, prompt_source(config, [p.question for p in train], tokenizer), train)


SCRIPTS = {  # what the fake engine writes for the samples of a preference, and the verdicts that must come of it
    "mixed": ("rwu", "r", ["kept", "wrong", "wrong"], ["hinted_kept"]),
    "easy": ("rrr", "w", ["too_easy"] * 3, ["hinted_wrong"]),
    "hard": ("uwu", "u", ["wrong"] * 3, ["hinted_wrong"]),
}


def script_of(preference: str) -> str:
    return list(SCRIPTS)[int(preference.rpartition("-")[2]) % len(SCRIPTS)]


def judgement(preference: Preference, permutation: tuple[int, ...], kind: str) -> str:
    """kind: r(ight), w(rong) or u(nparsable)."""
    label = preference.label
    if len(permutation) == 1:
        scores = [label if kind == "r" else 1 - label]
    else:
        scores = [9 if own == label else 2 for own in permutation] if kind == "r" else [5] * len(permutation)
    box = f"\\boxed{{{', '.join(map(str, scores))}}}" if kind != "u" else "none"
    return f"Specific Criteria: brevity 70%\nAnalysis: fine.\nScores: {box}"


class ScriptedEngine(FakeEngine):
    """Writes what the scripts say, and keeps what it was asked."""

    def __init__(self, groups: list[Planned]) -> None:
        super().__init__(self._write)
        self._views = {
            view.token_ids: (group, view.permutation, sum(before.samples for before in group.asked.views[:number]))
            for group in groups
            for number, view in enumerate(group.asked.views)
        }
        self.asked: list[Request] = []

    def submit(self, requests: Any) -> Any:
        self.asked += requests
        return super().submit(requests)

    def _write(self, request: Request, sample: int) -> str:
        group, permutation, first = self._views[request.token_ids]
        preference = next(p for p in TRAIN if p.question.id == group.asked.preference)
        plain, hinted, _, _ = SCRIPTS[script_of(group.asked.preference)]
        return judgement(preference, permutation, (hinted if group.hinted else plain)[first + sample])
