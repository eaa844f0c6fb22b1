"""What is known of a hub's model or data set: the revision in the cache of this machine, whether two are the same model, and
a model's config.json before anything of it is downloaded."""

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

# Files of which every repository has one, and which loading it puts into the cache.
SMALL_FILES = {"model": ("config.json", "tokenizer_config.json"), "dataset": ("README.md",)}
ANSWER_S = 30.0  # for the hub to list the files of a commit
CONFIG_S = 10.0  # for it to send a config.json, of a few kilobytes


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


def same_files(repository: str, commits: tuple[str, str], counts: Callable[[str], bool]) -> bool:
    """Returns whether two commits of a model hold the same files, of those whose name `counts`.

    The hub is asked for the hashes of both. The cache cannot tell: of the newer commit it holds the config and the tokenizer
    alone before the run begins, and new weights would go unseen.

    Raises:
        ConnectionError: The hub does not answer, gives no hashes, or has one of the commits no more.
    """
    from huggingface_hub import HfApi

    def hashes(commit: str) -> dict[str, str | None]:
        files = HfApi().model_info(repository, revision=commit, files_metadata=True, timeout=ANSWER_S).siblings or ()
        return {file.rfilename: file.blob_id for file in files if counts(file.rfilename)}

    try:
        first, second = map(hashes, commits)
    except Exception as error:  # offline, refused, gone: those of the library and of its HTTP client have no class in common
        raise ConnectionError((str(error).strip().splitlines() or [""])[0] or type(error).__name__) from None
    if not first or None in first.values():
        raise ConnectionError("it gives no hashes of the files")
    return first == second


@lru_cache
def hub_config(repository: str) -> tuple[dict[str, Any] | None, str]:
    """Asks the hub for a model's config.json, once in a process; the cache of the hub's files is left as it is.

    Returns:
        The fields and "", or None and why the hub gave none.
    """
    from huggingface_hub import get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    try:  # not `hf_hub_download`, which tries for half a minute where there is no network
        url, headers = hf_hub_url(repository, "config.json"), build_hf_headers()
        answer = get_session().get(url, headers=headers, timeout=CONFIG_S, follow_redirects=True)
        hf_raise_for_status(answer)
        fields = json.loads(answer.text)
    except Exception as error:  # offline, refused, gone, no JSON: those of the libraries have no class in common
        return None, (str(error).strip().splitlines() or [""])[0] or type(error).__name__
    return (fields, "") if isinstance(fields, dict) else (None, "its config.json is no JSON object")
