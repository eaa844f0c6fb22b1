"""Resolves both installations for every supported Python and machine, without those interpreters and without their wheels.

    constraints.txt, pyproject.toml ─▶ uv, for each Python and machine ─▶ one line each, or what has no solution or no pin
        │                                                              └─▶ lock.txt: the sha256 of every wheel that may be taken
        └─ preferred versions ─▶ constraints-gpu.txt ─▶ uv, likewise ─▶ lock-gpu.txt

    python packaging/resolve.py            is all of it pinned, and are the locks of these versions?
    python packaging/resolve.py --write    writes constraints-gpu.txt and both locks anew, after a version was raised

Versions of the CPU build are chosen by hand. The GPU build has the same wherever its vLLM allows them, else what uv finds.
The stubs, and what PyPI has no fitting wheel of (torch's CPU build; deepspeed comes as source), are stood in by empty wheels
with the requirements that the installed ones have, so this runs in a CPU environment. Their hashes are kept by hand:
torch-cpu.txt, sources.txt.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

from install import BUILDS, GLIBC, PYTHONS, ROOT, STUBS, Build

Place = tuple[tuple[int, int], str]

SOURCES = ("deepspeed",)
COPIED = ("Metadata-Version", "Name", "Version", "Requires-Python", "Requires-Dist", "Provides-Extra")
LOCK_HEAD = """\
# The sha256 of every wheel that an installation may take, for Python 3.11 to 3.13 on {machines}. Made from {constraints}
# by `python packaging/resolve.py --write`; packaging/install.py installs from it, so that nothing else can come in.
"""
GPU_HEAD = """\
# Exact versions of everything that is installed beside a GPU, for Python 3.11 to 3.13. Made by `python packaging/resolve.py
# --write`: those of constraints.txt wherever the GPU build of vLLM allows them. Do not edit.
"""
ROUNDS = 4  # in which all Pythons have to agree on the versions


@dataclass(frozen=True)
class Locked:
    """A distribution of one version."""

    version: str
    """Its version."""
    hashes: frozenset[str]
    """The sha256 of the wheels that fit."""


def stand_in(name: str, folder: Path) -> str:
    """Writes an empty wheel with the metadata of the installed distribution; returns its pin."""
    found = metadata(name)
    stem = f"{found['Name']}-{found['Version']}"
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        lines = [f"{key}: {value}" for key in COPIED for value in found.get_all(key, [])]
        wheel.writestr(f"{stem}.dist-info/METADATA", "\n".join(lines) + "\n")
        wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
    return f"{found['Name']}=={found['Version']}"


def normalised(name: str) -> str:
    """A name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """The `name==version` lines of a requirements file, by normalised name."""
    lines = re.findall(r"^([\w.-]+)(?:\[.*?\])?==([^\s;]+)", text, re.MULTILINE)
    return {normalised(name): version for name, version in lines}


def fits(wheel: str, python: tuple[int, int], machine: str) -> bool:
    """Whether a Linux with glibc can install a wheel, by its file name; whichever glibc, as machines differ in it."""
    *_, interpreters, abis, platforms = (part.split(".") for part in wheel.removesuffix(".whl").split("-"))
    own, (major, minor) = "cp{}{}".format(*python), python
    older = {f"{kind}{major}{each}" for kind in ("cp", "py") for each in range(minor + 1)}
    return any(platform == "any" or re.fullmatch(rf"(many)?linux.*_{machine}", platform) for platform in platforms) and any(
        (interpreter == own and abi in (own, "abi3", "none"))
        or (interpreter in older and abi == ("abi3" if interpreter.startswith("cp") else "none"))
        or (interpreter == f"py{major}" and abi == "none")
        for interpreter in interpreters
        for abi in abis
    )


def places(build: Build) -> list[Place]:
    """The Pythons and machines of a build."""
    return [(python, machine) for python in PYTHONS for machine in build.machines]


def stood_in(build: Build) -> tuple[str, ...]:
    """The distributions of a build that PyPI has no fitting wheel of."""
    return SOURCES if build.own_torch else ("torch", *SOURCES, *STUBS)


def locked(package: Mapping[str, Any], python: tuple[int, int], machine: str) -> Locked:
    """What a package of pylock.toml allows on a Python and machine.

    Raises:
        SystemExit: it has no wheel for them.
    """
    wheels = {wheel.get("name") or wheel["url"].rsplit("/", 1)[1]: wheel for wheel in package.get("wheels", [])}
    hashes = [wheel["hashes"]["sha256"] for name, wheel in wheels.items() if fits(name.replace("%2B", "+"), python, machine)]
    if not hashes:
        raise SystemExit(f"{package['name']}=={package['version']}: no wheel for Python {python}, {machine}")
    return Locked(package["version"], frozenset(hashes))


def compile_for(build: Build, place: Place, folder: Path, options: list[str], out: Path) -> None:
    """Has uv write what would be installed on a Python and machine.

    Args:
        folder: wheels that stand in.
        options: of `uv pip compile`.
        out: its output. Versions that a requirements file of this name already holds are preferred.

    Raises:
        SystemExit: there is no solution; uv has said why.
    """
    python, machine = place
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-build", "--no-config"]
    command += ["--python-version", "{}.{}".format(*python), "--python-platform", f"{machine}-manylinux_{GLIBC[0]}_{GLIBC[1]}"]
    command += ["--output-file", str(out), "--no-header", "--no-annotate", "--find-links", str(folder)]
    command += ["--extra", build.extra, "--extra", "dev", *options, "pyproject.toml"]
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit(f"{build.extra}, Python {python}, {machine}: no solution")


