"""One connection, one namespace: every key of a run starts with `spct:{run_id}:` (I5).

The braces are literal: they name what a run's keys have in common, as a Redis Cluster would want it. (A Cluster is refused.)
"""

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.commands.core import Script
from redis.retry import Retry

from configs.redis_url import PASSWORD_VARIABLE, RedisUrl

RETRIES = 20  # at most 1 s apart: a client survives about 17 s without a server
ANSWER_S = 20.0  # longest time until a live server answers; blocking reads wait for less
BUSY_S = 20.0  # longest time that a call waits for a script of somebody else to end: `busy_script` ends it before
BUSY_RETRY_S = 0.2  # between two tries
REQUEST_S = 600  # how long a script remembers a request; a client gives up after (RETRIES + 1) * (ANSWER_S + 1) s at most
OLDEST = (7, 0)  # oldest server version: XAUTOCLAIM drops deleted entries, XINFO GROUPS has the lag

Argument = str | int | bytes
_INCLUDE = re.compile(r"^-- include (\w+)$", re.MULTILINE)
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class ServerError(RuntimeError):
    """The Redis server cannot be used; the message names the server and the remedy."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a run's data lives: a server and the run's namespace there. Picklable; repr hides the password."""

    url: str
    """As `configs.redis_url` reads it; the password stands here or in SPCT_REDIS_PASSWORD."""
    run_id: str
    """1 to 100 letters, digits, `.`, `_` or `-`."""

    def __post_init__(self) -> None:
        try:
            RedisUrl.parse(self.url)
        except ValueError as error:
            raise ValueError(f"the URL of the Redis server: {error}") from None
        check_run_id(self.run_id)

    def __repr__(self) -> str:
        return f"Address(url={self.public_url!r}, run_id={self.run_id!r})"

    def with_password(self) -> "Address":
        """Return the address with the password of this process's environment in its URL.

        A process on another machine needs it there, since its environment holds none. The address is unchanged if the URL
        has a password or the environment has none.
        """
        parts = RedisUrl.parse(self.url)
        secret = os.environ.get(PASSWORD_VARIABLE)
        if not secret or parts.password:
            return self
        return Address(url=parts.text(user=parts.user, password=secret), run_id=self.run_id)

    @property
    def public_url(self) -> str:
        """The URL without user, password and query, for logs and errors."""
        return RedisUrl.parse(self.url).public()


def check_run_id(run_id: str) -> None:
    """Raise ValueError unless `run_id` is 1 to 100 letters, digits, `.`, `_` or `-`."""
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(f"run id {run_id!r}: expected 1 to 100 letters, digits, '.', '_' or '-'")


def key(run_id: str, name: str) -> str:
    """Return the run's key of this name."""
    return f"spct:{{{run_id}}}:{name}"


def connect(address: Address, *, timeout_s: float = 5.0) -> redis.Redis:
    """Return a checked connection. Calls are repeated while the server restarts, so writes must be idempotent.

    Raises:
        ServerError: Within about `timeout_s`: nothing answers there, it is no Redis or one that is too old, the password is
            wrong, TLS fails, or the server may evict keys (I4: no silent loss).
    """
    # Not socket.timeout: redis-py would repeat it by itself when it connects, within each repetition of a call.
    lost = (redis.ConnectionError, redis.TimeoutError)
    retry = Retry(ExponentialBackoff(cap=1.0, base=0.05), RETRIES, supported_errors=lost)
    with _named_errors(address):
        _check(_client(address, timeout_s, timeout_s, Retry(NoBackoff(), 0)), timeout_s)
        return _client(address, min(timeout_s, ANSWER_S), ANSWER_S, retry)


def _client(address: Address, connect_s: float, answer_s: float, retry: Retry) -> redis.Redis:
    return redis.Redis.from_url(
        address.url,
        password=os.environ.get(PASSWORD_VARIABLE),  # a password in the URL takes precedence
        protocol=2,
        socket_connect_timeout=connect_s,
        socket_timeout=answer_s,
        retry=retry,
    )


