"""An evaluation from labelled preferences to its results on disk; launch/evaluate.py is its entry.

preferences ─▶ checked ─▶ judged (engines or endpoint) ─▶ scored by a meta-RM, if one is named ─▶ counted ─▶ written
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from buffer import files
from buffer.streams import ServerError
from configs.load import ConfigError
from configs.paths import expanded
from configs.schema import Config
from grm.benchmarks import OVERALL, table
from grm.preferences import Preference
from grm.prompts import load_meta_template, template_notes
from launch.cluster.failures import RunFailed
from launch.judging import votes
from launch.judging.endpoint import Endpoint
from launch.judging.protocol import Judge, NotJudged
from launch.judging.results import print_table, rewardbench_rows, tracked_id, write_evaluation
from launch.judging.vote_plan import VotePlan, vote_plan
from launch.monitoring.plain_text import clean
from launch.monitoring.wandb_check import require_usable
from launch.setup.context_limit import check_context
from launch.setup.model_files import architecture, fingerprint, is_same, resolve
from launch.setup.model_integrity import check_model_folder
from launch.setup.places import private_files, scratch_root
from launch.setup.preference_data import load_heldout, require_unique_ids
from launch.setup.preflight import check_hub_model, format_skipped, format_used, policy_tokenizer
from launch.setup.prompt_source import prompt_template
from launch.setup.revisions import hub_revisions
from launch.setup.shown_fields import require_shown, shown_notes
from launch.setup.signals import end_on_signals
from launch.setup.tokenizer import Tokenizer
from learner import checkpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationTarget:
    """Which judge is measured, and where the results go."""

    model: str
    """A model folder or hub name; with an endpoint the served model's name."""
    endpoint: str
    """Address of an OpenAI-compatible server; "": our own engines."""
    meta_rm: str
    """A meta-RM's folder; "": none."""
    extra_body: Mapping[str, Any] | None = None
    """Fields that each request to the endpoint holds beside its own."""
    out: Path
    """Folder of the results. What is on disk there already is not done again."""


def evaluate(config: Config, target: EvaluationTarget) -> int:
    """Judge all held-out preferences, count, write and print. Returns how many got no answer.

    Raises:
        ConfigError, DataError, TemplateError: Something cannot work; nothing was started.
        NotJudged: Not one preference got an answer.
        RunFailed, TimeoutError: The judge or the meta-RM failed; the answers so far are on disk.
    """
    preferences = labelled_preferences(config)
    meta_rm, tokenizer = _checked(config, target)
    _make_folder(target.out)
    ks = config.eval.votes
    plan = vote_plan(config, prompt_template(config), max(ks, default=0))
    for note in template_notes(plan.template):
        _note(f"note       {note}")
    meta_plan = _meta_plan(config, plan, target.meta_rm)
    path = target.out / "judgements.jsonl"
    settings = _settings(config, target, plan, begun=str(votes.settings_of(path).get("fingerprint", "")))
    votes.require_same_settings(path, settings)  # before an engine starts
    with _cluster(config, target) as cluster, private_files():
        with _judge(config, cluster, target, tokenizer) as judge:
            rows = votes.collect(judge, plan, preferences, path=path, settings=settings, note=_note)
        # the engines are gone by now: on one GPU there is room for the meta-RM only then
        meta = _meta(config, cluster, meta_rm, meta_plan, preferences, rows, target.out) if meta_rm else {}
    failed = {row["id"]: row["error"] for row in rows if "error" in row}
    items = votes.items(preferences, rows, meta)
    if not items:
        raise NotJudged(f"none of {len(rows)} preferences was judged; the first error: {next(iter(failed.values()))}")
    counted = table(items, ks=ks, seed=config.run.seed)
    revisions = hub_revisions(resolve(config.model.path), config.data.heldout)
    named = {"model": target.model, "meta_rm": target.meta_rm, "data": config.data.heldout, "revisions": revisions}
    with private_files():
        write_evaluation(target.out, counted, named=named, failed=failed, config=config)
    outputs = "".join(json.dumps(row) + "\n" for row in rewardbench_rows(preferences, items))
    files.write(target.out / f"{short_name(target.model)}_outputs.jsonl", outputs)
    print_table(counted)
    print(f"written    {target.out}")
    if failed:
        name, error = next(iter(failed.items()))
        print(f"failed     {len(failed)} of {len(rows)} preferences got no answer; the first, {clean(name)}: {clean(error)}")
    return len(failed)


