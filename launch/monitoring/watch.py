"""Two looks at a run: a bottleneck that both of them find, and a live view of what happened in between."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from buffer.streams import Address, ServerError
from configs.load import ConfigError
from configs.schema import Config
from launch.monitoring.diagnosis import Diagnosis, thresholds, verdict
from launch.monitoring.lookup import inspect_run
from launch.monitoring.plain_text import clean
from launch.monitoring.snapshot import (
    PROCESS_HEAD,
    QUEUE_HEAD,
    RunSnapshot,
    outstanding_text,
    process_rows,
    queue_rows,
    workers_text,
)

LOOK_S = 1.0  # between two looks


def confirmed_diagnosis(address: Address, config: Config) -> Diagnosis:
    """Returns the diagnosis after two looks, or after one that finds no bottleneck or a busy one."""
    first = inspect_run(address, config)
    if first.bottleneck is None or first.bottleneck.busy:
        return first
    time.sleep(LOOK_S)
    return confirm(first, inspect_run(address, config))


def confirm(before: Diagnosis, now: Diagnosis) -> Diagnosis:
    """Returns the diagnosis `now`, with its bottleneck only if that was the bottleneck before and nothing has moved since: in
    a healthy run some process always has the next move."""
    if now.bottleneck is None or now.bottleneck.busy:
        return now
    moved = (before.snapshot.version, before.snapshot.outcomes) != (now.snapshot.version, now.snapshot.outcomes)
    same = before.bottleneck is not None and before.bottleneck.process == now.bottleneck.process
    return now if same and not moved else replace(now, bottleneck=None)


def watch(address: Address, config: Config, *, is_over: Callable[[], bool] = lambda: False) -> None:
    """Show the run until Ctrl-C, or until `is_over`. An error is shown too: the run may be between two stages, or its server
    may be restarting.

    Raises:
        ConfigError: Standard output is no terminal.
        ServerError: The first look finds no run.
    """
    console = Console()
    if not console.is_terminal:
        raise ConfigError("--watch needs a terminal; leave it out for one report")
    before = inspect_run(address, config)
    try:
        with Live(Text("connecting"), console=console, screen=True, auto_refresh=False) as live:
            while not is_over():
                time.sleep(LOOK_S)
                try:
                    now = inspect_run(address, config)
                except ServerError as error:
                    live.update(Text(clean(str(error)), style="bold red"), refresh=True)
                else:
                    live.update(view(confirm(before, now), before.snapshot, config), refresh=True)
                    before = now
    except KeyboardInterrupt:
        return


def view(now: Diagnosis, before: RunSnapshot, config: Config) -> Group:
    """Returns processes, streams, versions, staleness, and what happened since the snapshot before."""
    snapshot = now.snapshot
    style = "green" if now.bottleneck is None or now.bottleneck.busy else "bold red"
    return Group(
        Text(f"{snapshot.run_id}  policy version {snapshot.version}", style="bold"),
        Text(verdict(now), style=style),
        Text(),
        _processes(snapshot, config),
        Text(),
        _rich(QUEUE_HEAD, queue_rows(snapshot)),
        Text(),
        Text(outstanding_text(snapshot)),
        *([Text(text)] if (text := workers_text(snapshot)) else []),
        Text(f"in the last {LOOK_S:g} s: {happened(before, snapshot)}"),
        Text(
            f"since the run began: {', '.join(f'{_words(name)} {count}' for name, count in snapshot.outcomes.items())}",
            style="dim",
        ),
    )


def happened(before: RunSnapshot, now: RunSnapshot) -> str:
    """Returns what changed between two snapshots: optimiser steps, and groups by outcome."""
    changes = {"optimiser steps": now.version - before.version}
    changes |= {outcome: count - before.outcomes.get(outcome, 0) for outcome, count in now.outcomes.items()}
    return ", ".join(f"{_words(name)} {count:+d}" for name, count in changes.items() if count) or "nothing"


def _words(outcome: str) -> str:
    return outcome.replace("_", " ")


def _processes(snapshot: RunSnapshot, config: Config) -> Table:
    """Red: silent for too long, or stuck."""
    limit = thresholds(config, snapshot)
    heartbeats = [snapshot.heartbeats[name] for name in sorted(snapshot.heartbeats)]
    failing = [heartbeat.age_s > limit.heartbeat_s or heartbeat.stuck_s > limit.stuck_s for heartbeat in heartbeats]
    return _rich(PROCESS_HEAD, process_rows(snapshot), ["bold red" if bad else "" for bad in failing])


def _rich(head: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> Table:
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in head:
        drawn.add_column(name)
    for row, style in zip(rows, styles or [""] * len(rows), strict=True):
        drawn.add_row(*map(Text, row), style=style)  # as text: no cell is markup
    return drawn
