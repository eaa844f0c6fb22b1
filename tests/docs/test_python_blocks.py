"""The Python that the documents show runs, on the base policy of the small world in place of a trained run."""

import re
import shutil
from pathlib import Path

import pytest

from configs.load import dump, load
from launch.judging import prepared_judge
from launch.setup.model_files import TINY
from learner import checkpoint
from tests.docs.test_documents import text_of


def blocks(document: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text_of(document), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """./runs/mine, with the base policy as its checkpoint; judged by transformers, as vLLM takes half a minute to start."""
    folder = tmp_path / "runs" / "mine"
    model = checkpoint.begin(folder / "checkpoints" / "policy", 80)
    shutil.copytree(TINY, model / "model")
    record = checkpoint.Record(version=80, entries=(), ranks=1, zero_stage=1)
    checkpoint.commit(folder / "checkpoints" / "policy", record, keep=1)
    (folder / "config.yaml").write_text(dump(load("tiny")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prepared_judge, "_engine", lambda engine: "transformers")


@pytest.mark.parametrize(("document", "count"), [("README.md", 1), ("docs/judge.md", 5)])
def test_the_python_of_a_document_runs(
    run: None, document: str, count: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(blocks(document)) == count
    names: dict[str, object] = {}
    for number, block in enumerate(blocks(document)):
        exec(compile(block, f"{document}, block {number + 1}", "exec"), names)  # as a reader would, one after the other
        assert capsys.readouterr().out.strip(), f"block {number + 1} shows something"
