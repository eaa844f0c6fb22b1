"""Paths as people write them: `~` is the home folder, and what a Ray job writes must not vanish with the job's folder."""

import os
from pathlib import Path


def expanded(path: str) -> str:
    """Returns the path with its `~` or `~user` replaced; unchanged where there is none, or no such user."""
    try:
        return os.path.expanduser(path)
    except ValueError:  # not a possible name of a user
        return path


def inside_job_copy() -> bool:
    """Whether the working folder is the copy that Ray made of a submitted job's, and removes later."""
    return "_ray_pkg_" in str(Path.cwd())


def output_path(path: str) -> Path:
    """Returns where something is written that a command line or a config names: relative to the working folder, in a Ray job
    to the home folder."""
    return (Path.home() if inside_job_copy() else Path.cwd()) / expanded(path)


def run_places(run: str) -> list[Path]:
    """Returns where a run may be that a command line names by its folder, or by its id under `runs`, the likeliest first.

    A Ray job puts its run under the home folder (`output_path`), so that is looked at too. In a job nothing else is: what was
    submitted may hold a copy of the run, and would vanish.
    """
    home = expanded("~")  # stays `~` where a user has none, as in some containers
    homes = [Path(home)] if os.path.isabs(home) else []
    bases = homes if homes and inside_job_copy() else [Path.cwd(), *homes]
    return list(dict.fromkeys(base / name for base in bases for name in (expanded(run), os.path.join("runs", expanded(run)))))
