"""The configuration in words: every section and leaf with type, range, default and description, from the schema itself.

python launch/run.py --explain            the sections
python launch/run.py --explain grpo       the leaves of one
python -m configs.reference > docs/configuration.md
"""

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from configs.load import EVALUATION, PRESETS, ConfigError, near, presets
from configs.schema import Config
from configs.sections import LARGEST, OneOf, Section

WIDTH = 100  # columns of `--explain`
_TYPES: dict[Any, str] = {int: "integer", float: "number", str: "text", bool: "true or false"}
_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
_HEAD = """# Configuration

Every leaf that a preset, a file or the command line (`section.key=value`) can set. This page is generated from the schema:
`python -m configs.reference > docs/configuration.md`; `python launch/run.py --explain SECTION` prints the same.
An unknown key, a value of another type or out of range, and leaves that do not go together are refused before anything starts.

On the command line a leaf of type text takes what stands behind the `=` as it is, a ` #`, a date or a `yes` too; YAML quotes
around all of it are taken off. A list is written in brackets, and a lone text needs none. All else is read as in a file: YAML,
but numbers are decimal or hexadecimal, and nothing is a date. `~` at the start of a path is the home folder.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaf:
    """One leaf as a reader sees it."""

    name: str
    """Its key within the section."""
    kind: str
    """Type and range, in words."""
    default: str
    """The default as YAML writes it; "required" where there is none."""
    text: str
    """What it sets."""


def sections() -> dict[str, type[Section]]:
    """Returns the sections by name, in the order of the schema."""
    kinds = {name: field.annotation for name, field in Config.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)}


def leaves(section: type[Section]) -> list[Leaf]:
    """Returns the leaves of a section, in the order of the schema."""
    return [
        Leaf(
            name=name,
            kind=_kind(field.annotation, field.metadata),
            default=_default(field),
            text=" ".join((field.description or "").split()),
        )
        for name, field in section.model_fields.items()
    ]


def explain(section: str = "") -> str:
    """Returns the leaves of a section as text; without one, the sections. ConfigError when there is no such section."""
    known = sections()
    if not section:
        width = max(map(len, known))
        rows = [f"{name:<{width}}  {_summary(kind)}" for name, kind in known.items()]
        return "\n".join([*rows, "", "python launch/run.py --explain SECTION prints the leaves of one"])
    if section not in known:
        raise ConfigError(f"--explain {section!r:.80}: did you mean {near(section, list(known))}? --explain lists the sections")
    return "\n".join([f"{section}: {_summary(known[section])}", *_explained(section, leaves(known[section]))])


def markdown() -> str:
    """Returns docs/configuration.md."""
    return "\n".join([_HEAD, *_presets(), *(line for name, kind in sections().items() for line in _table(name, kind))])


def _explained(section: str, rows: list[Leaf]) -> Iterator[str]:
    for leaf in rows:
        yield ""
        default = leaf.default if leaf.default == "required" else f"default {leaf.default}"
        yield f"{section}.{leaf.name}  ({leaf.kind}; {default})"
        yield textwrap.fill(leaf.text, WIDTH, initial_indent="    ", subsequent_indent="    ", break_long_words=False)


def _presets() -> Iterator[str]:
    yield "## Presets"
    yield ""
    yield "| preset | for |"
    yield "|---|---|"
    for name in [*presets(), EVALUATION]:
        head = (PRESETS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        yield f"| `{name}` | {_cell(head.removeprefix('# '))} |"
    yield ""


def _table(name: str, section: type[Section]) -> Iterator[str]:
    yield f"## `{name}`"
    yield ""
    yield _summary(section)
    yield ""
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for leaf in leaves(section):
        default = leaf.default if leaf.default == "required" else f"`{leaf.default}`"
        yield f"| `{name}.{leaf.name}` | {_cell(leaf.kind)} | {_cell(default)} | {_cell(leaf.text)} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _summary(section: type[Section]) -> str:
    return " ".join((section.__doc__ or "").split())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if isinstance(value, bool):
        return str(value).lower()
    return '""' if value == "" else f"{value:g}" if isinstance(value, float) else str(value)


def _kind(annotation: Any, metadata: list[Any]) -> str:
    """Type and range in words: `integer >= 1`, `full, compact or example`, `list of texts, at least 1`."""
    if get_origin(annotation) is Literal:
        *first, last = map(str, get_args(annotation))
        return f"{', '.join(first)} or {last}"
    if get_origin(annotation) is list:
        (item,) = get_args(annotation)
        least = next((part.min_length for part in metadata if hasattr(part, "min_length")), 0)
        if get_origin(item) is Literal:
            return f"list of {_kind(item, [])}"
        inner, limits = (get_args(item)[0], get_args(item)[1].metadata) if hasattr(item, "__metadata__") else (item, [])
        return f"list of {_TYPES[inner]}s{_range(limits)}{f', at least {least}' if least else ''}"
    if names := next((part.names for part in metadata if isinstance(part, OneOf)), ()):
        return f"{', '.join(names)} or FILE.py:FUNCTION"
    return f"{_TYPES[annotation]}{_range(metadata)}"


def _range(metadata: list[Any]) -> str:
    limits = [
        f"{sign} {getattr(part, name):g}"
        for part in metadata
        for name, sign in _SIGNS.items()
        if getattr(part, name, None) not in (None, LARGEST)
    ]
    return f" {' and '.join(limits)}" if limits else ""


if __name__ == "__main__":
    sys.stdout.buffer.write(markdown().encode("utf-8"))  # a file of the project, whatever the terminal's encoding
