"""summary.json of a run, read leniently: a value may be missing, because a stage was off or the run ended early."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launch.monitoring.records import finite


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The content of summary.json."""

    values: Mapping[str, Any]
    """As it was parsed."""

    def figure(self, *path: str) -> float | None:
        """Returns a number of the summary; None where there is none."""
        value: Any = self.values
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return float(value) if finite(value) else None

    def text(self, name: str) -> str:
        """Returns a text of the summary; "" where there is none."""
        value = self.values.get(name)
        return "" if value is None else str(value)
