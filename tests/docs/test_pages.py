"""The pages that lead a new user: every block runs as it stands, or says what it needs (`tests/docs/pages.py`).

What takes seconds runs in this process, in an empty folder in which the clone's folders lie. What takes longer runs in one such
folder, page after page, by bash, as a reader would, with fewer steps than the preset's (`FEWER`): `make test-full`. The preset
as it stands is what `make demo` runs.
"""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.load import dump, is_override, load, presets
from grm.sources import load as load_preferences
from launch.monitoring.metrics import METRICS
from spct.command import ENTRIES, main
from tests.docs.pages import Block, blocks, statements
from tests.docs.test_documents import ROOMS, ROOT, text_of
from tests.launch.whole_run import environment
from tests.spct.base_judge import base_judge

PAGES = (
    "docs/quickstart.md",
    "docs/own_data.md",
    "docs/own_model.md",
    "docs/stop_and_resume.md",
    "docs/publishing.md",
    "docs/extending.md",
    "docs/cluster.md",
    "docs/tracking.md",
)
ALL = [block for page in PAGES for block in blocks(page)]
SHELL_WORDS = {
    "cat",
    "head",
    "tail",
    "git",
    "make",
    "python3",
    "pip",
    "cd",
    ".",
    "export",
    "ray",
    "sbatch",
    "docker",
    "kubectl",
    "wandb",
    "tensorboard",
}


# The settings with which a page's `spct train` takes a minute in place of minutes: every stage, less of each.
FEWER = (
    "data.heldout=tinyheld:2:24:2",
    "cold_start.preferences=48",
    "cold_start.steps=12",
    "grpo.steps=6",
    "grpo.batch_groups=4",
    "meta_rm.batch=32",
    "eval.every=3",
    "eval.votes=[1,2]",
    "eval.votes_limit=8",
)


