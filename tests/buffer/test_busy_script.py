"""A script that a worker runs and that does not end: the server is held up for seconds, and the run goes on."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from buffer import busy_script, server_watchdog, streams
from buffer.server import EmbeddedServer
from buffer.server_watchdog import ServerWatchdog
from buffer.streams import Address, ServerError, connect
from tests.buffer.run_by_hand import Run
from tests.buffer.server_by_hand import Rooted, wait_until

ENDLESS = "while true do end"
WRITES_FIRST = "redis.call('SETEX', KEYS[1], 60, 'half') while true do end"


@pytest.fixture
def watched(folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Rooted]:
    """A server that says BUSY after a tenth of a second, and its watchdog, which looks as often."""
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(server_watchdog, "LOOK_S", 0.05)
    monkeypatch.setattr(busy_script, "PING_S", 0.1)
    monkeypatch.setattr(busy_script, "BUSY_S", 0.3)
    server = Rooted(folder)
    server.start()
    server.root.config_set("busy-reply-threshold", "100")
    watchdog = ServerWatchdog(server, tries=3)
    yield server
    watchdog.stop()


def eval_as_rollout(server: Rooted, script: str, *keys: str) -> tuple[threading.Thread, list[str]]:
    """Run a script as a rollout worker, until it holds the server up. Returns the thread that waits for it, and its error."""
    ended: list[str] = []
    client = redis.Redis.from_url(server.url_for("rollout"), retry=Retry(NoBackoff(), 0))  # else it would run it again

    def run() -> None:
        try:
            client.eval(script, len(keys), *keys)
        except redis.RedisError as error:
            ended.append(str(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    other = redis.Redis.from_url(server.url, socket_timeout=0.1, retry=Retry(NoBackoff(), 0))
    wait_until(lambda: not answers(other))
    return thread, ended


def answers(client: redis.Redis) -> bool:
    try:
        return client.ping()
    except redis.RedisError:
        return False


def test_it_is_ended_and_others_only_wait(watched: Rooted, caplog: pytest.LogCaptureFixture) -> None:
    client = connect(Address(watched.url, "r"))
    streams.setup(client, "r", meta_rm=False)
    run, pid = Run(client, "r"), watched.pid
    thread, ended = eval_as_rollout(watched, ENDLESS)
    assert run.issue(3) == 3
    thread.join(60)
    assert "killed by user" in ended[0].lower()
    assert "held the Redis server up and was ended" in caplog.text
    assert watched.pid == pid


def test_one_that_has_written_costs_a_restart_and_leaves_nothing(watched: Rooted, caplog: pytest.LogCaptureFixture) -> None:
    client = connect(Address(watched.url, "r"))
    streams.setup(client, "r", meta_rm=False)
    run, pid = Run(client, "r"), watched.pid
    assert run.issue(2) == 2
    eval_as_rollout(watched, WRITES_FIRST, "spct:{r}:request:x")
    assert run.issue(1) == 1
    assert "has written: the server is killed" in caplog.text
    assert watched.pid != pid
    assert run.groups_in("prompts") == [0, 1, 2]
    assert client.get("spct:{r}:request:x") is None


@pytest.mark.parametrize("error", [redis.TimeoutError("no answer"), redis.ConnectionError("it is gone")])
def test_a_server_that_does_not_answer_script_kill_is_looked_at_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The watchdog's thread goes on: it also restarts the server."""

    class Busy:
        kills = 0

        def ping(self) -> None:
            raise redis.ResponseError("BUSY Redis is busy running a script")

        def script_kill(self) -> None:
            self.kills += 1
            if self.kills == 1:
                raise error

    monkeypatch.setattr(busy_script, "PING_S", 0.0)
    monkeypatch.setattr(busy_script, "BUSY_S", 0.0)
    script, client = busy_script.BusyScript(cast(EmbeddedServer, None)), Busy()
    monkeypatch.setattr(script, "_connection", lambda: client)
    script.end_if_lasting()
    script.end_if_lasting()
    assert client.kills == 2
    assert f"could not be ended: {error}" in caplog.text
    assert "was ended" in caplog.text


def test_on_a_server_of_ones_own_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody watches that one."""
    from buffer import connection

    monkeypatch.setattr(connection, "BUSY_S", 0.3)
    with Rooted(folder) as server:
        server.root.config_set("busy-reply-threshold", "100")
        client = connect(Address(server.url, "r"))
        streams.setup(client, "r", meta_rm=False)
        eval_as_rollout(server, ENDLESS)
        with pytest.raises(ServerError, match=r"a script has held it up for 0 s; end that \(SCRIPT KILL\)"):
            Run(client, "r").issue(1)
        client.script_kill()


def test_the_server_has_a_memory_limit_and_evicts_nothing(folder: Path) -> None:
    with Rooted(folder) as server:
        limits = server.root.config_get("maxmemory*")
        assert int(limits["maxmemory"]) > 1 << 28
        assert limits["maxmemory-policy"] == "noeviction"
