"""Judges one question from the shell: scores, shares and each judgement, for people or as JSON.

    spct judge runs/mine --query "Why is the sky blue?" "Rayleigh scattering." "It mirrors the sea."
    spct judge http://HOST:PORT/v1 --model NAME --row row.json --votes 8 --json

A row is one object with `prompt` and `responses`, as in a data file; `-` reads it from the standard input.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from grm.preferences import Question
from grm.scored import Scored
from launch.cli import FAILED, REFUSED, exit_status
from launch.judging.answer_quality import failure_words
from launch.monitoring.console import ProgressDisplay, ShowActivity, show_nothing
from launch.monitoring.help_text import HelpFormatter
from launch.monitoring.plain_text import clean_lines, fitted
from spct.judge import VOTES, Judge, question, require_votes

MORE = ("reference", "criteria", "id")  # of a row, beside prompt and responses


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 judged, 1 nothing could be judged, 2 the input cannot be used, 130 stopped by a signal."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    options.add_argument("judge", help="a run, a checkpoint, a model folder, a hub name, or the address of a server")
    options.add_argument("responses", nargs="*", help="the responses to --query")
    options.add_argument("--query", help="what the responses answer")
    options.add_argument("--row", metavar="FILE", help="a JSON object with prompt and responses, in place of --query")
    options.add_argument("--model", default="", help="name of the served model; with a server only")
    options.add_argument("--meta-rm", default="", help="a meta-RM's folder; a run knows its own")
    options.add_argument("--meta", action="store_true", help="let the meta-RM choose which judgements vote")
    options.add_argument("--votes", type=int, default=VOTES, help=f"judgements to sample (default: {VOTES}); 0: greedy ones")
    options.add_argument("--early-stop", action="store_true", help="ask for no vote that cannot change the best response")
    options.add_argument("--engine", default="auto", choices=("auto", "vllm", "transformers"), help="what decodes")
    options.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where")
    options.add_argument("--seed", type=int, default=0, help="of orders and sampling")
    options.add_argument("--set", action="append", default=[], metavar="section.key=value", help="a setting; may stand again")
    options.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = options.parse_intermixed_args(argv)
    return exit_status(lambda: judge(arguments))


def judge(arguments: argparse.Namespace) -> int:
    """Open, score and print. Returns the exit status."""
    from launch.judging.prepared_judge import require_meta_rm
    from launch.setup.judge_source import find_judge

    try:  # before an engine starts
        asked = question_of(arguments)
        require_votes(arguments.votes, meta=arguments.meta, early_stop=arguments.early_stop)
    except ValueError as error:
        print(f"error: {clean_lines(str(error))}", file=sys.stderr)
        return REFUSED
    if arguments.meta:
        require_meta_rm(arguments.meta_rm or find_judge(arguments.judge).meta_rm)
    how = {name: getattr(arguments, name) for name in ("model", "meta_rm", "engine", "device", "seed")}
    with opening(arguments.judge) as show, Judge(arguments.judge, **how, overrides=arguments.set) as opened:
        show("judging")
        (scored,) = opened.score_many([asked], votes=arguments.votes, meta=arguments.meta, early_stop=arguments.early_stop)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(scored), ensure_ascii=False))
    else:
        print(fitted(clean_lines(shown(scored, asked.responses))))
    return FAILED if scored.scores is None else 0


@contextmanager
def opening(judge: str) -> Iterator[ShowActivity]:
    """Where a person looks at the errors' stream, show what is done while a judge opens and judges; else print nothing."""
    if not sys.stderr.isatty():
        yield show_nothing
        return
    with ProgressDisplay(0, 0, sys.stderr, title=judge) as progress:
        progress.activity("opening the judge")
        yield progress.activity


def question_of(arguments: argparse.Namespace) -> Question:
    """Returns what is judged. ValueError when it is not one question; the message names the field and the remedy."""
    if (arguments.query is None) == (arguments.row is None):
        raise ValueError("give --query and its responses, or --row")
    if arguments.query is not None:
        if not arguments.responses:
            raise ValueError("--query: give one or more responses behind it")
        return question(arguments.query, arguments.responses)
    if arguments.responses:
        raise ValueError("--row: its responses are in the row; give no others")
    try:
        row = json.loads(text_of(arguments.row))
        if not isinstance(row, dict) or not {"prompt", "responses"} <= row.keys():
            raise ValueError("give an object with prompt and responses")
        more = {name: row[name] for name in MORE if row.get(name) is not None}
        if type(more.get("id")) is int:  # as a data file may have it
            more["id"] = str(more["id"])
        return question(row["prompt"], row["responses"], **more)
    except json.JSONDecodeError as error:
        raise ValueError(f"--row {arguments.row}: no JSON: {error}") from None
    except ValueError as error:
        raise ValueError(f"--row {arguments.row}: {error}") from None


def text_of(file: str) -> str:
    """Returns the text of a file, or of the standard input for "-". ValueError when it cannot be read."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}; write it anew as UTF-8") from None
    except OSError as error:
        raise ValueError(f"{error.strerror}; check the path") from None


def shown(scored: Scored, responses: Sequence[str]) -> str:
    """Returns scores for people: a line per response, the best first, then each judgement."""
    if scored.scores is None or scored.shares is None or scored.ranking is None:
        return f"not judged: {scored.error}"
    begun = [" ".join(response.split())[:60] for response in responses]
    lines = [
        f"mean score {scored.scores[i]:5.2f}  {scored.shares[i]:4.0%} of the votes  response {i + 1}: {begun[i]}"
        for i in scored.ranking
    ]
    if scored.spared:
        lines.append(f"{scored.spared} votes were not asked for: they could not change the best")
    for number, each in enumerate(scored.judgements, start=1):
        belief = "" if each.meta is None else f", {each.meta:.0%} right by the meta-RM{'' if each.voted else ', no vote'}"
        found = f"scores {', '.join(map(str, each.scores))}" if each.scores else f"not read: {failure_words(each.failure)}"
        lines += ["", f"judgement {number}{belief}: {found}"]
        lines += [
            f"  shown order {', '.join(str(own + 1) for own in each.order)}",
            *(f"  {line}" for line in each.text.split("\n")),
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
