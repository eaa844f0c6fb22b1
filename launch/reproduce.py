"""A row of the paper's table: what it takes, and our figure beside the paper's.

    python launch/reproduce.py                                   the rows
    python launch/reproduce.py --row grm-27b@32                  its command line, data and cost; starts nothing
    python launch/reproduce.py --row grm-27b@32 --run            evaluates, then compares with the paper
    python launch/reproduce.py --row ours --model runs/mine/checkpoints/policy/version-000900/model --run
    python launch/reproduce.py --row ours --compare evaluations/mine

What would make our figure one of something else than the row is printed as `deviates`. The released models were trained with a
prompt of their own: save that of the model's card as a file and give it behind the options, prompts.template_path=FILE. On a
GPU: cluster.device=cuda. `bench:rmb` is read from a clone of its repository:
--data bench:reward-bench bench:rmb@FOLDER names the benchmarks and where copies of them lie.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python launch/reproduce.py` finds its siblings

from configs.load import ConfigError, is_override
from configs.paths import output_path
from launch import evaluate
from launch.cli import exit_status
from launch.judging.paper_table import ROWS
from launch.judging.reproduction import (
    CONFIG,
    Choices,
    compare,
    describe,
    evaluation_arguments,
    print_compared,
    write,
)
from launch.monitoring.help_text import HelpFormatter

TOKENS_PER_S = 2500.0  # of a 27B model on one GPU of 80 GB; an assumption, not measured here


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: that of launch/evaluate.py where it ran, else 0, or 2 for input that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--row", default="", help="a row's name; without it the rows are listed")
    parser.add_argument("--run", action="store_true", help="evaluate now, and compare")
    parser.add_argument("--compare", default="", metavar="FOLDER", help="compare an evaluation that is done")
    parser.add_argument("--model", default="", help="the judge (default: the released one, or what the row's training leaves)")
    parser.add_argument("--endpoint", default="", help="an OpenAI-compatible server of the judge, as for launch/evaluate.py")
    parser.add_argument("--meta-rm", default="", help="the meta-RM (default: the released one)")
    parser.add_argument("--data", nargs="+", default=[], help="benchmarks, as bench:NAME or bench:NAME@FOLDER")
    parser.add_argument("--early-stop", action="store_true", help="ask for no vote that cannot change the best response")
    parser.add_argument("--config", default=CONFIG, help="preset or file of the evaluation")
    parser.add_argument("--out", default="", help="folder of the results (default: evaluations/ROW)")
    parser.add_argument("--tokens-per-s", type=float, default=TOKENS_PER_S, help="for the cost: decoded tokens per second")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="keys of the evaluation's configuration")
    arguments = parser.parse_intermixed_args(argv)
    return exit_status(lambda: reproduce(arguments))


def reproduce(arguments: argparse.Namespace) -> int:
    """List the rows, describe one, run it, or compare an evaluation with it. Returns the exit status."""
    if not arguments.row:
        for name, row in ROWS.items():
            print(f"{name:18} {row.what}")
        return 0
    if arguments.row not in ROWS:
        raise ConfigError(f"--row {arguments.row!r}: no such row; choose one of {', '.join(ROWS)}")
    row = ROWS[arguments.row]
    choices = Choices(
        model=arguments.model,
        endpoint=arguments.endpoint,
        meta_rm=arguments.meta_rm,
        early_stop=arguments.early_stop,
        benchmarks=[source for source in arguments.data if not is_override(source)],
        config=arguments.config,
        out=output_path(arguments.compare or arguments.out or f"evaluations/{arguments.row}"),
        overrides=[*(source for source in arguments.data if is_override(source)), *arguments.overrides],
    )
    if not arguments.compare:
        command = evaluation_arguments(arguments.row, row, choices)
        config = evaluate.config_of(evaluate.parser().parse_intermixed_args(command))
        print(describe(arguments.row, row, choices, config, tokens_per_s=arguments.tokens_per_s))
        if not arguments.run:
            return 0
        if status := evaluate.main(command):
            return status
    compared = compare(row, choices.out)
    write(choices.out, arguments.row, row, compared)
    print_compared(arguments.row, row, compared)
    return 0


if __name__ == "__main__":
    sys.exit(main())
