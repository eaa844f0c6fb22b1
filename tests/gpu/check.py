"""Does this card compute what it should, and how fast? python -m tests.gpu.check RESULTS.json [PART ...] (`make gpu-check`).

Each part is a process of its own with a time limit, so none ends another. What a part lacks to run is said, and is never
passed. The results are written after each part. Exit status 0: every figure passed; 1: some failed; 2: none failed, but
something was not run. To start it, the standard library is enough.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.gpu.figures import PartState, failed, not_run, state_of
from tests.gpu.parts import PARTS, Device

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 480.0
LEAST_S = 20.0  # no part is begun with less
END_S = 15.0  # for a part that is to end, with the processes that it started
VERSIONS = ("torch", "triton", "transformers", "deepspeed", "vllm", "ray", "peft", "numpy")


@dataclass(frozen=True, kw_only=True, slots=True)
class PartResult:
    """What a part found."""

    name: str
    """Of the part."""
    what: str
    """It checks."""
    state: PartState
    """By its worst figure."""
    seconds: float
    """It took."""
    figures: list[dict[str, Any]]
    """Records of its figures."""


def run_part(name: str, device: Device, folder: Path, limit_s: float) -> PartResult:
    """Returns the result of a part, run in a process of its own.

    Args:
        name: Of the part.
        device: Where it computes.
        folder: For its files and its log.
        limit_s: After which it is ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records, log, started = folder / "records.jsonl", folder / "log.txt", time.monotonic()
    command = [sys.executable, "-m", "tests.gpu.part", name, device, str(folder / "files"), str(records)]
    here = {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]), "HF_HUB_OFFLINE": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | here, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        why = _end_of(process, limit_s)
    lines = records.read_text().splitlines(keepends=True) if records.exists() else []
    figures = [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be cut
    if why:
        figures.append(
            failed("the part's process", f"{why}; the end of its log: {log.read_text(errors='replace')[-2000:]}").record()
        )
    return PartResult(
        name=name, what=PARTS[name].what, state=state_of(figures), seconds=round(time.monotonic() - started, 1), figures=figures
    )


def _end_of(process: subprocess.Popen[bytes], limit_s: float) -> str:
    """Waits for a process, and returns what was wrong with its end."""
    try:
        status = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        _stop(process)
        return f"it ran past {limit_s:.0f} s"
    return f"it ended with status {status}" if status else ""


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process with all that it started in its session: first asked, then forced."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_S)


def results(names: Sequence[str], device: Device, *, seconds: float) -> Iterator[list[PartResult]]:
    """Yields the results so far, after each part.

    Args:
        names: Of the parts, in their order.
        device: Where they compute.
        seconds: For all of them.
    """
    deadline, found = time.monotonic() + seconds, list[PartResult]()
    with tempfile.TemporaryDirectory(prefix="gpu-", dir="/tmp") as folder:  # short: names of sockets have 107 bytes
        for name in names:
            part, left = PARTS[name], deadline - time.monotonic() - END_S
            if left < LEAST_S:
                late = not_run(name, f"no time was left of {seconds:.0f} s").record()
                found.append(PartResult(name=name, what=part.what, state="not run", seconds=0.0, figures=[late]))
            else:
                found.append(run_part(name, device, Path(folder) / name, min(part.seconds, left)))
                shutil.rmtree(Path(folder) / name)  # gigabytes of models
            yield found


def cards() -> list[dict[str, str]]:
    """Returns what the driver says of each card; nothing without a driver."""
    asked = ("name", "driver_version", "memory.total", "compute_cap")
    try:
        command = ["nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv,noheader"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [dict(zip(asked, map(str.strip, line.rsplit(",", 3)), strict=True)) for line in said.splitlines() if line.strip()]


def commit() -> str:
    """Returns the commit of this tree, with a + where files were changed; SPCT_COMMIT where it is no clone."""
    try:
        git = [
            subprocess.run(["git", *ask], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() for ask in GIT
        ]
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("SPCT_COMMIT", "unknown")
    return git[0] + "+" * bool(git[1])


GIT = (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))


def surroundings(device: Device) -> dict[str, Any]:
    """Returns where and with what the check runs."""
    versions = {"python": platform.python_version()}
    for package in VERSIONS:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    date = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return {"date": date, "commit": commit(), "device": device, "cards": cards(), "versions": versions}


def report(found: Sequence[PartResult]) -> dict[str, Any]:
    """Returns the parts as JSON has them, and whether all of them passed."""
    states = [part.state for part in found]
    passed = bool(states) and all(state == "passed" for state in states)
    return {"passed": passed, "failed": "failed" in states, "parts": [asdict(part) for part in found]}


def _print(part: PartResult) -> None:
    print(f"{part.state:<10}  {part.name:<10}  {part.seconds:6.1f} s  {part.what}", flush=True)
    for each in part.figures:
        if each["state"] in ("failed", "not run"):
            value = "" if each["value"] is None else f" {each['value']:.4g} {each['unit']}, expected {each['expected']}"
            print(f"    {each['state']}: {each['name']}:{value} {each['why'].strip()[:400]}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, metavar="RESULTS.json", help="where to write them")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"by default all: {', '.join(PARTS)}")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: tiny shapes, to try the check itself")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all parts; those without time are not run")
    arguments = parser.parse_intermixed_args()
    names = arguments.parts or list(PARTS)
    if unknown := [name for name in names if name not in PARTS]:
        parser.error(f"no part is called {unknown[0]!r}: choose of {', '.join(PARTS)}")
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    where, whole = surroundings(arguments.device), report([])
    for found in results(names, arguments.device, seconds=arguments.seconds):
        _print(found[-1])
        whole = report(found)
        arguments.results.write_text(json.dumps(where | whole, indent=1, allow_nan=False) + "\n")
    print(f"results     {arguments.results}")
    return 0 if whole["passed"] else 1 if whole["failed"] else 2


if __name__ == "__main__":
    sys.exit(main())
