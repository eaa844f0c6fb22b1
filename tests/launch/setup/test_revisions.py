"""What was taken from a hub is recorded by its commit: here from a cache that is laid out as the hub's library does."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from launch.setup.model_files import TINY
from launch.setup.revisions import hub_revisions

COMMIT, OLDER = "a" * 40, "b" * 40


def cached(cache: Path, folder: str, file: str, refs: dict[str, str]) -> None:
    for name, commit in refs.items():
        (cache / folder / "refs").mkdir(parents=True, exist_ok=True)
        (cache / folder / "refs" / name).write_text(commit)
        (cache / folder / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
        (cache / folder / "snapshots" / commit / file).write_text("x")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_the_commits_of_model_and_sets_are_found(cache: Path) -> None:
    cached(cache, "models--owner--name", "config.json", {"main": COMMIT})
    cached(cache, "datasets--NCSOFT--offsetbias", "README.md", {"main": COMMIT, "v1": OLDER})
    sources = ["hf:NCSOFT/offsetbias", "hf:NCSOFT/offsetbias@v1", f"hf:NCSOFT/offsetbias@{OLDER}", "tiny:1:5", "rows.jsonl"]
    assert hub_revisions("owner/name", sources) == {
        "owner/name": COMMIT,
        "hf:NCSOFT/offsetbias": COMMIT,
        "hf:NCSOFT/offsetbias@v1": OLDER,
        f"hf:NCSOFT/offsetbias@{OLDER}": OLDER,
    }


def test_a_form_of_a_set_has_the_commit_of_its_repository(cache: Path) -> None:
    cached(cache, "datasets--nvidia--OpenMathInstruct-1", "README.md", {"main": COMMIT, "v1": OLDER})
    pairs = "hf:nvidia/OpenMathInstruct-1:pairs"
    assert hub_revisions(str(TINY), [pairs, f"{pairs}@v1"]) == {pairs: COMMIT, f"{pairs}@v1": OLDER}


def test_a_benchmark_of_several_sets_has_a_commit_for_each(cache: Path) -> None:
    for name in ("MATH", "GPQA"):
        cached(cache, f"datasets--lmarena-ai--PPE-{name}-Best-of-K", "README.md", {"main": COMMIT})
    assert hub_revisions(str(TINY), ["bench:ppe-correctness", "bench:ppe-correctness@copy/of/it", "bench:rmb"]) == {
        f"bench:ppe-correctness (lmarena-ai/PPE-{name}-Best-of-K)": COMMIT for name in ("MATH", "GPQA")
    }


def test_what_comes_from_a_folder_or_is_not_cached_has_no_commit(cache: Path) -> None:
    sources = [f"hf:NCSOFT/offsetbias@{cache}", "hf:nvidia/HelpSteer2", "tinyheld:1:5"]
    for model in (str(TINY), str(cache), "owner/other"):
        assert hub_revisions(model, sources) == {}
