"""Where preferences come from: files, the tiny world or public sets.

path/to/file.jsonl              one JSON object per line                           (grm.preference_files)
tiny:<seed>:<count>[:<n>]       training items of the tiny world                   (grm.tiny_world)
tinyheld:<seed>:<count>[:<n>]   held-out items, disjoint from the training items
hf:<name>[@<folder>]            a public set by its name, or its copy in a folder  (grm.hf_sets)
hf:<name>@<revision>            the set as it was at a commit, branch or tag
hf:<name>:pairs, :singles       one pair, or one single response, of each question (grm.solutions)
bench:<name>[@<place>]          a benchmark of the paper's table                    (grm.benchmark_sets)
"""

import os
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from grm import benchmark_sets, hf_sets, preference_files, tiny_world
from grm.mixing import MixedRows, mix, mixed
from grm.preferences import DataError, Loaded

NAMED = ("tiny:", "tinyheld:", "hf:", "bench:")  # sources that are no files
OWN_IDS = ("tiny:", "tinyheld:", "bench:")  # sources whose rows have ids of their own


def load(source: str, *, limit: int | None = None, name: str = "", show: Collection[str] = ()) -> Loaded:
    """Return the preferences of a source (see the module's head) in their mixed order, or the first `limit`.

    Args:
        source: What to load.
        limit: Most preferences; None: all.
        name: What rows without an id are called by, before their number (see `default_names`); "": the source's own.
        show: Of a file's rows, which of `reference` and `criteria` become part of the question.

    Raises:
        DataError: The source cannot be used.
    """
    return load_mixed([(source, name)], limit=limit, show=show)[0]


def load_mixed(sources: Sequence[tuple[str, str]], *, limit: int | None = None, show: Collection[str] = ()) -> list[Loaded]:
    """Return the preferences of each source, up to `limit` of all together, which are a fair sample of them (`grm.mixing`).

    Args:
        sources: Each with the name as in `load`.
        limit: Most preferences; None: all.
        show: As in `load`.

    Raises:
        DataError: A source cannot be used.
    """
    return mix([_rows(source, name, show) for source, name in sources], limit=limit)


def _rows(source: str, name: str, show: Collection[str]) -> MixedRows:
    kind, colon, rest = source.partition(":")
    if colon and kind in ("tiny", "tinyheld"):
        return mixed(_tiny(source, rest, held_out=kind == "tinyheld"))
    if colon and kind == "hf":
        return MixedRows(rows=hf_sets.mixed_rows(rest, name=name))
    if colon and kind == "bench":
        return mixed(benchmark_sets.load(rest))
    return mixed(preference_files.load(Path(source), name=name, show=show))


def default_names(sources: Iterable[str]) -> dict[str, str]:
    """Return {source: what its rows without an id are called by}, different for different places.

    It is the file's stem, or the set's name. Where several sources share that, as much of the path stands before it as tells
    them apart: `a/train.jsonl`, `b/train.jsonl`. One place under two names has one name here, so its ids are found twice.
    Items of the tiny world and of benchmarks have ids of their own.
    """
    sources = [source for source in sources if not source.startswith(OWN_IDS)]
    places: dict[str, list[str]] = {}  # by its last name: the names that a place may go by
    for source in sources:
        places.setdefault(_names(source)[-1], _names(source))
    chosen = {}
    for place, own in places.items():
        others = {name for other, names in places.items() if other != place for name in names}
        chosen[place] = next((name for name in own if name not in others), place)
    return {source: chosen[_names(source)[-1]] for source in sources}


def _names(source: str) -> list[str]:
    """Return the names that a source may go by, the shortest first; the last one is that of its place alone."""
    if source.startswith("hf:"):
        name, at, folder = source.removeprefix("hf:").partition("@")
        return [name, *(f"{name}@{tail}" for tail in _tails(folder))] if at else [name, f"hf:{name}"]
    return [Path(source).stem, *_tails(source)]


def _tails(path: str) -> list[str]:
    """Return the last part of a path without links, the last two, and so on up to the whole."""
    real = _real(path)
    parts = Path(real).parts
    return [*("/".join(parts[-count:]) for count in range(1, len(parts))), real]


def _real(path: str) -> str:
    """Return a path without links; as it is, if no file can have it."""
    try:
        return os.path.realpath(path)
    except ValueError:  # a NUL
        return path


def _tiny(source: str, rest: str, *, held_out: bool) -> Loaded:
    if not re.fullmatch(r"[0-9]{1,18}(:[0-9]{1,9}){1,2}", rest):
        raise DataError(f"source {source!r}: write tiny:<seed>:<count>[:<n>] in integers, as tiny:1:500:2")
    seed, count, *n = (int(part) for part in rest.split(":"))
    if count == 0 or (n and n[0] not in tiny_world.SIZES):
        sizes = ", ".join(str(size) for size in tiny_world.SIZES)
        raise DataError(f"source {source!r}: count must be at least 1 and n one of {sizes}")
    preferences = tiny_world.preferences(seed=seed, count=count, n=n[0] if n else None, held_out=held_out)
    return Loaded(preferences=tuple(preferences), skipped={})
