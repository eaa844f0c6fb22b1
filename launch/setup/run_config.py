"""The config of a run, as its driver uses it: paths that mean the same wherever the run is resumed from."""

import os
from collections.abc import Sequence
from pathlib import Path

from buffer.named_server import require_named_server, why_not_own
from configs.load import ConfigError, load
from configs.paths import NoHomeFolder, expanded, find_run, inside_job_copy, output_path, run_places
from configs.schema import Config
from grm import own_converters
from grm.sources import NAMED
from launch.setup.environment import variable
from launch.setup.model_files import is_folder
from launch.setup.own_functions import own_functions


def load_run_config(source: str, overrides: Sequence[str]) -> Config:
    """Read a preset or file with overrides, all paths absolute. ConfigError names every wrong key."""
    return with_absolute_paths(load(source, overrides))


def load_resumed_config(run: str, overrides: Sequence[str] = ()) -> Config:
    """Read the config of a run, wherever its folder lies now.

    Args:
        run: The run's folder, or its id under `runs` (see `run_places`).
        overrides: None may be given.

    Raises:
        ConfigError: There is no config, the command line would change it, or it names a Ray cluster and may be a stranger's.
        ServerError: Its Redis server is not joined (see `require_named_server`).
    """
    if overrides:
        raise ConfigError(f"--resume: a run goes on with its own config; {overrides[0]} cannot be changed")
    try:
        output_path(run)  # what goes on inside a job's copy would vanish with it
    except NoHomeFolder as error:
        raise ConfigError(f"--resume {error}") from None
    folder = find_run(run)
    if folder is None:
        places = ", ".join(map(str, run_places(run)))
        raise ConfigError(f"--resume {run}: no run folder, it holds no config.yaml; looked for in {places}")
    config = load(folder / "config.yaml")
    folder = Path(os.path.abspath(folder))
    if config.redis.url:
        require_named_server(config.redis.url, folder)
    _require_named_cluster(config, folder)
    place = {"dir": str(folder.parent), "id": folder.name}
    return config.model_copy(update={"run": config.run.model_copy(update=place)})


def _require_named_cluster(config: Config, folder: Path) -> None:
    """ConfigError when only the run folder of somebody else names the Ray cluster to join."""
    address = config.cluster.address
    if address not in ("auto", variable("RAY_ADDRESS")) and (problem := why_not_own(folder)):
        raise ConfigError(
            f"--resume: {problem}, and it names the Ray cluster at {address}, which can run code as you: if that cluster is"
            f" yours, set RAY_ADDRESS={address} as well"
        )


def with_absolute_paths(config: Config) -> Config:
    """The config with absolute paths of data, templates, own functions and model, so that `--resume` finds them from any
    folder, and of the runs, which must be known before `choose_caches` may replace the home folder.

    Inside a Ray job, paths of input in the working folder stay relative: it is a throw-away copy of what was submitted, and a
    job that resumes the run brings its own.

    Raises:
        ConfigError: run.dir is relative in a Ray job whose user has no home folder.
    """
    model, cold = config.model, config.cold_start
    try:
        runs = str(output_path(config.run.dir))
    except NoHomeFolder as error:
        raise ConfigError(f"run.dir = {error}") from None
    changed = {
        "run": config.run.model_copy(update={"dir": runs}),
        "data": config.data.model_copy(
            update={name: [_source(path) for path in getattr(config.data, name)] for name in ("train", "heldout")}
        ),
        "cold_start": cold.model_copy(
            update={
                "general": [_absolute(path) for path in cold.general],
                "teacher": _absolute(cold.teacher) if cold.reads_judgements else cold.teacher,
            }
        ),
    }
    for name, section in (("prompts", config.prompts), ("meta_rm", config.meta_rm)):
        if section.template_path:
            changed[name] = section.model_copy(update={"template_path": _absolute(section.template_path)})
    if own := own_functions(config):
        leaves = {leaf.removeprefix("grpo."): _absolute(named) for leaf, named in own.items()}
        changed["grpo"] = config.grpo.model_copy(update=leaves)
    if is_folder(expanded(model.path)):
        changed["model"] = model.model_copy(update={"path": _absolute(model.path)})
    return config.model_copy(update=changed)


def _source(name: str) -> str:
    """A data source with its paths, if it has any, made absolute."""
    converter, place = own_converters.split(name)
    if converter:
        return f"{_absolute(converter)}@{_source(place)}"
    if not name.startswith(NAMED):
        return _absolute(name) if name else name  # `--data "$UNSET"` is not the folder where one stands
    head, at, folder = name.partition("@")  # hf:<name>@<folder>, bench:<name>@<folder>: a copy on disk
    return f"{head}@{_absolute(folder)}" if at and os.path.isdir(expanded(folder)) else name


def _absolute(path: str) -> str:
    path = expanded(path)
    return path if inside_job_copy() else str(Path(path).absolute())
