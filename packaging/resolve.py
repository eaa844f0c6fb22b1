"""Resolves the installation for every supported Python and machine, without those interpreters and without their wheels.

    constraints.txt, pyproject.toml ─▶ uv, for each Python and machine ─▶ one line each, or what has no solution or no pin

The stubs, and what PyPI has no fitting wheel of (torch's CPU build; deepspeed comes as source), are stood in by empty wheels
with the requirements that the installed ones have.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import metadata
from pathlib import Path

from install import GLIBC, MACHINES, PYTHONS, ROOT, STUBS

COPIED = ("Metadata-Version", "Name", "Version", "Requires-Python", "Requires-Dist", "Provides-Extra")


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


def pins(text: str) -> dict[str, str]:
    """The `name==version` lines of a requirements file, by normalised name."""
    lines = re.findall(r"^([\w.-]+)(?:\[.*?\])?==([^\s;]+)", text, re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in lines}


def resolve(python: str, machine: str, folder: Path, constraints: list[Path]) -> dict[str, str]:
    """What would be installed, by name.

    Raises:
        SystemExit: there is no solution; uv has said why.
    """
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--no-build",
        "--no-header",
        "--no-annotate",
        "--no-config",
    ]
    command += ["--python-version", python, "--python-platform", f"{machine}-manylinux_{GLIBC[0]}_{GLIBC[1]}"]
    command += ["--find-links", str(folder), "--extra", "cpu", "--extra", "dev", "pyproject.toml"]
    command += [option for file in constraints for option in ("-c", str(file))]
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"Python {python}, {machine}: no solution")
    return pins(done.stdout)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="spct-resolve-") as name:
        folder = Path(name)
        stood_in = folder / "stood-in.txt"
        stood_in.write_text("\n".join(stand_in(each, folder) for each in ("torch", "deepspeed", *STUBS)) + "\n")
        constraints = [ROOT / "constraints.txt", stood_in]
        known = pins("\n".join(file.read_text(encoding="utf-8") for file in constraints))
        for python in (".".join(map(str, version)) for version in PYTHONS):
            for machine in MACHINES:
                found = resolve(python, machine, folder, constraints)
                loose = [f"{each}=={version}" for each, version in found.items() if each not in known]
                if loose:
                    raise SystemExit(f"Python {python}, {machine}: not in constraints.txt: {', '.join(loose)}")
                print(f"Python {python}, {machine}: {len(found)} distributions resolve")
    return 0


if __name__ == "__main__":
    sys.exit(main())
