"""Judges a file of preferences with votes, and writes scores, shares and the first critique of each row.

    python examples/judge_file.py runs/first tinyheld:7:8:2 judged.jsonl --votes 8

The second argument is a file, or any other source of docs/data.md. How often the judge agrees with the labels is printed.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import spct
from grm.sources import load


def main(argv: Sequence[str] | None = None) -> None:
    """Judge all rows together and write them."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("judge")
    options.add_argument("source")
    options.add_argument("out", type=Path)
    options.add_argument("--votes", type=int, default=8)
    options.add_argument("--engine", default="auto", choices=("auto", "vllm", "transformers"))
    options.add_argument("--set", action="append", default=[], metavar="section.key=value", help="a setting of the judge")
    arguments = options.parse_args(argv)
    preferences = load(arguments.source).preferences
    with spct.Judge(arguments.judge, engine=arguments.engine, overrides=arguments.set) as judge:
        found = judge.score_many([each.question for each in preferences], votes=arguments.votes)
    with arguments.out.open("w", encoding="utf-8") as file:
        for preference, scored in zip(preferences, found, strict=True):
            critique = next((each.critique for each in scored.judgements if each.scores is not None), "")
            row = {"id": preference.question.id, "best": scored.best, "scores": scored.scores, "shares": scored.shares}
            file.write(json.dumps(row | {"critique": critique, "error": scored.error}) + "\n")
    right = sum(scored.best == preference.label for preference, scored in zip(preferences, found, strict=True))
    print(f"{right} of {len(preferences)} as labelled; a tie, or what could not be judged, counts as wrong: {arguments.out}")


if __name__ == "__main__":
    main()
