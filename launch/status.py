"""What a run is doing and what holds it up: at any time, from any process of the user's on the run's machine. Of a run that has
ended: how, how far it came, and how it goes on.

python launch/status.py --run runs/mine             every process, every stream, and the bottleneck
python launch/status.py --run runs/mine --stacks    and where each process is, line by line
python launch/status.py --run runs/mine --watch     live, until Ctrl-C
python launch/status.py --run runs/mine --dead      the dead letters: entries that no process could use, with the reason
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python launch/status.py` finds its siblings

from buffer.streams import Address, ServerError, connect, dead_letters
from configs.load import load
from configs.schema import Config
from launch.cli import exit_status
from launch.monitoring import stacks
from launch.monitoring.diagnosis import COLD_START, describe
from launch.monitoring.ended_run import describe_ended, ended_run, is_driven
from launch.monitoring.help_text import HelpFormatter
from launch.monitoring.lookup import ANSWER_S, locate_folder, locate_run
from launch.monitoring.plain_text import clean, clean_lines, fitted
from launch.monitoring.redaction import redacted
from launch.monitoring.snapshot import table
from launch.monitoring.watch import confirmed_diagnosis, watch
from launch.setup.signals import end_on_signals

DEAD_HEAD = ("stream", "entry", "group", "bytes", "reason")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 printed, 2 there is no such run, or its server cannot be asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--run", required=True, help="the run's folder, or its id under ./runs")
    parser.add_argument("--stacks", action="store_true", help="the stack of every thread of every process on this machine")
    parser.add_argument("--json", action="store_true", help="for programs")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="a live view, updated each second until Ctrl-C")
    how.add_argument("--dead", action="store_true", help="list the dead letters")
    arguments = parser.parse_args(argv)
    return exit_status(lambda: show(arguments))


def show(arguments: argparse.Namespace) -> int:
    """Print what the arguments choose. Returns the exit status."""
    folder = locate_folder(arguments.run)
    config = load(folder / "config.yaml")
    if not arguments.dead and has_ended(folder, config):
        return show_ended(folder, config, arguments)
    try:
        return show_running(arguments)
    except ServerError:
        if arguments.dead or is_driven(folder) is not False:
            raise
    return show_ended(folder, config, arguments)


def has_ended(folder: Path, config: Config) -> bool:
    """Returns whether no driver has the run, as far as that can be told without its server: a driver of a run with a server of
    the user's may be on another machine."""
    return not config.redis.url and is_driven(folder) is False


def show_ended(folder: Path, config: Config, arguments: argparse.Namespace) -> int:
    """Print what the folder of a run tells. Returns the exit status."""
    run = ended_run(folder, config)
    print(json.dumps(redacted(asdict(run))) if arguments.json else fitted(describe_ended(run)))
    return 0


def show_running(arguments: argparse.Namespace) -> int:
    """Print what the server of a run tells. Returns the exit status."""
    folder, address = locate_run(arguments.run)
    if arguments.dead:
        rows = dead_rows(address)
        print(json.dumps([dict(zip(DEAD_HEAD, row, strict=True)) for row in rows]) if arguments.json else dead_text(rows))
        return 0
    config = load(folder / "config.yaml")
    if arguments.watch:
        end_on_signals()
        watch(address, config, is_over=lambda: has_ended(folder, config))
        return show_ended(folder, config, arguments) if has_ended(folder, config) else 0
    diagnosis = confirmed_diagnosis(address, config)
    texts = {}
    if arguments.stacks:
        texts = {name: stacks.read_stacks(heartbeat, folder) for name, heartbeat in diagnosis.snapshot.heartbeats.items()}
    if arguments.json:
        bottleneck = diagnosis.bottleneck and asdict(diagnosis.bottleneck)
        print(json.dumps(redacted({**asdict(diagnosis.snapshot), "bottleneck": bottleneck, "stacks": texts})))
    else:
        print("\n".join([fitted(describe(diagnosis)), *(f"\n{clean(name)}\n{indented(text)}" for name, text in texts.items())]))
    return 0


def indented(text: str) -> str:
    """Returns foreign text, cleaned and indented."""
    return "\n".join(f"  {line}" for line in clean_lines(text).splitlines())


def dead_rows(address: Address) -> list[tuple[str, ...]]:
    """Returns the dead letters of the run and of its cold start, by DEAD_HEAD, cleaned: a reason quotes what came in."""
    with connect(address, timeout_s=ANSWER_S) as client:
        run_ids = (address.run_id + COLD_START, address.run_id)
        letters = [letter for run_id in run_ids for letter in dead_letters(client, run_id)]
    return [
        (clean(letter.stream), clean(letter.id), str(letter.group), str(len(letter.payload)), clean(letter.reason))
        for letter in letters
    ]


def dead_text(rows: Sequence[tuple[str, ...]]) -> str:
    """Returns the dead letters as a table."""
    return "\n".join(table(DEAD_HEAD, rows)) if rows else "no dead letters"


if __name__ == "__main__":
    sys.exit(main())
