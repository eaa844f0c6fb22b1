"""Serves a trained judge as a reward server over HTTP (docs/serving.md).

python launch/serve.py --run runs/mine                       the newest policy and meta-RM of a run
python launch/serve.py --model DIR --meta-rm DIR --k 8       a model folder or a hub name
curl 127.0.0.1:8000/v1/judge --json '{"query": "Is the sky blue?", "responses": ["Yes, by day.", "No."]}'
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from launch.cli import exit_status
from launch.monitoring.help_text import HelpFormatter
from launch.serving.served import JudgeChoice, Places, serve
from launch.serving.settings import ServerSettings

# An option for each number of the settings: its text.
NUMBERS = {
    "size": "members of a cohort where a request names no size",
    "collect_s": "seconds for which a cohort waits for its members; then those that came are judged",
    "deadline_s": "seconds in which a request is answered, from the votes that are there by then",
    "most_votes": "k at most",
    "most_responses": "responses beside each other at most",
    "most_bytes": "bytes of a request at most",
    "most_requests": "requests that one HTTP worker holds at a time",
    "most_cohorts": "cohorts without a verdict at a time",
    "rate": "requests of one key in a second, at one HTTP worker; 0: any number",
    "keep_s": "seconds for which a verdict is kept",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 stopped by a signal after all requests were answered, 1 it failed, 2 it cannot be served."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    source = options.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", default="", help="a run, or its id: its newest whole checkpoint is served")
    source.add_argument("--model", default="", help="a checkpoint, a model folder or a hub name")
    options.add_argument("--meta-rm", default="", help="a meta-RM's folder; a run knows its own")
    options.add_argument("--k", type=int, default=8, help="judgements that vote (default: 8)")
    options.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine alone)")
    options.add_argument("--port", type=int, default=8000, help="port to listen at (default: 8000)")
    options.add_argument("--keys", default="", metavar="FILE", help="who may ask: TENANT KEY in each line")
    options.add_argument("--http-workers", type=int, default=2, help="processes that speak HTTP (default: 2)")
    options.add_argument("--judges", type=int, default=1, help="engines (default: 1)")
    options.add_argument("--state", default="", metavar="DIR", help="where verdicts are kept (default: serving/NAME)")
    options.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where the engines are")
    options.add_argument(
        "--evaluation", default="", metavar="DIR", help="of this judge, whose Brier score stands beside shares"
    )
    options.add_argument("--seed", type=int, default=0, help="of orders and sampling")
    options.add_argument("--log-texts", action="store_true", help="write queries and responses into the log")
    options.add_argument("--set", action="append", default=[], metavar="section.key=value", help="a setting; may stand again")
    for field in fields(ServerSettings):
        if field.name in NUMBERS:
            name, kind = f"--{field.name.replace('_', '-')}", type(field.default)
            text = f"{NUMBERS[field.name]} (default: {field.default})"
            options.add_argument(name, type=kind, default=field.default, help=text)
    arguments = options.parse_args(argv)
    return exit_status(lambda: _serve(arguments))


def _serve(arguments: argparse.Namespace) -> int:
    choice = JudgeChoice(
        source=arguments.run or arguments.model,
        meta_rm=arguments.meta_rm,
        device=arguments.device,
        seed=arguments.seed,
        overrides=tuple(arguments.set),
    )
    numbers = {name: getattr(arguments, name) for name in NUMBERS}
    settings = ServerSettings(model="", votes=arguments.k, log_texts=arguments.log_texts, **numbers)
    places = Places(
        host=arguments.host,
        port=arguments.port,
        keys=Path(arguments.keys).absolute() if arguments.keys else None,
        state=arguments.state,
        http_workers=arguments.http_workers,
        judges=arguments.judges,
        evaluation=Path(arguments.evaluation) if arguments.evaluation else None,
    )
    return serve(choice, settings, places)


if __name__ == "__main__":
    sys.exit(main())
