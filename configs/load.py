"""From a YAML preset and dotted overrides to a `Config`, or one `ConfigError` that names every wrong key.

run.id=2026-11-27  data.train=a #b.jsonl  redis.url=       a leaf of type text takes what stands behind the `=`, as it is
run.id="x"                                                 quotes around all of it are taken off
data.train=[a.jsonl, "b, c.jsonl"]                         a list of texts, in brackets; a lone one needs none
grpo.lr=1e-6  meta_rm.enabled=false                        anything else is read as in a file
"""

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from configs import config_yaml
from configs.laws import REFUSED, LawsBroken
from configs.paths import expanded
from configs.redis_url import RedisUrl
from configs.schema import Config

PRESETS = Path(__file__).parent
EVALUATION = "evaluate"  # the preset of launch/evaluate.py; nothing can be trained with it
COMMAND_LINE = "command line"
OVERRIDE = re.compile(r"([A-Za-z_]+)\.[A-Za-z_]+=")
_Problem = tuple[str, str]  # the key that is wrong ("" where several are), and the sentence about it
LONGEST = 200  # characters of a value in an error
SECRET = "redis.url"  # the leaf that may hold a password: no error quotes its value
MASK = ":***@"  # stands in for a password


class ConfigError(ValueError):
    """The configuration cannot be used; the message names each key and the remedy."""


