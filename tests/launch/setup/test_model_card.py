"""The model card: figures, licence, and no path of this machine."""

from pathlib import Path

import pytest

from configs.load import load
from launch.setup.judge_settings import settings_of
from launch.setup.model_card import CardFigure, files_beside, licence_of
from launch.setup.model_files import TINY
from launch.setup.tokenizer import Tokenizer

FIGURES = (
    CardFigure(name="base, greedy", value=0.606, rows=400),
    CardFigure(name="after online RL, 8 votes", value=0.92, low=0.9, high=0.94, rows=150),
)


def card(*overrides: str, base: str = str(TINY), kind: str = "judge") -> str:
    config = load("tiny", list(overrides))
    settings = settings_of(config, [], Tokenizer(str(TINY))).model_copy(update={"kind": kind})
    return files_beside(config, settings, base=base, run="mine", preferences=7, figures=FIGURES)["README.md"]


def test_it_says_figures_with_their_intervals_data_and_use() -> None:
    text = card()
    assert "| base, greedy | 60.6% |  | 400 |" in text
    assert "| after online RL, 8 votes | 92.0% | 90.0% to 94.0% | 150 |" in text
    assert "7 preferences of\n\n- `tiny:1:6000`" in text
    assert "the shipped `compact`" in text
    block = text.partition("```python\n")[2].partition("```")[0]
    compile(block, "the card", "exec")
    assert len(block.strip().splitlines()) == 5, "five lines, one of them blank"
    assert 'meta_rm="THIS FOLDER"' in card(kind="meta-rm")


def test_no_path_of_this_machine_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    text = card(f"model.path={tmp_path / 'base'}", f"data.train=[{tmp_path / 'my rows.jsonl'}, hf:a/b@{tmp_path}, hf:a/b@main]")
    assert str(tmp_path) not in text
    assert "Made from `base`" in text
    assert "- `my rows.jsonl`\n- `hf:a/b`\n- `hf:a/b@main`" in text
    assert "base_model" not in text, "a folder is nothing on the hub"


def test_no_path_of_the_working_folder_is_in_it_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path)
    sources = [
        "data/private/x.jsonl",
        "hf:o/s@data/private",
        "hf:o/t@copy",
        "bench:rmb@data/private",
        "hf:o/u:train@main",
        "tiny:1:2",
    ]
    text = card(f"data.train=[{', '.join(sources)}]")
    assert "private" not in text
    assert "- `x.jsonl`\n- `hf:o/s`\n- `hf:o/t`\n- `bench:rmb`\n- `hf:o/u:train@main`\n- `tiny:1:2`\n" in text


@pytest.mark.parametrize(
    ("head", "licence"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\ntags: [a]\n---\n", "apache-2.0"),
        ("---\nlanguage: en\n---\nlicense: mit\n", ""),
        ("---\nlanguage: en\n---\n# Title\n\nlicense: mit\n\n---\nmore\n", ""),
        ("---\nlicense: mit", ""),
        ("no front matter", ""),
    ],
)
def test_the_licence_is_that_of_the_card_of_the_base(tmp_path: Path, head: str, licence: str) -> None:
    (tmp_path / "README.md").write_text(head)
    assert licence_of(str(tmp_path)) == licence
    text = card(base=str(tmp_path))
    assert text.startswith(f"---\nlicense: {licence}\n" if licence else "---\nlibrary_name: transformers\n")
    assert f"(licence: {licence or 'not known here; see the base model'})" in text
