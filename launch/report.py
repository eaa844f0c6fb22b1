"""The report of a run: one page that opens anywhere, without a network and without a script.

    python launch/report.py RUN_FOLDER          writes RUN_FOLDER/report.html and says so

It reads what the run left in its folder (summary.json, config.yaml, metrics.jsonl, samples.jsonl), copes with whatever is
missing because a part was off or the run ended early, and says what is missing. It may be made while the run goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python launch/report.py` finds its siblings

from launch.page.run_page import ReportError, write_report


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="report.py", description="Write RUN_FOLDER/report.html.")
    parser.add_argument("run_folder", type=Path, metavar="RUN_FOLDER", help="runs/<run id>")
    try:
        print(write_report(parser.parse_args(arguments).run_folder))
    except ReportError as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
