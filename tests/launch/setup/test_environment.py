"""An empty variable is not set, and no terminal is too old for what we print."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from configs.load import load
from launch.cluster.ray_session import cluster_address
from launch.setup import environment, object_store
from tests.launch.whole_run import ROOT

ENTRIES = sorted((ROOT / "launch").glob("*.py")) + sorted((ROOT / "launch" / "dev").glob("*.py"))
SCRIPTS = [path for path in ENTRIES if "__main__" in path.read_text(encoding="utf-8")]
OLD_TERMINALS = ({"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_address_is_no_cluster(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", value)
    assert cluster_address("auto") is None
    assert object_store._shared_memory_free(load("tiny")) is not None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert cluster_address("auto") == "10.0.0.1:6379"
    assert object_store._shared_memory_free(load("tiny")) is None


def test_libraries_do_not_see_empty_variables_that_they_would_misread() -> None:
    variables = {"HF_HOME": "", "XDG_CACHE_HOME": " ", "RAY_ADDRESS": "", "WANDB_MODE": "offline", "CUDA_VISIBLE_DEVICES": ""}
    environment.forget_blank_variables(variables)
    assert variables == {"WANDB_MODE": "offline", "CUDA_VISIBLE_DEVICES": ""}


def test_every_process_of_ours_forgets_them() -> None:
    code = "import launch.cli, os; print(sorted(set(os.environ) & {'HF_HOME', 'RAY_ADDRESS'}))"
    env = os.environ | {"HF_HOME": "", "RAY_ADDRESS": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


def test_no_help_fails_on_a_terminal_that_lacks_a_letter() -> None:
    entries = [str(script) for script in SCRIPTS if script.parent.name == "launch"]
    code = f"""
import runpy, sys
for script in {entries}:
    sys.argv = [script, "--help"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        assert not end.code, script
"""
    env = os.environ | OLD_TERMINALS[0]
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"usage: ") == len(entries)
    assert b"\\u2500" in done.stdout, "a drawing in it"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_of_ours_imports_the_package_or_prints_plain_letters(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert re.search(r"^from launch\b", text, flags=re.MULTILINE) or text.isascii()


def test_an_error_about_a_path_that_the_terminal_cannot_show_is_still_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "launch" / "report.py"), os.fsencode(tmp_path) + b"/\xe6\x97\xa5\xff"]
    for terminal in OLD_TERMINALS:
        done = subprocess.run(command, env=os.environ | terminal, capture_output=True, timeout=60, check=False)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith(b"error: ")
        assert b"Traceback" not in done.stderr
