"""Ends a script that holds the embedded server up: a worker may run any script on its own keys, one that never ends too.

script runs for 5 s ─▶ the server answers BUSY to all ─▶ after BUSY_S more: SCRIPT KILL
                                                         it has written something: the server is killed, and started again
"""

import logging
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from buffer.connection import is_busy
from buffer.server import EmbeddedServer

PING_S = 1.0  # between two looks
ANSWER_S = 2.0  # for the answer: a server that runs a script says nothing at all in its first 5 s
BUSY_S = 2.0  # longer than a script of ours may still run once others get BUSY

log = logging.getLogger(__name__)


class BusyScript:
    """Looks whether the server is held up, as its driver."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._client: redis.Redis | None = None
        self._next = 0.0
        self._since: float | None = None

    def end_if_lasting(self) -> None:
        """End the script that has held the server up for too long, if there is one. Looks once in PING_S at most."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PING_S
        try:
            self._connection().ping()
            self._since = None
        except redis.ResponseError as error:
            if is_busy(error):
                self._since = self._since or now
                if now - self._since >= BUSY_S:
                    self._end()
        except (redis.ConnectionError, redis.TimeoutError):  # it has crashed, or is not yet at the point of saying BUSY
            return

    def _end(self) -> None:
        self._since = None
        try:
            self._connection().script_kill()
            log.warning("a script of one of its clients held the Redis server up and was ended")
        except redis.ResponseError as error:
            if "UNKILLABLE" in str(error):
                log.warning("a script of one of its clients holds the Redis server up and has written: the server is killed")
                self._server.kill()
        except (redis.ConnectionError, redis.TimeoutError) as error:  # the next looks see what has become of it
            log.warning("a script of one of its clients holds the Redis server up and could not be ended: %s", error)

    def _connection(self) -> redis.Redis:
        if self._client is None:
            self._client = redis.Redis.from_url(
                self._server.url,
                protocol=2,
                socket_connect_timeout=ANSWER_S,
                socket_timeout=ANSWER_S,
                retry=Retry(NoBackoff(), 0),
            )
        return self._client

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
