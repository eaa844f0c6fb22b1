"""What `make demo DEVICE=cuda` asks before gigabytes are fetched: a driver, and cards that the locked torch is built for."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "packaging"
sys.path.insert(0, str(FOLDER))  # as when it is called: a script on its own
import card  # noqa: E402
import install  # noqa: E402

H100 = "NVIDIA H100 80GB HBM3, 580.65.06, 9.0\n"


def nvidia_smi(folder: Path, script: str) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)


@pytest.mark.parametrize("cards", [H100, H100 * 8, "Tesla T4, 580, 7.5\n", "A card, of two names, 600.1, 12.0"])
def test_cards_that_torch_is_built_for_are_taken(cards: str) -> None:
    card.check(cards)


@pytest.mark.parametrize(
    ("cards", "sentence"),
    [
        ("\n", "card: the NVIDIA driver sees no card"),
        (
            H100 + H100.replace("580", "570"),
            "card: driver 570.65.06 of NVIDIA H100 80GB HBM3 is too old for CUDA 13: install 580",
        ),
        (H100 + "Tesla V100, 580.1, 7.0", r"card: Tesla V100 has compute capability 7.0, and CUDA 13 needs 7.5 \(Turing\)"),
    ],
)
def test_what_is_too_old_is_refused(cards: str, sentence: str) -> None:
    with pytest.raises(install.Refused, match=sentence) as refused:
        card.check(cards)
    assert card.ELSEWHERE in str(refused.value)


def test_the_driver_is_asked_by_its_own_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(install.Refused, match=r"card: this machine has no NVIDIA driver .*: install driver 580 or newer"):
        card.ask()
    nvidia_smi(tmp_path, f'[ "$*" = "{" ".join(card.ASKED[1:])}" ] && echo "{H100.strip()}"')
    assert card.ask() == H100
    nvidia_smi(tmp_path, "echo Failed to initialize NVML: Driver/library version mismatch; exit 18")
    with pytest.raises(install.Refused, match=r"nvidia-smi failed with status 18, 'Failed to initialize NVML: .* mismatch'"):
        card.ask()


def test_an_older_python_can_read_its_sentence() -> None:
    ast.parse((FOLDER / "card.py").read_text(encoding="utf-8"), feature_version=(3, 7))


def make(folder: Path, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs make on the project's Makefile in a folder of its own, with recipes that are printed alone where -n says so."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(FOLDER.parent / name, folder)
    if not (folder / "packaging").exists():
        shutil.copytree(FOLDER, folder / "packaging", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]}
    command = ["make", f"PYTHON={sys.executable}", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", ["demo", "demo-real"])
def test_without_a_card_a_demo_ends_with_one_sentence_before_it_installs(tmp_path: Path, target: str) -> None:
    (tmp_path / "bin").mkdir()
    nvidia_smi(tmp_path / "bin", "exit 9")  # as on a machine whose driver sees no card
    done = make(tmp_path, target, "DEVICE=cuda", "-j4", path=tmp_path / "bin")
    assert done.returncode == 2
    assert done.stderr.startswith("card: nvidia-smi failed with status 9")
    assert not (tmp_path / ".venv").exists()
    assert "install.py" not in done.stdout


def test_the_environment_says_which_device_it_is_for(tmp_path: Path) -> None:
    assert "--device cpu .venv" in make(tmp_path, "-n", "demo").stdout
    assert "card.py" not in make(tmp_path, "-n", "demo").stdout
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "device").write_text("cuda\n")
    said = make(tmp_path, "-n", "demo").stdout
    assert (
        said.index("card.py")
        < said.index("--device cuda .venv")
        < said.index("--config tiny cluster.device=cuda cluster.share_gpu=true")
    )


def test_a_check_of_a_card_asks_for_one_first_and_installs_for_it(tmp_path: Path) -> None:
    said = make(tmp_path, "-n", "gpu-check", "PARTS=head step").stdout
    assert (
        said.index("card.py")
        < said.index("install.py --device cuda .venv")
        < said.index("-m tests.gpu.check runs/gpu-check.json head step")
    )


def test_an_image_is_made_without_a_card(tmp_path: Path) -> None:
    said = make(tmp_path, "-n", "install-gpu").stdout
    assert "install.py --device cuda .venv" in said
    assert "card.py" not in said


@pytest.mark.parametrize("target", ["test", "test-full", "test-chaos", "bench", "chaos", "resolve"])
def test_what_is_written_for_cpu_is_refused_in_a_gpu_environment(tmp_path: Path, target: str) -> None:
    done = make(tmp_path, target, "DEVICE=cuda")
    assert done.returncode == 2
    assert "environment: this runs on CPU, and .venv is for DEVICE=cuda: make clean" in done.stderr
    assert not (tmp_path / ".venv").exists()
