"""What `pip install` puts into an environment is enough to open a judge, outside of the clone."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("actors", "buffer", "configs", "grm", "launch", "learner", "spct")
FIVE_LINES = """
import spct
with spct.Judge("tiny", engine="transformers", device="cpu", overrides=["prompts.style=compact", "model.context=256",
                "rollout.max_new_tokens=64"]) as judge:
    result = judge.score("Why is the sky blue?", ["Rayleigh scattering.", "It mirrors the sea."], votes=2)
    print(spct.__file__, result.scores is not None or result.error)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, unpacked as an installer does; built from a copy, as setuptools writes beside its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "tree", ignore=shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "tests", "docs"))
    build = "from setuptools import build_meta; print(build_meta.build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=folder / "tree", text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(folder / "tree" / done.stdout.split()[-1]) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_the_five_lines_run_from_what_was_installed(installed: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-W", "ignore", "-c", FIVE_LINES]
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(" ", 1)[0] == str(installed / "spct" / "__init__.py"), "and not the clone"


def test_it_brings_what_is_read_at_run_time_and_the_command(installed: Path) -> None:
    """Every file of ours beside the Python, as git has them: scripts in Lua, templates, pages, presets, the tiny base."""
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, text=True, capture_output=True, check=True).stdout
    files = [file for file in listed.splitlines() if not file.endswith((".md", ".py"))]
    assert {Path(file).suffix for file in files} >= {".lua", ".txt", ".html", ".yaml", ".json", ".safetensors"}
    for file in files:
        assert (installed / file).is_file(), f"{file}: name it in package-data of pyproject.toml"
        assert (installed / file).read_bytes() == (ROOT / file).read_bytes()
    [entries] = installed.glob("*.dist-info/entry_points.txt")
    assert "spct = spct.command:main" in entries.read_text()
    assert sorted(file.name for file in installed.glob("*.dist-info/licenses/*")) == ["LICENSE", "NOTICE"]
