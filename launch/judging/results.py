"""What an evaluation leaves on disk: table.json, config.yaml, a page, the W&B run, rewardbench's rows."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from buffer import files
from configs.load import dump
from configs.schema import Config
from grm.benchmarks import Item
from grm.preferences import Preference
from launch.judging.evaluated import Evaluated
from launch.judging.results_page import page
from launch.monitoring.redaction import redacted
from launch.monitoring.tracker import Tracker
from launch.page.scaling import vote_metrics

TABLE = "table.json"
PAGE = "report.html"


def tracked_id(out: Path) -> str:
    """Returns the id of an evaluation's W&B run."""
    return f"evaluate-{out.name}"


def write_evaluation(out: Path, found: Evaluated, *, config: Config) -> None:
    """Write table.json, config.yaml, report.html and the W&B run into the folder of the evaluation."""
    rows, failed = found.rows, redacted(found.failed)
    figures = {row.subset: {"rows": row.rows, "figures": {n: asdict(f) for n, f in row.figures.items()}} for row in rows}
    whole = {
        **found.named,
        "failed": dict(failed),
        "notes": list(found.notes),
        "answers": asdict(found.quality),
        "benchmarks": [asdict(each) for each in found.aggregates],
        "macro": {name: asdict(figure) for name, figure in found.macro.items()},
        "subsets": figures,
    }
    files.write(out / TABLE, json.dumps(whole, indent=2) + "\n")
    files.write(out / "config.yaml", dump(config))
    files.write(out / PAGE, page(found, failed))
    how = config.tracking
    named = (tracked_id(out), config.model_dump(), how.project, how.mode)
    tracker = Tracker(out, *named, job="evaluate", tensorboard=how.tensorboard)
    overall = rows[-1]
    names = ("parse_rate", "strict_parse_rate", "consistency")
    greedy = {"greedy": "eval/accuracy@1", **{name: f"eval/{name}@1" for name in names}}
    metrics = {metric: overall.figures[name].value for name, metric in greedy.items() if name in overall.figures}
    tracker.log({"eval/version": 0, **metrics, **vote_metrics(overall)})
    tracker.finish({"finished": "completed", **whole})


def rewardbench_rows(preferences: Sequence[Preference], items: Sequence[Item]) -> Iterator[dict[str, Any]]:
    """Yields the rows of rewardbench's `<model>_outputs.jsonl` for the pairs: greedy scores of the first order, a tie counts as
    wrong there. An unparsable judgement scores 0 for both."""
    by_id = {item.id: item for item in items}
    for preference in preferences:
        item = by_id.get(preference.question.id)
        if item is None or item.greedy is None or len(item.lengths) != 2:
            continue
        scores = item.greedy.scores or (0, 0)
        chosen, rejected = scores[item.label], scores[1 - item.label]
        texts = preference.question.responses
        yield {
            "id": item.id,
            "subset": item.subset,
            "prompt": preference.question.query,
            "results": int(chosen > rejected),
            "scores_chosen": chosen,
            "scores_rejected": rejected,
            "text_chosen": texts[item.label],
            "text_rejected": texts[1 - item.label],
        }
