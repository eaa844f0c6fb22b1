"""General instruction data: both shapes, and what is refused and how."""

import json
from pathlib import Path

import pytest

from grm.instructions import Instruction, load
from grm.preferences import DataError

GOOD = {"prompt": "2 + 2?", "completion": "4"}


def write(folder: Path, *rows: object) -> Path:
    path = folder / "general.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return path


def chat(*turns: tuple[str, object]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def test_a_prompt_and_its_completion(tmp_path: Path) -> None:
    rows = [GOOD, {"prompt": "Hi", "response": "Hello"}, {"prompt": "Hi", "completion": "Hey", "response": "Hello", "id": 7}]
    assert load(write(tmp_path, *rows)) == [
        Instruction(prompt="2 + 2?", completion="4"),
        Instruction(prompt="Hi", completion="Hello"),
        Instruction(prompt="Hi", completion="Hey"),
    ]


def test_a_conversation_ends_in_the_answer_to_be_learnt(tmp_path: Path) -> None:
    short = chat(("user", "2 + 2?"), ("assistant", "4\n"))
    long = chat(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Why?"), ("assistant", "Why not?"))
    assert load(write(tmp_path, short, {**long, "prompt": "ignored"})) == [
        Instruction(prompt="2 + 2?", completion="4\n"),
        Instruction(prompt="System: Be brief.\n\nUser: Hi\n\nAssistant: Hello\n\nUser: Why?", completion="Why not?"),
    ]


def test_blank_lines_are_skipped_and_lone_surrogates_replaced(tmp_path: Path) -> None:
    rows = ["", {"prompt": "a\ud800", "completion": "b\udfff"}, "  ", chat(("user", "c\ud800"), ("assistant", "d\ud800"))]
    assert load(write(tmp_path, *rows)) == [
        Instruction(prompt="a\ufffd", completion="b\ufffd"),
        Instruction(prompt="c\ufffd", completion="d\ufffd"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"completion": "4"}, "field 'prompt': is missing; give the instruction"),
        ({**GOOD, "prompt": 7}, "field 'prompt': is 7; give the instruction"),
        ({**GOOD, "prompt": " \n"}, "field 'prompt': is empty; give the instruction, or remove the row"),
        ({"prompt": "2 + 2?"}, "field 'completion': is missing; give the answer to be learnt"),
        ({**GOOD, "completion": ["4"]}, "field 'completion': is ['4']; give the answer to be learnt"),
        ({**GOOD, "completion": ""}, "field 'completion': is empty; give the answer to be learnt, or remove the row"),
        ({**GOOD, "completion": None}, "field 'completion': is null; give the answer to be learnt"),
        ({"prompt": "2 + 2?", "response": ""}, "field 'response': is empty; give the answer to be learnt, or remove the row"),
        ("[1]", "is [1], not an object; give one JSON object per line"),
        ('{"prompt": ', "not JSON (Expecting value at column 12); give one JSON object per line"),
    ],
)
def test_a_bad_row_is_named_by_line_field_and_remedy(tmp_path: Path, row: object, message: str) -> None:
    path = write(tmp_path, GOOD, row)
    with pytest.raises(DataError) as caught:
        load(path)
    assert str(caught.value) == f"{path}:2: {message}"


@pytest.mark.parametrize(
    "row",
    [
        {"messages": []},
        {"messages": None},
        {"messages": "Hi"},
        chat(("assistant", "an answer to nothing")),
        chat(("user", "Hi")),
        chat(("user", "Hi"), ("assistant", "Hello"), ("user", "Why?")),
        chat(("user", "Hi"), ("assistant", " \n")),
    ],
)
def test_a_conversation_without_an_answer_is_refused(tmp_path: Path, row: object) -> None:
    path = write(tmp_path, GOOD, row)
    with pytest.raises(DataError) as caught:
        load(path)
    remedy = "let an assistant's turn with text stand last"
    assert str(caught.value) == f"{path}:2: field 'messages': does not end in an answer; {remedy}"


@pytest.mark.parametrize("message", [{"role": "user"}, {"role": "assistant", "content": 4}, "Hi"])
def test_a_malformed_message_is_shown(tmp_path: Path, message: object) -> None:
    path = write(tmp_path, {"messages": [{"role": "user", "content": "2 + 2?"}, message]})
    with pytest.raises(DataError) as caught:
        load(path)
    assert str(caught.value) == (
        f"{path}:1: field 'messages': holds {message!a}; each message is {{role: text, content: text}}"
    )


def test_a_blank_conversation_is_refused(tmp_path: Path) -> None:
    """As a blank `prompt` is."""
    path = write(tmp_path, chat(("user", " \n"), ("assistant", "4")))
    with pytest.raises(DataError, match=r"general\.jsonl:1: field 'messages': have no text before the answer; "):
        load(path)


def test_a_file_without_rows_or_without_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"general\.jsonl: no rows; give one JSON object per line"):
        load(write(tmp_path, "", " "))
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        load(tmp_path / "nowhere.jsonl")
