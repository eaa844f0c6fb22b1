"""The fenced blocks of a page, and what stands in front of each: nothing (run always), how long it takes, or what it needs.

*Takes a minute on two cores.*     run by `make test-full`
*Needs: a GPU of 24 GB.*           not run: its commands and settings are checked
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tests.docs.test_documents import text_of

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block. line: where it begins, for messages."""

    page: str
    line: int
    language: str
    text: str
    when: Literal["always", "full", "never"]


def blocks(page: str) -> Iterator[Block]:
    text = text_of(page)
    for found in FENCE.finditer(text):
        before = text[: found.start()].rstrip().rpartition("\n")[2]
        when: Literal["always", "full", "never"] = "always"
        if before.startswith("*Takes "):
            when = "full"
        elif before.startswith("*Needs: "):
            when = "never"
        line = text[: found.start()].count("\n") + 1
        yield Block(page=page, line=line, language=found[1], text=found[2], when=when)


def statements(text: str) -> list[str]:
    """The statements of a shell block: continued lines and here-documents are one, comments are none."""
    found: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        while line.endswith("\\"):
            line = line[:-1] + next(lines).lstrip()
        if end := re.search(r"<<\s*'?(\w+)'?$", line):
            while (more := next(lines)) != end[1]:
                line += f"\n{more}"
            line += f"\n{end[1]}"
        found.append(line)
    return found
