"""What was measured, kept: a file for each kind of machine, what moved since it was written, and the table of the documents.

records ─ keep ─▶ benchmarks/KIND.json ─ table ─▶ docs/performance.md
             └─ moved: against what the file held before
"""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from tests.bench.figures import FIGURES
from tests.bench.side_by_side import described

ROOT = Path(__file__).resolve().parents[2]
FOLDER, DOCUMENT = ROOT / "benchmarks", ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- made by python -m tests.bench --table -->\n", "<!-- end -->"
Record = Mapping[str, Any]


def machine() -> dict[str, Any]:
    """Return what kind of machine this is. No name of it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    cores = len(os.sched_getaffinity(0))
    return {"cores": cores, "cpu": cpu, "memory_gib": round(psutil.virtual_memory().total / 2**30)}


def kind(of: Mapping[str, Any]) -> str:
    """Return the name of a kind of machine, for a file: cores and processor. Two processors are not to be compared."""
    words = "".join(c if c.isalnum() else " " for c in f"{of['cores']} cores {of['cpu']}").lower().split()
    return "-".join(words)


def load(path: Path) -> dict[str, Any]:
    """Return what is stored; nothing where there is no file."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"figures": {}}
    return found


def keep(path: Path, records: Mapping[str, Record], *, of: Mapping[str, Any], commit: str) -> None:
    """Store records, each with its date and commit, in the place of older ones; those of other figures stay."""
    stamp = {"date": datetime.now(UTC).date().isoformat(), "commit": commit}
    figures = load(path)["figures"] | {name: {**record, **stamp} for name, record in records.items()}
    path.parent.mkdir(exist_ok=True)
    ordered = {name: figures[name] for name in FIGURES if name in figures}
    path.write_text(json.dumps({"machine": of, "figures": ordered}, indent=1, ensure_ascii=False) + "\n")


def moved(before: Mapping[str, Record], now: Mapping[str, Record]) -> list[str]:
    """Return a line for each figure whose spreads, before and now, do not meet; and for each that is new."""
    lines = []
    for name, record in now.items():
        if name not in before:
            lines.append(f"{name}: new, {record['value']:g}")
        elif record["low"] > before[name]["high"] or record["high"] < before[name]["low"]:
            old = f"{before[name]['value']:g} ({before[name]['low']:g} to {before[name]['high']:g})"
            lines.append(f"{name}: {old} on {before[name]['date']}, now {described(record)}")
    return lines


def commit() -> str:
    """Return the commit of the tree, with a + where the tree has changes."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def table(stored: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of all figures, those that were never measured among them.

    Args:
        stored: {kind of machine: what its file holds}.
    """
    machines = "".join(
        f"- {name}: {data['machine']['cores']} cores of {data['machine']['cpu']}, {data['machine']['memory_gib']} GiB\n"
        for name, data in stored.items()
    )
    heads = ["figure", "ours", "against", "to reach", *(stored or ["measured"])]
    rows = [heads, ["---"] * len(heads)]
    for name, figure in FIGURES.items():
        cells = [_cell(name, data["figures"].get(name)) for data in stored.values()] or ["not yet"]
        rows.append([f"`{name}`", figure.what, figure.against or "–", figure.goal, *cells])
    return f"{machines}\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(name: str, record: Record | None) -> str:
    if record is None:
        return "not yet"
    verdict = {True: ", reached", False: ", **not reached**", None: ""}[FIGURES[name].reached(record["value"])]
    return f"{described(record)}{verdict}; {record['date']}, {record['commit']}"


def document(text: str, folder: Path = FOLDER) -> str:
    """Return the text of the document with the table of what is stored."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no place for the table: expected {BEGIN.strip()} and {END}")
    stored = {path.stem: load(path) for path in sorted(folder.glob("*.json"))}
    return f"{head}{begin}\n{table(stored)}\n{end}{tail}"
