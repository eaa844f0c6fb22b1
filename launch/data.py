"""Looks at preference data before anything is trained or measured on it, and converts it to our own JSONL.

    python launch/data.py check FILE...                          shapes, skipped rows by reason, labels, lengths, repeats
    python launch/data.py check FILE... --against HELDOUT...     and what of it stands in held-out data or a benchmark
    python launch/data.py check FILE... --config PRESET          and how many prompts are too long for the model's context
    python launch/data.py convert FILE... --out NEW.jsonl        our own rows: id, prompt, responses, preferred or scores
    python launch/data.py convert FILE... --without HELDOUT... --out NEW.jsonl     without what is held out, by query

FILE is a file, a folder, a pattern, or any other source that `data.train` takes: docs/data.md lists what is read.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python launch/data.py` finds its siblings

from buffer import files
from configs.load import ConfigError
from configs.paths import NoHomeFolder, output_path
from grm import opening
from grm.content import content_id, overlap, with_content_id
from grm.json_rows import JsonRow, RowError
from grm.own_converters import load_converter, split
from grm.preferences import DataError, Preference, Skipped
from grm.shapes.table import normalised, shape_of
from grm.sources import NAMED, across_sources, load
from launch.cli import exit_status
from launch.monitoring.help_text import HelpFormatter
from launch.monitoring.plain_text import clean_lines, fitted
from launch.setup.data_report import overlap_lines, report
from launch.setup.run_config import load_run_config


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 done, 1 it could not be written, 2 the data cannot be used."""
    arguments = parser().parse_args(argv)
    return exit_status(lambda: arguments.act(arguments))


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    commands = options.add_subparsers(required=True, metavar="check | convert")
    looks = commands.add_parser("check", help="say what is in it")
    looks.add_argument("--against", nargs="+", default=[], metavar="SOURCE", help="held-out data or benchmarks to compare with")
    looks.add_argument("--config", default="", help="a preset or file: prompts are counted in its model's tokens")
    looks.set_defaults(act=check)
    writes = commands.add_parser("convert", help="write it as our own JSONL")
    writes.add_argument("--out", required=True, metavar="NEW.jsonl", help="a file that is not there yet")
    writes.add_argument("--without", nargs="+", default=[], metavar="SOURCE", help="leave out what has a query of these")
    writes.add_argument("--new-ids", action="store_true", help="give every row the id of its content")
    writes.add_argument("--show", nargs="+", default=[], choices=["reference", "criteria"], help="fields to keep, too")
    writes.set_defaults(act=convert)
    for command in (looks, writes):
        command.add_argument("sources", nargs="+", metavar="FILE", help="files, folders, patterns, or hf:... as in data.train")
        command.add_argument("--strict", action="store_true", help="end at the first row that cannot be read")
    return options


def check(arguments: argparse.Namespace) -> int:
    """Print what the sources hold. Returns the exit status."""
    every: list[Preference] = []
    found = across_sources(arguments.sources, [load(source, strict=arguments.strict) for source in arguments.sources])
    for source, loaded in zip(arguments.sources, found, strict=True):
        _print([f"{'data':<10} {source}", *report(loaded, shapes_met(source))])
        every += loaded.preferences
    if not every:
        raise DataError("no preference can be used: see why rows were skipped, above")
    for source in arguments.against:
        _print(overlap_lines(overlap(load(source).preferences, every), source, len(every)))
    if arguments.config:
        _print([too_long(arguments.config, every)])
    return 0


def convert(arguments: argparse.Namespace) -> int:
    """Write the preferences of the sources as JSONL. Returns the exit status."""
    try:
        out = output_path(arguments.out)
    except NoHomeFolder as error:
        raise ConfigError(f"--out {error}") from None
    if out.exists():
        raise ConfigError(f"--out: {out} is there already; name a file that is not")
    loaded = [load(source, show=arguments.show, strict=arguments.strict) for source in arguments.sources]
    loaded = across_sources(arguments.sources, loaded)
    every = [preference for each in loaded for preference in each.preferences]
    left_out = _shared(every, arguments.without)
    kept = [preference for preference in every if content_id(preference.question) not in left_out]
    skipped = sum((Counter(each.skipped) for each in loaded), Counter[str]())
    counts = [f"{'skipped':<10} {count:,} x {reason}" for reason, count in skipped.items()]
    if arguments.without:
        counts.append(f"{'left out':<10} {len(every) - len(kept):,} rows with a query of {', '.join(arguments.without)}")
    if not kept:
        _print(counts)
        raise DataError("no preference is left to write: see why rows were skipped or left out, above")
    rows = [row_of(preference, new_id=arguments.new_ids) for preference in kept]
    if (most := Counter(row["id"] for row in rows).most_common(1)[0])[1] > 1:
        raise DataError(f"the id {most[0]!r} stands in two of the sources; give --new-ids")
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    _print([f"{'written':<10} {len(kept):,} rows: {out}", *counts])
    return 0


def row_of(preference: Preference, *, new_id: bool = False) -> dict[str, object]:
    """Returns a preference as one of our own rows, which reads as the same preference."""
    question = preference.question
    single = len(question.responses) == 1
    row: dict[str, object] = {"id": content_id(question) if new_id else question.id, "prompt": question.query}
    row["responses"] = list(question.responses)
    row |= {"scores": [preference.label]} if single else {"preferred": preference.label}
    more = {"subset": preference.subset, "reference": question.reference, "criteria": list(question.criteria)}
    return row | {name: value for name, value in more.items() if value}


def shapes_met(source: str) -> Counter[str]:
    """Returns the rows of a file, folder or pattern by the shape that reads them; of another source none."""
    met: Counter[str] = Counter()
    named, place = split(source)
    convert = load_converter(named)
    for path in [] if place.startswith(NAMED) else opening.files(place):
        for row in opening.read(path):
            try:
                known = row if isinstance(row, RowError) else convert(row)
                met[_shape_name(known)] += 1
            except RowError:
                met["no shape"] += 1
    return met


def _shape_name(row: JsonRow | RowError | Skipped) -> str:
    if isinstance(row, Skipped):
        return row.reason
    return row.reason if isinstance(row, RowError) else shape_of(normalised(row)).name


def too_long(preset: str, preferences: Sequence[Preference]) -> str:
    """Returns how many prompts do not fit in the context of a config's model."""
    from launch.setup.model_files import resolve
    from launch.setup.prompt_source import prompt_source
    from launch.setup.tokenizer import Tokenizer

    config = load_run_config(preset, [])
    source = prompt_source(config, [p.question for p in preferences], Tokenizer(resolve(config.model.path)))
    fit = len(source.heldout(len(preferences)))
    tokens = f"{config.max_prompt_tokens:,} tokens, which model.context leaves for them"
    return f"{'tokens':<10} {len(preferences) - fit:,} of {len(preferences):,} prompts are longer than {tokens}"


def _shared(preferences: Sequence[Preference], sources: Sequence[str]) -> set[str]:
    """Returns the content ids of those that stand in the sources, or share a query with them: own ids may occur twice."""
    shared: set[str] = set()
    for source in sources:
        found = overlap(load(source).preferences, map(with_content_id, preferences))
        shared |= {own for _, own in (*found.rows, *found.queries)}
    return shared


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(fitted(clean_lines(line)))


if __name__ == "__main__":
    sys.exit(main())
