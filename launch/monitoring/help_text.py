"""The text of `--help`: the heads of the entries, broken where the terminal ends, with the commands as a person starts them.

python launch/run.py --config tiny      ─▶    spct train --config tiny       where the console command was used
prose that is wider than the terminal   ─▶    broken between words
an example and what it does             ─▶    below each other, where one line has no room
"""

import argparse
import re
from collections.abc import Iterator, Sequence

from launch.monitoring.command import command
from launch.monitoring.plain_text import broken

ENTRIES = {"run": "train"}  # script: command, where these differ
COMMANDS = ("python ", "spct ", "curl ")  # how an example begins that is not indented
INDENT = 4  # of what a line that was broken goes on with


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """As the base class, with descriptions that fit."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in fitted_help(text, width))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return super()._split_lines(as_started(text), width)


def as_started(text: str) -> str:
    """Returns the text with the scripts of entries as a person starts them."""
    scripts = r"(?:python )?launch/(\w+)\.py"
    return re.sub(scripts, lambda found: command(ENTRIES.get(found[1], found[1].replace("_", "-"))), text)


def fitted_help(text: str, width: int) -> Iterator[str]:
    """Yields the lines of a head, each at most `width` wide if its words are. Drawings are left as they are.

    >>> list(fitted_help("    spct status --run R         all there is", 30))
    ['    spct status --run R', '        all there is']
    """
    text = as_started(text)
    paragraph: list[str] = []
    for line in text.split("\n"):
        if line and not line.startswith((" ", *COMMANDS)) and "  " not in line and "─" not in line:
            paragraph.append(line)
            continue
        yield from _broken(paragraph, width)
        paragraph = []
        yield from _example(line, width)
    yield from _broken(paragraph, width)


def _example(line: str, width: int) -> Iterator[str]:
    """Yields a line of an example, what it does below it where there is no room; a drawing and a short line as they are."""
    found = re.fullmatch(r"( *)(\S.*?) {2,}(\S.*)", line)
    if len(line) <= width or "─" in line or "│" in line or found is None:
        yield line
        return
    indent, told, meaning = found.groups()
    yield indent + told
    yield from _broken([meaning], width, indent + " " * INDENT)


def _broken(lines: Sequence[str], width: int, indent: str = "") -> list[str]:
    words = " ".join(" ".join(lines).split())
    return broken(indent + words, width, indent=indent).split("\n") if words else []