def load(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a preset or a file and apply overrides. Returns the config.

    Args:
        source: A preset's name (`tiny`) or a file (`configs/tiny.yaml`).
        overrides: `section.key=value` each, as `grpo.lr=1e-6`; the last one of a key counts.

    Raises:
        ConfigError: Names every wrong key, and the file or the command line as its origin.
    """
    path = _find(source)
    try:
        tree = config_yaml.read(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except config_yaml.NOT_YAML as error:
        raise ConfigError(f"{path}: not YAML: {_yaml_problem(error)}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected sections such as `model:` and `data:`, found {type(tree).__name__}")
    overridden = [_apply(tree, override) for override in overrides]
    _forget_masked(tree)
    return parse(tree, origin=str(path), overridden=overridden)


def parse(tree: Mapping[str, Any], *, origin: str = "config", overridden: Sequence[str] = ()) -> Config:
    """Check a tree of sections and leaves. Returns it as a config.

    Args:
        tree: `{section: {leaf: value}}`.
        origin: Where the tree comes from, for errors.
        overridden: Leaves (`section.key`) that the command line set: their errors name it instead of `origin`.

    Raises:
        ConfigError: Names every wrong key.
    """
    if unknown := list(_unknown_keys(tree, Config, prefix="")):
        raise ConfigError(_by_origin(unknown, origin, overridden))
    try:
        return Config.model_validate(dict(tree))
    except ValidationError as error:
        problems = [problem for details in error.errors() for problem in _described(details)]
        raise ConfigError(_by_origin(problems, origin, overridden)) from error


def dump(config: Config) -> str:
    """Returns the resolved config as YAML, defaults included, any password in `redis.url` masked.

    It loads back to an equal config, but for the password: the environment holds that (SPCT_REDIS_PASSWORD).
    """
    tree = config.model_dump()
    if (url := tree["redis"]["url"]) and (parts := RedisUrl.parse(url)).password:
        tree["redis"]["url"] = parts.masked()
    return config_yaml.write(tree)


def presets() -> list[str]:
    """Returns the names of the presets that a run can be started with."""
    return sorted(file.stem for file in PRESETS.glob("*.yaml") if file.stem != EVALUATION)


def is_override(argument: str) -> bool:
    """Whether a command-line argument is `section.key=value` rather than the name of a file that holds a `=`."""
    shape = OVERRIDE.match(argument)
    return shape is not None and (shape[1] in Config.model_fields or not os.path.isfile(argument))


def near(name: str, names: Sequence[str]) -> str:
    """Returns the closest of `names`, for "did you mean"."""
    return difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]


def _find(source: str | Path) -> Path:
    for path in (Path(expanded(str(source))), PRESETS / f"{source}.yaml"):
        if os.path.isfile(path):  # False, where Path.is_file() raises, for a name that no file can have
            return path
    raise ConfigError(f"--config {_line(str(source))}: no such file or preset; presets are {', '.join(presets())}")


def _apply(tree: dict[str, Any], override: str) -> str:
    """Set one leaf of the tree. Returns its key."""
    key, sign, text = override.partition("=")
    names = key.split(".")
    if not sign or len(names) != 2 or not all(names):
        raise ConfigError(f"{COMMAND_LINE}: {_shown(override)}: write section.key=value, such as grpo.lr=1e-6")
    section, leaf = names
    try:
        value = _value(_type_of(section, leaf), text)
    except config_yaml.NOT_YAML as error:
        raise ConfigError(f"{COMMAND_LINE}: {_shown(override)}: the value is not YAML: {_yaml_problem(error)}") from None
    branch = tree.setdefault(section, {})
    if not isinstance(branch, dict):
        raise ConfigError(f"{section}: expected a section with keys, found {type(branch).__name__}")
    branch[leaf] = value
    return key


def _value(kind: Any, text: str) -> Any:
    """The value behind the `=`, for a leaf of this type."""
    if _is_text(kind):
        return config_yaml.unquoted(text)
    if get_origin(kind) is not list:
        return config_yaml.read(text) if text else ""
    if not text:
        return []
    if not _is_text(get_args(kind)[0]):
        return config_yaml.read(text)
    return config_yaml.read_texts(text) if text.lstrip().startswith("[") else [config_yaml.unquoted(text)]


def _is_text(kind: Any) -> bool:
    """Whether a leaf of this type holds text: any, or one of a few words."""
    return kind is str or (get_origin(kind) is Literal and all(isinstance(word, str) for word in get_args(kind)))


def _type_of(section: str, leaf: str) -> Any:
    """The type of a leaf; None where there is no such leaf, which `parse` will say."""
    model = Config.model_fields[section].annotation if section in Config.model_fields else None
    fields = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}
    return fields[leaf].annotation if leaf in fields else None


def _forget_masked(tree: dict[str, Any]) -> None:
    redis = tree.get("redis")
    if isinstance(redis, dict) and isinstance(redis.get("url"), str):
        redis["url"] = redis["url"].replace(MASK, "@")


def _unknown_keys(tree: Mapping[str, Any], model: type[BaseModel], prefix: str) -> Iterator[_Problem]:
    for key, value in tree.items():
        field = model.model_fields.get(key) if isinstance(key, str) else None
        if field is None:
            name = prefix + (_line(key) if isinstance(key, str) else _shown(key))
            if name in REFUSED:
                yield name, f"{name}: {REFUSED[name]}"
            else:
                closest = prefix + near(name.removeprefix(prefix), list(model.model_fields))
                yield name, f"unknown key {name}: did you mean {closest}?"
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and isinstance(value, dict):
            yield from _unknown_keys(value, field.annotation, prefix=f"{prefix}{key}.")


def _described(details: Any) -> Iterator[_Problem]:
    """The problems of one error of pydantic."""
    broken = details.get("ctx", {}).get("error")
    if isinstance(broken, LawsBroken):
        for problem in broken.problems:
            yield "", problem
        return
    where = ".".join(str(part) for part in details["loc"])
    message = details["msg"].removeprefix("Value error, ")
    shown = "" if details["type"] == "missing" or SECRET.startswith(where) else f", found {_shown(details['input'])}"
    yield ".".join(where.split(".")[:2]), f"{where}: {message}{shown}" if where else message


def _by_origin(problems: Iterable[_Problem], origin: str, overridden: Sequence[str]) -> str:
    """One message, in which each problem stands behind the file or the command line that it comes from."""
    by_origin: dict[str, list[str]] = {}
    for key, problem in problems:
        if key:
            there = any(override == key or override.startswith(f"{key}.") for override in overridden)
        else:  # a law, which names the leaves that it is about
            there = any(re.search(rf"(?<![\w.]){re.escape(override)}(?!\w)", problem) for override in overridden)
        by_origin.setdefault(COMMAND_LINE if there else origin, []).append(problem)
    return "; ".join(f"{name}: {'; '.join(sentences)}" for name, sentences in by_origin.items())


def _yaml_problem(error: Exception) -> str:
    """Where and why a text is not YAML, without the line itself, which may hold a password."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return _line(f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {error.problem}")
    return _line(str(error))


def _shown(value: object) -> str:
    """A value for an error message."""
    try:
        return _line(repr(value))
    except ValueError:  # Python refuses to write it in decimal
        return "a number of absurd size"


def _line(text: str) -> str:
    """One line of readable length, with escapes in place of what a terminal would act on."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text[: 2 * LONGEST].split()))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
