"""Measures a judge on labelled preferences: one table, greedy and k votes, with and without the meta-RM.

    preferences ─▶ 1 greedy + K sampled judgements each ─▶ judgements.jsonl ─▶ table, plot, rewardbench's file, W&B
                              vLLM, or --endpoint             (+ meta.jsonl)

    python launch/evaluate.py --model DIR --data FILE... --k 1,2,4,8,16,32
    python launch/evaluate.py --model DIR --meta-rm DIR --config smollm2-135m --data FILE... rollout.workers=2
    python launch/evaluate.py --endpoint http://HOST:PORT/v1 --model NAME --data FILE...

DIR is any Hugging Face causal language model; it is asked by our template (`prompts.style`, or your own
`prompts.template_path`). Started again with the same --out it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python launch/evaluate.py` finds its siblings

from buffer.streams import ServerError
from configs.load import ConfigError, load
from configs.schema import Config
from grm.benchmarks import OVERALL, table
from grm.preferences import DataError, Preference
from grm.prompts import TemplateError
from launch.judging import votes
from launch.judging.endpoint import Endpoint
from launch.judging.protocol import Judge, JudgeLost, NotJudged
from launch.judging.results import print_table, rewardbench_rows, write_evaluation
from launch.monitoring.plain_text import clean, clean_lines
from launch.monitoring.tracker import chosen_mode
from launch.setup import resource_plan
from launch.setup.model_files import architecture, fingerprint, resolve
from launch.setup.preflight import format_skipped, load_preferences
from launch.setup.prompt_source import prompt_template
from launch.setup.signals import end_on_signals
from launch.setup.tokenizer import Tokenizer


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 all judged, 1 some preferences got no answer, 2 the input cannot be used, 130 stopped by a signal."""
    given = _parser().parse_args(arguments)
    try:
        config = _config(given)
        preferences = _preferences(config)
        return evaluate(config, preferences, given)
    except (ConfigError, DataError, TemplateError, ServerError, NotJudged) as error:
        print(f"error: {clean_lines(str(error))}", file=sys.stderr)
        return 2
    except (TimeoutError, JudgeLost) as error:
        print(f"failed: {clean_lines(str(error))}; start it again with the same --out to go on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; start it again with the same --out to go on", file=sys.stderr)
        return 130


def evaluate(config: Config, preferences: Sequence[Preference], given: argparse.Namespace) -> int:
    """Judge, count, write. What is on disk already is not done again."""
    meta_rm, tokenizer = _checked(config, given)
    out = _folder(given)
    ks = config.eval.votes
    poll = votes.vote_plan(config, prompt_template(config), max(ks, default=0))
    settings = {
        "model": given.model,
        "endpoint": given.endpoint or "",
        "fingerprint": "" if given.endpoint else fingerprint(resolve(config.model.path)),
        "template": poll.template.graded,
        "k": poll.k,
        "temperature": poll.temperature,
        "max_new_tokens": poll.max_new_tokens,
        "seed": poll.seed,
    }
    with _cluster(config, given, out) as cluster:
        with _judge(config, cluster, preferences, given, tokenizer) as judge:
            path = out / "judgements.jsonl"
            rows = votes.collect(judge, poll, preferences, path=path, settings=settings, note=partial(print, flush=True))
        # the engines are gone by now: on one GPU there is room for the meta-RM only then
        meta = _meta(config, cluster, meta_rm, poll, preferences, rows, out) if meta_rm else {}
    failed = {row["id"]: row["error"] for row in rows if "error" in row}
    items = votes.items(preferences, rows, meta)
    if not items:
        raise NotJudged(f"none of {len(rows)} preferences was judged; the first error: {next(iter(failed.values()))}")
    counted = table(items, ks=ks, seed=config.run.seed)
    named = {"model": given.model, "meta_rm": given.meta_rm or "", "data": config.data.heldout}
    write_evaluation(out, counted, named=named, failed=failed, config=config)
    (out / f"{_name(given.model)}_outputs.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rewardbench_rows(preferences, items)), encoding="utf-8"
    )
    print_table(counted)
    print(f"written    {out}")
    if failed:
        name, error = next(iter(failed.items()))
        print(f"failed     {len(failed)} of {len(rows)} preferences got no answer; the first, {clean(name)}: {clean(error)}")
    return 1 if failed else 0


@contextmanager
def _cluster(config: Config, given: argparse.Namespace, out: Path) -> Iterator[Any]:
    """Where engines and a meta-RM can be started; None when an endpoint alone judges."""
    end_on_signals()
    if given.endpoint and not given.meta_rm:
        yield None
        return
    from ray.exceptions import RayError  # Ray and the engines: seconds that an endpoint alone need not pay

    from launch.cluster.ray_cluster import Cluster
    from launch.cluster.supervision import RunFailed

    model = resolve(given.meta_rm if given.endpoint else config.model.path)
    gpus = 1 if given.endpoint else config.rollout.workers
    try:
        with Cluster(config, run_id=f"evaluate-{os.getpid()}", folder=out, model=model, gpus=gpus) as cluster:
            end_on_signals()  # again: Ray put its own handlers in place
            yield cluster
    except (RayError, RunFailed) as error:
        raise JudgeLost(str(error)) from error