def name(block: Block) -> str:
    return f"{block.page.removeprefix('docs/')}:{block.line}"


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the folders of the clone in it."""
    for room in ROOMS:
        (tmp_path / room).symlink_to(ROOT / room)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shell(folder: Path, text: str) -> None:
    """Run a block by bash with the environment active: `spct` and `python` are those of this tree, and `spct train --config`
    gets `FEWER`."""
    tools = folder / ".tools"
    tools.mkdir(exist_ok=True)
    fewer = f'[ "$1 $2" != "train --config" ] || set -- "$@" {shlex.join(FEWER)}'
    (tools / "spct").write_text(f'#!/bin/bash\n{fewer}\nexec {sys.executable} -m spct.command "$@"\n')
    (tools / "spct").chmod(0o755)
    path = f"{tools}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = environment(PATH=path, PYTHONPATH=str(ROOT))
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=env, capture_output=True, text=True, timeout=480, check=False
    )
    assert ended.returncode == 0, f"{text}\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"


def test_every_page_has_blocks_and_every_block_a_language() -> None:
    assert {block.page for block in ALL} == set(PAGES)
    assert [name(block) for block in ALL if block.language not in ("bash", "python")] == []


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.when == "always" for b in blocks(page))])
def test_what_takes_seconds_runs(
    page: str, clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, object] = {}
    monkeypatch.setattr(sys, "argv", ["spct"])
    for block in blocks(page):
        if block.when != "always":
            continue
        if block.language == "python":
            exec(compile(block.text, name(block), "exec"), names)  # as a reader would, one after the other
            assert capsys.readouterr().out.strip(), f"{name(block)} shows something"
            continue
        for statement in statements(block.text):
            if statement.startswith("spct "):
                assert main(shlex.split(statement, comments=True)[1:]) == 0, (statement, capsys.readouterr().err)
            else:
                shell(clone, statement)


@pytest.mark.full
@pytest.mark.slow
def test_the_quickstart_runs_from_its_first_line_and_its_run_is_resumed(clone: Path) -> None:
    run_longer(clone, "docs/quickstart.md")
    assert json.loads((clone / "runs" / "first" / "summary.json").read_text())["finished"] == "completed"
    assert (clone / "runs" / "first" / "report.html").is_file()
    assert (clone / "first-measured" / "table.json").is_file()
    run_longer(clone, "docs/stop_and_resume.md")


@pytest.mark.full
@pytest.mark.slow
def test_a_judge_is_published_and_served_as_its_page_says(clone: Path) -> None:
    """With the base policy in place of a trained one."""
    folder = clone / "runs" / "first"
    base_judge(folder / "judge")
    (folder / "config.yaml").write_text(dump(load("tiny")))
    (row, *_) = load_preferences("tinyheld:7:3:2").preferences
    asked = {"prompt": row.question.query, "responses": list(row.question.responses)}
    (clone / "row.json").write_text(json.dumps(asked))
    run_longer(clone, "docs/publishing.md")


def test_no_other_page_has_blocks_that_take_longer() -> None:
    pages = {block.page for block in ALL if block.when == "full"}
    assert pages == {"docs/quickstart.md", "docs/stop_and_resume.md", "docs/publishing.md"}


def run_longer(clone: Path, page: str) -> None:
    found = [block for block in blocks(page) if block.when == "full"]
    assert found
    for block in found:
        if block.language == "python":
            (clone / "block.py").write_text(block.text)
        shell(clone, "python block.py" if block.language == "python" else block.text)


COMMANDS = [
    (name(block), statement)
    for block in [*ALL, *blocks("README.md")]
    if block.language == "bash" and (block.when == "never" or block.page == "README.md")
    for line in statements(block.text)
    for statement in line.split(" && ")
]


@pytest.mark.parametrize(("where", "statement"), COMMANDS)
def test_what_is_not_run_has_commands_options_and_settings_that_there_are(
    where: str, statement: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = shlex.split(statement, comments=True)
    assert words[0] in SHELL_WORDS | {"spct"}, where
    if words[0] in ("make", "sbatch"):
        return
    if "launch/run.py" in words:
        words = ["spct", "train", *words[words.index("launch/run.py") + 1 :]]
    if words[0] != "spct":
        return
    assert words[1] in ENTRIES, where
    monkeypatch.setattr(sys, "argv", ["spct"])
    with pytest.raises(SystemExit):
        main([words[1], "--help"])
    shown = capsys.readouterr().out
    assert [word for word in words[2:] if word.startswith("--") and word not in shown] == [], where
    preset = words[words.index("--config") + 1] if "--config" in words else "tiny"
    assert preset in presets() or preset == "my.yaml"  # a reader's own
    load("tiny" if preset == "my.yaml" else preset, [word for word in words[2:] if is_override(word)])


def test_every_metric_has_a_row_on_its_page() -> None:
    page = text_of("docs/metrics.md")
    named = set(re.findall(r"`([a-z_]+/[a-z0-9_]+(?:@k)?)`", page))
    assert sorted(METRICS.keys() - named) == []
    assert sorted(name for name in named - METRICS.keys() if not (ROOT / name).exists()) == []


def test_every_page_is_in_the_index() -> None:
    index = text_of("docs/README.md")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert sorted(page for page in pages if f"({page})" not in index) == []


def test_every_page_is_in_the_menu_of_the_site() -> None:
    def named(menu: list[dict[str, Any]]) -> list[str]:
        items = [item for entry in menu for item in entry.values()]
        return [page for item in items for page in ([item] if isinstance(item, str) else named(item))]

    pages = named(yaml.safe_load(text_of("mkdocs.yml"))["nav"])
    assert sorted(pages) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


@cache
def messages() -> str:
    """All texts in the code, those of f-strings without what is put in."""
    texts: list[str] = []
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py") if room not in ("tests", "docs") else ():
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(" ".join(node.value.split()))
    return "\n".join([*texts, text_of("Makefile")])


def test_the_messages_that_are_explained_are_said_somewhere() -> None:
    rows = re.findall(r"^\| (.+?) \|", text_of("docs/troubleshooting.md"), flags=re.MULTILINE)
    quoted = [part.strip() for row in rows for span in re.findall(r"`([^`]+)`", row) for part in span.split("...")]
    ours = [part for part in quoted if len(part) > 9 and "command not found" not in part and part not in OF_OTHERS]
    assert len(ours) > 8
    assert [part for part in ours if part not in messages()] == []


OF_OTHERS = {"No available agent to submit job", "init_cpu_memory_env"}
