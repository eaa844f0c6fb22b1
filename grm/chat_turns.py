"""Chat messages as turns of text: {role, content} or ShareGPT's {from, value}, with tool calls and parts of content."""

import json
import re

from grm.json_rows import JsonRow, shown
from grm.preferences import clean

Turns = list[tuple[str, str]]
"""(role, content) in order."""

ANSWERING = ("assistant", "gpt", "model", "bot", "chatgpt")  # roles whose turns are answers
_SHAREGPT = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "observation": "tool", "function_call": "assistant"}
_HH_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant): ?")

_REMEDY = "each message is {role: text, content: text}"


def messages(row: JsonRow, field: str, items: list[object]) -> Turns:
    """Return a field's list of messages as turns. RowError where one is no message, or holds what is no text."""
    return [_turn(row, field, message) for message in items]


def is_message(value: object) -> bool:
    """Return whether a value looks like a message."""
    return isinstance(value, dict) and ({"role", "from"} & value.keys() != set())


def hh_turns(text: str) -> Turns:
    """Return the turns of a dialogue in one text, as HH-RLHF writes it (`\\n\\nHuman: ...`); [] of another."""
    pieces = _HH_TURN.split(text)
    if pieces[0].strip() or len(pieces) < 3 or pieces[1] != "Human":
        return []
    roles = ["user" if name == "Human" else "assistant" for name in pieces[1::2]]
    return list(zip(roles, (piece.strip() for piece in pieces[2::2]), strict=True))


def _turn(row: JsonRow, field: str, message: object) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise row.error(field, f"holds {shown(message)}", _REMEDY)
    role = message.get("role")
    if role is None and isinstance(message.get("from"), str):
        role = _SHAREGPT.get(message["from"], message["from"])
    content = message.get("content", message.get("value"))
    calls = message.get("tool_calls") or [call for call in [message.get("function_call")] if call]
    text = "" if content is None and calls else _text(row, field, content, message)
    if not isinstance(role, str):
        raise row.error(field, f"holds {shown(message)}", _REMEDY)
    said = [text] if text else []
    said += [_call(call) for call in calls] if isinstance(calls, list) else []
    return clean(role), clean("\n".join(said))


def _text(row: JsonRow, field: str, content: object, message: object) -> str:
    """Return the content of a message: text, or the texts of its parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise row.error(field, f"holds {shown(message)}", _REMEDY)
    texts = []
    for part in content:
        text = part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str):
            raise row.error(field, f"holds a part that is no text, {shown(part)}", "judges read text alone: remove the row")
        texts.append(text)
    return "\n".join(texts)


def _call(call: object) -> str:
    """Return a call of a tool, or of a function as it was once called, as text: `[tool call] name(arguments)`."""
    function = call.get("function", call) if isinstance(call, dict) else {}
    name, arguments = (function.get("name", ""), function.get("arguments", "")) if isinstance(function, dict) else ("", "")
    said = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"[tool call] {name}({said})"
