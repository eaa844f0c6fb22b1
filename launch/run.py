"""Trains a generative reward model by SPCT: the entry of `ray job submit -- python launch/run.py`.

    cold start (if enabled) ─▶ online RL, drawn below ─▶ votes counted, with and without the meta-RM

            (eta + 1) * B prompts outstanding, never more
  ┌────────────────────────────────────────────────────────────────────────────┐
  ▼                                                                            │
prompts ─▶ RolloutActor xN ─▶ rollouts ─▶ RewardActor ─▶ experience ─┬─▶ GRPOLearner
              ▲   vLLM                     rule ±1                   └─▶ MetaRMLearner
              └───────────────── policy weights, version v ◀───────────── v + 1

    python launch/run.py --config tiny                          a preset by name, or a YAML file
    python launch/run.py --config tiny grpo.lr=1e-4 run.seed=2  with overrides
    python launch/run.py --config qwen3-8b --dry-run            the resolved config and the plan, nothing started
    python launch/run.py --resume runs/tiny-20260101-120000-s0  go on with a run that was cut off
    python launch/run.py --explain                              the sections of the configuration
    python launch/run.py --explain grpo                         the keys of one: type, range, default, meaning
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python launch/run.py` finds its siblings

from configs.load import dump
from configs.reference import explain
from configs.schema import Config
from launch.cli import exit_status
from launch.monitoring.console import ProgressDisplay
from launch.monitoring.help_text import HelpFormatter
from launch.monitoring.plain_text import clean_lines, fitted
from launch.monitoring.redaction import redacted
from launch.setup.model_files import resolve
from launch.setup.places import choose_caches
from launch.setup.preference_data import describe_data, load_data
from launch.setup.resource_plan import describe, planned
from launch.setup.run_config import load_resumed_config, load_run_config
from launch.setup.run_folder import require_free_id


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 a process failed, 2 the input cannot be used, 130 stopped by a signal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", help="a preset's name, or a YAML file")
    what.add_argument("--resume", metavar="RUN", help="the folder of a run that was cut off: it goes on")
    what.add_argument(
        "--explain", nargs="?", const="", metavar="SECTION", help="describe the keys of a section, or list sections"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and the plan, start nothing")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="keys of the configuration: see --explain")
    arguments = parser.parse_intermixed_args(argv)
    return exit_status(lambda: start(arguments))


def start(arguments: argparse.Namespace) -> int:
    """Explain, plan, start or resume a run, as the arguments choose. Returns the exit status."""
    if arguments.explain is not None:
        print(explain(arguments.explain))
        return 0
    if arguments.resume:
        config = load_resumed_config(arguments.resume, arguments.overrides)
        preset = config.run.id
    else:
        config, preset = load_run_config(arguments.config, arguments.overrides), Path(arguments.config).stem
    if arguments.dry_run:
        plan = describe(planned(config, resolve(config.model.path)))
        rows, usable = describe_data(config)
        described = fitted(f"{plan}\n{clean_lines(rows)}")
        print(redacted(f"{dump(config)}\n{described}"))
        return 0 if usable else 2
    return train(config, preset=preset, resume=bool(arguments.resume))


def train(config: Config, *, preset: str, resume: bool = False) -> int:
    """Run all stages, from the preflight to the report. Returns the exit status."""
    if not resume:
        require_free_id(config)
    with ProgressDisplay(config.grpo.steps, config.grpo.max_staleness, title=config.run.id or preset) as progress:
        choose_caches(Path(config.run.dir) / ".cache")  # before libraries are imported
        progress.activity("reading the data")
        data = load_data(config)  # what is wrong with it is said at once: the next import takes seconds
        progress.activity("importing torch, Ray and vLLM")
        from launch.driver.pipeline import Pipeline

        with Pipeline(config, preset=preset, progress=progress, resume=resume, data=data) as run:
            if config.cold_start.enabled:
                run.cold_start()
            run.online_rl()
            run.count_votes()
    return 0


if __name__ == "__main__":
    sys.exit(main())
