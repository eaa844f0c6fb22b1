"""From a YAML preset and dotted overrides to a `Config`, or one `ConfigError` that names every wrong key."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from configs.schema import Config

PRESETS = Path(__file__).parent


class ConfigError(ValueError):
    """The configuration cannot be used; the message names each key and the remedy."""


class _Yaml(yaml.SafeLoader):
    """YAML 1.1 reads `1e-6` as text; people who write learning rates mean a number. Aliases are refused: a config needs none,
    and few lines of them unfold to more than the memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"line {self.peek_event().start_mark.line + 1}: an alias (*name); write the value itself")
        return super().compose_node(parent, index)


_Yaml.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))

# PyYAML lets some through: 2001-99-99, `0b_`, `!!int ''`, `!!bool x`, `!!timestamp x`, a number of 5000 digits, absurd nesting.
_NOT_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
LONGEST = 200  # characters of a value in an error
MASK = ":***@"  # in the place of a password


def load(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a preset (`tiny`) or a file (`configs/tiny.yaml`), then apply overrides such as `grpo.lr=1e-6`."""
    path = _find(source)
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Yaml)  # a SafeLoader
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except _NOT_YAML as error:
        raise ConfigError(f"{path}: not YAML: {_line(str(error))}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected sections such as `model:` and `data:`, found {type(tree).__name__}")
    for override in overrides:
        _apply(tree, override)
    _forget_masked(tree)
    return parse(tree, origin=str(path))


def parse(tree: Mapping[str, Any], *, origin: str = "config") -> Config:
    unknown = _unknown_keys(tree, Config, prefix="")
    if unknown:
        raise ConfigError(f"{origin}: " + "; ".join(unknown))
    try:
        return Config.model_validate(dict(tree))
    except ValidationError as error:
        raise ConfigError(f"{origin}: " + "; ".join(map(_describe, error.errors()))) from error


def dump(config: Config) -> str:
    """The resolved config as YAML, defaults included, any password in `redis.url` masked. Loads back to an equal one, without
    the password: that is in the environment then (SPCT_REDIS_PASSWORD)."""
    tree = config.model_dump()
    tree["redis"]["url"] = re.sub(r"(://[^:/@]*):[^@]*@", rf"\1{MASK}", tree["redis"]["url"])
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def presets() -> list[str]:
    return sorted(p.stem for p in PRESETS.glob("*.yaml"))


def _find(source: str | Path) -> Path:
    for path in (Path(source), PRESETS / f"{source}.yaml"):
        if os.path.isfile(path):  # False, where Path.is_file() raises, for a name that no file can have
            return path
    raise ConfigError(f"--config {_line(str(source))}: no such file or preset; presets are {', '.join(presets())}")


def _apply(tree: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    parts = key.split(".")
    if not sign or len(parts) != 2 or not all(parts):
        raise ConfigError(f"override {_shown(override)}: write section.key=value, such as grpo.lr=1e-6")
    try:
        value = yaml.load(text, _Yaml) if text else ""  # `redis.url=` empties a text
    except _NOT_YAML as error:
        raise ConfigError(f"override {_shown(override)}: the value is not YAML: {_line(str(error))}") from error
    section, leaf = parts
    branch = tree.setdefault(section, {})
    if not isinstance(branch, dict):
        raise ConfigError(f"{section}: expected a section with keys, found {type(branch).__name__}")
    if leaf in {"train", "heldout"} and section == "data" and isinstance(value, str):
        value = [value]  # one file is the usual case on a command line
    branch[leaf] = value


def _forget_masked(tree: dict[str, Any]) -> None:
    redis = tree.get("redis")
    if isinstance(redis, dict) and isinstance(redis.get("url"), str):
        redis["url"] = redis["url"].replace(MASK, "@")


def _unknown_keys(tree: Mapping[str, Any], model: type[BaseModel], prefix: str) -> list[str]:
    out = []
    for key, value in tree.items():
        field = model.model_fields.get(key) if isinstance(key, str) else None
        if field is None:
            name = _line(key) if isinstance(key, str) else _shown(key)
            near = difflib.get_close_matches(name, list(model.model_fields), n=1, cutoff=0.0)
            out.append(f"unknown key {prefix}{name}: did you mean {prefix}{near[0]}?")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and isinstance(value, dict):
            out += _unknown_keys(value, field.annotation, prefix=f"{prefix}{key}.")
    return out


def _describe(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    if not where:
        return str(message)
    shown = "" if error["type"] == "missing" else f", found {_shown(error['input'])}"
    return f"{where}: {message}{shown}"


def _shown(value: object) -> str:
    """A value for an error message."""
    try:
        return _line(repr(value))
    except ValueError:  # Python refuses to write it in decimal
        return "a number of absurd size"


def _line(text: str) -> str:
    """One line of readable length, with escapes in the place of what a terminal would act on."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text[: 2 * LONGEST].split()))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
