"""Resolves the installation for every supported Python and machine, without those interpreters and without their wheels.

    constraints.txt, pyproject.toml ─▶ uv, for each Python and machine ─▶ one line each, or what has no solution or no pin
                                                                      └─▶ lock.txt: the sha256 of every wheel that may be taken

    python packaging/resolve.py            is all of it pinned, and lock.txt of these versions?
    python packaging/resolve.py --write    writes lock.txt anew, after a version was raised

The stubs, and what PyPI has no fitting wheel of (torch's CPU build; deepspeed comes as source), are stood in by empty wheels
with the requirements that the installed ones have. Their hashes are kept by hand: torch-cpu.txt, sources.txt.
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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

from install import GLIBC, LOCK, MACHINES, PYTHONS, ROOT, STUBS

STOOD_IN = ("torch", "deepspeed", *STUBS)
COPIED = ("Metadata-Version", "Name", "Version", "Requires-Python", "Requires-Dist", "Provides-Extra")
PLACES = [(python, machine) for python in PYTHONS for machine in MACHINES]
HEAD = """\
# The sha256 of every wheel that an installation may take, for Python 3.11 to 3.13 on both machines. Made from constraints.txt
# by `python packaging/resolve.py --write`; packaging/install.py installs from it, so that nothing else can come in.
"""


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


def resolve(python: tuple[int, int], machine: str, folder: Path, constraints: list[Path]) -> dict[str, Locked]:
    """What would be installed, by name, without what is stood in.

    Raises:
        SystemExit: there is no solution (uv has said why), or something has no wheel.
    """
    out = folder / "pylock.toml"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-build", "--no-config"]
    command += ["--python-version", "{}.{}".format(*python), "--python-platform", f"{machine}-manylinux_{GLIBC[0]}_{GLIBC[1]}"]
    command += ["--format", "pylock.toml", "--output-file", str(out), "--no-header", "--no-annotate"]
    command += ["--find-links", str(folder), "--extra", "cpu", "--extra", "dev", "pyproject.toml"]
    command += [option for file in constraints for option in ("-c", str(file))]
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit(f"Python {python}, {machine}: no solution")
    packages = tomllib.loads(out.read_text(encoding="utf-8"))["packages"]
    return {
        normalised(package["name"]): locked(package, python, machine)
        for package in packages
        if normalised(package["name"]) not in STOOD_IN
    }


def lock_text(found: Mapping[tuple[tuple[int, int], str], Mapping[str, Locked]]) -> str:
    """The lock file: each distribution with its hashes, and with a marker where it is not installed everywhere."""
    blocks = []
    for name in sorted({name for each in found.values() for name in each}):
        places = [place for place in PLACES if name in found[place]]
        hashes = sorted(set().union(*(found[place][name].hashes for place in places)))
        pin = f"{name}=={found[places[0]][name].version}{marker(places)}"
        blocks.append(" \\\n".join([pin, *(f"    --hash=sha256:{each}" for each in hashes)]) + "\n")
    return HEAD + "".join(blocks)


def marker(places: Iterable[tuple[tuple[int, int], str]]) -> str:
    """The marker of some Pythons and machines; "" for all of them."""
    places = list(places)
    if places == PLACES:
        return ""
    said = [f"(python_version == '{major}.{minor}' and platform_machine == '{machine}')" for (major, minor), machine in places]
    return f" ; {' or '.join(said)}"


def resolve_all() -> dict[tuple[tuple[int, int], str], dict[str, Locked]]:
    """What would be installed, by Python and machine.

    Raises:
        SystemExit: as `resolve`, or something is not in constraints.txt.
    """
    found = {}
    with tempfile.TemporaryDirectory(prefix="spct-resolve-") as name:
        folder = Path(name)
        stood_in = folder / "stood-in.txt"
        stood_in.write_text("\n".join(stand_in(each, folder) for each in STOOD_IN) + "\n")
        constraints = [ROOT / "constraints.txt", stood_in]
        known = pins("\n".join(file.read_text(encoding="utf-8") for file in constraints))
        for place in PLACES:
            found[place] = resolve(*place, folder, constraints)
            if loose := [f"{each}=={pin.version}" for each, pin in found[place].items() if each not in known]:
                raise SystemExit(f"{place}: not in constraints.txt: {', '.join(loose)}")
            print("Python {}.{}, {}: {} distributions resolve".format(*place[0], place[1], len(found[place]) + len(STOOD_IN)))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Resolve the installation for every supported Python and machine.")
    parser.add_argument("--write", action="store_true", help="write lock.txt")
    arguments = parser.parse_args()
    text = lock_text(resolve_all())
    if arguments.write:
        LOCK.write_text(text, encoding="utf-8")
    elif LOCK.read_text(encoding="utf-8") != text:
        raise SystemExit(f"{LOCK.relative_to(ROOT)} does not hold these hashes: python packaging/resolve.py --write")
    return 0


if __name__ == "__main__":
    sys.exit(main())
