"""The installation names what a machine lacks in one sentence, and finds torch's CPU build, before anything is fetched."""

from __future__ import annotations

import ast
import math
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "packaging"
sys.path.insert(0, str(FOLDER))  # as when it is called: a script on its own
import install  # noqa: E402

WANTED = "torch==1.2.3+cpu"
INDEX = "https://index.invalid/cpu"
GIB = install.GIB


class Pip:
    """Finds the build where the test puts it, and records its arguments."""

    def __init__(self, *, found_by_itself: bool, found_at_index: bool) -> None:
        self.found = {False: found_by_itself, True: found_at_index}
        self.asked: list[list[str]] = []

    def __call__(self, arguments: list[str]) -> int:
        self.asked.append(arguments)
        return 0 if self.found["--index-url" in arguments] else 1


def empty_wheel(folder: Path, version: str) -> None:
    with zipfile.ZipFile(folder / f"torch-{version}-py3-none-any.whl", "w") as wheel:
        inner = f"torch-{version}.dist-info"
        wheel.writestr(f"{inner}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        wheel.writestr(f"{inner}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{inner}/RECORD", "")


@pytest.mark.parametrize(
    ("machine", "sentence"),
    [
        (("Darwin", "arm64", ("", ""), ""), "platform: Darwin arm64 is not supported: use Linux on x86_64 or aarch64"),
        (("Windows", "AMD64", ("", ""), ""), "platform: Windows AMD64 is not supported"),
        (("Linux", "riscv64", ("glibc", "2.36"), ""), "platform: Linux riscv64 is not supported"),
        (("Linux", "x86_64", ("glibc", "2.28"), "avx2"), "platform: glibc 2.28 is not supported: use a Linux with glibc 2.31"),
        (("Linux", "aarch64", ("", ""), ""), "platform: a Linux without glibc is not supported: use a Linux with glibc 2.31"),
        (("Linux", "x86_64", ("glibc", "2.36"), "flags : sse avx avx2x"), "platform: this CPU has no AVX2"),
    ],
)
def test_a_platform_without_wheels_is_refused(machine: Any, sentence: str) -> None:
    with pytest.raises(install.Refused, match=re.escape(sentence)):
        install.check_platform(*machine, install.BUILDS["cpu"].machines)


@pytest.mark.parametrize("libc", ["2.31", "2.36", "3.0"])
def test_a_platform_with_wheels_is_taken(libc: str) -> None:
    for build in install.BUILDS.values():
        install.check_platform("Linux", "x86_64", ("glibc", libc), "flags : sse avx avx2 bmi\n", build.machines)
    install.check_platform("Linux", "aarch64", ("glibc", libc), "", install.BUILDS["cpu"].machines)


def test_the_gpu_build_has_wheels_for_one_machine() -> None:
    with pytest.raises(install.Refused, match=r"platform: Linux aarch64 is not supported: use Linux on x86_64,"):
        install.check_platform("Linux", "aarch64", ("glibc", "2.36"), "", install.BUILDS["cuda"].machines)


def test_an_environment_for_another_device_is_refused(tmp_path: Path) -> None:
    """The two vLLMs install the same package, so neither is laid over the other."""
    install.check_device(tmp_path / "new", "cuda")
    (tmp_path / "bin").mkdir()
    install.check_device(tmp_path, "cuda")  # without a Python it is no environment, and is made anew
    (tmp_path / "bin" / "python").touch()
    install.check_device(tmp_path, "cpu")
    sentence = "is for DEVICE=cpu, not cuda: remove it by make clean and say the same again, or go on with DEVICE=cpu"
    with pytest.raises(install.Refused, match=sentence):
        install.check_device(tmp_path, "cuda")
    (tmp_path / install.DEVICE).write_text("cuda\n")
    install.check_device(tmp_path, "cuda")
    with pytest.raises(install.Refused, match="is for DEVICE=cuda, not cpu"):
        install.check_device(tmp_path, "cpu")


def test_an_unsupported_python_is_refused() -> None:
    for version in install.PYTHONS:
        install.check_python(version, has_pip=True)
    for version in ((3, 10), (3, 14), (2, 7)):
        with pytest.raises(install.Refused, match=r"python: \d\.\d+ is not supported: install one of 3.11, 3.12, 3.13"):
            install.check_python(version, has_pip=True)
    with pytest.raises(install.Refused, match=r"python: this Python 3.12 has no ensurepip: .* apt install python3.12-venv"):
        install.check_python((3, 12), has_pip=False)


def test_an_older_python_can_read_its_sentence() -> None:
    ast.parse((FOLDER / "install.py").read_text(encoding="utf-8"), feature_version=(3, 7))


def test_what_is_supported_is_said_in_three_places() -> None:
    root = FOLDER.parent
    wanted = tomllib.loads((root / "pyproject.toml").read_text())["project"]["requires-python"]
    (_, low), (_, high) = install.PYTHONS[0], install.PYTHONS[-1]
    assert wanted == f">=3.{low},<3.{high + 1}"
    assert f"(3, {low}) <= sys.version_info < (3, {high + 1})" in (root / "Makefile").read_text()


def test_what_triton_compiles_with_is_asked_for(tmp_path: Path) -> None:
    header = tmp_path / "Python.h"
    with pytest.raises(install.Refused, match=r"there is no file .*Python.h, .* apt install gcc python3\.\d+-dev"):
        install.check_compiler(["gcc"], header)
    header.touch()
    install.check_compiler(["gcc"], header)
    with pytest.raises(install.Refused, match=r"compiler: there is no C compiler, and Triton compiles"):
        install.check_compiler([], header)


def test_a_library_that_no_wheel_brings_is_asked_for() -> None:
    libraries = install.BUILDS["cpu"].libraries
    install.check_libraries(libraries, lambda name: True)
    with pytest.raises(install.Refused, match=r"library: there is no libnuma.so.1, .* apt install libnuma1"):
        install.check_libraries(libraries, lambda name: False)
    install.check_libraries(install.BUILDS["cuda"].libraries, lambda name: False)
    assert set(libraries.values()) <= set((FOLDER.parent / "Dockerfile.cpu").read_text(encoding="utf-8").split())


def test_too_little_memory_is_refused_and_a_container_counts() -> None:
    meminfo = "MemFree:  1 kB\nMemTotal:       16777216 kB\n"
    assert install.memory_bytes(meminfo, []) == 16 * GIB
    assert install.memory_bytes(meminfo, ["max\n", ""]) == 16 * GIB
    assert install.memory_bytes(meminfo, [f"{2 * GIB}\n", f"{1 << 62}"]) == 2 * GIB
    install.check_memory(math.ceil(install.MEMORY_GIB * GIB))
    with pytest.raises(install.Refused, match=r"memory: 2.0 GiB is too little: give the machine or container the"):
        install.check_memory(2 * GIB)


def test_too_little_disk_is_refused_by_file_system() -> None:
    needs = {"/home/me/spct": 3.0, "/tmp": 1.0, "/home/me/.cache": 1.5}
    free = {0: 4 * GIB, 1: 2 * GIB}

    def device(folder: str) -> int:
        return int(folder == "/tmp")

    with pytest.raises(
        install.Refused, match=r"disk: 4.0 GiB free where 4.5 GiB are needed, for /home/me/spct, /home/me/.cache:"
    ):
        install.check_disk(needs, device, lambda folder: free[device(folder)])
    free[0] = 5 * GIB
    install.check_disk(needs, device, lambda folder: free[device(folder)])
    free[1] = GIB // 2
    with pytest.raises(install.Refused, match=r"disk: 0.5 GiB free where 1.0 GiB are needed, for /tmp: .* TMPDIR"):
        install.check_disk(needs, device, lambda folder: free[device(folder)])


def test_a_cpu_build_that_pip_finds_is_taken_from_there() -> None:
    pip = Pip(found_by_itself=True, found_at_index=True)
    assert install.torch_options(pip, WANTED, INDEX) == []
    assert len(pip.asked) == 1


def test_where_pip_finds_only_a_cuda_build_pytorchs_index_is_asked() -> None:
    pip = Pip(found_by_itself=False, found_at_index=True)
    assert install.torch_options(pip, WANTED, INDEX) == ["--index-url", INDEX]


def test_where_the_index_gives_none_a_sentence_says_what_to_set() -> None:
    pip = Pip(found_by_itself=False, found_at_index=False)
    with pytest.raises(install.Refused) as refused:
        install.torch_options(pip, WANTED, INDEX)
    said = str(refused.value)
    assert said.startswith(f"torch: pip finds no {WANTED} by itself, and {INDEX}")
    assert "set TORCH_INDEX" in said
    assert "PIP_FIND_LINKS" in said
    assert "\n" not in said
    for asked in pip.asked:
        assert {"--dry-run", "--no-deps", WANTED} <= set(asked), "nothing is fetched to find out"


def test_a_real_pip_takes_a_cuda_build_for_none(tmp_path: Path) -> None:
    """Three folders as indexes: with a CUDA build, with the CPU build, with nothing."""
    for index, versions in (("plain", ["1.2.3"]), ("cpu", ["1.2.3+cpu"]), ("empty", [])):
        (tmp_path / index / "torch").mkdir(parents=True)
        for version in versions:
            empty_wheel(tmp_path / index / "torch", version)
        links = [
            f"<a href='{file.name.replace('+', '%2B')}'>{file.name}</a>" for file in (tmp_path / index / "torch").iterdir()
        ]
        (tmp_path / index / "torch" / "index.html").write_text("<!DOCTYPE html><body>" + "".join(links))

    def options(first: str, second: str) -> list[str]:
        def pip(arguments: list[str]) -> int:
            command = [sys.executable, "-m", "pip", *arguments, "--ignore-installed"]
            environment = {
                "PATH": os.environ["PATH"],
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_INDEX_URL": (tmp_path / first).as_uri(),
            }
            return subprocess.run(command, env=environment, capture_output=True, check=False).returncode

        return install.torch_options(pip, WANTED, (tmp_path / second).as_uri())

    assert options("cpu", "empty") == []
    assert options("plain", "cpu") == ["--index-url", (tmp_path / "cpu").as_uri()]
    with pytest.raises(install.Refused, match="set TORCH_INDEX"):
        options("plain", "empty")


def test_a_refusal_is_one_line_and_status_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(install.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(sys, "argv", ["install.py", "nowhere/.venv"])
    assert install.main() == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not Path("nowhere").exists()
