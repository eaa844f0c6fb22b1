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


class NoHomeFolder(ValueError):
    """A relative path cannot be written to in a Ray job, as its user has no home folder."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path!r} is relative: a Ray job writes it under the home folder, and its user has none; give a full path"
        )


def output_path(path: str) -> Path:
    """Returns where something is written that a command line or a config names: relative to the working folder, in a Ray job
    to the home folder. NoHomeFolder where that is not there."""
    place, job = expanded(path), inside_job_copy()
    base = expanded("~") if job else os.getcwd()
    if job and not os.path.isabs(place) and not os.path.isdir(base):
        raise NoHomeFolder(path)
    return Path(base, place)


def run_places(run: str) -> list[Path]:
    """Returns where a run may be that a command line names by its folder, or by its id under `runs`, the likeliest first.

    A Ray job puts its run under the home folder (`output_path`), so that is looked at too. In a job nothing else is: what was
    submitted may hold a copy of the run, and would vanish.
    """
    home = expanded("~")  # stays `~` where a user has none, as in some containers
    homes = [Path(home)] if os.path.isabs(home) else []
    bases = homes if homes and inside_job_copy() else [Path.cwd(), *homes]
    return list(dict.fromkeys(base / name for base in bases for name in (expanded(run), os.path.join("runs", expanded(run)))))


def find_run(run: str) -> Path | None:
    """Returns the folder of a run that a command line names: the first of `run_places` with a config, None without one."""
    return next((place for place in run_places(run) if (place / "config.yaml").is_file()), None)
