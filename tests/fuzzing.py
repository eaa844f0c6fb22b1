"""Helpers of the fuzz tests: how many inputs they try, and how a reader may end."""

import json
import os
import unicodedata
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from launch.monitoring.plain_text import ACTIVE_CATEGORIES

TIMES = int(os.environ.get("SPCT_FUZZ", "1"))


T = TypeVar("T")


def inputs(count: int) -> settings:
    """The settings of a test that tries `count` inputs, times SPCT_FUZZ."""
    return settings(max_examples=count * TIMES, suppress_health_check=list(HealthCheck))


def safe(message: str, most: int = 2000) -> bool:
    """Whether an error's text can be shown on a terminal, on one line."""
    return len(message) <= most and not any(unicodedata.category(c) in ACTIVE_CATEGORIES for c in message)


def outcome(call: Callable[[], T], known: type[Exception], *, most: int = 2000) -> T | None:
    """The result of the call; None after its own error."""
    try:
        return call()
    except known as error:
        message = str(error)
    assert safe(message, most)
    return None


def maps(tree: Any) -> list[dict[str, Any]]:
    """All maps in it that are not empty."""
    inner = list(tree.values()) if isinstance(tree, dict) else tree if isinstance(tree, list) else []
    return [tree] * (isinstance(tree, dict) and bool(tree)) + [nested for item in inner for nested in maps(item)]


def as_json(value: Any) -> bytes:
    """A value as one line of JSON."""
    return json.dumps(value).encode()


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from([-1, 2**63, 1e308, "", "stop", "\x1b[2J", "\u202e", "\x00", "<script>"])
)


values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4), max_leaves=8
)
