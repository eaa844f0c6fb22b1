"""The YAML of config files and of values on a command line: what people mean, and no more.

A number is decimal or hexadecimal, with or without an exponent. YAML 1.1 also reads 010 as 8, 1:30 as 90 and 2026-11-27 as a
date, and 1e-6 as text: a file or a value would silently say something else. Aliases are refused, since a config needs none and
a few lines of them can unfold to more than fits in memory.
"""

import re
from typing import Any

import yaml

# PyYAML lets some through: `!!int ''`, `!!bool x`, `!!timestamp x`, a number of 5000 digits, absurd nesting.
NOT_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)

_TAG = "tag:yaml.org,2002:"
_INTEGER = re.compile(r"^[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$")
_FLOAT = re.compile(
    r"^([-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(inf|Inf|INF)"
    r"|\.(nan|NaN|NAN))$"
)
_FIRST = list("-+.0123456789")


def _refuse_alias(loader: Any) -> None:
    if loader.check_event(yaml.AliasEvent):
        raise yaml.YAMLError(f"line {loader.peek_event().start_mark.line + 1}: an alias (*name); write the value itself")


class _Values(yaml.SafeLoader):
    """Reads a plain scalar as what it looks like."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        _refuse_alias(self)
        return super().compose_node(parent, index)


class _Texts(yaml.BaseLoader):
    """Reads every scalar as text."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        _refuse_alias(self)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Quotes a text that `_Values`, or YAML 1.1, would read as something else."""


_Values.yaml_implicit_resolvers = {
    first: [(tag, shape) for tag, shape in resolvers if tag not in {f"{_TAG}int", f"{_TAG}float", f"{_TAG}timestamp"}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Values.add_implicit_resolver(f"{_TAG}float", _FLOAT, _FIRST)
_Values.add_implicit_resolver(f"{_TAG}int", _INTEGER, _FIRST)
_Dumper.add_implicit_resolver(f"{_TAG}float", _FLOAT, _FIRST)
_Dumper.add_implicit_resolver(f"{_TAG}int", _INTEGER, _FIRST)


def read(text: str) -> Any:
    """Returns the value of a document. One of NOT_YAML when it has none."""
    return yaml.load(text, _Values)  # a SafeLoader


def read_texts(text: str) -> Any:
    """Returns the value of a document in which every scalar is text. One of NOT_YAML when it has none."""
    return yaml.load(text, _Texts)  # a BaseLoader: it makes texts, lists and mappings alone


def unquoted(text: str) -> str:
    """Returns a text without the YAML quotes around all of it; as it stands when there are none."""
    if len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0]:
        return text
    try:
        node = yaml.compose(text, _Texts)
    except NOT_YAML:
        return text
    if isinstance(node, yaml.ScalarNode) and node.end_mark.index == len(text):
        return str(node.value)
    return text


def write(tree: Any) -> str:
    """Returns a document that `read` reads back."""
    return str(yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True))
