"""General instruction data for the cold start, in JSONL files, one object per line (UTF-8).

    {"prompt": text, "completion": text}                    "response" may stand for "completion"
    {"messages": [{"role", "content"}, ..., the assistant's turn last]}

The paper mixes such data into the fine-tuning: without it the ablation falls from 68.8 to 63.3 (arXiv:2504.02495).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grm.chat_turns import messages
from grm.json_rows import JsonRow, printable
from grm.opening import rows
from grm.preferences import DataError, conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """A prompt and the answer to be learnt."""

    prompt: str
    """The instruction, or the conversation up to the answer."""
    completion: str
    """The answer."""


def load(path: Path) -> list[Instruction]:
    """Return the instructions of a file.

    Raises:
        DataError: The file cannot be used; names file, line, field and remedy.
    """
    instructions = list(_instructions(path))
    if not instructions:
        raise DataError(f"{printable(path)}: no rows; give one JSON object per line")
    return instructions


def _instructions(path: Path) -> Iterator[Instruction]:
    for row in rows(path):
        yield _from_messages(row) if "messages" in row.fields else _from_pair(row)


def _from_pair(row: JsonRow) -> Instruction:
    field = "response" if "response" in row.fields and "completion" not in row.fields else "completion"
    return Instruction(
        prompt=row.filled("prompt", "give the instruction"), completion=row.filled(field, "give the answer to be learnt")
    )


def _from_messages(row: JsonRow) -> Instruction:
    items = row.fields["messages"]
    turns = messages(row, "messages", items) if isinstance(items, list) else []
    if len(turns) < 2 or turns[-1][0] != "assistant" or not turns[-1][1].strip():
        raise row.error("messages", "does not end in an answer", "let an assistant's turn with text stand last")
    prompt = conversation(turns[:-1])
    if not prompt.strip():
        raise row.error("messages", "have no text before the answer", "give the conversation, or remove the row")
    return Instruction(prompt=prompt, completion=turns[-1][1])
