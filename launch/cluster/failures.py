"""How a run fails: the errors that the driver, the judges and the entries meet in place of Ray's own. Imports no Ray.

error of an actor ─┬─ of FINAL or MISSING ───▶ FinalError: the run ends at once
                   └─ any other, or a death ─▶ ActorLost: its actor group is made again, as often as `tries` allows
"""

import re
from collections.abc import Mapping
from typing import Self

from buffer.streams import ServerError
from learner.checkpoint import CheckpointError
from learner.selection import StalenessError

FINAL: Mapping[type[Exception], str] = {
    ValueError: "what the actor was given cannot be used: data, model files, settings (our own refusals are ValueErrors)",
    TypeError: "the same, of another kind",
    NotImplementedError: "a library cannot do what the model or the settings ask for",
    ImportError: "a library is missing, or is broken",
    FloatingPointError: "the learner itself has tried `grpo.max_skips` batches, and kept the last one",
    CheckpointError: "a checkpoint does not fit on the disk, or none can be read: a person must look",
    StalenessError: "the bound I2 is broken: that is an error in the program",
}
"""Errors that another try would only meet again, as they follow from what was given; each with the reason why."""

MISSING = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Final too: what was given names a file that is not there, or cannot be read. Not the types made from them: the hub's own
FileNotFoundError says that the network is away."""

MISSING_WORDS = ("no file named",)  # in an OSError of transformers: a model folder without its weights

TRANSIENT = (OSError, ServerError)
"""Errors of what lies outside of the program: network, disk, server. They may come back any number of times in a long run, and
so may deaths of processes (killed, a node that is taken away): what limits them is that the run must get on in between."""

# Words in errors of libraries that come from outside, too: of a collective operation (gloo, NCCL, torch), as another rank has
# died; and of memory, which the process before may not have given back yet. Not the bare word: "larger than the available KV
# cache memory" follows from the settings.
OUTSIDE = (
    "gloo",
    "NCCL",
    "ProcessGroup",
    "c10d",
    "TCPStore",
    "DistStoreError",
    "DistNetworkError",
    "DistBackendError",
    "out of memory",
    "allocate memory",
    "No available memory",
    "Free memory on device",
    "Error in memory profiling",
)
NEVER_OUTSIDE = (TypeError, NotImplementedError, ImportError)  # final whatever their words are

LONGEST = 2000  # characters of an error that are quoted
_OURS = ("actors", "buffer", "configs", "grm", "launch", "learner")
_COLOURS = re.compile(r"\x1b\[[\d;]*m")  # Ray colours its words
_FRAME = re.compile(rf'File "(?![^"]*site-packages)[^"]*/((?:{"|".join(_OURS)})/[\w/]+\.py)", line \d+, in (\w+)')


class RunFailed(RuntimeError):
    """The run cannot go on. The message names what failed, and its last error."""


class CallFailed(RuntimeError):
    """An actor did not answer a call. The message is its own error in one sentence."""

    def __init__(self, sentence: str, *, details: str = "", signature: str = "") -> None:
        super().__init__(sentence)
        self.details = details
        """The whole of Ray's text, with the actor's stack; "" where there is none."""
        self.signature = signature
        """What makes it the same error when it comes again: its type and its place; "" for a death or a transient error."""

    def of(self, name: str) -> Self:
        """Returns the same with the name of the actor before it."""
        return type(self)(f"{name}: {self}", details=self.details, signature=self.signature)


class ActorLost(CallFailed):
    """The actor died, was cut off, or raised an error that another try may not meet."""


class FinalError(CallFailed):
    """The actor raised one of FINAL or MISSING."""


def call_failed(cause: BaseException | None, text: str) -> CallFailed:
    """Returns the error that stands for a failed call.

    Args:
        cause: What the actor raised; None if it died.
        text: What Ray says of it, with the actor's stack.
    """
    text = _COLOURS.sub("", text)
    if cause is None:
        return ActorLost(_death(text), details=text)
    if _is_from_outside(cause):
        return ActorLost(sentence(cause), details=text)
    if isinstance(cause, tuple(FINAL)) or _is_missing(cause):
        return FinalError(sentence(cause), details=text)
    return ActorLost(sentence(cause), details=text, signature=_signature(cause, text))


def sentence(error: BaseException) -> str:
    """Returns an error on one line, with its type where the type is not one of ours."""
    kind, text = type(error).__name__, " ".join(str(error).split())[:LONGEST]
    if _is_ours(error) and text:
        return text
    return f"{kind}: {text}" if text else kind


def details(error: BaseException | None) -> str:
    """Returns the details of the failed call that an error came from; "" where there is none."""
    while error is not None:
        if isinstance(error, CallFailed) and error.details:
            return error.details
        error = error.__cause__
    return ""


def _death(text: str) -> str:
    """Returns Ray's words on one line. They end with an error where there is a stack: that of a constructor, or one that could
    not be sent."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()] or ["it died"]
    return (lines[-1] if "creation task" in lines[0] or lines[0].startswith("ray::") else lines[0])[:LONGEST]


def _is_ours(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in _OURS


def _is_missing(error: BaseException) -> bool:
    return type(error) in MISSING or (isinstance(error, OSError) and any(word in str(error) for word in MISSING_WORDS))


def _is_from_outside(error: BaseException) -> bool:
    if _is_missing(error) or isinstance(error, NEVER_OUTSIDE):
        return False
    text = f"{type(error).__name__}: {error}"
    return isinstance(error, TRANSIENT) or (not _is_ours(error) and any(word in text for word in OUTSIDE))


def _signature(cause: BaseException, text: str) -> str:
    frames = _FRAME.findall(text)
    place = "{} {}".format(*frames[-1]) if frames else re.sub(r"\d+", "#", sentence(cause))
    return f"{type(cause).__name__} at {place}"