def resolve(build: Build, place: Place, folder: Path, constraints: list[Path]) -> dict[str, Locked]:
    """What would be installed, by name, without what is stood in.

    Raises:
        SystemExit: as `compile_for`, or something has no wheel.
    """
    out = folder / "pylock.toml"
    out.unlink(missing_ok=True)
    exact = [option for file in constraints for option in ("-c", str(file))]
    compile_for(build, place, folder, ["--format", "pylock.toml", *exact], out)
    packages = tomllib.loads(out.read_text(encoding="utf-8"))["packages"]
    return {
        normalised(package["name"]): locked(package, *place)
        for package in packages
        if normalised(package["name"]) not in stood_in(build)
    }


def agreed(preferred: Mapping[str, str], compiled: Callable[[Place, Mapping[str, str]], dict[str, str]],
           everywhere: list[Place]) -> dict[str, str]:  # fmt: skip
    """One version of each distribution for all Pythons: each is asked in turn, with the versions so far as its preferences.

    A package of which the oldest Python takes a release that the newest has no wheel of needs a second round.

    Args:
        preferred: versions by name.
        compiled: what a place would install, from its preferences.
        everywhere: the places, the oldest Python first.

    Raises:
        SystemExit: they do not agree.
    """
    versions, differing = dict(preferred), set[str]()
    for _ in range(ROUNDS):
        found = {}
        for place in everywhere:
            found[place] = compiled(place, versions)
            versions |= found[place]
        differing = {name for pins in found.values() for name in pins if pins[name] != versions[name]}
        if not differing:
            return {name: versions[name] for pins in found.values() for name in pins}
    raise SystemExit(f"no version that every Python takes: bound it in pyproject.toml: {', '.join(sorted(differing))}")


def gpu_constraints() -> str:
    """The text of constraints-gpu.txt, resolved anew."""
    build = BUILDS["cuda"]
    known = pins(build.constraints.read_text(encoding="utf-8")) if build.constraints.exists() else {}
    known |= pins(BUILDS["cpu"].constraints.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="spct-resolve-") as name:
        folder, out = Path(name), Path(name) / "preferred.txt"
        exact = folder / "stood-in.txt"
        exact.write_text("\n".join(stand_in(each, folder) for each in stood_in(build)) + "\n")

        def compiled(place: Place, preferred: Mapping[str, str]) -> dict[str, str]:
            out.write_text("".join(f"{each}=={version}\n" for each, version in preferred.items()))
            compile_for(build, place, folder, ["-c", str(exact)], out)
            return pins(out.read_text(encoding="utf-8"))

        return constraints_text(agreed(known, compiled, places(build)))


def constraints_text(versions: Mapping[str, str]) -> str:
    """The text of constraints-gpu.txt."""
    return GPU_HEAD + "".join(f"{name}=={versions[name]}\n" for name in sorted(versions))


def lock_text(build: Build, found: Mapping[Place, Mapping[str, Locked]]) -> str:
    """The lock file: each distribution with its hashes, and with a marker where it is not installed everywhere."""
    blocks = []
    for name in sorted({name for each in found.values() for name in each}):
        there = [place for place in places(build) if name in found[place]]
        hashes = sorted(set().union(*(found[place][name].hashes for place in there)))
        pin = f"{name}=={found[there[0]][name].version}{marker(there, places(build))}"
        blocks.append(" \\\n".join([pin, *(f"    --hash=sha256:{each}" for each in hashes)]) + "\n")
    head = LOCK_HEAD.format(machines=" and ".join(build.machines), constraints=build.constraints.name)
    return head + "".join(blocks)


def marker(there: list[Place], everywhere: list[Place]) -> str:
    """The marker of some Pythons and machines; "" for all of them."""
    if there == everywhere:
        return ""
    said = [f"(python_version == '{major}.{minor}' and platform_machine == '{machine}')" for (major, minor), machine in there]
    return f" ; {' or '.join(said)}"


def resolve_all(build: Build) -> dict[Place, dict[str, Locked]]:
    """What would be installed, by Python and machine.

    Raises:
        SystemExit: as `resolve`, or something is not among the constraints of the build.
    """
    found = {}
    with tempfile.TemporaryDirectory(prefix="spct-resolve-") as name:
        folder = Path(name)
        exact = folder / "stood-in.txt"
        exact.write_text("\n".join(stand_in(each, folder) for each in stood_in(build)) + "\n")
        constraints = [build.constraints, exact]
        known = pins("\n".join(file.read_text(encoding="utf-8") for file in constraints))
        for place in places(build):
            found[place] = resolve(build, place, folder, constraints)
            if loose := [f"{each}=={pin.version}" for each, pin in found[place].items() if each not in known]:
                raise SystemExit(f"{place}: not in {build.constraints.name}: {', '.join(loose)}")
            count = len(found[place]) + len(stood_in(build))
            print("{}, Python {}.{}, {}: {} distributions resolve".format(build.extra, *place[0], place[1], count))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Resolve both installations for every supported Python and machine.")
    parser.add_argument("--write", action="store_true", help="write constraints-gpu.txt and the locks")
    arguments = parser.parse_args()
    if arguments.write:
        BUILDS["cuda"].constraints.write_text(gpu_constraints(), encoding="utf-8")
    for build in BUILDS.values():
        text = lock_text(build, resolve_all(build))
        if arguments.write:
            build.lock.write_text(text, encoding="utf-8")
        elif build.lock.read_text(encoding="utf-8") != text:
            raise SystemExit(f"{build.lock.relative_to(ROOT)} does not hold these hashes: python packaging/resolve.py --write")
    return 0


if __name__ == "__main__":
    sys.exit(main())
