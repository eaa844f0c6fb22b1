"""A fake of the little of Ray that `launch/cluster/calls.py` uses: an actor is a thread here, a reference is a future.

It lets the driver's loops meet real actors on a real server, without Ray's processes.
"""

import concurrent.futures
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

from launch.cluster.actor_group import ActorGroup


class RayError(Exception):
    """Stands in for `ray.exceptions.RayError`, and for its `RayActorError`."""


class LocalActor:
    """Calls the methods of a plain object one after another on a thread of its own: `actor.method.remote(...)`."""

    def __init__(self, inner: Any) -> None:
        self._inner, self._thread = inner, ThreadPoolExecutor(max_workers=1)
        self._calls: list[Future[Any]] = []
        self.killed = False

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Any] = getattr(self._inner, name)
        return SimpleNamespace(remote=lambda *arguments: self._call(method, *arguments))

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if self.killed:
            call: Future[Any] = Future()
            call.set_exception(RayError("the actor died"))
            return call
        self._calls.append(self._thread.submit(method, *arguments))
        answer: Future[Any] = Future()
        self._calls[-1].add_done_callback(lambda done: _pass_on(done, answer))
        self._answers = [*getattr(self, "_answers", []), answer]
        return answer

    def kill(self) -> None:
        """As `ray.kill`: what is under way, and whatever is asked later, fails."""
        self.killed = True
        for answer in getattr(self, "_answers", []):
            if not answer.done():
                answer.set_exception(RayError("the actor died"))

    def end(self) -> None:
        self._thread.shutdown(wait=not self.killed, cancel_futures=True)


def _pass_on(done: Future[Any], answer: Future[Any]) -> None:
    if answer.done() or done.cancelled():
        return
    error = done.exception()
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(done.result())


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
            text = repr(error)
            raise type("RayTaskError", (RayError, kind), {"cause": error, "__str__": lambda self: text})(*error.args) from error

    @staticmethod
    def wait(refs: Sequence[Future[Any]], *, num_returns: int, timeout: float) -> tuple[list[Future[Any]], list[Future[Any]]]:
        first = concurrent.futures.FIRST_COMPLETED if num_returns == 1 else concurrent.futures.ALL_COMPLETED
        concurrent.futures.wait(refs, timeout=timeout, return_when=first)
        ready = [ref for ref in refs if ref.done()][:num_returns]
        return ready, [ref for ref in refs if ref not in ready]


class LocalCluster:
    """In place of `Cluster`: waits for threads, and kills them."""

    room = True
    """Whether actors find a place at once; else they wait for one."""
    gpus = 0
    """GPUs that the actors may take."""
    fitting = 1000
    """How many more actors have room."""

    def address(self, stage: str = "", *, role: str = "driver") -> str:
        return stage

    def are_placed(self, actors: Sequence[LocalActor]) -> bool:
        return self.room

    def places(self, *, gpus: int, resource: str) -> int:
        return self.fitting

    def shortage(self, *, gpus: int, resource: str) -> str:
        return "each asks for 1 GPU; the cluster has 4 GPU, 0 of them free"

    def shortage_of(self, actor: LocalActor) -> str:
        return self.shortage(gpus=1, resource="")

    def end(self, actors: Sequence[LocalActor]) -> None:
        for actor in actors:
            actor.kill()


def local_group(name: str, make: Callable[[], Mapping[str, Any]], end: Callable[[Mapping[str, Any]], None]) -> ActorGroup:
    """A group whose actors answer `ready` when they are."""
    return ActorGroup(name, make=make, start=lambda actors: [actor.ready.remote() for actor in actors], end=end)


def up(group: ActorGroup) -> ActorGroup:
    """The group, begun and ready."""
    group.begin()
    LocalRay.get(group.ready_calls)
    group.mark_ready()
    return group
