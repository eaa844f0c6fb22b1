"""The two kinds of processes of the server, as plain classes; `launch/cluster/served_app.py` makes Ray Serve run them.

HttpWorker ×H (the app, the core) ── handle ──▶ JudgeWorker ×R (a meta-RM) ═ pipe ═▶ its engine        both ── the store
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

from buffer.cohorts import connected
from buffer.connection import Address, ServerError
from buffer.node_metrics import NodeMetrics, connected_metrics
from launch.serving import metrics
from launch.serving.app import make_app
from launch.serving.core import Core
from launch.serving.door import Keys
from launch.serving.errors import ServingError, Unjudged
from launch.serving.interfaces import INTERFACES
from launch.serving.log_file import log_to
from launch.serving.protocol import ChatAnswer, ChatRequest
from launch.serving.settings import ServerSettings

if TYPE_CHECKING:  # HTTP workers need no more than the store
    from launch.judging.prepared_judge import PreparedJudge
    from launch.setup.tokenizer import Tokenizer

CONNECT_S = 10.0
LAST_S = 1.0  # of a judge whose engine has ended: it gives back the cohorts that it has leased
logger = logging.getLogger(__name__)


class RemoteJudges:
    """The judges, asked through a handle of Ray Serve, which chooses the one with the shortest queue."""

    def __init__(self, handle: Any) -> None:
        """Takes the handle."""
        self._handle = handle

    async def judge(self, cohort: str) -> bytes | None:
        """As of `Judges`."""
        verdict: bytes | None = await self._handle.judge.remote(cohort)
        return verdict

    async def chat(self, request: ChatRequest, seconds: float) -> ChatAnswer:
        """As of `AllJudges`."""
        try:
            answered = await self._handle.chat.remote(request, seconds)
        except ServingError:
            raise
        except Exception as error:  # of Ray, of whatever kind: the judge died, or its queue is full
            raise Unjudged(f"the judge failed ({type(error).__name__}); send it again", final=False) from error
        if isinstance(answered, ServingError):
            raise answered
        assert isinstance(answered, ChatAnswer)
        return answered


class HttpWorker:
    """One HTTP worker."""

    def __init__(self, settings: ServerSettings, address: Address, log: Path, keys: Path | None, judges: Any) -> None:
        """Connects to the store. `judges` is the handle of the judges, `log` the file of the server's log."""
        log_to(log)
        self._settings, self._keys = settings, Keys(keys)
        self._nodes = connected_metrics(address, timeout_s=CONNECT_S)
        tell_metrics(self._nodes)
        limits = {"keep_s": settings.keep_s, "most": settings.most_cohorts}
        self._core = Core(settings, connected(address, timeout_s=CONNECT_S, **limits), RemoteJudges(judges))

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Returns the app: Ray Serve calls this in the worker's process."""
        core = self._core
        asked: dict[str, Any] = {"ready": core.ready, "ages": core.ages, "others": self._others}
        self._door = make_app(core, INTERFACES, settings=self._settings, keys=self._keys, **asked)
        return self._door

    async def drain(self) -> int:
        """Takes no more requests. Returns how many are under way."""
        self._door.draining = True
        return self._door.inside

    async def _others(self) -> dict[str, str]:
        try:
            return await asyncio.to_thread(self._nodes.others, metrics.NODE)
        except ServerError as error:
            raise Unjudged(f"the store does not answer ({error})", final=False) from None


class JudgeWorker:
    """One judge."""

    def __init__(
        self,
        settings: ServerSettings,
        address: Address,
        log: Path,
        made: "PreparedJudge",
        meta_tokenizer: "Tokenizer | None",
        cores: Sequence[int],
    ) -> None:
        """Opens the judge, which takes a while.

        Args:
            settings: As the server was started.
            address: Of the store.
            log: File of the server's log.
            made: The judge, which was checked where the server was started: to make a tokenizer is to fork, and no process of
                Ray should.
            meta_tokenizer: Of its meta-RM; None: it has none.
            cores: To which its engine is bound; none: to no others than this process is.
        """
        log_to(log)
        tell_metrics(connected_metrics(address, timeout_s=CONNECT_S))
        from actors.engine_process import EngineProcess
        from launch.judging.local_meta import MetaScores
        from launch.serving.newer_weights import open_engine
        from launch.serving.replica import JudgeReplica
        from launch.setup.engine_settings import engine_settings

        assert made.tokenizer is not None  # no server is served
        meta = None
        if meta_tokenizer is not None:  # before the engine, which takes the memory that is left
            meta = MetaScores(made.config, made.found.meta_rm, tokenizer=meta_tokenizer)
        number = os.getpid()  # of its own stream, from which no seeded vote draws
        engine_made = engine_settings(made.config, model=made.found.model, number=number, tokenizer=made.tokenizer)
        engine = EngineProcess(partial(open_engine, log, engine_made, made.found.run, made.found.version), cores=cores)
        self._engine = engine
        self._replica = JudgeReplica(
            engine=engine,
            tokenizer=made.tokenizer,
            plan=made.plan,
            context=made.config.max_prompt_tokens,
            cohorts=connected(address, timeout_s=CONNECT_S, keep_s=settings.keep_s, most=settings.most_cohorts),
            meta=meta,
            owner=f"judge-{os.getpid()}",
            version=made.found.version,
        )

    async def judge(self, cohort: str) -> bytes | None:
        """As of `Judges`."""
        with _ending_with_engine():
            return await self._replica.judge(cohort)

    async def chat(self, request: ChatRequest, seconds: float) -> ChatAnswer | ServingError:
        """Returns the answers, or the refusal: raised here it would come as an error of Ray."""
        try:
            with _ending_with_engine():
                return await self._replica.chat(request, seconds)
        except ServingError as error:
            return error

    async def check_health(self) -> None:
        """Waits when the engine hangs: Ray Serve then replaces this process."""
        with _ending_with_engine():
            await asyncio.to_thread(self._engine.submit, [])


@contextmanager
def _ending_with_engine() -> Iterator[None]:
    """End this process soon after it was seen that its engine has ended, so that Ray starts another at once. Three checks of
    its health would take a quarter of a minute, for which the judge that fails fastest has the shortest queue."""
    from actors.vllm_engine import EngineDead

    try:
        yield
    except EngineDead as error:
        logger.error("%s: this judge ends, and another is started", error)
        asyncio.get_running_loop().call_later(LAST_S, os._exit, 1)
        raise


def tell_metrics(nodes: NodeMetrics) -> None:
    """Lets this process tell the store what its node counted, as long as it lives."""

    def tell() -> None:
        while True:
            try:
                nodes.post(metrics.NODE, metrics.own_text())
            except Exception as error:  # of whatever kind: /metrics of this node goes on, and the others hear of it later
                logger.warning("what this node counted is not told (%s: %s)", type(error).__name__, error)
            time.sleep(metrics.TELL_S)

    threading.Thread(target=tell, name="node-metrics", daemon=True).start()
