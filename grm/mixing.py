"""The order in which preferences are used: a fixed mixture of all sources, of which any limit takes the first (pure).

    source ─▶ rows in the order of a hash of their ids ─┐
    source ─▶ rows in the order of a hash of their ids ─┴─merge─▶ one order ─▶ the first `limit` preferences

A row's place depends on its id alone: a row that is added moves no other, a source gets its share by its size, and a file whose
rows are sorted is not. A public set is decoded only as far as the limit needs.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge

from grm.preferences import MOST_NAMED, Loaded, Preference, Skipped


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedRow:
    """A row at its place in the mixture."""

    place: int
    """`mixing_place` of its id."""
    item: Preference | Skipped
    """What it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedRows:
    """The rows of a source, by place; decoded as they are asked for."""

    rows: Iterable[MixedRow]
    """The rows."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Rows that were skipped already, by reason."""
    named: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The first of them, by reason."""


def mixing_place(name: str) -> int:
    """Return the place of an id in the mixture: the first 8 bytes of a hash of it."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def mixed(loaded: Loaded) -> MixedRows:
    """Return what is loaded already, by place."""
    rows = [MixedRow(place=mixing_place(each.question.id), item=each) for each in loaded.preferences]
    return MixedRows(rows=sorted(rows, key=_place), skipped=loaded.skipped, named=loaded.named)


def mix(sources: Sequence[MixedRows], *, limit: int | None = None) -> list[Loaded]:
    """Return the preferences of each source, by place, up to `limit` of all sources together.

    Of each source at least one row is read, so that one that cannot be read is found. A row is counted as skipped when it
    stands before the last preference that is used.
    """
    kept: list[list[Preference]] = [[] for _ in sources]
    skipped = [Counter(source.skipped) for source in sources]
    named = [{reason: list(first) for reason, first in source.named.items()} for source in sources]
    left = limit
    streams = [_numbered(number, source.rows) for number, source in enumerate(sources)]
    for number, row in merge(*streams, key=lambda numbered: numbered[1].place):
        if left == 0:
            break
        if isinstance(row.item, Skipped):
            skipped[number][row.item.reason] += 1
            first = named[number].setdefault(row.item.reason, [])
            first += [row.item.detail] if row.item.detail and len(first) < MOST_NAMED else []
            continue
        kept[number].append(row.item)
        left = None if left is None else left - 1
    found = zip(kept, skipped, named, strict=True)
    return [Loaded(preferences=tuple(own), skipped=dict(left_out), named=first) for own, left_out, first in found]


def _numbered(number: int, rows: Iterable[MixedRow]) -> Iterable[tuple[int, MixedRow]]:
    return ((number, row) for row in rows)


def _place(row: MixedRow) -> int:
    return row.place
