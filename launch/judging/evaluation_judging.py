"""The judge of an evaluation and its meta-RM: started where they are needed, and not before.

rows on disk ─ all there? ─▶ nothing starts
        └─ some missing ─▶ endpoint | engines on a cluster ─▶ rows ─ meta scores on disk? ─ no ─▶ scorers on a cluster
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from buffer.streams import ServerError
from configs.load import ConfigError
from configs.paths import expanded
from configs.schema import Config
from grm.preferences import Preference
from grm.prompts import load_meta_template
from launch.cluster.failures import RunFailed
from launch.judging import votes
from launch.judging.endpoint import Endpoint
from launch.judging.evaluation_target import EvaluationTarget, short_name
from launch.judging.protocol import Judge
from launch.judging.request_fields import Change
from launch.judging.same_judge import record_change
from launch.judging.vote_plan import VotePlan
from launch.monitoring.console import ShowActivity
from launch.setup.gpu_blocks import engines_of
from launch.setup.model_files import fingerprint, resolve
from launch.setup.signals import end_on_signals
from launch.setup.tokenizer import Tokenizer


@contextmanager
def cluster_for(config: Config, target: EvaluationTarget, *, engines: bool, scorers: bool, show: ShowActivity) -> Iterator[Any]:
    """Where engines and meta-RM scorers can be started; None where neither is needed. `show` gets what is started."""
    end_on_signals()
    if not engines and not scorers:
        yield None
        return
    show("importing torch, Ray and vLLM")
    from launch.cluster import calls  # Ray and the engines take seconds to import, and an endpoint alone needs none
    from launch.cluster.ray_cluster import Cluster

    cut = engines_of(config)
    gpus = cut.count * cut.gpus if engines else 1
    held = [replace(cut, count=1)] if engines and not config.cluster.share_gpu else []
    run_id = f"evaluate-{secrets.token_hex(8)}"  # two evaluations may share a Redis server
    kind = {"rollouts": engines, "temporary": True}
    show("starting Redis and Ray")
    with Cluster(config, run_id=run_id, folder=target.out, model="", gpus=gpus, held=held, **kind) as cluster:
        end_on_signals()  # again: Ray put its own handlers in place
        try:
            yield cluster
            show("ending the processes")
        except (*calls.LOST, ServerError) as error:
            raise RunFailed(str(error)) from error


@contextmanager
def judge_for(
    config: Config,
    cluster: Any,
    target: EvaluationTarget,
    tokenizer: Tokenizer | None,
    *,
    note: votes.Notify,
    show: ShowActivity,
    answered: Callable[[int, int], None],
) -> Iterator[Judge]:
    """The judge of an evaluation: the endpoint, checked, or our own engines.

    Args:
        config: The evaluation's.
        cluster: Where engines start; None with an endpoint.
        target: Which judge.
        tokenizer: The engines'.
        note: Gets log lines.
        show: Gets what is started.
        answered: Gets how many requests of a wave our engines have answered, and how many there are.
    """
    if target.endpoint:

        def changed(change: Change) -> None:
            if change.matters:
                record_change(target.out, change.text)
            note(f"note       {change.text}")

        served = Endpoint(target.endpoint, target.model, limits=target.limits, extra_body=target.extra_body, note=changed)
        show("asking the server for its model")
        with closing(served) as endpoint:
            endpoint.check()
            try:
                yield endpoint
            finally:
                note(f"asked {endpoint.spent.describe()}")
        return
    from launch.cluster.stage_actors import StageActors
    from launch.judging.engine_judge import EngineJudge

    assert tokenizer is not None  # only an endpoint has none
    with StageActors(cluster, config, model=resolve(config.model.path), tokenizer=tokenizer, note=note, show=show) as actors:
        yield EngineJudge(config, actors=actors, tokenizer=tokenizer, version=0, answered=answered)


def meta_plan_of(config: Config, plan: VotePlan, meta_rm: str) -> VotePlan:
    """Returns how the meta-RM is asked: as the judge, or with a template of its own. TemplateError when that cannot be used,
    ConfigError when there is no meta-RM."""
    path = config.meta_rm.template_path
    if path and not meta_rm:
        raise ConfigError("meta_rm.template_path: there is no meta-RM to read it; name one with --meta-rm, or leave it out")
    return replace(plan, template=load_meta_template(expanded(path))) if path else plan


def meta_file(config: Config, meta_rm: str, plan: VotePlan, out: Path) -> Path:
    """Returns the file of the meta scores; the meta-RMs of two runs may well have one name."""
    digest = fingerprint(meta_rm)
    if config.meta_rm.template_path:
        digest = votes.mark([digest, plan.template.graded])
    return out / f"meta-{short_name(meta_rm)}-{digest[:8]}.jsonl"


def is_scored(config: Config, meta_rm: str, plan: VotePlan, rows: Sequence[votes.Row], out: Path) -> bool:
    """Returns whether all judgements have meta scores on disk."""
    from launch.judging.meta_scores import stored_scores

    stored = stored_scores(rows, meta_file(config, meta_rm, plan, out))
    return all(row["id"] in stored for row in rows if "samples" in row)


def score(
    config: Config,
    cluster: Any,
    meta_rm: str,
    plan: VotePlan,
    preferences: Sequence[Preference],
    rows: Sequence[votes.Row],
    out: Path,
    show: ShowActivity,
) -> dict[str, list[float]]:
    """Returns the meta scores of every judgement by preference id; scorers start where some are not on disk yet, and
    `show` gets that."""
    from launch.judging.meta_scores import meta_scores, start_scorers, stored_scores

    path = meta_file(config, meta_rm, plan, out)
    if is_scored(config, meta_rm, plan, rows, out):
        return stored_scores(rows, path)
    show("starting the meta-RM")
    scorers, tokenizer = start_scorers(cluster, config, meta_rm)
    show("scoring the judgements with the meta-RM")
    return meta_scores(scorers, tokenizer, plan, preferences, rows, timeout_s=config.waits.judge_s, path=path)
