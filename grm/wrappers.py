"""One object that holds all rows of a file: `{"version": 1, "data": [{...}, ...]}` (pure).

A row may have a list of objects among its fields, too, as examples or sources of a text. So an object that has a query, answers
or messages is a row, whatever else it has.
"""

from collections.abc import Mapping

from grm.shapes.fields import CHATS, TEXTS

LISTS = ("data", "rows", "examples")  # names under which one object holds all rows
OF_ROWS = frozenset((*TEXTS, *CHATS, "chosen", "rejected", "response", "responses", "completion", "inputs"))


def lists_of(value: Mapping[str, object]) -> list[str]:
    """Return the names of the lists of objects in an object that is no row; [] where it is one.

    One name: its items are the rows. Several, as `data` and `test`: nobody has said which of them is meant.
    """
    if is_part_of_row(value):
        return []
    names = [name for name, held in value.items() if holds_objects(held)]
    return names if set(names) & set(LISTS) else []


def is_part_of_row(value: Mapping[str, object]) -> bool:
    """Return whether an object has a field that only rows have: a query, answers or messages."""
    return any(name.strip().lower() in OF_ROWS and held is not None for name, held in value.items())


def holds_objects(value: object) -> bool:
    """Return whether a value is a list with an object in it."""
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)
