"""Writes the report of a run: one page that opens anywhere, without a network and without a script.

    python launch/report.py RUN_FOLDER          writes RUN_FOLDER/report.html and prints its path
    python launch/report.py RUN_FOLDER --wandb  and saves its curves as a report in W&B, and prints the address

The page is drawn from what the run left in its folder (summary.json, config.yaml, metrics.jsonl, samples.jsonl). It names
what is missing because a stage was off or the run ended early, and can be written while the run is going on.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python launch/report.py` finds its siblings

from configs.paths import run_places
from launch.cli import exit_status
from launch.monitoring.help_text import HelpFormatter
from launch.page.run_page import holds_run, write_report
from launch.page.wandb_report import save


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 written, 2 there is nothing to draw it from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("run_folder", metavar="RUN_FOLDER", help="the run's folder, or its id under ./runs")
    parser.add_argument("--wandb", action="store_true", help="save its curves as a report in W&B, too: needs wandb-workspaces")
    arguments = parser.parse_args(argv)
    return exit_status(lambda: report(arguments.run_folder, wandb=arguments.wandb))


def report(run: str, *, wandb: bool = False) -> int:
    """Write the report of a run, and print its path; in W&B as well, and print its address. Returns the exit status."""
    places = run_places(run)
    folder = next((place for place in places if holds_run(place)), places[0])
    print(write_report(folder))
    if wandb:
        print(save(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
