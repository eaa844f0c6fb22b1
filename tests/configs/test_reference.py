"""Every leaf is described, and the reference page is what the schema says."""

from pathlib import Path

import pytest

from configs.load import ConfigError, load
from configs.reference import Leaf, explain, leaves, markdown, sections
from configs.schema import Config

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def all_leaves() -> dict[str, Leaf]:
    return {f"{name}.{leaf.name}": leaf for name, section in sections().items() for leaf in leaves(section)}


def test_the_reference_has_every_leaf() -> None:
    tree = load("tiny").model_dump()
    assert list(sections()) == list(Config.model_fields) == list(tree)
    assert list(all_leaves()) == [f"{section}.{leaf}" for section, branch in tree.items() for leaf in branch]


@pytest.mark.parametrize("key", list(all_leaves()))
def test_every_leaf_is_described_in_sentences(key: str) -> None:
    leaf = all_leaves()[key]
    assert len(leaf.text) > 10
    assert leaf.text.endswith(".")
    assert "\n" not in leaf.text, "a row of the page is one line"
    assert leaf.text[0].isupper() or leaf.text.split()[0] in {"B,", "G,", "eta,"}
    assert leaf.kind
    assert leaf.default


@pytest.mark.parametrize("section", list(sections()))
def test_every_section_is_described(section: str) -> None:
    assert (sections()[section].__doc__ or "").endswith(".")


@pytest.mark.parametrize(
    ("key", "kind", "default"),
    [
        ("grpo.lr", "number > 0", "4e-07"),
        ("grpo.stale", "wait or drop", "wait"),
        ("rollout.gpu_memory", "number > 0 and < 1", "0.9"),
        ("grpo.ratio_high", "number >= 0", "0"),
        ("learner.zero_stage", "0, 1, 2 or 3", "1"),
        ("learner.ranks", "integer >= 1", "1"),
        ("eval.every", "integer >= 0", "0"),
        ("eval.votes", "list of integers >= 1", "[]"),
        ("data.train", "list of texts, at least 1", "required"),
        ("model.context", "integer >= 1", "required"),
        ("meta_rm.enabled", "true or false", "true"),
        ("run.id", "text", '""'),
    ],
)
def test_types_ranges_and_defaults_in_words(key: str, kind: str, default: str) -> None:
    assert (all_leaves()[key].kind, all_leaves()[key].default) == (kind, default)


def test_a_section_is_explained_leaf_by_leaf() -> None:
    text = explain("grpo")
    for leaf in leaves(sections()["grpo"]):
        assert f"\ngrpo.{leaf.name}  ({leaf.kind}; default {leaf.default})\n    " in text
    assert "data.train  (list of texts, at least 1; required)" in explain("data")


def test_without_a_section_the_sections_are_listed() -> None:
    assert [line.split()[0] for line in explain().splitlines()[: len(sections())]] == list(sections())


def test_a_section_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match="--explain 'gropo': did you mean grpo"):
        explain("gropo")


def test_the_page_is_what_the_schema_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), "run: python -m configs.reference > docs/configuration.md"
