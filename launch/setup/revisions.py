"""Which revision of a model or a public set a run took from a hub: a name alone can mean something else tomorrow."""

from collections.abc import Iterable
from pathlib import Path

from grm import benchmark_sets, hf_sets
from launch.setup.hub import cached_revision
from launch.setup.model_files import TINY


def hub_revisions(model: str, sources: Iterable[str]) -> dict[str, str]:
    """Returns {model or source: commit} of what was taken from a hub, as far as its cache holds it.

    Args:
        model: Folder or hub name of the model.
        sources: Data sources; only those that begin with `hf:` or `bench:` and name no folder come from a hub. A benchmark
            of several sets has a commit for each: {"source (set)": commit}.
    """
    found = {} if Path(model).is_dir() or model == str(TINY) else {model: cached_revision(model)}
    for source in sources:
        name, folder, revision = hf_sets.parts(source.removeprefix("hf:"))
        name = hf_sets.repository(name)
        if source.startswith("hf:") and not folder:
            found[source] = cached_revision(name, kind="dataset", revision=revision)
        for location, at in benchmark_sets.hub_sets(source):
            found[f"{source} ({location})"] = cached_revision(location, kind="dataset", revision=at)
    return {name: commit for name, commit in found.items() if commit}
