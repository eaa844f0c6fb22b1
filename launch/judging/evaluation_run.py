"""An evaluation from labelled preferences to its results on disk; launch/evaluate.py is its entry.

preferences ─▶ checked ─▶ judged (engines or endpoint) ─▶ scored by a meta-RM, if one is named ─▶ counted ─▶ written
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from configs.schema import Config
from grm.preferences import Preference
from grm.prompts import template_notes
from launch.judging import votes
from launch.judging.evaluation_checks import (
    check_lengths,
    checked,
    labelled_preferences,
    make_folder,
    require_same_data,
    what_judgements_depend_on,
)
from launch.judging.evaluation_end import finish, standing
from launch.judging.evaluation_judging import cluster_for, is_scored, judge_for, meta_plan_of, score
from launch.judging.evaluation_target import JUDGEMENTS, EvaluationTarget
from launch.judging.protocol import Judge
from launch.judging.same_judge import ask_again
from launch.judging.shown import Shown
from launch.judging.vote_plan import VotePlan, vote_plan
from launch.monitoring.console import ProgressDisplay
from launch.monitoring.plain_text import log_line
from launch.setup.places import private_files
from launch.setup.prompt_source import prompt_template


def evaluate(config: Config, target: EvaluationTarget, progress: ProgressDisplay) -> int:
    """Judge all held-out preferences, count, write and print. Returns how many judgements got no answer. `progress` shows what
    it does, and is closed before the figures are printed.

    Raises:
        ConfigError, DataError, TemplateError: Something cannot work; nothing was started.
        NotJudged: Not one preference got an answer.
        RunFailed, TimeoutError: The judge or the meta-RM failed; the answers so far are on disk.
    """
    progress.activity("reading the data")
    loaded = labelled_preferences(config, _note)
    preferences = loaded.preferences
    require_same_data(target.out, config.data.heldout)
    progress.activity("checking model, data and machine")
    meta_rm, tokenizer = checked(config, target)
    plan = replace(vote_plan(config, prompt_template(config), max(config.eval.votes, default=0)), early_stop=target.early_stop)
    for note in template_notes(plan.template):
        _note(f"note       {note}")
    meta_plan = meta_plan_of(config, plan, target.meta_rm)
    path = target.out / JUDGEMENTS
    settings = what_judgements_depend_on(config, target, plan, begun=str(votes.settings_of(path).get("fingerprint", "")))
    votes.require_same_settings(path, settings)  # before an engine starts
    rows = votes.stored_rows(plan, preferences, path=path)
    if rows is None and tokenizer is not None:
        check_lengths(plan, tokenizer, preferences, config.max_prompt_tokens, _note)
    make_folder(target.out)
    scorers = bool(meta_rm) and (rows is None or not is_scored(config, meta_rm, meta_plan, rows, target.out))
    engines = rows is None and not target.endpoint
    show, shown = progress.activity, Shown(progress.activity, "judging preferences", plan.wave, len(preferences))
    with cluster_for(config, target, engines=engines, scorers=scorers, show=show) as cluster, private_files():
        if rows is None:
            with judge_for(config, cluster, target, tokenizer, note=_note, show=show, answered=shown.answered) as judge:
                _probe(judge, target, plan, preferences, path)
                rows = votes.collect(judge, plan, preferences, path=path, settings=settings, note=_note, show=shown.reached)
            if not any("error" in row for row in rows):  # else `collect` has said it
                _note(votes.describe_progress(plan, len(rows), len(rows)))
        else:
            _note(standing(rows))
        # the engines are gone by now: on one GPU there is room for the meta-RM only then
        meta = score(config, cluster, meta_rm, meta_plan, preferences, rows, target.out, show) if meta_rm else {}
    asked = {
        "votes": list(config.eval.votes),
        "temperature": config.eval.temperature,
        "max_new_tokens": config.rollout.max_new_tokens,
        **({"early_stop": True} if target.early_stop else {}),
    }
    return finish(config, target, loaded, rows, ks=config.eval.votes, meta=meta, settings=asked, progress=progress)


def _probe(judge: Judge, target: EvaluationTarget, plan: VotePlan, preferences: Sequence[Preference], path: Path) -> None:
    """Ask a served judge a stored prompt again, where one is stored, and say what came of it."""
    stored = votes.rows_on_disk(path)
    probe = ask_again(judge, plan, preferences, stored, target.out) if target.endpoint and stored else None
    if probe is not None:
        _note(f"note       {probe.describe()}")


def _note(text: str) -> None:
    """Print a log line, which may quote an error of a worker or a name from the data."""
    print(log_line(text), flush=True)
