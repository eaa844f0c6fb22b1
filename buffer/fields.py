"""Fields on the wire: a packer and an unpacker per kind. Both check, so no writer sends what readers refuse.

Each takes the field's name (for the error) and the value, and raises a CodecError that names what was expected.
"""

import math
import sys
from array import array
from collections.abc import Callable, Collection
from itertools import chain, groupby, pairwise, repeat
from typing import Literal, TypeVar, cast

MAX_ITEMS = 4096  # in one msgpack array (responses, samples, version runs): bounds what a header can allocate
MAX_TOTAL = 2**18  # items in all arrays and maps of a message: an empty map takes 1 byte there, and 64 in memory
MAX_NAME = 4096  # characters of a preference id or a failure reason
_INT64 = 2**63 - 1

T = TypeVar("T")


class CodecError(ValueError):
    """A message that does not follow the schema; the error names the field and what was expected."""


def require(holds: bool, where: str, expected: str, *actual: object) -> None:
    """Raise a CodecError that names the field unless `holds`; `actual`, if given, is described in a few words."""
    if not holds:
        instead = "".join(f", not {_brief(value)}" for value in actual)
        raise CodecError(f"{where}: expected {expected}{instead}")


def _brief(value: object) -> str:
    """Return a value as text for an error message, never longer than a line."""
    if isinstance(value, str | bytes | list | tuple | dict) and len(value) > 16:
        return f"{type(value).__name__} of {len(value)}"
    shown = repr(value)
    return shown if len(shown) <= 200 else f"{shown[:200]}..."


class ItemCount:
    """Counts items while they are unpacked, so that unpacking stops before many small ones fill the memory."""

    def __init__(self) -> None:
        self._left = MAX_TOTAL

    def array(self, items: list[object]) -> list[object]:
        """Count an unpacked array and return it."""
        self._left -= 1 + len(items)
        require(self._left >= 0, "payload", f"at most {MAX_TOTAL} items in all")
        return items

    def map(self, pairs: list[tuple[object, object]]) -> dict[object, object]:
        """Count an unpacked map and return it as a dict."""
        self.array(cast("list[object]", pairs))
        unpacked = dict(pairs)
        require(len(unpacked) == len(pairs), "payload", "each field once")
        return unpacked


