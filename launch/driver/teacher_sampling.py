"""The cold start's judgements from a teacher: another model behind an endpoint, or a file of what one wrote.

    planned ─▶ message, hinted too ─▶ Endpoint ─▶ text ─┐
                                                        ├─▶ the policy's token ids ─▶ rule ±1 ─▶ verdicts ─▶ sampled.jsonl
    file ─▶ judgements by preference and order ─▶ text ─┘

No engine of ours and no stream takes part. The lines are those of `cold_start_sampling.py`: each completion stands under the
policy's own plain prompt, and is judged as it will be learnt: with special tokens broken, and without the thoughts of a teacher
that thinks, unless the policy shall think, too (`prompts.thinking`). One that does not fit in the context behind its prompt is
left out, and counted in the line's `too_long`.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.reward import apply_rule
from buffer.messages import first_completions
from configs.load import ConfigError
from configs.paths import output_path
from configs.schema import Config
from grm.judgement import without_thoughts
from grm.own_rules import load_rule
from grm.preferences import Preference
from grm.rejection import Verdict, given_verdicts, hinted_verdicts
from grm.teacher_files import TeacherJudgement
from launch.cluster.failures import RunFailed
from launch.driver.cold_start_sampling import Judged, Planned, missing, row, salt_of, verdicts_of, views_of
from launch.judging.endpoint import Endpoint, EndpointError, EndpointLimits
from launch.judging.protocol import Answer, JudgeRequest, NotJudged
from launch.monitoring import jsonl_log
from launch.setup.prompt_source import SEEDS, Draft, PromptSource
from launch.setup.tokenizer import Tokenizer

WAVES = 4  # groups asked at a time, for each request that may be under way: a kill loses these at most
NOTE_S = 30.0  # between two log lines


@dataclass(frozen=True, kw_only=True, slots=True)
class Taught:
    """What turns a teacher's text into lines of `sampled.jsonl`."""

    config: Config
    """The run's."""
    prompts: PromptSource
    """The prompts of `train`."""
    train: Sequence[Preference]
    """The training preferences, in the order of `prompts`."""
    tokenizer: Tokenizer
    """The policy's."""
    note: Callable[[str], None]
    """Gets log lines."""

    def places(self) -> dict[str, int]:
        """Returns the index of each preference by its id."""
        return {preference.question.id: index for index, preference in enumerate(self.train)}

    def judged(
        self, preference: Preference, view: int, permutation: tuple[int, ...], text: str, *, ended: bool = True
    ) -> Judged:
        """Returns a teacher's text as the policy would have written it, with the rule's reward."""
        ids = self.tokenizer.completion(text if self.config.prompts.thinking else _unthought(text), ended=ended)
        learnt = self.tokenizer.decode(ids)
        rule = load_rule(self.config.grpo.reward)
        verdict = apply_rule(preference, permutation, learnt, cut_short=not ended, rule=rule)
        return view, ids, learnt, verdict.reward, verdict.failure

    def line(self, plain: Draft, judged: Sequence[Judged], verdicts: Sequence[Verdict], *, hinted: bool) -> dict[str, Any]:
        """Returns the line of a preference's completions, without those that do not fit in the context behind their prompts."""
        room = [self.config.model.context - len(view.token_ids) for view in plain.views]
        fitting = [pair for pair in zip(judged, verdicts, strict=True) if len(pair[0][1]) <= room[pair[0][0]]]
        line = row(plain, [each for each, _ in fitting], [verdict for _, verdict in fitting], hinted=hinted)
        return line | {"too_long": len(judged) - len(fitting)}


def _unthought(text: str) -> str:
    """Returns a text without its thoughts; one that has none stays as it is."""
    bare = without_thoughts(text)
    return text if bare == text else bare.strip()


def connect(config: Config, note: Callable[[str], None] | None = None) -> Endpoint:
    """Returns the teacher's endpoint; `note` gets what it does not take. ConfigError when address or key are of no use."""
    cold = config.cold_start
    try:
        limits = EndpointLimits(concurrency=config.rollout.workers * config.rollout.max_groups)
        return Endpoint(
            cold.teacher, cold.teacher_model, limits=limits, note=lambda change: note(change.text) if note else None
        )
    except EndpointError as error:
        raise ConfigError(f"cold_start.teacher: {error}") from None


def require_teacher(config: Config) -> None:
    """ConfigError unless the teacher's endpoint answers and serves the model, where the run has still to ask one."""
    sampled = output_path(config.run.dir) / config.run.id / "cold_start" / "verdicts.json"  # of an earlier try
    if not (config.cold_start.enabled and config.cold_start.asks_endpoint) or sampled.exists():
        return
    with closing(connect(config)) as endpoint:
        try:
            endpoint.check()
        except EndpointError as error:
            raise ConfigError(f"cold_start.teacher, cold_start.teacher_model: {error}") from None


