"""Which revision of a model or a public set a run took from a hub: a name alone can mean something else tomorrow."""

from collections.abc import Iterable
from pathlib import Path

from grm import hf_sets
from launch.setup.model_files import TINY

# Files of which every repository has one, and which loading it has put into the hub's cache
MODEL_FILES, SET_FILES = ("config.json", "tokenizer_config.json"), ("README.md",)


def hub_revisions(model: str, sources: Iterable[str]) -> dict[str, str]:
    """Returns {model or source: commit} of what was taken from a hub, as far as its cache holds it.

    Args:
        model: Folder or hub name of the model.
        sources: Data sources; only those that begin with `hf:` and name no folder come from a hub.
    """
    found = {} if Path(model).is_dir() or model == str(TINY) else {model: _commit(model, MODEL_FILES, "model", None)}
    for source in sources:
        name, folder, revision = hf_sets.parts(source.removeprefix("hf:"))
        if source.startswith("hf:") and not folder:
            found[source] = _commit(name, SET_FILES, "dataset", revision)
    return {name: commit for name, commit in found.items() if commit}


def _commit(repository: str, files: Iterable[str], kind: str, revision: str | None) -> str:
    """Returns the commit whose files lie in the cache under a revision (None: the newest of the main branch); "" for none."""
    from huggingface_hub import try_to_load_from_cache

    for name in files:
        path = try_to_load_from_cache(repository, name, repo_type=kind, revision=revision)
        if isinstance(path, str):
            return Path(path).parent.name  # <cache>/models--owner--name/snapshots/<commit>/config.json
    return ""
