"""Measures a judge on labelled preferences: one table, greedy and k votes, with and without the meta-RM.

    preferences ─▶ greedy + K sampled judgements each ─▶ judgements.jsonl ─▶ table, plot, rewardbench's file, W&B
                              vLLM, or --endpoint             (+ meta.jsonl)

    python launch/evaluate.py --model DIR --data FILE... --k 1,2,4,8,16,32
    python launch/evaluate.py --model DIR --meta-rm DIR --config smollm2-135m --data FILE... rollout.workers=2
    python launch/evaluate.py --endpoint http://HOST:PORT/v1 --model NAME --data FILE...
    python launch/evaluate.py --scalar --model DIR --data FILE...       a scalar reward model, here or behind --endpoint
    python launch/evaluate.py --model DIR --data FILE... --dry-run      what would be asked, nothing started
    python launch/evaluate.py --compare FOLDER FOLDER...                evaluations side by side, on what all of them judged

DIR is any Hugging Face causal language model, or a run, or a checkpoint of one (checkpoints/latest, checkpoints/best). A judge
that was trained here is asked as its judge.json says; any other gets our
prompts (`prompts.style`, or your own `prompts.template_path`).
Started again with the same --out it goes on where it stopped.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python launch/evaluate.py` finds its siblings

from buffer.json_text import JsonError, parse_object
from configs.load import EVALUATION, ConfigError, is_override
from configs.paths import NoHomeFolder, output_path
from configs.schema import Config
from launch.cli import FAILED, exit_status
from launch.judging.comparison import compare
from launch.judging.comparison_terminal import print_comparison
from launch.judging.dry_run import describe_evaluation, describe_scalar_evaluation
from launch.judging.endpoint import OWN_FIELDS, EndpointLimits
from launch.judging.evaluation_run import evaluate
from launch.judging.evaluation_target import EvaluationTarget, short_name
from launch.judging.scalar_evaluation import evaluate_scalar
from launch.monitoring.console import ProgressDisplay
from launch.monitoring.help_text import HelpFormatter
from launch.setup import judge_settings
from launch.setup.judge_settings import JudgeSettings, differences, read_judge, require_judge
from launch.setup.judge_source import model_named
from launch.setup.model_files import architecture, is_classifier, resolve
from launch.setup.places import choose_caches
from launch.setup.run_config import load_run_config

ENDPOINT_OPTIONS = (
    ("concurrency", int, "requests at a time"),
    ("timeout_s", float, "seconds in which one try must be answered"),
    ("tries", int, "of a request that failed for a reason that may pass"),
    ("requests_per_minute", int, "most requests begun in a minute; 0: no limit"),
    ("tokens_per_minute", int, "most tokens of prompts and answers in a minute; 0: no limit"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 all judged, 1 some judgements got no answer or the judge failed, 2 the input cannot be used,
    130 stopped by a signal."""
    arguments = parser().parse_intermixed_args(argv)
    return exit_status(lambda: start(arguments), remedy="; start it again with the same --out to go on")


def start(arguments: argparse.Namespace) -> int:
    """Evaluate, or compare, what the arguments name. Returns the exit status."""
    if arguments.compare:
        print_comparison(compare([Path(folder) for folder in arguments.compare]))
        return 0
    if not arguments.data:
        raise ConfigError("--data: name the preferences to judge, as --data FILE")
    try:
        out = output_path(arguments.out or default_folder(arguments))
    except NoHomeFolder as error:
        raise ConfigError(f"--out {error}") from None
    choose_caches(out / ".cache")
    if not arguments.endpoint:
        require_no_limits(arguments)
        arguments.model = model_named(arguments.model)
    settings = None if arguments.endpoint else read_judge(resolve(arguments.model))
    if settings is not None:
        require_judge(settings, arguments.model, "--meta-rm")
    scalar = is_scalar(arguments)
    config = config_of(arguments, settings)
    for note in differences(settings, config) if settings else ():
        print(f"note       {note}")
    target = EvaluationTarget(
        model=arguments.model,
        endpoint=arguments.endpoint,
        meta_rm=arguments.meta_rm,
        early_stop=arguments.early_stop,
        extra_body=extra_body_of(arguments),
        limits=limits_of(arguments, config),
        out=out,
    )
    if arguments.dry_run:
        (describe_scalar_evaluation if scalar else describe_evaluation)(config, target)
        return 0
    with ProgressDisplay(0, 0, title=short_name(arguments.model)) as progress:
        return FAILED if (evaluate_scalar if scalar else evaluate)(config, target, progress) else 0


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    subject = options.add_mutually_exclusive_group(required=True)
    subject.add_argument(
        "--model", default="", help="a run, a checkpoint, a model folder or hub name; with --endpoint the served model's name"
    )
    subject.add_argument("--compare", nargs="+", default=[], metavar="FOLDER", help="results of evaluations, side by side")
    options.add_argument("--meta-rm", default="", help="a meta-RM's folder: checkpoints/meta-rm/version-*/model of a run")
    options.add_argument("--data", default=[], nargs="+", help="JSONL files, tiny:..., tinyheld:..., hf:... or bench:...")
    options.add_argument("--k", default="", help="votes to count, as 1,2,4,8; 0: greedy judgements only")
    options.add_argument(
        "--scalar", action="store_true", help="the model is a scalar reward model; a folder's config.json says so itself"
    )
    options.add_argument("--dry-run", action="store_true", help="print the data and what would be asked, start nothing")
    options.add_argument("--early-stop", action="store_true", help="ask for no vote that cannot change the best response")
    options.add_argument("--endpoint", default="", help="an OpenAI-compatible server; the key is OPENAI_API_KEY")
    options.add_argument(
        "--extra-body",
        default="",
        metavar="JSON",
        help='more fields of each request to the endpoint, as {"chat_template_kwargs": {"enable_thinking": false}}',
    )
    for name, kind, what in ENDPOINT_OPTIONS:
        default = getattr(EndpointLimits(), name)
        shown = "rollout.workers x rollout.max_groups" if name == "concurrency" else f"{default:g}"
        flag = f"--{name.replace('_', '-')}"
        options.add_argument(flag, type=kind, metavar="N", help=f"of the endpoint: {what} (default: {shown})")
    options.add_argument("--config", default=EVALUATION, help="preset or file with prompts, lengths and machine")
    options.add_argument("--out", default="", help="folder of the results (default: evaluations/MODEL/DATA)")
    options.add_argument("overrides", nargs="*", metavar="section.key=value", help="launch/run.py --explain lists the keys")
    return options