def short_name(model: str) -> str:
    """Returns a model's name as part of a file name: the last parts of its path."""
    path = model.rstrip("/")
    parts = [part for part in path.split("/") if part not in {"", ".", "..", "model"}]
    return "-".join(parts[-2:]) or "model"


# ---- what is checked before anything starts --------------------------------------------------------------------------


def labelled_preferences(config: Config) -> list[Preference]:
    """Load the held-out preferences, and print what is skipped. ConfigError when ids or subsets cannot be told apart."""
    loaded = load_heldout(config, beside=())
    if any(preference.subset == OVERALL for preference in loaded.preferences):
        raise ConfigError(f"data: a subset is named {OVERALL!r}, as the table's last row is; rename it")
    require_unique_ids(loaded)
    require_shown(config, loaded)
    for note in shown_notes(config, [loaded]):
        _note(f"note       {note}")
    if len(loaded.sources) > 1:
        print(format_used([loaded.describe()]).strip())
    if loaded.skipped:
        print(format_skipped(loaded.skipped).strip())
    return loaded.preferences


def _checked(config: Config, target: EvaluationTarget) -> tuple[str, Tokenizer | None]:
    """Returns the meta-RM's folder, "" without one, and the tokenizer of our own engines. ConfigError for what would otherwise
    come to light when an engine starts, or when all is judged."""
    require_usable(config.tracking, tracked_id(target.out), os.environ)
    scratch_root()
    meta_rm = resolve(target.meta_rm) if target.meta_rm else ""
    kinds = (architecture(meta_rm) or {}).get("architectures") if meta_rm else None
    if isinstance(kinds, list) and not any("SequenceClassification" in str(kind) for kind in kinds):
        raise ConfigError(
            f"--meta-rm {target.meta_rm}: a {', '.join(map(str, kinds))}, which scores nothing; give a meta-RM's folder:"
            " checkpoints/meta-rm/version-*/model of a run"
        )
    if meta_rm:
        _check_meta_rm(config, meta_rm)
    if target.endpoint:
        return meta_rm, None
    model = resolve(config.model.path)
    check_model_folder(model, trained=False)
    check_context(config, architecture(model))
    tokenizer = policy_tokenizer(config, model)
    check_hub_model(config, model, trained=False)
    return meta_rm, tokenizer


def _check_meta_rm(config: Config, meta_rm: str) -> None:
    folder = Path(meta_rm).parent
    try:
        untrained = (folder / checkpoint.RECORD).is_file() and not checkpoint.read(folder).version
    except checkpoint.CheckpointError as error:
        raise ConfigError(f"--meta-rm: {error}; give another") from error
    if untrained:
        raise ConfigError(f"--meta-rm: {meta_rm} took no step in its run, so its scores mean nothing; give another")
    try:
        check_model_folder(meta_rm, trained=True)  # the meta scorer reads it as the learners do
        Tokenizer(meta_rm, thinking=config.prompts.thinking)
    except ConfigError as error:
        raise ConfigError(f"--meta-rm: {str(error).removeprefix('model.path: ')}") from error


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"--out: cannot make {out}: {error.strerror}; choose another folder") from None


