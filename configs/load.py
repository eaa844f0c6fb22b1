"""From a YAML preset and dotted overrides to a `Config`, or one `ConfigError` that names every wrong key."""

from __future__ import annotations

import difflib
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
    """YAML 1.1 reads `1e-6` as text; people who write learning rates mean a number."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a preset (`tiny`) or a file (`configs/tiny.yaml`), then apply overrides such as `grpo.lr=1e-6`."""
    path = _find(source)
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Yaml)  # a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected sections such as `model:` and `data:`, found {type(tree).__name__}")
    for override in overrides:
        _apply(tree, override)
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
    """The resolved config as YAML, defaults included, any password in `redis.url` masked; loads back to an equal one
    unless it held a password."""
    tree = config.model_dump()
    tree["redis"]["url"] = re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", tree["redis"]["url"])
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def presets() -> list[str]:
    return sorted(p.stem for p in PRESETS.glob("*.yaml"))


def _find(source: str | Path) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    preset = PRESETS / f"{source}.yaml"
    if preset.is_file():
        return preset
    raise ConfigError(f"--config {source}: no such file or preset; presets are {', '.join(presets())}")


def _apply(tree: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    parts = key.split(".")
    if not sign or len(parts) != 2 or not all(parts):
        raise ConfigError(f"override {override!r}: write section.key=value, such as grpo.lr=1e-6")
    try:
        value = yaml.load(text, _Yaml) if text else ""  # `redis.url=` empties a text
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not YAML: {error}") from error
    section, leaf = parts
    branch = tree.setdefault(section, {})
    if not isinstance(branch, dict):
        raise ConfigError(f"{section}: expected a section with keys, found {type(branch).__name__}")
    if leaf in {"train", "heldout"} and section == "data" and isinstance(value, str):
        value = [value]  # one file is the usual case on a command line
    branch[leaf] = value


def _unknown_keys(tree: Mapping[str, Any], model: type[BaseModel], prefix: str) -> list[str]:
    out = []
    for key, value in tree.items():
        field = model.model_fields.get(key) if isinstance(key, str) else None
        if field is None:
            near = difflib.get_close_matches(str(key), list(model.model_fields), n=1, cutoff=0.0)
            out.append(f"unknown key {prefix}{key}: did you mean {prefix}{near[0]}?")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and isinstance(value, dict):
            out += _unknown_keys(value, field.annotation, prefix=f"{prefix}{key}.")
    return out


def _describe(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    if not where:
        return str(message)
    shown = "" if error["type"] == "missing" else f", found {error['input']!r}"
    return f"{where}: {message}{shown}"
