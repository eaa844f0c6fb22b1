"""The console command `spct`: one table of the entries of `launch/`, which do all the work, `spct judge` and `spct push`.

spct train --config tiny        as python launch/run.py --config tiny; likewise the others
spct judge runs/mine --query "Why is the sky blue?" "Rayleigh scattering." "It mirrors the sea."
"""

import importlib
import sys
from collections.abc import Callable, Sequence

ENTRIES = {
    "train": ("launch.run", "train a judge: cold start, online RL, votes"),
    "cold-start": ("launch.cold_start", "the cold start alone"),
    "evaluate": ("launch.evaluate", "measure a judge on labelled preferences"),
    "data": ("launch.data", "look at preference data, and convert it"),
    "serve": ("launch.serve", "serve a judge as a reward server"),
    "judge": ("spct.judge_command", "judge one question from the shell"),
    "push": ("spct.push_command", "upload a judge to the Hugging Face hub"),
    "merge": ("launch.merge", "make a whole model of LoRA adapters"),
    "status": ("launch.status", "what a run is doing, and what it waits for"),
    "scale": ("launch.scale", "change the number of rollout workers of a run"),
    "report": ("launch.report", "write the report of a run again"),
    "reproduce": ("launch.reproduce", "a row of the paper's tables"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status of the entry; 2 where there is none of that name."""
    name, *rest = [*(sys.argv[1:] if argv is None else argv), ""]
    if name in ("", "-h", "--help"):
        print(usage())
        return 0
    if name not in ENTRIES:
        print(f"error: spct {name}: no such command; choose one of {', '.join(ENTRIES)}", file=sys.stderr)
        return 2
    sys.argv[0] = f"spct {name}"  # as the entry's own help names it
    entry: Callable[[Sequence[str]], int] = importlib.import_module(ENTRIES[name][0]).main
    return entry(rest[:-1])


def usage() -> str:
    """Returns the commands with what they are for."""
    width = max(map(len, ENTRIES))
    lines = (f"  {name:{width}}  {what}" for name, (_, what) in ENTRIES.items())
    return "\n".join(["usage: spct COMMAND ...", "", *lines, "", "spct COMMAND --help describes one."])


if __name__ == "__main__":
    sys.exit(main())
