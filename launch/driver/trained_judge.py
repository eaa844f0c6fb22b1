"""What a run leaves for others: the files beside each of its models, and at its end the folder `judge`.

results so far ─▶ files_of_run ─▶ learners write them into every model's folder
the end ─▶ judge/: the files of the last model, linked, and a card with all figures ─▶ the last lines of the run
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from buffer import files
from configs.load import ConfigError
from configs.schema import Config
from grm.benchmarks import TableRow
from launch.driver.best_checkpoint import BEST, chosen
from launch.driver.summary import RunResults
from launch.judging.heldout import Evaluation
from launch.monitoring.command import command
from launch.setup.judge_settings import JudgeSettings
from launch.setup.judge_source import JUDGE, find_judge
from launch.setup.model_card import BESIDE, CardFigure, files_beside
from launch.setup.preflight import RunInputs
from learner import checkpoint

WHEN = {"before": "base", "cold_start": "after the cold start", "after": "after online RL"}


def files_of_run(config: Config, inputs: RunInputs, settings: JudgeSettings, results: RunResults) -> dict[str, str]:
    """Returns the files that lie beside a model of the run, by name, with the figures of a judge that are known by now."""
    return files_beside(
        config,
        settings,
        base=inputs.model,
        run=inputs.folder.name,
        preferences=len(inputs.train),
        figures=[*_greedy(results.evaluations), *_votes(results.votes)] if settings.kind == "judge" else (),
    )


def write_judge(run: Path, beside: Mapping[str, str]) -> Path | None:
    """Make the folder `judge` of a run anew, whole or not at all. Its weights are links to the same files, or copies where the
    file system has no hard links; so they stay when the checkpoint is removed.

    Args:
        run: The run's folder.
        beside: {name: text} of the files beside the weights.

    Returns:
        The folder; None where the run has no whole model yet, or adapters alone.
    """
    try:
        model = Path(find_judge(str(run)).model)
    except ConfigError:
        return None
    target, draft, old = run / JUDGE, run / f"{JUDGE}.unfinished", run / f"{JUDGE}.old"
    if model == target.resolve():  # its checkpoints were removed: there is no newer model
        return target
    for left in (draft, old):
        shutil.rmtree(left, ignore_errors=True)
    draft.mkdir(mode=0o700)
    for file in sorted(model.iterdir()):
        if file.is_file() and file.name not in BESIDE:
            files.link_or_copy(file, draft / file.name)
    for name, text in beside.items():
        files.write(draft / name, text)
    if target.exists():
        target.rename(old)
    draft.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return target


def last_lines(run: Path, judge: Path | None) -> str:
    """Returns where the judge of a run lies and how it is used, as the run's last lines; "" where it has none."""
    if judge is not None:
        return (
            f"judge      {judge}\n"
            f'in Python  import spct; spct.Judge("{judge}").score(query, responses)\n'
            f"evaluate   {command('evaluate')} --model {judge} --data FILE...\n{_best_line(run)}"
        )
    adapters = sorted((run / "checkpoints" / "policy").glob("version-*/adapter"))
    if not adapters:
        return ""
    merge = f"{command('merge')} {adapters[-1].parent} OUT"
    return f'judge      {adapters[-1].parent} holds adapters; {merge} makes a whole model, for spct.Judge("OUT")\n'


def _best_line(run: Path) -> str:
    """Returns which checkpoint judged best while it was trained, where that is not the last one."""
    checkpoints = run / "checkpoints"
    best, versions = chosen(checkpoints), checkpoint.versions(checkpoints / "policy")
    if best is None or not versions or best.version == versions[-1]:
        return ""
    return f"best       {checkpoints / BEST} (step {best.version}: {best.figure:.1%} of {best.rows} while it was trained)\n"


def _greedy(evaluations: Mapping[str, Evaluation]) -> Iterable[CardFigure]:
    for when, found in evaluations.items():
        if when in WHEN and found.accuracy is not None:
            yield CardFigure(name=f"{WHEN[when]}, greedy", value=found.accuracy, rows=found.rows)


def _votes(votes: Mapping[str, TableRow]) -> Iterable[CardFigure]:
    for when, row in votes.items():
        for kind, words in (("vote@", "votes"), ("guided@", "votes, meta-guided")):
            numbers = [int(name.removeprefix(kind)) for name in row.figures if name.removeprefix(kind).isdecimal()]
            if when in WHEN and numbers:
                most = max(numbers)
                figure = row.figures[f"{kind}{most}"]
                name = f"{WHEN[when]}, {most} {words}"
                yield CardFigure(name=name, value=figure.value, low=figure.low, high=figure.high, rows=figure.rows)
