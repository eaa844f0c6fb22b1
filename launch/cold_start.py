"""The cold start alone: sample judgements, reject, fine-tune; the policy is then ready for online RL or for use as it is.

preferences ─▶ N_RFT judgements each, and one that was told the best ─▶ keep what is right and not too easy ─▶ fine-tune

python launch/cold_start.py --config tiny run.id=mine          writes runs/mine/cold_start/model
python launch/cold_start.py --config tiny run.id=mine          again, after a kill: goes on, nothing is sampled twice
python launch/run.py --config tiny run.id=mine                 goes on with online RL from there
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python launch/cold_start.py` finds its siblings

from configs.load import load
from configs.schema import Config
from launch.cli import exit_status


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status as of launch/run.py."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="a preset's name, or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    given = parser.parse_args(arguments)
    return exit_status(
        lambda: cold_start(load(given.config, [*given.overrides, "cold_start.enabled=true"]), preset=Path(given.config).stem)
    )


def cold_start(config: Config, *, preset: str) -> int:
    """Both halves of the cold start, and the fine-tuned policy on the held-out preferences."""
    from launch.driver.pipeline import Pipeline

    with Pipeline(config, preset=preset) as run:
        run.cold_start()
        run.evaluate_cold_start()
    return 0


if __name__ == "__main__":
    sys.exit(main())
