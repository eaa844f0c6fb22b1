"""The sizing table: what the page holds, and a row by hand."""

from pathlib import Path

import pytest

from launch.setup.sizing import COLUMNS, MODELS, table

PAGE = Path(__file__).resolve().parents[3] / "docs" / "gpu.md"


def rows() -> dict[str, dict[str, str]]:
    lines = [line.strip("| \n").split(" | ") for line in table().splitlines()[2:]]
    return {line[0].strip("`"): dict(zip(COLUMNS, line, strict=True)) for line in lines}


def test_the_page_holds_what_the_command_prints() -> None:
    assert table() in PAGE.read_text(encoding="utf-8"), "run: python -m launch.setup.sizing, and put it into docs/gpu.md"


def test_it_has_a_row_for_each_published_model() -> None:
    assert list(rows()) == [name.rpartition("/")[2] for name in MODELS]


def test_the_row_of_8b_by_hand() -> None:
    """Cache: 0.9 x 85 - 16.4 - 2.4 = 57.7 GB, at 147,456 bytes x (2 x 1,300 + 4 x 350). Policy: (18 + 2) x 8.19 / 3 = 54.6, and
    head 5.0, layers 2.4, logits 3.2, buffers 3, CUDA and NCCL 2; on 2 cards it would be 98. Store: 3 x 16.4 GB + 0.25 GiB."""
    row = rows()["Qwen3-8B"]
    cache = 0.9 * 85e9 - 16.38e9 - (1.5e9 + 8192 * 2 * (4 * 4096 + 3 * 12288))
    groups = cache / (147456 * (2 * 1300 + 4 * 350))
    assert row["engine: GPUs, groups, tokens a second"].startswith(f"1, {groups:.0f}, ")
    policy = 20 * 8.19074 / 3 + 4.98 + 8192 * 2 * 36 * 4096 / 1e9 + 3 * 4 * 2**28 / 1e9 + 3 + 2
    assert row["policy: GPUs, GB each"] == f"3, {policy:.0f}"
    assert policy + 20 * 8.19074 * (1 / 2 - 1 / 3) > 0.95 * 85
    assert row["/dev/shm, GiB"] == f"{(3 * 16.3815e9 / 2**30 + 0.25):.0f}"
    assert float(row["checkpoint, GB"]) == pytest.approx(16 * 8.19, abs=0.5)
