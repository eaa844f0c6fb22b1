"""Measures a judge on labelled preferences: one table, greedy and k votes, with and without the meta-RM.

    preferences ─▶ greedy + K sampled judgements each ─▶ judgements.jsonl ─▶ table, plot, rewardbench's file, W&B
                              vLLM, or --endpoint             (+ meta.jsonl)

    python launch/evaluate.py --model DIR --data FILE... --k 1,2,4,8,16,32
    python launch/evaluate.py --model DIR --meta-rm DIR --config smollm2-135m --data FILE... rollout.workers=2
    python launch/evaluate.py --endpoint http://HOST:PORT/v1 --model NAME --data FILE...

DIR is any Hugging Face causal language model; it gets our prompts (`prompts.style`, or your own `prompts.template_path`).
Started again with the same --out it goes on where it stopped.
"""

import argparse
import json
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
from launch.judging.endpoint import OWN_FIELDS
from launch.judging.evaluation_run import EvaluationTarget, evaluate, short_name
from launch.setup.places import choose_caches
from launch.setup.run_config import load_run_config


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 all judged, 1 some preferences got no answer or the judge failed, 2 the input cannot be used,
    130 stopped by a signal."""
    arguments = parser().parse_intermixed_args(argv)
    return exit_status(lambda: start(arguments), remedy="; start it again with the same --out to go on")


def start(arguments: argparse.Namespace) -> int:
    """Evaluate what the arguments name. Returns the exit status."""
    try:
        out = output_path(arguments.out or f"evaluations/{short_name(arguments.model)}")
    except NoHomeFolder as error:
        raise ConfigError(f"--out {error}") from None
    choose_caches(out / ".cache")
    target = EvaluationTarget(
        model=arguments.model,
        endpoint=arguments.endpoint,
        meta_rm=arguments.meta_rm,
        extra_body=extra_body_of(arguments),
        out=out,
    )
    return FAILED if evaluate(config_of(arguments), target) else 0


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", required=True, help="a model folder or hub name; with --endpoint the served model's name")
    options.add_argument("--meta-rm", default="", help="a meta-RM's folder: checkpoints/meta-rm/version-*/model of a run")
    options.add_argument("--data", required=True, nargs="+", help="JSONL files, tiny:..., tinyheld:..., hf:... or bench:...")
    options.add_argument("--k", default="", help="votes to count, as 1,2,4,8; 0: greedy judgements only")
    options.add_argument("--endpoint", default="", help="an OpenAI-compatible server; the key is OPENAI_API_KEY")
    options.add_argument(
        "--extra-body",
        default="",
        metavar="JSON",
        help='more fields of each request to the endpoint, as {"chat_template_kwargs": {"enable_thinking": false}}',
    )
    options.add_argument("--config", default=EVALUATION, help="preset or file with prompts, lengths and machine")
    options.add_argument("--out", default="", help="folder of the results (default: evaluations/MODEL)")
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


def config_of(arguments: argparse.Namespace) -> Config:
    """Returns the config of an evaluation. All rows of --data are judged, whatever limit a preset sets, unless the command
    line sets one."""
    return load_run_config(arguments.config, ["data.heldout_limit=0", *arguments.overrides, *as_overrides(arguments)])


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
