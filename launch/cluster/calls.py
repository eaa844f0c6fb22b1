"""Calls of remote actors: wait for their answers, with a limit and with errors of our own.

refs ─▶ answers ─▶ values │ TimeoutError: what was waited for │ ActorLost: it died │ FinalError: no use to try again
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import ray

from launch.cluster.failures import CallFailed, FinalError, call_failed

SLICE_S = 1.0  # length of a slice of work, and of one wait: what the driver does in between is never late by more
# What a driver that cannot go on ends with: Ray's own errors come from Ray itself, as when its head has died.
LOST = (CallFailed, ray.exceptions.RayError)


def answers(refs: Sequence[Any], *, limit_s: float, what: str, between: Callable[[], None] = lambda: None) -> list[Any]:
    """Returns all answers, in the order of `refs`. `between` is called after each slice of waiting.

    Raises:
        TimeoutError: They did not come within `limit_s`; it says that the driver waited for `what`.
        ActorLost, FinalError: One of the actors died or raised an error; the others are not waited for.
    """
    deadline = time.monotonic() + limit_s
    while not is_over(refs):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the driver waited {limit_s:.0f} s for {what}")
        first_answered(unanswered(refs), min(SLICE_S, max(0.0, deadline - time.monotonic())))
        between()
    return values(refs)


def next_answer(refs: Sequence[Any], *, limit_s: float, what: str) -> tuple[Any, Any]:
    """Returns the first of the calls to end, and its answer.

    Raises:
        TimeoutError: None ended within `limit_s`; it says that the driver waited for `what`.
        ActorLost, FinalError: The actor died or raised an error.
    """
    deadline = time.monotonic() + limit_s
    while not (ended := first_answered(refs, min(SLICE_S, max(0.0, deadline - time.monotonic())))):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the driver waited {limit_s:.0f} s for {what}")
    return ended[0], values(ended)[0]


def values(refs: Sequence[Any]) -> list[Any]:
    """Returns the values of calls that are over. ActorLost or FinalError when a call failed."""
    failed = None if all_answered(refs) else _failure(refs)
    if failed is not None:
        raise failed
    try:
        return list(ray.get(list(refs)))
    except ray.exceptions.RayError as error:
        raise (_failure(refs) or _translated(error)) from error


def is_over(refs: Sequence[Any]) -> bool:
    """Returns whether all have answered, or one has failed: the others may then wait for that one without end."""
    return all_answered(refs) or _failure(refs) is not None


def all_answered(refs: Sequence[Any]) -> bool:
    """Returns whether every call has an answer or an error."""
    return len(answered(refs)) == len(refs)


def answered(refs: Sequence[Any]) -> list[Any]:
    """Returns the calls that have an answer or an error by now."""
    if not refs:
        return []
    ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=0)
    return list(ready)


def unanswered(refs: Sequence[Any]) -> list[Any]:
    """Returns the calls that have neither an answer nor an error yet."""
    ready = answered(refs)
    return [ref for ref in refs if ref not in ready]


def first_answered(refs: Sequence[Any], timeout_s: float) -> list[Any]:
    """Waits for the first of the calls to end; returns it, or nothing after `timeout_s`."""
    if not refs:
        time.sleep(timeout_s)
        return []
    ready, _ = ray.wait(list(refs), num_returns=1, timeout=timeout_s)
    return list(ready)


def _failure(refs: Sequence[Any]) -> CallFailed | None:
    """Returns the error of a call that failed. Of several it is the one that explains the others: where a rank died or raised
    an error, the ranks beside it fail as well, in the collective operation that they were in."""
    failures: list[tuple[int, CallFailed]] = []
    for ref in answered(refs):
        try:
            ray.get([ref])
        except ray.exceptions.RayError as error:
            failed, died = _translated(error), _cause(error) is None
            failures.append((3 if isinstance(failed, FinalError) else 2 if failed.signature else 1 if died else 0, failed))
    return max(failures, key=lambda pair: pair[0])[1] if failures else None


def _translated(error: Exception) -> CallFailed:
    """Returns the error of ours that stands for one of Ray's."""
    return call_failed(_cause(error), str(error))


def _cause(error: Exception) -> Exception | None:
    """Returns what the actor raised; None where it died, or raised what could not be sent. An actor may itself have called
    another one, as a learner calls the weight board."""
    cause: Any = getattr(error, "cause", None)
    while isinstance(getattr(cause, "cause", None), Exception):
        cause = cause.cause
    return cause if isinstance(cause, Exception) and not isinstance(cause, ray.exceptions.RayError) else None
