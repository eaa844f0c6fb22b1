"""Where preferences come from: files, the tiny world or public sets.

path/to/file                    JSONL, JSON, csv or parquet, packed or not         (grm.preference_files)
path/to/folder, path/*.jsonl    all data files of a folder, or those of a pattern  (grm.opening)
tiny:<seed>:<count>[:<n>]       training items of the tiny world                   (grm.tiny_world)
tinyheld:<seed>:<count>[:<n>]   held-out items, disjoint from the training items
hf:<name>[:<split>][@<folder>]  a set of the hub, or its copy in a folder          (grm.hf_sets)
hf:<name>@<revision>            the set as it was at a commit, branch or tag
hf:<name>:pairs, :singles       one pair, or one single response, of each question (grm.solutions)
bench:<name>[@<place>]          a benchmark of the paper's table                    (grm.benchmark_sets)
<file>.py:<function>@<source>   files, or a set of the hub, row by row through a function of the user's own (grm.own_converters)
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from grm import benchmark_sets, hf_sets, preference_files, tiny_world
from grm.content import without_conflicts, without_leaks
from grm.mixing import MixedRows, mix, mixed
from grm.opening import files
from grm.own_converters import load_converter, split
from grm.preferences import DataError, Loaded, Preference, Skipped, merged_names

SMALL_WORLD = ("tiny:", "tinyheld:")  # sources whose queries are few
AS_PUBLISHED = ("bench:", *SMALL_WORLD)  # sources of which no row is left out
NAMED = (*SMALL_WORLD, "hf:", "bench:")  # sources that are no files


def load(source: str, *, limit: int | None = None, name: str = "", show: Collection[str] = (), strict: bool = False) -> Loaded:
    """Return the preferences of a source (see the module's head) in their mixed order, or the first `limit`.

    Args:
        source: What to load.
        limit: Most preferences; None: all.
        name: What the rows of a set of the hub are called by, before their number (see `default_names`); "": the set's own.
        show: Which of `reference` and `criteria` become part of the question, of rows that are read by their shape.
        strict: Whether the first row of a file that cannot be read is an error; else such rows are skipped and counted.

    Raises:
        DataError: The source cannot be used.
    """
    return load_mixed([(source, name)], limit=limit, show=show, strict=strict)[0]


def load_mixed(
    sources: Sequence[tuple[str, str]], *, limit: int | None = None, show: Collection[str] = (), strict: bool = False
) -> list[Loaded]:
    """Return the preferences of each source, up to `limit` of all together, which are a fair sample of them (`grm.mixing`).

    Args:
        sources: Each with the name as in `load`.
        limit: Most preferences; None: all.
        show, strict: As in `load`.

    Raises:
        DataError: A source cannot be used.
    """
    return mix([_rows(source, name, show, strict) for source, name in sources], limit=limit)


def _rows(source: str, name: str, show: Collection[str], strict: bool) -> MixedRows:
    named, place = split(source)
    kind, colon, rest = place.partition(":")
    if named and place.startswith(AS_PUBLISHED):
        raise DataError(f"source {source!r}: {place} is read as it was published; a converter is for files and hf: sets")
    convert = load_converter(named)
    if colon and kind in ("tiny", "tinyheld"):
        return mixed(_tiny(source, rest, held_out=kind == "tinyheld"))
    if colon and kind == "hf":
        return MixedRows(rows=hf_sets.mixed_rows(rest, name=name, show=show, strict=strict, convert=convert if named else None))
    if colon and kind == "bench":
        return mixed(benchmark_sets.load(rest))
    return mixed(preference_files.load(*files(place), show=show, strict=strict, convert=convert))


def across_sources(names: Sequence[str], loaded: Sequence[Loaded]) -> list[Loaded]:
    """Return the same preferences without those that contradict or repeat one of another source, which are counted.

    Of sets of the hub, which are decoded row by row, what concerns a whole source is looked at here, too. Benchmarks stay as
    they were published.
    """
    pairs = list(zip(names, loaded, strict=True))
    placed = [
        (f"{name}: {item.line or item.question.id}", item)
        for name, each in pairs
        if not name.startswith(AS_PUBLISHED)
        for item in each.preferences
    ]
    checked = iter(without_conflicts(placed))
    found = []
    for name, each in pairs:
        if name.startswith(AS_PUBLISHED):
            found.append(each)
            continue
        own = [next(checked) for _ in each.preferences]
        own = without_leaks(own) if split(name)[1].startswith("hf:") else own
        kept = tuple(item for _, item in own if isinstance(item, Preference))
        skipped = Counter(each.skipped) + Counter(item.reason for _, item in own if isinstance(item, Skipped))
        more = [{item.reason: [f"{item.detail}"]} for _, item in own if isinstance(item, Skipped)]
        found.append(Loaded(preferences=kept, skipped=dict(skipped), named=merged_names([each.named, *more])))
    return found


def default_names(sources: Iterable[str]) -> dict[str, str]:
    """Return {source of the hub: what its rows are called by}, different for different copies of one set.

    It is the set's name, with as much of the copy's path behind it as tells it from another. One place under two names has one
    name here, so its ids are found twice. Files, the tiny world and benchmarks have ids of their own.
    """
    sources = [source for source in sources if source.startswith("hf:")]
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
    name, at, folder = source.removeprefix("hf:").partition("@")
    return [name, *(f"{name}@{tail}" for tail in _tails(folder))] if at else [name, f"hf:{name}"]


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
