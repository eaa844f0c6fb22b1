"""JSON from a run folder, which may be anybody's: no value of it can break the page."""

import json
from typing import Any

NOT_JSON = (ValueError, RecursionError)
DEEPEST = 8  # levels that are kept; a run's own files have four
DIGITS = 20  # of a whole number; a longer one becomes a float, which may be infinite


def parsed(text: str) -> Any:
    """Returns a document without what is nested too deeply. One of NOT_JSON when it is none."""
    return _pruned(json.loads(text, parse_int=_number), DEEPEST)


def _number(digits: str) -> int | float:
    return int(digits) if len(digits) <= DIGITS else float(digits)


def _pruned(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        return {key: _pruned(item, depth - 1) for key, item in value.items()} if depth else None
    if isinstance(value, list):
        return [_pruned(item, depth - 1) for item in value] if depth else None
    return value
