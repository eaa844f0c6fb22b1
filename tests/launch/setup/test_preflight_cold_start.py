"""What the cold start is given is looked at before anything starts."""

from pathlib import Path

import pytest

from configs.load import load
from launch.setup.model_files import TINY
from launch.setup.preflight import general_data_notes
from tests.launch.setup.test_preflight import SMALL, refused, rows


def test_a_teachers_file_is_read_and_its_endpoint_is_asked_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = rows(tmp_path / "taught.jsonl", {"preference": "nobody", "permutation": [0, 1], "text": "t"})
    output = refused(capsys, tmp_path, *SMALL, f"cold_start.teacher={file}")
    assert "taught.jsonl:1: field 'preference': 'nobody' is the id of no training preference" in output
    closed = ("cold_start.teacher=http://127.0.0.1:1/v1", "cold_start.teacher_model=judge")
    assert "127.0.0.1:1/v1, model judge: GET /models" in refused(capsys, tmp_path, *SMALL, *closed)
    assert not (tmp_path / "runs" / "x").exists()


def test_missing_general_data_is_noted_for_a_language_model_and_not_for_a_small_one() -> None:
    config = load("gemma2-27b")
    (note,) = general_data_notes(config, "google/gemma-2-27b-it")
    assert note.startswith("cold_start.general is empty: the paper mixes in general instruction data")
    for off in ("cold_start.enabled=false", "cold_start.general=[x.jsonl]"):
        assert general_data_notes(load("gemma2-27b", [off]), "google/gemma-2-27b-it") == []
    assert general_data_notes(load("gemma2-27b"), "Qwen/Qwen3-0.6B") == []
    assert general_data_notes(load("tiny"), str(TINY)) == []
