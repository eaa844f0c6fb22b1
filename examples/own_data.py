"""Rows of a shape of one's own, read by a function in front of the source.

    python launch/data.py check examples/own_data.py:convert@examples/ranked.jsonl
    python launch/run.py --config tiny data.train=examples/own_data.py:convert@train.jsonl ...

The function gets a row as the file has it, and returns one of a shape that docs/data.md lists, or None to leave it out.
"""

from typing import Any


def convert(row: dict[str, Any]) -> dict[str, Any] | None:
    """Make a pair of {"ask", "answers": [{"text", "votes"}, ...]}: the most and the least voted answer. A tie gives no row."""
    answers = sorted(row["answers"], key=lambda answer: answer["votes"], reverse=True)
    if len(answers) < 2 or answers[0]["votes"] == answers[-1]["votes"]:
        return None
    return {"id": row["id"], "prompt": row["ask"], "chosen": answers[0]["text"], "rejected": answers[-1]["text"]}
