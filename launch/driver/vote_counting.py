"""The last stage of a run: accuracy over k of each policy that voted, with the last meta-RM choosing the votes and without."""

from collections.abc import Callable
from pathlib import Path

from configs.schema import Config
from launch.cluster.ray_cluster import Cluster
from launch.driver.summary import RunResults
from launch.judging.meta_scores import guiding_meta_rm
from launch.judging.run_judgements import RunJudgements
from launch.monitoring.tracker import Tracker
from launch.page.scaling import vote_metrics


def count_votes(
    config: Config,
    cluster: Cluster,
    judgements: RunJudgements,
    results: RunResults,
    tracker: Tracker,
    *,
    meta_rms: Path,
    note: Callable[[str], None],
) -> None:
    """Count the votes of the run's policies, for its results and its tracker.

    Args:
        config: The run's.
        cluster: Where the meta-RM scores.
        judgements: The votes.
        results: Get the figures.
        tracker: Gets them, too.
        meta_rms: The meta-RM's checkpoints.
        note: Gets a log line when no meta-RM guides the votes.

    Raises:
        RunFailed: There is no checkpoint of the meta-RM, though there should be one.
    """
    guide = _last_meta_rm(config, meta_rms, results.training.meta_examples, note) if config.meta_rm.enabled else None
    results.votes = judgements.count(cluster, guide)
    for when, row in results.votes.items():
        version = results.training.version if when == "after" else 0
        tracker.log({"eval/version": version, **vote_metrics(row)})


def _last_meta_rm(config: Config, checkpoints: Path, examples: int, note: Callable[[str], None]) -> Path | None:
    guide = guiding_meta_rm(checkpoints, examples)
    if guide is None:
        note(
            f"the meta-RM took no step, as fewer than meta_rm.batch = {config.meta_rm.batch} parsed"
            " completions came together, so it guides no votes"
        )
    return guide
