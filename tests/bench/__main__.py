"""Runs the benches one after another, each in a process of its own, and keeps what they find (`make bench`).

python -m tests.bench                        all, within 40 minutes on two cores
python -m tests.bench --only rollout judging
python -m tests.bench --quick                shows that they work; nothing is kept
python -m tests.bench --table                writes the table of docs/performance.md from benchmarks/
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import results

BENCHES = (
    "streams",
    "grpo_step",
    "rollout",
    "judging",
    "guiding",
    "serving",
    "weights",
    "asynchrony",
    "peer",
    "scaling",
    "fleet",
    "start",
)
LIMIT_S = 900  # of one bench


def run(bench: str, *, quick: bool) -> dict[str, results.Record]:
    """Run one bench. Return its records; none where it failed, which it has said itself."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "figures.json"
        command = [sys.executable, "-m", f"tests.bench.{bench}", "--json", str(found), *(["--quick"] if quick else [])]
        began = time.monotonic()
        try:
            subprocess.run(command, cwd=results.ROOT, check=True, timeout=LIMIT_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(f"{bench}: no figures: {error}", file=sys.stderr)
            return {}
        print(f"{bench}: {time.monotonic() - began:.0f} s", flush=True)
        records: dict[str, results.Record] = json.loads(found.read_text())
        return records


def main() -> int:
    """Return the exit status: 1 where a bench failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=BENCHES, metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--quick", action="store_true", help="small and few: shows that the benches work, measures nothing")
    parser.add_argument("--table", action="store_true", help="measure nothing: write the table from what is stored")
    arguments = parser.parse_args()
    failed = False
    if not arguments.table:
        of = results.machine()
        path = results.FOLDER / f"{results.kind(of)}.json"
        before, commit = results.load(path)["figures"], results.commit()
        for bench in arguments.only:
            records = run(bench, quick=arguments.quick)
            failed |= not records
            if records and not arguments.quick:
                results.keep(path, records, of=of, commit=commit)
                print(*(f"moved: {line}" for line in results.moved(before, records)), sep="\n", flush=True)
    if not arguments.quick:
        results.DOCUMENT.write_text(results.document(results.DOCUMENT.read_text()))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
