"""A fake of the little of Ray that `launch/parts.py` uses: an actor is a thread here, a reference is a future.

It lets the driver's loops meet real actors on a real server, without Ray's processes.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    """Stands in for `ray.exceptions.RayError`, and for its `RayActorError`."""


class LocalActor:
    """Calls the methods of a plain object one after another on a thread of its own: `actor.method.remote(...)`."""

    def __init__(self, inner: Any) -> None:
        self._inner, self._thread = inner, ThreadPoolExecutor(max_workers=1)

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Any] = getattr(self._inner, name)
        return SimpleNamespace(remote=lambda *given: self._thread.submit(method, *given))

    def end(self) -> None:
        self._thread.shutdown(cancel_futures=True)


class LocalRay:
    """In the place of the module `ray`."""

    exceptions = SimpleNamespace(RayError=RayError, RayActorError=RayError)

    @staticmethod
    def get(refs: Sequence[Future[Any]]) -> list[Any]:
        try:
            return [ref.result() for ref in refs]
        except RayError:  # the actor died
            raise
        except Exception as error:  # as Ray does: an error that is of both kinds
            kind = type(error)
            said = repr(error)
            raise type("RayTaskError", (RayError, kind), {"cause": error, "__str__": lambda self: said})(*error.args) from error

    @staticmethod
    def wait(refs: Sequence[Future[Any]], *, num_returns: int, timeout: float) -> tuple[list[Future[Any]], list[Future[Any]]]:
        first = concurrent.futures.FIRST_COMPLETED if num_returns == 1 else concurrent.futures.ALL_COMPLETED
        concurrent.futures.wait(refs, timeout=timeout, return_when=first)
        ready = [ref for ref in refs if ref.done()][:num_returns]
        return ready, [ref for ref in refs if ref not in ready]
