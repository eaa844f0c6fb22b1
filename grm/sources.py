"""Where preferences come from: files, the tiny world or public sets.

path/to/file.jsonl              one JSON object per line                           (grm.preference_files)
tiny:<seed>:<count>[:<n>]       training items of the tiny world                   (grm.tiny_world)
tinyheld:<seed>:<count>[:<n>]   held-out items, disjoint from the training items
hf:<name>[@<folder>]            a public set by its name, or its copy in a folder  (grm.hf_sets)
hf:<name>@<revision>            the set as it was at a commit, branch or tag
"""

import re
from pathlib import Path

from grm import hf_sets, preference_files, tiny_world
from grm.preferences import DataError, Loaded


def load(source: str, *, limit: int | None = None) -> Loaded:
    """Return the preferences of a source (see the module's head), or its first `limit`.

    A public set has a fixed random order, so that `limit` takes a fair sample of it.

    Raises:
        DataError: The source cannot be used.
    """
    kind, colon, rest = source.partition(":")
    if colon and kind in ("tiny", "tinyheld"):
        return _tiny(source, rest, held_out=kind == "tinyheld", limit=limit)
    if colon and kind == "hf":
        return hf_sets.load(rest, limit=limit)
    return preference_files.load(Path(source), limit=limit)


def _tiny(source: str, rest: str, *, held_out: bool, limit: int | None) -> Loaded:
    parts = rest.split(":")
    if len(parts) not in (2, 3) or not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts):
        raise DataError(f"source {source!r}: write tiny:<seed>:<count>[:<n>] in integers, as tiny:1:500:2")
    seed, count, *n = (int(part) for part in parts)
    if count == 0 or (n and n[0] not in tiny_world.SIZES):
        sizes = ", ".join(str(size) for size in tiny_world.SIZES)
        raise DataError(f"source {source!r}: count must be at least 1 and n one of {sizes}")
    preferences = tiny_world.preferences(seed=seed, count=count, n=n[0] if n else None, held_out=held_out)
    return Loaded(preferences=tuple(preferences[:limit]), skipped={})
