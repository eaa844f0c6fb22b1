"""Starts the embedded server again when it dies: with its data and at its address, so that its clients ride through."""

import logging
import threading

from buffer.connection import ServerError
from buffer.server import EmbeddedServer

LOOK_S = 0.2
LASTING_S = 60.0  # a server that lived so long has not died "again"

log = logging.getLogger(__name__)


class ServerWatchdog:
    """Watches a server that was started. tries: deaths shortly after one another before it is left dead, which its
    clients then tell (with the path of its log)."""

    def __init__(self, server: EmbeddedServer, *, tries: int) -> None:
        self._server, self._tries = server, tries
        self.deaths = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="redis-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no more, and stop the server."""
        self._ended.set()
        self._thread.join()
        self._server.stop()

    def _run(self) -> None:
        recent, quiet = 0, 0.0
        while not self._ended.wait(LOOK_S):
            quiet += LOOK_S
            if self._server.running:
                continue
            recent = recent + 1 if quiet < LASTING_S else 1
            quiet = 0.0
            self.deaths += 1
            if recent > self._tries:
                log.error("the Redis server died %d times in a row and is left dead: see %s", recent, self._server.log)
                return
            try:
                self._server.start()
            except ServerError as error:
                log.error("the Redis server died and could not be started again: %s", error)
                return
            log.warning("the Redis server died and was started again")
