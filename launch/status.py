"""What a run is activity, and who holds it up: at any time, from any process of the user's on the run's machine.

python launch/status.py --run runs/mine             every process, every stream, who waits for whom
python launch/status.py --run runs/mine --stacks    and locate_run each process is, line by line
python launch/status.py --run runs/mine --watch     live, until Ctrl-C
python launch/status.py --run runs/mine --dead      the entries that nobody could use, with the reason
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python launch/status.py` finds its siblings

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from buffer.streams import Address, ServerError, connect, dead_letters
from configs.load import ConfigError, load
from configs.schema import Config
from launch.cli import exit_status
from launch.monitoring import stacks
from launch.monitoring.diagnosis import COLD_START, Diagnosis, describe, thresholds, verdict
from launch.monitoring.lookup import ANSWER_S, inspect_run, locate_run
from launch.monitoring.plain_text import clean, clean_lines
from launch.monitoring.snapshot import PROCESS_HEAD, QUEUE_HEAD, RunSnapshot, outstanding_text, process_rows, queue_rows, table
from launch.setup.signals import end_on_signals

LOOK_S = 1.0  # between two looks
DEAD_HEAD = ("stream", "entry", "group", "bytes", "reason")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 said, 2 there is no such run, or it is not going on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="the run's folder, or its id under ./runs")
    parser.add_argument("--stacks", action="store_true", help="the stack of every thread of every process on this machine")
    parser.add_argument("--json", action="store_true", help="for programs")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="a live view, looked at each second until Ctrl-C")
    how.add_argument("--dead", action="store_true", help="list the dead letters")
    given = parser.parse_args(arguments)
    return exit_status(lambda: show(given))


def show(given: argparse.Namespace) -> int:
    folder, address = locate_run(given.run)
    config = load(folder / "config.yaml")
    if given.watch:
        return watch(address, config)
    if given.dead:
        rows = dead_rows(address)
        print(json.dumps([dict(zip(DEAD_HEAD, row, strict=True)) for row in rows]) if given.json else dead_text(rows))
        return 0
    found = confirmed_diagnosis(address, config)
    told = {name: stacks.ask(beat, folder) for name, beat in found.snapshot.heartbeats.items()} if given.stacks else {}
    if given.json:
        print(
            json.dumps({**asdict(found.snapshot), "bottleneck": found.bottleneck and asdict(found.bottleneck), "stacks": told})
        )
    else:
        print("\n".join([describe(found), *(f"\n{clean(name)}\n{indented(text)}" for name, text in told.items())]))
    return 0


def confirmed_diagnosis(address: Address, config: Config) -> Diagnosis:
    """Two looks, unless the first finds nobody."""
    first = inspect_run(address, config)
    if first.bottleneck is None or first.bottleneck.busy:
        return first
    time.sleep(LOOK_S)
    return confirm(first, inspect_run(address, config))


def confirm(before: Diagnosis, now: Diagnosis) -> Diagnosis:
    """Its bottleneck only if it was that before and nothing has moved since: in a healthy run somebody always has the next
    move to make."""
    if now.bottleneck is None or now.bottleneck.busy:
        return now
    moved = (before.snapshot.version, before.snapshot.outcomes) != (now.snapshot.version, now.snapshot.outcomes)
    same = before.bottleneck is not None and before.bottleneck.process == now.bottleneck.process
    return now if same and not moved else replace(now, bottleneck=None)


# ---- text --------------------------------------------------------------------------------------------------------


def indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in clean_lines(text).splitlines())


def dead_rows(address: Address) -> list[tuple[str, ...]]:
    """By DEAD_HEAD, of the run and of its cold start. The reason quotes what was received, so it is cleaned."""
    with connect(address, timeout_s=ANSWER_S) as client:
        letters = [one for run_id in (address.run_id + COLD_START, address.run_id) for one in dead_letters(client, run_id)]
    return [(clean(one.stream), clean(one.id), str(one.group), str(len(one.payload)), clean(one.reason)) for one in letters]


def dead_text(rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join(table(DEAD_HEAD, rows)) if rows else "no dead letters"


# ---- the live view -----------------------------------------------------------------------------------------------


def watch(address: Address, config: Config) -> int:
    """Until Ctrl-C. A inspect_run that fails is shown: the run may be between two stages, or its server may be restarting."""
    console = Console()
    if not console.is_terminal:
        raise ConfigError("--watch wants a terminal; leave it out for one report")
    end_on_signals()
    before = inspect_run(address, config)
    try:
        with Live(Text("looking"), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(LOOK_S)
                try:
                    now = inspect_run(address, config)
                except ServerError as error:
                    live.update(Text(clean(str(error)), style="bold red"), refresh=True)
                else:
                    live.update(view(confirm(before, now), before.snapshot, config), refresh=True)
                    before = now
    except KeyboardInterrupt:
        return 0


def view(now: Diagnosis, before: RunSnapshot, config: Config) -> Group:
    """Parts, streams, versions, staleness, and what happened since the inspect_run before."""
    snapshot = now.snapshot
    style = "green" if now.bottleneck is None or now.bottleneck.busy else "bold red"
    return Group(
        Text(f"{snapshot.run_id}  policy version {snapshot.version}", style="bold"),
        Text(verdict(now), style=style),
        Text(),
        _parts(snapshot, config),
        Text(),
        _rich(QUEUE_HEAD, queue_rows(snapshot)),
        Text(),
        Text(outstanding_text(snapshot)),
        Text(f"since the last inspect_run: {happened(before, snapshot)}"),
        Text(f"in all: {', '.join(f'{outcome} {count}' for outcome, count in snapshot.outcomes.items())}", style="dim"),
    )


def happened(before: RunSnapshot, now: RunSnapshot) -> str:
    """What changed between two looks: optimiser steps, and groups by what became of them."""
    changes = {"optimiser steps": now.version - before.version}
    changes |= {outcome: count - before.outcomes.get(outcome, 0) for outcome, count in now.outcomes.items()}
    return ", ".join(f"{name} {count:+d}" for name, count in changes.items() if count) or "nothing"


def _parts(snapshot: RunSnapshot, config: Config) -> Table:
    """Red: silent for too long, or stuck."""
    limit = thresholds(config, snapshot)
    beats = [snapshot.heartbeats[name] for name in sorted(snapshot.heartbeats)]
    sick = [beat.age_s > limit.heartbeat_s or beat.stuck_s > limit.stuck_s for beat in beats]
    return _rich(PROCESS_HEAD, process_rows(snapshot), ["bold red" if bad else "" for bad in sick])


def _rich(head: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> Table:
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in head:
        drawn.add_column(name)
    for row, style in zip(rows, styles or [""] * len(rows), strict=True):
        drawn.add_row(*map(Text, row), style=style)  # as text: no cell is markup
    return drawn


if __name__ == "__main__":
    sys.exit(main())
