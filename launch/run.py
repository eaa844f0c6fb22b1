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
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python launch/run.py` finds its siblings

from configs.load import ConfigError, dump, load
from configs.schema import Config
from launch.cli import exit_status
from launch.setup import resource_plan
from launch.setup.model_files import resolve


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done, 1 a part failed, 2 the input cannot be used, 130 stopped by a signal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--config", help="a preset's name, or a YAML file")
    what.add_argument("--resume", metavar="RUN", help="the folder of a run that was cut off: it goes on")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved config and the plan, start nothing")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    given = parser.parse_args(arguments)
    return exit_status(lambda: start(given))


def start(given: argparse.Namespace) -> int:
    if given.resume:
        return resume(Path(given.resume), given.overrides, dry_run=given.dry_run)
    config = load(given.config, given.overrides)
    if given.dry_run:
        return show(config)
    return train(config, preset=Path(given.config).stem)


def show(config: Config) -> int:
    """The resolved config and the plan."""
    print(
        dump(config)
        + "\n"
        + resource_plan.describe(config, resource_plan.planned_processes(config, resolve(config.model.path)))
    )
    return 0


def resume(folder: Path, overrides: Sequence[str], *, dry_run: bool) -> int:
    if overrides:
        raise ConfigError(f"--resume: a run goes on with its own config; {overrides[0]} cannot be changed")
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"--resume {folder}: no run folder, it holds no config.yaml")
    config = load(folder / "config.yaml")
    place = {"dir": str(folder.absolute().parent), "id": folder.absolute().name}
    config = config.model_copy(update={"run": config.run.model_copy(update=place)})
    return show(config) if dry_run else train(config, preset=folder.name, resume=True)


def train(config: Config, *, preset: str, resume: bool = False) -> int:
    """All stages of a run, from the data at the door to the report."""
    from launch.driver.pipeline import Pipeline

    with Pipeline(config, preset=preset, resume=resume) as run:
        if config.cold_start.enabled:
            run.cold_start()
        run.online_rl()
        run.count_votes()
    return 0


if __name__ == "__main__":
    sys.exit(main())