def ask(taught: Taught, planned: Sequence[Planned], path: Path) -> None:
    """Ask the endpoint for all planned groups that are not in `path` yet.

    A group that gets no answer is passed over and noted; the next try of the run asks it again.

    Raises:
        RunFailed: Of a whole wave of groups none got an answer; what came before is on disk.
    """
    left, failed, noted = missing(planned, path), list[NotJudged](), time.monotonic()
    if not left:
        return
    places, done = taught.places(), len(planned) - len(left)
    with closing(connect(taught.config, taught.note)) as endpoint:
        wave = WAVES * taught.config.rollout.workers * taught.config.rollout.max_groups
        for start in range(0, len(left), wave):
            groups = left[start : start + wave]
            answers = list(zip(groups, _answers(taught, groups, places, endpoint), strict=True))
            errors = [answer for _, answer in answers if isinstance(answer, NotJudged)]
            if len(errors) == len(groups):
                raise RunFailed(f"the teacher answered none of {len(groups)} prompts in a row; the first error: {errors[0]}")
            rows = [
                _answered(taught, group, taught.train[places[group.asked.preference]], answer)
                for group, answer in answers
                if not isinstance(answer, NotJudged)
            ]
            jsonl_log.append(path, rows)
            failed, done = [*failed, *errors], done + len(rows)
            if time.monotonic() - noted > NOTE_S or start + wave >= len(left):
                noted = time.monotonic()
                taught.note(f"cold start: the teacher has judged {done} of {len(planned)} groups")
    if failed:
        taught.note(f"the teacher gave no answer for {len(failed)} groups; the first error: {failed[0]}")


def _answers(
    taught: Taught, groups: Sequence[Planned], places: Mapping[str, int], endpoint: Endpoint
) -> list[list[Answer] | NotJudged]:
    """Returns the answers about each group, those of its views one after the other, or the first error that it met."""
    asked = [_requests(taught, group, places[group.asked.preference], endpoint) for group in groups]
    answered = iter(endpoint.judge([request for requests in asked for request in requests]))
    found: list[list[Answer] | NotJudged] = []
    for requests in asked:
        views = [next(answered) for _ in requests]
        answers = [answer for view in views for answer in ([view] if isinstance(view, NotJudged) else view)]
        error = next((answer for answer in answers if isinstance(answer, NotJudged)), None)
        found.append(error or [answer for answer in answers if isinstance(answer, Answer)])
    return found


def _requests(taught: Taught, group: Planned, index: int, endpoint: Endpoint) -> list[JudgeRequest]:
    best = taught.train[index].label if group.hinted else None
    salt, escape = salt_of(taught.config, group.asked.preference), endpoint.escape_special_tokens
    before = first_completions([view.samples for view in group.asked.views])
    return [
        JudgeRequest(
            message=taught.prompts.message(index, view.permutation, escape, salt=salt, best=best),
            samples=view.samples,
            temperature=taught.config.rollout.temperature,
            max_new_tokens=taught.config.rollout.max_new_tokens,
            seed=(group.seed + offset) % SEEDS,
        )
        for view, offset in zip(group.asked.views, before, strict=True)
    ]


def _answered(taught: Taught, group: Planned, preference: Preference, answers: Sequence[Answer]) -> dict[str, Any]:
    judged = [
        taught.judged(preference, view, group.plain.views[view].permutation, answer.text, ended=answer.finish == "stop")
        for view, answer in zip(views_of(group.plain), answers, strict=True)
    ]
    return taught.line(group.plain, judged, verdicts_of(group, judged), hinted=group.hinted)


def read(taught: Taught, judgements: Sequence[TeacherJudgement], path: Path) -> None:
    """Write `path` anew from a teacher's file, all or nothing: a line for each preference, and one for its hinted judgements.

    A preference whose prompt is too long is passed over and noted.
    """
    by_preference: dict[str, list[TeacherJudgement]] = {}
    for judgement in judgements:
        by_preference.setdefault(judgement.preference, []).append(judgement)
    places, skipped = taught.places(), list[str]()

    def lines() -> Iterator[dict[str, Any]]:
        for name, of_one in by_preference.items():
            found = _given(taught, places[name], of_one)
            skipped.extend([] if found else [name])
            yield from found

    draft = path.with_suffix(".unfinished")
    draft.unlink(missing_ok=True)
    jsonl_log.append(draft, lines())
    draft.rename(path)
    left_out = f"; {len(skipped)} of them have prompts that do not fit in the context" if skipped else ""
    taught.note(f"cold start: {len(judgements)} judgements of {len(by_preference)} preferences read{left_out}")


def _given(taught: Taught, index: int, judgements: Sequence[TeacherJudgement]) -> list[dict[str, Any]]:
    """Returns the lines of one preference: of its plain judgements, which together decide whether it is too easy, and of the
    hinted ones."""
    preference, rows = taught.train[index], []
    for hinted, decide in ((False, given_verdicts), (True, hinted_verdicts)):
        given = [each for each in judgements if each.hinted is hinted]
        orders = Counter(each.permutation for each in given)
        plain = taught.prompts.shown(index, orders) if given else None
        if plain is not None:
            numbers = {permutation: number for number, permutation in enumerate(orders)}
            by_view = sorted(given, key=lambda each: numbers[each.permutation])  # as readers of a group expect them
            judged = [taught.judged(preference, numbers[each.permutation], each.permutation, each.text) for each in by_view]
            rows.append(taught.line(plain, judged, decide([reward for *_, reward, _ in judged]), hinted=hinted))
    return rows