def extra_body_of(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Returns the fields of --extra-body, None without. ConfigError when they cannot be sent."""
    if not arguments.extra_body:
        return None
    if not arguments.endpoint:
        raise ConfigError("--extra-body is part of a request to an endpoint; give --endpoint, too, or leave it out")
    try:
        fields = parse_object(arguments.extra_body, "--extra-body")
    except JsonError as error:
        raise ConfigError(f"{error}; give a JSON object") from None
    if own := sorted(set(fields) & set(OWN_FIELDS)):
        raise ConfigError(f"--extra-body: {', '.join(own)} of a request is what is measured; leave it out")
    return fields


def is_scalar(arguments: argparse.Namespace) -> bool:
    """Returns whether the model is a scalar reward model. ConfigError for options that one has no use for."""
    scalar = arguments.scalar or (not arguments.endpoint and is_classifier(architecture(resolve(arguments.model))))
    if scalar and arguments.k not in ("", "0"):
        raise ConfigError("--k: a scalar reward model gives a response the same score each time; leave it out")
    if scalar and arguments.early_stop:
        raise ConfigError("--early-stop: a scalar reward model casts no votes; leave it out")
    return bool(scalar)


def given_limits(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the limits of an endpoint that the command line names."""
    return {name: getattr(arguments, name) for name, *_ in ENDPOINT_OPTIONS if getattr(arguments, name) is not None}


def require_no_limits(arguments: argparse.Namespace) -> None:
    """ConfigError when a limit of an endpoint is given and no endpoint."""
    if given := given_limits(arguments):
        raise ConfigError(f"--{next(iter(given)).replace('_', '-')} is of an endpoint; give --endpoint, too, or leave it out")


def limits_of(arguments: argparse.Namespace, config: Config) -> EndpointLimits:
    """Returns how the endpoint may be asked. ConfigError for a number without sense."""
    try:
        return EndpointLimits(**{"concurrency": config.rollout.workers * config.rollout.max_groups, **given_limits(arguments)})
    except ValueError as error:
        raise ConfigError(f"--endpoint: {error}") from None


def default_folder(arguments: argparse.Namespace) -> str:
    """Returns the folder of the results by judge and data: a second data set has its own."""
    sources = [source for source in arguments.data if not is_override(source)]
    names = [
        re.sub(r"[^\w.-]+", "-", short_name(re.sub(r"^(hf|bench):", "", source)).partition(".jsonl")[0]) for source in sources
    ]
    return f"evaluations/{short_name(arguments.model)}/{'+'.join(names[:3])}{'+more' * (len(names) > 3)}"


def config_of(arguments: argparse.Namespace, settings: JudgeSettings | None = None) -> Config:
    """Returns the config of an evaluation. All rows of --data are judged, whatever limit a preset sets, unless the command
    line sets one. Where no preset is named, the model is asked as its own settings (judge.json) say, as far as the command line
    says nothing else."""
    given = [*arguments.overrides, *as_overrides(arguments)]
    trained: list[str] = []
    if settings is not None and arguments.config == EVALUATION:
        trained = judge_settings.as_overrides(settings, resolve(arguments.model), given)
    return load_run_config(arguments.config, ["data.heldout_limit=0", *trained, *given])


def as_overrides(arguments: argparse.Namespace) -> list[str]:
    """Returns the overrides that stand behind --data, and the options as overrides. No training data is read, but the schema
    requires some."""
    sources = [source for source in arguments.data if not is_override(source)]
    overrides = [source for source in arguments.data if is_override(source)]
    data = json.dumps(sources, ensure_ascii=False)  # YAML reads no surrogate pairs
    ks = [] if not arguments.k else [f"eval.votes=[{arguments.k if arguments.k != '0' else ''}]"]
    model = json.dumps("tiny" if arguments.endpoint else arguments.model, ensure_ascii=False)
    return [*overrides, f"model.path={model}", f"data.train={data}", f"data.heldout={data}", *ks]


if __name__ == "__main__":
    sys.exit(main())
