"""A function of the user's own: in a file that the config names, as FILE.py:FUNCTION.

| setting | the function |
|---|---|
| `grpo.reward` | the reward of a judgement (`grm.own_rules`) |
| `grpo.advantages` | the advantages of a group (`learner.own_loss`) |
| `grpo.correction` | the correction of tokens that an older policy sampled (`learner.own_loss`) |
| a source of `data.train`, `data.heldout` | the converter of its rows (`grm.own_converters`) |

The file is imported, so it is trusted like the program.
"""

import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

NAMED = re.compile(r"(?P<file>.+\.py):(?P<function>[^\W\d]\w*)")


class RuleError(ValueError):
    """A function of the user's own cannot be used; the message names it and the remedy."""


def is_own(named: str) -> bool:
    """Whether a setting names a function in a file, rather than one of ours."""
    return NAMED.fullmatch(named) is not None


def path_of(named: str) -> Path:
    """Returns the file of FILE.py:FUNCTION. RuleError when it is not of that form."""
    found = NAMED.fullmatch(named)
    if found is None:
        raise RuleError(f"{named!r}: write FILE.py:FUNCTION, as rules.py:reward")
    return Path(found["file"])


@cache
def load_function(named: str, takes: str) -> Callable[..., Any]:
    """Return the function of FILE.py:FUNCTION as it is written; `called` calls it.

    Args:
        named: FILE.py:FUNCTION.
        takes: What it is called with, for people: one noun phrase an argument, with commas between.

    Raises:
        RuleError: There is no such file or function, the file cannot be imported, or the function takes other arguments.
    """
    file, name = path_of(named), named.rpartition(":")[2]
    module = f"own_rule_{file.stem}_{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:8]}"
    function = getattr(_imported(named, file, module), name, None)
    if not callable(function):
        raise RuleError(f"{named}: {file} has no function {name}; name one of it")
    count = len(takes.split(", "))
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError as error:
        number = "one argument" if count == 1 else f"{count} arguments"
        raise RuleError(f"{named}: it must take {number}, {takes} ({error})") from None
    return function


def called(function: Callable[..., Any], named: str, *arguments: object, shown: object) -> Any:
    """Call a function of the user's own. RuleError when it raises, which says what it was `shown`."""
    try:
        return function(*arguments)
    except Exception as error:  # of any kind: it is the user's code
        raise RuleError(f"{named}: it raised {type(error).__name__}: {error}; for {shown}") from error


def _imported(named: str, file: Path, name: str) -> object:
    if name in sys.modules:  # several functions of one file share its state
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise RuleError(f"{named}: no such file; check the path")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # where a dataclass looks its annotations up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # of any kind: it is the user's code
        del sys.modules[name]
        raise RuleError(f"{named}: {file} cannot be imported ({type(error).__name__}: {error}); mend it") from error
    return module
