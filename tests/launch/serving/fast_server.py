"""A whole reward server whose engine is a fake, which takes any `launch/serve.py` option: hundreds of cohorts in seconds.

All else is real: Ray Serve's proxy and processes, the routes, the core, the cohorts, Redis with its file, and of a judge
everything around its engine. The engine, in a process of its own like any other, scores a response by its text
(`small_server.py`), gives each vote a name, which stands in its critique, and writes that name down before it answers: a bill
of what was paid for. What the store said that it keeps is written down as well.

    bill.txt   VOTE KEY   for each vote that an engine gave: its name, JUDGE.NUMBER by the judge's pid, and what it was asked
    kept.txt   VOTE       for each vote that the store has taken
"""

import itertools
import os
import re
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch

from actors.engine_process import EngineProcess
from actors.generator import Request
from buffer.cohorts import Cohorts, Lease
from buffer.connection import Address, connect
from launch import serve
from launch.judging.prepared_judge import PreparedJudge
from launch.serving.deployed import CONNECT_S, JudgeWorker
from launch.serving.log_file import log_to
from launch.serving.replica import JudgeReplica
from launch.serving.settings import ServerSettings
from launch.setup.tokenizer import Tokenizer
from tests.launch.serving.small_server import CountingEngine, LetterTokenizer, judgement

BILL, KEPT = "bill.txt", "kept.txt"
TICK_S, VOTES = 0.02, 2  # an engine gives so many votes in so many seconds
VOTE = re.compile(rb"vote (\d+\.\d+)")


class Lines:
    """A file to which several processes add lines, each of them whole."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, *lines: str) -> None:
        """Adds lines, in one write."""
        os.write(self._file, "".join(f"{line}\n" for line in lines).encode())


class BilledEngine(CountingEngine):
    """Gives VOTES votes every TICK_S, the oldest request first, and bills each of them before anybody hears of it."""

    def __init__(self, bill: Path) -> None:
        super().__init__()
        self._text, self._bill, self._numbers = self._billed, Lines(bill), itertools.count()
        self._judge = os.getppid()
        self.automatic = False
        threading.Thread(target=self._decode, daemon=True).start()

    def _decode(self) -> None:
        while True:
            time.sleep(TICK_S)
            self.finish(VOTES)

    def _billed(self, request: Request, sample: int) -> str:
        vote = f"{self._judge}.{next(self._numbers)}"
        asked = sha256(repr((request.token_ids, request.seed)).encode()).hexdigest()[:16]
        self._bill.add(f"{vote} {asked}")
        return judgement(request, sample).replace("as they are", f"vote {vote}")


class ToldCohorts(Cohorts):
    """Tells which votes the store has taken."""

    def __init__(self, address: Address, kept: Lines, settings: ServerSettings) -> None:
        client = connect(address, timeout_s=CONNECT_S)
        super().__init__(client, address.run_id, keep_s=settings.keep_s, most=settings.most_cohorts)
        self._kept = kept

    def keep(self, lease: Lease, votes: Mapping[int, bytes], *, lease_s: float) -> bool:
        held = super().keep(lease, votes, lease_s=lease_s)
        if held and votes:
            self._kept.add(*(found[1].decode() for text in votes.values() if (found := VOTE.search(text))))
        return held


class FastJudge(JudgeWorker):
    """In place of `JudgeWorker`: its engine and its tokenizer are fakes."""

    def __init__(
        self,
        settings: ServerSettings,
        address: Address,
        log: Path,
        made: PreparedJudge,
        meta_tokenizer: Tokenizer | None,
        cores: Sequence[int],
    ) -> None:
        log_to(log)
        engine = EngineProcess(partial(BilledEngine, log.parent / BILL), cores=cores)
        self._engine = engine
        self._replica = JudgeReplica(
            engine=engine,
            tokenizer=LetterTokenizer(),
            plan=made.plan,
            context=4000,
            cohorts=ToldCohorts(address, Lines(log.parent / KEPT), settings),
            meta=None,
            owner=f"judge-{os.getpid()}",
        )


def main() -> int:
    """As `launch/serve.py`, with fast judges."""
    with patch("launch.serving.served.JudgeWorker", FastJudge):
        return serve.main()


if __name__ == "__main__":
    from tests.launch.serving import fast_server  # under its own name: processes of Ray import its classes from there

    sys.exit(fast_server.main())
