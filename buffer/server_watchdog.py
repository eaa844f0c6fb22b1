"""Restarts the embedded server when it crashes: with its data and at its address, so that its clients only wait a moment.
Ends scripts that hold it up (`busy_script`)."""

import logging
import threading

from buffer.busy_script import BusyScript
from buffer.connection import ServerError
from buffer.server import EmbeddedServer, ServerEnded

LOOK_S = 0.2  # time between two checks
LASTING_S = 60.0  # a server that lived so long starts a new row of crashes

log = logging.getLogger(__name__)


class ServerWatchdog:
    """Watches a server that was started, from construction until `stop`.

    Args:
        server: The server, which is running.
        tries: Crashes in a row, each within LASTING_S of the one before, after which it is not restarted. Its clients then
            raise the error.

    Attributes:
        deaths: Crashes so far.
    """

    def __init__(self, server: EmbeddedServer, *, tries: int) -> None:
        self._server, self._tries, self._script = server, tries, BusyScript(server)
        self.deaths = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="redis-watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching, and stop the server."""
        self._ended.set()
        self._thread.join()
        self._script.close()
        self._server.stop()

    def _run(self) -> None:
        in_a_row, quiet_s = 0, 0.0
        while not self._ended.wait(LOOK_S):
            quiet_s += LOOK_S
            if self._server.running:
                self._script.end_if_lasting()
                continue
            in_a_row = in_a_row + 1 if quiet_s < LASTING_S else 1
            quiet_s = 0.0
            self.deaths += 1
            if in_a_row > self._tries:
                log.error("the Redis server crashed %d times in a row; giving up: see %s", in_a_row, self._server.log)
                return
            try:
                self._server.start()
            except ServerEnded as error:
                log.warning("the Redis server crashed while it was restarted: %s", error)
                continue  # the next check counts it as one more crash
            except ServerError as error:
                log.error("the Redis server crashed and could not be restarted: %s", error)
                return
            log.warning("the Redis server crashed and was restarted (crash %d of this run)", self.deaths)
