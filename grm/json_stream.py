"""JSON values one after another in a stream of bytes: arrays, `{"data": [...]}`, objects over several lines, in any order.

Only the value that is being read is in memory, so a file may be larger than that.
"""

import json
import re
from collections.abc import Iterator
from typing import BinaryIO

from grm.json_rows import json_object
from grm.preferences import DataError
from grm.wrappers import holds_objects, is_part_of_row, lists_of

PIECE = 1 << 16  # bytes read at a time
ONE_LIST = "save the list that is meant, one JSON object per line"
_SPACE = re.compile(r"[\s\ufeff]*")  # a second mark of byte order stands where two files were joined
_LIST = re.compile(r'\[|\{\s*"(data|rows|examples)"\s*:\s*\[')
_AHEAD = 1024  # characters in which a list of rows is known as one


class JsonStream:
    """Reads the values of a stream in turn."""

    def __init__(self, stream: BinaryIO, name: str, *, longest: int) -> None:
        """Takes a stream, its name for errors, and the most bytes of a value."""
        self._stream, self._name, self._longest = stream, name, longest
        self._text, self._at, self._rest, self._ended = "", 0, b"", False  # what is before self._at was taken
        self._line, self._column = 1, 1  # of self._at
        self._decoder = json.JSONDecoder(object_pairs_hook=json_object)

    def values(self) -> Iterator[tuple[str, object]]:
        """Yield (`file:line`, value) up to the end of the stream: items of lists, and the values around them.

        Raises:
            DataError: There is what is no JSON, or an object has more than one list: names line and column.
        """
        while self._left():
            match = _LIST.match(self._text, self._at)
            if match and not (match[1] and self._is_row()):
                self._take(match.end() - self._at)
                yield from self._items()
                if match[1]:
                    self._close_object(match[1])
                what = "object" if match[1] else "list"
            else:
                what = "object"
                yield f"{self._name}:{self._line}", self._value()
            if self._next(","):
                raise self._error(f"a comma behind the {what}", self._at)

    def _left(self) -> bool:
        """Whether anything is left; then as much of it is read as tells what it is."""
        self._skip_space()
        while not self._ended and len(self._text) - self._at < _AHEAD:
            self._more()
        return self._at < len(self._text)

    def _is_row(self) -> bool:
        """Whether an object that begins with a list is a row, or has several lists. One that is too long to say holds rows."""
        try:
            value, _ = self._decoder.raw_decode(self._text, self._at)
        except (ValueError, RecursionError):
            return False
        return len(lists_of(value)) != 1

    def _items(self) -> Iterator[tuple[str, object]]:
        """Yield the items of a list and take its end."""
        first = True
        while not self._next("]"):
            if self._at == len(self._text):
                raise self._error("the file ends inside the list", self._at)
            if not first:
                if not self._next(","):
                    raise self._error("expected ',' or ']'", self._at)
                self._take(1)
                self._skip_space()
            yield f"{self._name}:{self._line}", self._value()
            first = False
        self._take(1)

    def _close_object(self, rows: str) -> None:
        """Take what stands behind the list of rows in its object, where no further rows may stand."""
        while not self._next("}"):
            if not self._next(","):
                raise self._error("expected ',' or '}'", self._at)
            self._take(1)
            self._skip_space()
            line, name = self._line, self._value()
            if not isinstance(name, str) or not self._next(":"):
                raise self._error("expected a name and ':'", self._at)
            self._take(1)
            self._skip_space()
            value = self._value()
            if holds_objects(value) or is_part_of_row({name: value}):
                raise DataError(f"{self._name}:{line}: field {name!r} stands beside the list {rows!r}; {ONE_LIST}")
        self._take(1)

    def _next(self, sign: str) -> bool:
        """Whether the next character that is no space is this one."""
        self._skip_space()
        return self._text.startswith(sign, self._at)

    def _value(self) -> object:
        """Return the next value. What is broken and what is not read to its end look the same, so more is read first."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                raise self._error("nested absurdly deep", self._at) from None
            except ValueError as error:
                if not self._ended and len(self._text) - self._at <= self._longest:
                    self._more(max(PIECE, len(self._text) - self._at))
                    continue
                raise self._error(getattr(error, "msg", str(error)), getattr(error, "pos", self._at)) from None
            if end == len(self._text) and not self._ended and not isinstance(value, dict | list | str):
                self._more()  # a number may go on
                continue
            self._take(end - self._at)
            return value

    def _skip_space(self) -> None:
        while True:
            self._take(_SPACE.match(self._text, self._at).end() - self._at)  # type: ignore[union-attr]  # it matches the empty text
            if self._at < len(self._text) or self._ended:
                return
            self._more()

    def _more(self, size: int = PIECE) -> None:
        piece = self._stream.read(size)
        self._ended = not piece
        raw = self._rest + piece
        try:
            text, self._rest = raw.decode("utf-8"), b""
        except UnicodeDecodeError as error:
            if self._ended or error.end < len(raw) - 4 or error.reason != "unexpected end of data":
                raise not_utf8(f"{self._name}: at line {self._line} or below", raw, error) from None
            text, self._rest = raw[: error.start].decode("utf-8"), raw[error.start :]
        self._text, self._at = self._text[self._at :] + text, 0

    def _take(self, count: int) -> None:
        """Go on by some characters. They stay in memory until more is read: to cut them off would copy all that follows."""
        self._line, self._column = self._place(self._at + count)
        self._at += count

    def _place(self, at: int) -> tuple[int, int]:
        """Return line and column of a place in the text, which is not before what was taken."""
        taken = self._text[self._at : at].replace("\r\n", "\n").replace("\r", "\n")
        lines = taken.count("\n")
        column = len(taken) - taken.rfind("\n") if lines else self._column + len(taken)
        return self._line + lines, column

    def _error(self, problem: str, at: int) -> DataError:
        line, column = self._place(at)
        return DataError(f"{self._name}:{line}: not JSON ({problem} at column {column}); give one JSON object per line")


def not_utf8(where: str, raw: bytes, error: UnicodeDecodeError, *, at: str = "") -> DataError:
    """Return the error about bytes that are no UTF-8: nearly always Latin-1. `at` is their place where that is known."""
    shown = raw[error.start : error.start + 1].decode("latin-1")
    guess = f" ({shown!r} in Latin-1)" if shown.isprintable() else ""
    return DataError(f"{where}: not UTF-8{at}{guess}; save it as UTF-8, as `iconv -f latin1 -t utf-8` does")
