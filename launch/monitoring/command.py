"""The commands that a person is told: as they began their own, by the console command or by a script of the clone."""

import shlex
import sys
from pathlib import Path


def command(entry: str) -> str:
    """Returns how an entry is started: `spct train` where the console command was used, else the script, as
    `python launch/run.py`.

    Args:
        entry: Its name behind `spct`.
    """
    scripts = {"train": "run"}
    if Path(sys.argv[0].split(" ")[0]).name == "spct":
        return f"spct {entry}"
    return f"python launch/{scripts.get(entry, entry.replace('-', '_'))}.py"


def go_on(run: Path) -> str:
    """Returns the command that goes on with a run."""
    return f"{command('train')} --resume {shlex.quote(str(run))}"