def _settings(config: Config, target: EvaluationTarget, plan: VotePlan, *, begun: str) -> dict[str, Any]:
    """What must be the same for judgements on disk to be used again. `begun` is the model's fingerprint in them, if any: it
    stands for the same model's later commits on a hub, too."""
    digest = "" if target.endpoint else fingerprint(resolve(config.model.path))
    with suppress(ConnectionError):  # nobody can say, so it is another
        digest = begun if is_same(config.model.path, begun, digest) else digest
    return {
        "model": target.model,
        "endpoint": target.endpoint,
        "fingerprint": digest,
        "template": plan.template.graded,
        "max_new_tokens": plan.max_new_tokens,
        "extra_body": target.extra_body,
        **plan.settings(),
    }


# ---- the judge and the meta-RM ---------------------------------------------------------------------------------------


@contextmanager
def _cluster(config: Config, target: EvaluationTarget) -> Iterator[Any]:
    """Where engines and a meta-RM can be started; None when an endpoint alone judges."""
    end_on_signals()
    if target.endpoint and not target.meta_rm:
        yield None
        return
    from launch.cluster import calls  # Ray and the engines take seconds to import, and an endpoint alone needs none
    from launch.cluster.ray_cluster import Cluster

    gpus = 1 if target.endpoint else config.rollout.workers
    run_id = f"evaluate-{secrets.token_hex(8)}"  # two evaluations may share a Redis server
    kind = {"rollouts": not target.endpoint, "temporary": True}
    with Cluster(config, run_id=run_id, folder=target.out, model="", gpus=gpus, **kind) as cluster:
        end_on_signals()  # again: Ray put its own handlers in place
        try:
            yield cluster
        except (*calls.LOST, ServerError) as error:
            raise RunFailed(str(error)) from error


def _note(text: str) -> None:
    """Print a log line, which may quote an error of a worker or a name from the data."""
    print(clean(text), flush=True)


@contextmanager
def _judge(config: Config, cluster: Any, target: EvaluationTarget, tokenizer: Tokenizer | None) -> Iterator[Judge]:
    if target.endpoint:
        sequences = config.rollout.workers * config.rollout.max_groups
        with closing(Endpoint(target.endpoint, target.model, concurrency=sequences, extra_body=target.extra_body)) as endpoint:
            endpoint.check()
            yield endpoint
        return
    from launch.cluster.stage_actors import StageActors
    from launch.judging.engine_judge import EngineJudge

    assert tokenizer is not None  # only an endpoint has none
    with StageActors(cluster, config, model=resolve(config.model.path), tokenizer=tokenizer, note=_note) as actors:
        yield EngineJudge(config, actors=actors, tokenizer=tokenizer, version=0)


def _meta_plan(config: Config, plan: VotePlan, meta_rm: str) -> VotePlan:
    """Returns how the meta-RM is asked: as the judge, or with a template of its own. TemplateError when that cannot be used,
    ConfigError when there is no meta-RM."""
    path = config.meta_rm.template_path
    if path and not meta_rm:
        raise ConfigError("meta_rm.template_path: there is no meta-RM to read it; name one with --meta-rm, or leave it out")
    return replace(plan, template=load_meta_template(expanded(path))) if path else plan


def _meta(
    config: Config,
    cluster: Any,
    meta_rm: str,
    plan: VotePlan,
    preferences: Sequence[Preference],
    rows: Sequence[votes.Row],
    out: Path,
) -> dict[str, list[float]]:
    """Returns the meta scores of every judgement by preference id, those on disk included."""
    from launch.judging.meta_scores import meta_scores, start_scorers

    digest = fingerprint(meta_rm)  # the meta-RMs of two runs may well have one name
    if config.meta_rm.template_path:
        digest = votes.mark([digest, plan.template.graded])
    scorers, tokenizer = start_scorers(cluster, config, meta_rm)
    return meta_scores(
        scorers,
        tokenizer,
        plan,
        preferences,
        rows,
        timeout_s=config.waits.judge_s,
        path=out / f"meta-{short_name(meta_rm)}-{digest[:8]}.jsonl",
    )
