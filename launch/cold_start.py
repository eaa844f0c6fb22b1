"""The cold start alone: sample judgements, reject, fine-tune; the policy is then ready for online RL or for use as it is.

preferences ─▶ N_RFT judgements each, and one with a hint ─▶ keep what is right and not too easy ─▶ fine-tune

python launch/cold_start.py --config tiny run.id=mine          writes runs/mine/cold_start/model
python launch/cold_start.py --config tiny run.id=mine          again, after a kill: goes on, nothing is sampled twice
python launch/run.py --config tiny run.id=mine                 goes on with online RL from there
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python launch/cold_start.py` finds its siblings

from configs.schema import Config
from launch.cli import exit_status
from launch.monitoring.console import ProgressDisplay
from launch.monitoring.help_text import HelpFormatter
from launch.setup.places import choose_caches
from launch.setup.preference_data import load_data
from launch.setup.run_config import load_run_config


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status, as launch/run.py does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--config", required=True, help="a preset's name, or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="launch/run.py --explain lists the keys")
    arguments = parser.parse_intermixed_args(argv)
    overrides = [*arguments.overrides, "cold_start.enabled=true"]
    return exit_status(lambda: cold_start(load_run_config(arguments.config, overrides), preset=Path(arguments.config).stem))


def cold_start(config: Config, *, preset: str) -> int:
    """Run both halves of the cold start, then evaluate the fine-tuned policy on the held-out preferences."""
    with ProgressDisplay(config.grpo.steps, config.grpo.max_staleness, title=config.run.id or preset) as progress:
        choose_caches(Path(config.run.dir) / ".cache")  # before libraries are imported
        progress.activity("reading the data")
        data = load_data(config)  # what is wrong with it is said at once: the next import takes seconds
        progress.activity("importing torch, Ray and vLLM")
        from launch.driver.pipeline import Pipeline

        with Pipeline(config, preset=preset, progress=progress, stages="cold_start", data=data) as run:
            run.cold_start()
            run.evaluate_cold_start()
    return 0


if __name__ == "__main__":
    sys.exit(main())
