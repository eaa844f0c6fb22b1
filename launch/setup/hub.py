"""Which revision of a hub's model or data set lies in the cache of this machine."""

from pathlib import Path
from typing import Literal

# Files of which every repository has one, and which loading it puts into the cache.
SMALL_FILES = {"model": ("config.json", "tokenizer_config.json"), "dataset": ("README.md",)}


def cached_revision(repository: str, *, kind: Literal["model", "dataset"] = "model", revision: str | None = None) -> str:
    """Returns the commit whose files lie in the cache of hub files; "" when nothing of it is there yet.

    Args:
        repository: Its name, `owner/name`.
        kind: What it holds.
        revision: A branch, tag or commit; None: the newest of the main branch.
    """
    folder = cached_folder(repository, kind=kind, revision=revision)
    return folder.name if folder is not None else ""


def cached_folder(repository: str, *, kind: Literal["model", "dataset"] = "model", revision: str | None = None) -> Path | None:
    """Returns the folder of the cache that holds the files of that commit which were loaded so far; None when there are none.
    Arguments as above."""
    from huggingface_hub import try_to_load_from_cache

    for name in SMALL_FILES[kind]:
        file = try_to_load_from_cache(repository, name, repo_type=kind, revision=revision)
        if isinstance(file, str):
            return Path(file).parent  # <cache>/models--owner--name/snapshots/<commit>
    return None
