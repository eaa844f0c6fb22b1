"""One job at a time in a thread of its own, whose result or error is taken by the thread that began it."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class BackgroundJob(Generic[T]):
    """A thread for one job after another. All methods are called by one thread."""

    def __init__(self, *, name: str, timeout_s: float) -> None:
        """Begin nothing.

        Args:
            name: of the thread.
            timeout_s: for a job to end; the setting is `waits.progress_s`.
        """
        self._name, self._timeout_s = name, timeout_s
        self._thread: threading.Thread | None = None
        self._what = ""
        self._results: list[T] = []
        self._errors: list[BaseException] = []

    @property
    def under_way(self) -> bool:
        """Whether a job runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, what: str, job: Callable[[], T]) -> None:
        """Begin a job; the one before was taken.

        Args:
            what: the job, in the words of a TimeoutError.
            job: its result is not None.
        """
        if self._thread is not None:
            raise RuntimeError(f"{self._what} was not taken before {what} began")
        self._what = what
        # a daemon: what hangs must not keep a process alive that is to end
        self._thread = threading.Thread(target=self._run, args=(job,), name=self._name, daemon=True)
        self._thread.start()

    def finished(self) -> T | None:
        """Return the result of a job that has ended, once, or raise its error; None while it runs, and where there is none."""
        return None if self.under_way else self.wait()

    def wait(self) -> T | None:
        """Return as `finished`, when the job has ended.

        Raises:
            TimeoutError: it has not in time.
        """
        if self._thread is None:
            return None
        self._thread.join(self._timeout_s)
        if self._thread.is_alive():
            raise TimeoutError(f"waited {self._timeout_s:.0f} s for {self._what} (waits.progress_s)")
        self._thread = None
        if self._errors:
            raise self._errors.pop()
        return self._results.pop()

    def _run(self, job: Callable[[], T]) -> None:
        try:
            self._results.append(job())
        except BaseException as error:  # of any kind, an exit too: whoever began it raises it
            self._errors.append(error)