@contextmanager
def _judge(
    config: Config, cluster: Any, preferences: Sequence[Preference], given: argparse.Namespace, tokenizer: Tokenizer | None
) -> Iterator[Judge]:
    if given.endpoint:
        sequences = config.rollout.workers * config.rollout.max_groups
        with closing(Endpoint(given.endpoint, given.model, concurrency=sequences)) as endpoint:
            endpoint.check()
            yield endpoint
        return
    from launch.cluster.stage_actors import StageActors
    from launch.judging.engine_judge import EngineJudge

    assert tokenizer is not None  # only an endpoint has none
    model = resolve(config.model.path)
    with StageActors(cluster, config, model=model, preferences=preferences) as actors:
        yield EngineJudge(config, actors=actors, tokenizer=tokenizer, version=0)


def _meta(
    config: Config,
    cluster: Any,
    meta_rm: str,
    poll: votes.VotePlan,
    preferences: Sequence[Preference],
    rows: Sequence[dict[str, Any]],
    out: Path,
) -> dict[str, list[float]]:
    from learner.meta_scorer import MetaScorer

    digest = fingerprint(meta_rm)[:8]  # the meta-RMs of two runs may well have one name
    scorer = cluster.remote(MetaScorer, {}, gpu=True, config=config, model_path=meta_rm)
    cluster.await_all({scorer.ready.remote(): "the meta-RM"})
    return votes.meta_scores(
        scorer,
        Tokenizer(meta_rm),
        poll,
        preferences,
        rows,
        timeout_s=config.waits.judge_s,
        path=out / f"meta-{_name(meta_rm)}-{digest}.jsonl",
    )


# ---- the door --------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a model folder or hub name; with --endpoint the served model's name")
    parser.add_argument("--meta-rm", default="", help="a meta-RM's folder: checkpoints/meta-rm/version-*/model of a run")
    parser.add_argument("--data", required=True, nargs="+", help="JSONL files, tiny:..., tinyheld:... or hf:...")
    parser.add_argument("--k", default="", help="votes to count, such as 1,2,4,8; 0: one greedy judgement only")
    parser.add_argument("--endpoint", default="", help="an OpenAI-compatible server; the key is OPENAI_API_KEY")
    parser.add_argument("--config", default="evaluate", help="preset or file with prompts, lengths and machine")
    parser.add_argument("--out", default="", help="folder of the results (default: evaluations/MODEL)")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    return parser


def _config(given: argparse.Namespace) -> Config:
    """All rows of --data are judged, whatever a preset says of its own, unless the command line says otherwise."""
    return load(given.config, ["data.heldout_limit=0", *given.overrides, *_named(given)])


def _named(given: argparse.Namespace) -> list[str]:
    """The options as overrides. No training data is read; a path of the config would not have to exist."""
    given.data, extra = [d for d in given.data if "=" not in d], [d for d in given.data if "=" in d]
    data = json.dumps(given.data, ensure_ascii=False)  # YAML reads no surrogate pairs
    ks = [] if not given.k else [f"eval.votes=[{given.k if given.k != '0' else ''}]"]
    model = json.dumps("tiny" if given.endpoint else given.model, ensure_ascii=False)
    return [*extra, f"model.path={model}", f"data.train={data}", f"data.heldout={data}", *ks]


def _checked(config: Config, given: argparse.Namespace) -> tuple[str, Tokenizer | None]:
    """The meta-RM's folder, "" without one, and the tokenizer of our own engines. ConfigError for what an engine would find
    out, or nobody until all is judged."""
    chosen_mode(config.tracking.mode, os.environ)
    meta_rm = resolve(given.meta_rm) if given.meta_rm else ""
    kinds = (architecture(meta_rm) or {}).get("architectures") if meta_rm else None
    if isinstance(kinds, list) and not any("SequenceClassification" in str(kind) for kind in kinds):
        raise ConfigError(
            f"--meta-rm {given.meta_rm}: a {', '.join(map(str, kinds))}, which scores nothing; give a meta-RM's folder, such as"
            " checkpoints/meta-rm/version-*/model of a run"
        )
    if given.endpoint:
        return meta_rm, None
    model = resolve(config.model.path)
    resource_plan.check_context(config, architecture(model))
    return meta_rm, Tokenizer(model)


def _preferences(config: Config) -> list[Preference]:
    loaded = load_preferences(config.data.heldout, config.data.heldout_limit)
    found = list(loaded.preferences)
    if any(p.subset == OVERALL for p in found):
        raise ConfigError(f"data: a subset is named {OVERALL!r}, as the table's last row is; rename it")
    name, count = Counter(p.question.id for p in found).most_common(1)[0]
    if count > 1:
        raise ConfigError(f"data: preference id {name!r} occurs {count} times; make ids unique, or name the files differently")
    if loaded.skipped:
        print(format_skipped(dict(loaded.skipped)).strip())
    return found


def _folder(given: argparse.Namespace) -> Path:
    out = Path(given.out or f"evaluations/{_name(given.model)}").expanduser().absolute()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out: cannot make {out}: {error.strerror}; choose another folder") from None
    return out


def _name(model: str) -> str:
    """A model's name that can stand in a file's: the last parts of its path."""
    path = model.rstrip("/")
    parts = [part for part in path.split("/") if part not in {"", ".", "..", "model"}]
    return "-".join(parts[-2:]) or "model"


if __name__ == "__main__":
    sys.exit(main())