def _check(client: redis.Redis, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    with client:
        while True:
            try:
                info: Any = client.info()
                break
            except redis.ResponseError as error:
                loads = isinstance(error, redis.exceptions.BusyLoadingError)  # its append-only file: alive, not ready
                if not (loads or is_busy(error)) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise ServerError(f"version {version} is too old; use Valkey or Redis, {OLDEST[0]}.{OLDEST[1]} or later")
    if info.get("redis_mode", "standalone") != "standalone" or info.get("cluster_enabled"):
        raise ServerError(
            f"it runs in {info.get('redis_mode', 'cluster')} mode: give a server of its own, which keeps all keys"
        )
    if info.get("role", "master") != "master":
        raise ServerError("it is a replica, which takes no writes: give its primary")
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        raise ServerError(f"it may evict keys (maxmemory-policy {policy}); set it to noeviction")


@contextmanager
def _named_errors(address: Address) -> Iterator[None]:
    """Turn every error until the first answer into a ServerError with its remedy."""
    where, scheme = f"Redis at {address.public_url}", address.url.partition(":")[0]
    try:
        yield
    except ServerError as error:
        raise ServerError(f"{where}: {error}") from None
    except (redis.AuthenticationError, redis.exceptions.AuthorizationError) as error:
        raise ServerError(f"{where} refuses the password ({error}): set {PASSWORD_VARIABLE}, or put it in the URL") from None
    except redis.exceptions.NoPermissionError as error:
        raise ServerError(f"{where} denies this user a command ({error}): correct its ACL") from None
    except redis.exceptions.BusyLoadingError:
        raise ServerError(f"{where} is still loading its data: wait, then start again") from None
    except redis.TimeoutError:
        raise ServerError(f"{where} does not answer: is it a Redis, and is {scheme} right (TLS: rediss)?") from None
    except redis.ConnectionError as error:
        raise ServerError(f"{where} is not reachable ({error}): {_remedy(address, str(error))}") from None
    except (redis.RedisError, ValueError, KeyError) as error:
        if isinstance(error, redis.RedisError) and is_busy(error):
            raise ServerError(f"{where} is held up by a script: end that (SCRIPT KILL), then start again") from None
        raise ServerError(f"{where} does not speak Redis ({error}): check redis.url") from None


def _remedy(address: Address, error: str) -> str:
    if "SSL" in error or "certificate" in error.lower():
        return "is it a TLS port with a certificate that this machine trusts (?ssl_ca_certs=FILE in the URL)?"
    if address.url.startswith("unix:"):
        return "is the server running, and is this the path of its socket?"
    return "start the server or correct redis.url; leave redis.url empty to let the run start its own"


@cache
def _source(name: str) -> str:
    """Return a script's text, in which a line `-- include other` is replaced by the text of other.lua."""
    text = files("buffer").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda line: _source(line[1]), text)


class Namespace:
    """The keys and scripts of one run on one connection. Errors of the server are raised as ServerError."""

    def __init__(self, client: redis.Redis, run_id: str) -> None:
        check_run_id(run_id)
        self._client = client
        self._run_id = run_id
        self._scripts: dict[str, Script] = {}

    def key(self, name: str) -> str:
        """Return the run's key of this name."""
        return key(self._run_id, name)

    def request(self) -> str:
        """Return the name of a fresh key, by which a script recognises a call that is repeated because its answer was lost."""
        return f"request:{secrets.token_hex(8)}"

    def run(self, script: str, names: Sequence[str], *args: Argument) -> Any:
        """Run `script`.lua on the keys of these names and return its result."""
        if script not in self._scripts:
            self._scripts[script] = self._client.register_script(_source(script))
        with _running_errors(self._run_id):
            return _when_free(lambda: self._scripts[script](keys=[self.key(name) for name in names], args=args))

    def command(self, *parts: Argument) -> Any:
        """Run one command, whose keys are written out, and return its result."""
        with _running_errors(self._run_id):
            return _when_free(lambda: self._client.execute_command(*parts))  # type: ignore[no-untyped-call]


def is_busy(error: redis.RedisError) -> bool:
    """Returns whether a call was refused because a script of somebody has run for seconds: redis-py has no class for it."""
    return str(error).startswith("BUSY ")


def _when_free(call: Callable[[], Any]) -> Any:
    """Returns the answer of a call, which is made again while a script holds the server up."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            return call()
        except redis.ResponseError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
        time.sleep(BUSY_RETRY_S)


@contextmanager
def _running_errors(run_id: str) -> Iterator[None]:
    """Raise ServerError for a server that went away, cannot write, or has lost the run's streams."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise ServerError(
            f"run {run_id}: the Redis server went away and did not come back ({error}): look at its log, "
            "start it again and resume the run"
        ) from error
    except redis.ResponseError as error:
        cause = _cause_and_remedy(str(error))
        raise ServerError(f"run {run_id}: the Redis server refused a command ({error}){cause}") from error


def _cause_and_remedy(error: str) -> str:
    if "MISCONF" in error or "No space" in error:
        return ": it cannot write to its disk; free space where it keeps its data, then resume the run"
    if "maxmemory" in error:
        return ": it is at its memory limit; raise maxmemory, then resume the run"
    if error.startswith("BUSY "):
        return f": a script has held it up for {BUSY_S:.0f} s; end that (SCRIPT KILL), then resume the run"
    if "NOGROUP" in error:
        return ": the run's streams are missing; was setup() called, was the server emptied?"
    return ""