def items(value: object) -> int:
    """Return the number of items that `ItemCount` will count."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
    return 0 if inner is None else 1 + len(inner) + sum(map(items, inner))


def exactly(body: object, names: Collection[str], where: str) -> dict[str, object]:
    """Return a decoded map after checking that it has exactly these fields."""
    require(isinstance(body, dict), where, "a map", body)
    fields = cast("dict[str, object]", body)
    missing, unknown = set(names) - fields.keys(), fields.keys() - set(names)
    require(not missing, where, f"field {', '.join(sorted(missing))}, which is missing")
    require(not unknown, where, f"only the fields {', '.join(names)}", sorted(map(str, unknown)))
    return fields


def each(where: str, values: object, convert: Callable[[str, object], T]) -> tuple[T, ...]:
    """Apply `convert` to each item of a list or tuple of at most MAX_ITEMS."""
    require(isinstance(values, list | tuple), where, "an array", values)
    items = cast("list[object]", values)
    require(len(items) <= MAX_ITEMS, where, f"at most {MAX_ITEMS} items, not {len(items)}")
    return tuple(convert(f"{where}[{i}]", item) for i, item in enumerate(items))


def integer(where: str, value: object) -> int:
    """Return an integer 0..2**63 - 1."""
    good = type(value) is int and 0 <= value <= _INT64
    require(good, where, f"an integer 0..{_INT64}", value)
    return cast(int, value)


def optional(where: str, value: object) -> int | None:
    """Return an integer 0..2**63 - 1, or None."""
    return None if value is None else integer(where, value)


def number(where: str, value: object) -> float:
    """Return a finite float."""
    require(type(value) is float and math.isfinite(value), where, "a finite float", value)
    return cast(float, value)


def text(where: str, value: object) -> str:
    """Return text that can be written as UTF-8."""
    require(isinstance(value, str), where, "a string", value)
    try:
        cast(str, value).encode()
    except UnicodeEncodeError as error:
        raise CodecError(f"{where}: expected text without lone surrogates ({error.reason})") from None
    return cast(str, value)


def reason(where: str, value: object) -> str:
    """Return text of at most MAX_NAME characters."""
    checked = text(where, value)
    require(len(checked) <= MAX_NAME, where, f"at most {MAX_NAME} characters, not {len(checked)}")
    return checked


def name(where: str, value: object) -> str:
    """Return text of 1 to MAX_NAME characters."""
    checked = reason(where, value)
    require(bool(checked), where, "a name, not an empty string")
    return checked


def finish(where: str, value: object) -> Literal["stop", "length"]:
    """Return why a completion ended."""
    require(value in ("stop", "length"), where, "'stop' or 'length'", value)
    return cast(Literal["stop", "length"], value)


def flag(where: str, value: object) -> bool:
    require(type(value) is bool, where, "true or false", value)
    return cast(bool, value)


def pack_ids(where: str, value: object) -> bytes:
    """Return token ids as int32, little-endian."""
    ids = _array("i", where, value)
    require(not ids or min(ids) >= 0, where, "token ids >= 0")
    return _little(ids).tobytes()


def unpack_ids(where: str, value: object) -> tuple[int, ...]:
    """Return the token ids of `pack_ids`."""
    ids = _from_bytes("i", where, value)
    require(not ids or min(ids) >= 0, where, "token ids >= 0")
    return tuple(ids.tolist())


def pack_logprobs(where: str, value: object) -> bytes:
    """Return finite log-probs as float32, little-endian."""
    logprobs = _array("f", where, value)
    require(math.isfinite(sum(logprobs)), where, "finite log-probs")  # a float64 sum cannot overflow
    return _little(logprobs).tobytes()


def unpack_logprobs(where: str, value: object) -> tuple[float, ...]:
    """Return the log-probs of `pack_logprobs`."""
    logprobs = _from_bytes("f", where, value)
    require(math.isfinite(sum(logprobs)), where, "finite log-probs")
    return tuple(logprobs.tolist())


def pack_versions(where: str, value: object) -> list[int]:
    """Return versions per token as runs [version, count, version, count, ...]."""
    require(isinstance(value, tuple), where, "a tuple", value)
    runs: list[int] = []
    for version, run in groupby(cast("tuple[object, ...]", value)):
        runs += (integer(where, version), len(list(run)))
    require(len(runs) <= MAX_ITEMS, where, f"at most {MAX_ITEMS // 2} runs of versions, not {len(runs) // 2}")
    return runs


def unpack_versions(where: str, value: object, tokens: int) -> tuple[int, ...]:
    """Return the versions of `tokens` tokens. They are counted before they are expanded, so a small payload stays small."""
    runs = each(where, value, integer)
    versions, counts = runs[::2], runs[1::2]
    good = len(versions) == len(counts) and sum(counts) == tokens and all(counts)
    require(good, where, f"runs of versions that cover {tokens} tokens")
    require(all(a != b for a, b in pairwise(versions)), where, "neighbouring runs that differ")
    return tuple(chain.from_iterable(map(repeat, versions, counts)))


def _array(code: Literal["i", "f"], where: str, value: object) -> "array[int]":
    require(isinstance(value, tuple), where, "a tuple", value)
    try:
        return array(code, cast("tuple[int, ...]", value))
    except (TypeError, OverflowError) as error:
        kind = "int32" if code == "i" else "float32"
        raise CodecError(f"{where}: expected {kind} values ({error})") from None


def _from_bytes(code: Literal["i", "f"], where: str, value: object) -> "array[int]":
    whole = isinstance(value, bytes) and len(value) % 4 == 0
    require(whole, where, "bytes, four per value", value)
    values = array(code)
    values.frombytes(cast(bytes, value))
    return _little(values)


def _little(values: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        values.byteswap()
    return values
