"""The end of an evaluation, whatever judged: rows of judgements are counted, written and printed.

rows ─▶ items of grm.benchmarks ─▶ figures ─▶ table.json, values.jsonl, MODEL_outputs.jsonl, page, terminal
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from buffer import files
from configs.schema import Config
from grm.aggregates import aggregates, macro_figures
from grm.benchmarks import table
from grm.judged import Item
from launch.judging import votes
from launch.judging.answer_quality import quality
from launch.judging.evaluated import Evaluated
from launch.judging.evaluation_target import EvaluationTarget, short_name
from launch.judging.preference_values import VALUES, preference_values
from launch.judging.protocol import NotJudged
from launch.judging.results import PAGE, rewardbench_rows, write_evaluation
from launch.judging.results_terminal import print_evaluation
from launch.judging.same_judge import notes_of
from launch.judging.samples import sample_judgements
from launch.judging.vote_items import items
from launch.monitoring.console import ProgressDisplay
from launch.monitoring.plain_text import clean
from launch.setup.model_files import resolve
from launch.setup.places import private_files
from launch.setup.preference_data import PreferenceData
from launch.setup.revisions import hub_revisions


def finish(
    config: Config,
    target: EvaluationTarget,
    loaded: PreferenceData,
    rows: Sequence[votes.Row],
    *,
    ks: Sequence[int],
    meta: Mapping[str, Sequence[float]],
    settings: Mapping[str, Any],
    progress: ProgressDisplay,
) -> int:
    """Count, write and print what was judged. Returns how many judgements got no answer.

    Args:
        config: The evaluation's.
        target: What was judged, and where the results go.
        loaded: The labelled preferences.
        rows: A row for each of them, in order.
        ks: Numbers of votes to report.
        meta: As of `votes.items`.
        settings: Of the judging, for readers.
        progress: Shows that it counts; closed before the figures are printed.

    Raises:
        NotJudged: Not one preference got an answer.
    """
    progress.activity("counting")
    failed = {row["id"]: row["error"] for row in rows if "error" in row}
    judged = items(loaded.preferences, rows, meta, k=max(ks, default=0), early_stop=target.early_stop)
    if not judged:
        raise NotJudged(f"none of {len(rows)} preferences was judged; the first error: {next(iter(failed.values()))}")
    found = _counted(config, target, loaded, rows, judged, failed=failed, ks=ks, settings=settings)
    with private_files():
        write_evaluation(target.out, found, config=config)
    preferences = loaded.preferences
    greedy = items(preferences, rows, {})
    files.write(target.out / f"{short_name(target.model)}_outputs.jsonl", _lines(rewardbench_rows(preferences, greedy)))
    files.write(target.out / VALUES, _lines(preference_values(preferences, judged, seed=config.run.seed)))
    progress.close()
    print_evaluation(found)
    print(f"written    {target.out}")
    print(f"report     {target.out / PAGE}, which says what each figure means")
    if failed:
        name, error = next(iter(failed.items()))
        print(f"failed     {len(failed)} of {len(rows)} preferences got no answer; the first, {clean(name)}: {clean(error)}")
    return len(failed) + found.quality.unanswered


def standing(rows: Sequence[votes.Row]) -> str:
    """Return the line that says that nothing is left to ask."""
    dates = sorted({row["date"] for row in rows if row.get("date")})
    days = f" (judged on {' to '.join(dict.fromkeys((dates[0], dates[-1])))})" if dates else ""
    return f"all {len(rows)} preferences stand already{days}, nothing was asked; another --out judges anew"


def _counted(
    config: Config,
    target: EvaluationTarget,
    loaded: PreferenceData,
    rows: Sequence[votes.Row],
    judged: Sequence[Item],
    *,
    failed: Mapping[str, str],
    ks: Sequence[int],
    settings: Mapping[str, Any],
) -> Evaluated:
    counted = table(judged, ks=ks, seed=config.run.seed)
    named = {
        "model": target.model,
        "meta_rm": target.meta_rm,
        "endpoint": target.endpoint,
        "data": config.data.heldout,
        "skipped": dict(loaded.skipped),
        "revisions": hub_revisions(resolve(config.model.path), config.data.heldout),
        "settings": {
            **settings,
            "seed": config.run.seed,
            **({"extra_body": dict(target.extra_body)} if target.extra_body else {}),
        },
    }
    count = config.tracking.samples
    shown = [(p, row) for p, row in zip(loaded.preferences, rows, strict=True) if "samples" in row and not _alone(row)]
    preferences, own = [p for p, _ in shown], [row for _, row in shown]
    samples = sample_judgements(preferences, own, when="after", version=0, count=count)
    return Evaluated(
        rows=counted,
        named=named,
        failed=failed,
        quality=quality(rows, k=max(ks, default=0)),
        aggregates=aggregates(counted, judged, seed=config.run.seed),
        macro=macro_figures(counted),
        notes=notes_of(target.out),
        samples=[json.loads(json.dumps(asdict(sample))) for sample in samples],
    )


def _alone(row: votes.Row) -> bool:
    return any(sample.get("alone") for sample in row["samples"])


def _lines(rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
