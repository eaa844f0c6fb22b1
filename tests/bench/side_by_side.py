"""How every figure is measured: contenders take turns in one run, and only values of the same round are divided.

    contender A ─┐ go, value, go, value, …
                 ├─▶ turns (the order turns round in every round) ─▶ {name: values} ─▶ Measured: medians, ratio, spread
    contender B ─┘

A shared machine changes its speed within minutes; two values that follow each other see the same machine. A contender that
imports much has a process of its own and sleeps while others run: vLLM and DeepSpeed cannot share one, and peak memory is
that of a process.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from configs.load import ConfigError, load
from launch.setup.model_files import resolve
from tests.bench.figures import FIGURES

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a bench found for one figure. ValueError if there is no such figure, or rounds are missing."""

    figure: str
    """Its name in FIGURES."""
    unit: str
    """Of both sides."""
    ours: tuple[float, ...]
    """A value for each round."""
    against: tuple[float, ...] = ()
    """The other side's, in the same rounds; empty where there is none."""
    note: str = ""
    """What the figure is made of."""

    def __post_init__(self) -> None:
        if self.figure not in FIGURES:
            raise ValueError(f"{self.figure}: no such figure; give it a row in tests/bench/figures.py")
        if bool(FIGURES[self.figure].against) != bool(self.against):
            raise ValueError(f"{self.figure}: its row and its measurement disagree whether it is compared with something")
        if not self.ours or (self.against and len(self.against) != len(self.ours)):
            raise ValueError(f"{self.figure}: {len(self.ours)} rounds of ours, {len(self.against)} of the other side")

    @property
    def values(self) -> list[float]:
        """The figure in each round: the ratio, or ours alone."""
        if not self.against:
            return [*self.ours]
        return [ours / against for ours, against in zip(self.ours, self.against, strict=True)]

    def record(self) -> dict[str, Any]:
        """Return what is stored: medians, and the spread of the figure over the rounds."""
        return {
            "value": _short(statistics.median(self.values)),
            "low": _short(min(self.values)),
            "high": _short(max(self.values)),
            "rounds": len(self.ours),
            "unit": self.unit,
            "ours": _short(statistics.median(self.ours)),
            "against": _short(statistics.median(self.against)) if self.against else None,
            "note": self.note,
        }


def turns(rounds: int, contenders: Mapping[str, Callable[[], T]], *, warm_up: int = 1) -> dict[str, list[T]]:
    """Let each contender measure once a round. Return the values of each, without those of the first `warm_up` rounds."""
    values: dict[str, list[T]] = {name: [] for name in contenders}
    for number in range(-warm_up, rounds):
        for name in sorted(contenders, reverse=number % 2 == 1):
            value = contenders[name]()
            if number >= 0:
                values[name].append(value)
    return values


@contextmanager
def repeated(*calls: Callable[[], object], pause_s: float = 0.0) -> Iterator[None]:
    """Call each again and again in a thread of its own while the block lasts, `pause_s` apart."""
    ended = threading.Event()

    def repeat(call: Callable[[], object]) -> None:
        while not ended.wait(pause_s):
            call()

    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(repeat, call) for call in calls]
        try:
            yield
        finally:
            ended.set()
            for future in futures:
                future.result()  # raises what a call raised: it explains why the block waited in vain


class Contender:
    """A process that builds something once, and measures whenever it is called. A context manager."""

    def __init__(self, name: str, build: Callable[[], Callable[..., Any]], *, limit_s: float = 300) -> None:
        """Start the process.

        Args:
            name: For errors.
            build: Called in the process; what it returns is called there for each measurement. It must be picklable, as the
                measurements' arguments and values.
            limit_s: For the building, and for one measurement.
        """
        self._name, self._limit_s = name, limit_s
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, build))  # no daemon: it may have children
        self._process.start()
        theirs.close()  # a contender that fails then ends `recv`

    def __enter__(self) -> Self:
        try:
            self._answer()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def __call__(self, *arguments: Any) -> Any:
        """Measure once, and return the value."""
        self._pipe.send(arguments)
        return self._answer()

    def _end(self) -> None:
        self._process.kill()
        self._process.join()

    def _answer(self) -> Any:
        if not self._pipe.poll(self._limit_s):
            raise TimeoutError(f"the bench waited {self._limit_s:.0f} s for {self._name}")
        try:
            return self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"{self._name} failed: its error stands above") from None


def _serve(pipe: Connection, build: Callable[[], Callable[..., Any]]) -> None:
    measure = build()
    pipe.send(True)
    while True:
        try:
            arguments = pipe.recv()
        except EOFError:  # whoever asked is gone
            return
        pipe.send(measure(*arguments))


def is_installed(preset: str) -> bool:
    """Whether the model of a preset is there; where it is not, say so: its figures are left out."""
    try:
        resolve(load(preset, ["data.train=[unused]", "data.heldout=[unused]"]).model.path)
    except ConfigError as error:
        print(f"{preset} is left out: {error}", file=sys.stderr)
        return False
    return True


def main(measure: Callable[..., list[Measured]], method: str | None, *, seconds: float | None = None) -> None:
    """Be the command line of one bench.

    Args:
        measure: Measures; its argument says whether a quick form will do, which shows that the bench works and no more. One
            whose time may be chosen takes `seconds`, too.
        method: The bench's docstring.
        seconds: How long it measures where nothing is said; None: that is not to be chosen.
    """
    parser = argparse.ArgumentParser(description=method, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small and few: shows that the bench works, measures nothing")
    parser.add_argument("--json", type=Path, help="also write the figures into this file")
    if seconds is not None:
        parser.add_argument("--seconds", type=float, default=seconds, help=f"how long it measures (default: {seconds:.0f})")
    arguments = parser.parse_args()
    chosen = {} if seconds is None else {"seconds": arguments.seconds}
    records = {measured.figure: measured.record() for measured in measure(arguments.quick, **chosen)}
    for name, record in records.items():
        print(f"{name}: {described(record)}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(records))


def described(record: Mapping[str, Any]) -> str:
    """Return a stored figure in words: the median and the spread over the rounds, what was divided, what it is made of."""
    spread = "" if record["low"] == record["high"] else f" ({record['low']:g} to {record['high']:g})"
    sides = "" if record["against"] is None else f": {record['ours']:g} against {record['against']:g} {record['unit']}"
    return f"{record['value']:g}{spread}{sides}" + (f"; {record['note']}" if record["note"] else "")


def _short(value: float) -> float:
    """Round to four digits: more would be noise."""
    return float(f"{value:.4g}")
