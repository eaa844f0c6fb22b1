"""The config of a run, as its driver uses it: paths that mean the same wherever the run is resumed from."""

import os
from collections.abc import Sequence
from pathlib import Path

from buffer.named_server import require_named_server
from configs.load import ConfigError, load
from configs.schema import Config
from launch.setup.model_files import is_folder

NAMED_DATA = ("tiny:", "tinyheld:", "hf:")  # data sources that are no files


def load_run_config(source: str, overrides: Sequence[str]) -> Config:
    """Read a preset or file with overrides, all paths absolute. ConfigError names every wrong key."""
    return with_absolute_paths(load(source, overrides))


def load_resumed_config(folder: Path, overrides: Sequence[str] = ()) -> Config:
    """Read the config of the run in `folder`, wherever that folder lies now.

    Raises:
        ConfigError: There is no config, the command line would change it, or it alone names a Ray cluster.
        ServerError: Its Redis server is not joined (see `require_named_server`).
    """
    if overrides:
        raise ConfigError(f"--resume: a run goes on with its own config; {overrides[0]} cannot be changed")
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"--resume {folder}: no run folder, it holds no config.yaml")
    config = load(folder / "config.yaml")
    if config.redis.url:
        require_named_server(config.redis.url, folder)
    _require_named_cluster(config, folder)
    place = {"dir": str(folder.absolute().parent), "id": folder.absolute().name}
    return config.model_copy(update={"run": config.run.model_copy(update=place)})


def _require_named_cluster(config: Config, folder: Path) -> None:
    """ConfigError when only the run folder, which may be a stranger's, names the Ray cluster to join."""
    address = config.cluster.address
    if address not in ("auto", os.environ.get("RAY_ADDRESS")):
        raise ConfigError(
            f"--resume {folder}: its config joins the Ray cluster at {address}, and a cluster that one joins can run code as"
            f" the user: if it is yours, set RAY_ADDRESS={address} as well"
        )


def with_absolute_paths(config: Config) -> Config:
    """The config with absolute paths of data, templates and model, so that `--resume` finds them from any folder.

    Inside a Ray job it stays as it is: there the working folder is a throw-away copy of what was submitted, and a job that
    resumes the run brings its own.
    """
    if inside_job_copy():
        return config
    prompts, model, cold = config.prompts, config.model, config.cold_start
    changed = {
        "data": config.data.model_copy(
            update={name: [_source(path) for path in getattr(config.data, name)] for name in ("train", "heldout")}
        ),
        "cold_start": cold.model_copy(update={"general": [_absolute(path) for path in cold.general]}),
    }
    if prompts.template_path:
        changed["prompts"] = prompts.model_copy(update={"template_path": _absolute(prompts.template_path)})
    if is_folder(model.path):
        changed["model"] = model.model_copy(update={"path": _absolute(os.path.expanduser(model.path))})
    return config.model_copy(update=changed)


def inside_job_copy() -> bool:
    """Whether the working folder is the copy that Ray made of a submitted job's."""
    return "_ray_pkg_" in str(Path.cwd())


def _source(name: str) -> str:
    """A data source with its path, if it has one, made absolute."""
    if not name.startswith(NAMED_DATA):
        return _absolute(name)
    head, at, folder = name.partition("@")  # hf:<name>@<folder>: a copy on disk
    return f"{head}@{_absolute(folder)}" if at and os.path.isdir(folder) else name


def _absolute(path: str) -> str:
    return str(Path(path).absolute())
