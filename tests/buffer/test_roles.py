"""Each role can do its whole work on the server that a run starts, and nothing else."""

import re
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from buffer import streams
from buffer.heartbeat import Heartbeat, last_heartbeats
from buffer.ledger import Ledger
from buffer.roles import ROLES, Role
from buffer.rollout_target import rollout_target, set_rollout_target
from buffer.server import EmbeddedServer
from buffer.streams import EXPERIENCE, GRPO, META_RM, PROMPTS, ROLLOUTS, Address, ServerError, connect, key, waiting
from tests.buffer.run_by_hand import Run

Enter = Callable[[Role], Run]
OF_A_RUN = [role for role in ROLES if role != "server"]  # the reward server has no streams, and test_cohorts.py shows its work
WORKERS = [role for role in OF_A_RUN if role != "driver"]
REFUSED = "(?i)no permissions|command (is )?not allowed"  # the latter: switched off for all, or in scripts


@pytest.fixture
def enter(server: EmbeddedServer, address: Address, client: redis.Redis) -> Iterator[Enter]:
    """Enters the run of `client` (the driver's) in another role."""
    connections: list[redis.Redis] = []

    def enter_as(role: Role) -> Run:
        connections.append(connect(Address(server.url_for(role), address.run_id)))
        return Run(connections[-1], address.run_id)

    yield enter_as
    for connection in connections:
        connection.close()


# ---- what each role may do -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "source", "destination"), [("rollout", PROMPTS, ROLLOUTS), ("reward", ROLLOUTS, EXPERIENCE)])
def test_a_worker_does_its_whole_work(
    client: redis.Redis, address: Address, enter: Enter, role: Role, source: str, destination: str
) -> None:
    driver, worker = Run(client, address.run_id), enter(role)
    first, second = worker.consumer(source, "first"), worker.consumer(source, "second")
    assert first.claim(1, block_s=0.05) == []
    driver.issue(5)
    if source == ROLLOUTS:
        before = driver.consumer(PROMPTS, claim_timeout_s=60)
        assert all(before.hand_off(entry, ROLLOUTS, b"rollouts") for entry in before.claim(5, block_s=0))
    held = first.claim(4, block_s=0)
    assert first.renew([entry.id for entry in held]) == [entry.id for entry in held]
    assert first.hand_off(held[0], destination, b"done")
    assert first.dead_letter(held[1], "of no use")
    assert driver.groups_in(destination) == [0]
    assert [(letter.stream, letter.group) for letter in streams.dead_letters(client, address.run_id)] == [(source, 1)]
    assert driver.ledger.outcomes()["dead_letter"] == 1
    assert sorted(driver.ledger.outstanding()) == [0, 2, 3, 4]
    assert [entry.group for entry in first.own_pending()] == [2, 3]
    time.sleep(0.06)
    assert [entry.group for entry in second.claim(1, block_s=1)] == [2], "the claim had lapsed"
    assert first.ack([held[3].id]) == 1
    assert second.leave() == 1


def test_a_rollout_worker_may_ask_how_many_share_the_prompts(client: redis.Redis, address: Address, enter: Enter) -> None:
    driver, worker = Run(client, address.run_id), enter("rollout")
    set_rollout_target(client, address.run_id, 3)
    assert rollout_target(worker.client, address.run_id) == 3
    driver.issue(7)
    assert len(worker.consumer(PROMPTS).claim(7, block_s=0, workers=3)) == 3


def test_the_learner_does_its_whole_work(client: redis.Redis, address: Address, enter: Enter) -> None:
    driver, run = Run(client, address.run_id), enter("learner")
    driver.issue(8)
    driver.score()
    learner, ledger = run.learner(), Ledger(run.client, run.run_id)
    assert ledger.recover(0, [], {}) == (1, 0)
    claimed = learner.claim(6, block_s=0)
    assert learner.claim(9, block_s=0)[-1].group == 7
    assert learner.claim(1, block_s=0.05) == []
    assert len(learner.own_pending()) == 8
    assert ledger.outstanding() == dict.fromkeys(range(8), 0)
    ledger.advance(1, [0, 1])
    ledger.acknowledge(1, [claimed[0].id])
    ledger.advance(2, [2])
    ledger.release([3], outcome="filtered", entries=[claimed[3].id])
    assert learner.dead_letter(claimed[4], "of no use")
    assert ledger.recover(1, [claimed[1].id], {2: 0}) == (2, 1)
    assert (ledger.version(), sorted(ledger.outstanding())) == (1, [2, 5, 6, 7])
    assert ledger.outcomes() == {"issued": 8, "trained": 2, "filtered": 1, "dropped": 0, "dead_letter": 1, "skipped": 0}
    assert ledger.trim() == 0, "the meta-RM has read nothing yet"
    assert learner.ack([claimed[5].id]) == 1
    assert waiting(run.client, run.run_id, EXPERIENCE, GRPO) == 0


def test_the_meta_rm_does_its_whole_work(client: redis.Redis, address: Address, enter: Enter) -> None:
    driver, run = Run(client, address.run_id), enter("meta-rm")
    driver.issue(8)
    driver.score()
    reader, ledger = run.learner(META_RM), Ledger(run.client, run.run_id)
    assert ledger.skip_backlog(META_RM, 5) == 3
    claimed = reader.claim(3, block_s=0)
    assert [entry.group for entry in reader.own_pending()] == [3, 4, 5]
    assert reader.ack([claimed[0].id]) == 1
    assert reader.dead_letter(claimed[1], "of no use")
    assert waiting(run.client, run.run_id, EXPERIENCE, META_RM) == 2
    assert ledger.outcomes()["skipped"] == 4
    assert len(driver.ledger.outstanding()) == 8, "the learner decides their outcome"


@pytest.mark.parametrize("role", OF_A_RUN)
def test_every_role_sends_heartbeats_and_the_driver_reads_them(
    server: EmbeddedServer, address: Address, client: redis.Redis, role: Role
) -> None:
    heartbeat = Heartbeat(Address(server.url_for(role), address.run_id), role, every_s=60, hang_s=60)
    assert list(last_heartbeats(client, address.run_id)) == [role]
    heartbeat.stop()
    assert last_heartbeats(client, address.run_id) == {}


# ---- what each role may not do ---------------------------------------------------------------------------------------


def refused(client: redis.Redis, *words: str, keys: Sequence[str] = ()) -> bool:
    """Whether the command is refused: called plainly and inside a script, with its keys declared and without."""
    script = "return redis.call(unpack(ARGV))"
    for call in (words, ("EVAL", script, "0", *words), ("EVAL", script, str(len(keys)), *keys, *words)):
        try:
            answer = str(client.execute_command(*call))  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            answer = str(error)
        if not re.search(REFUSED, answer):
            return False
    return True


OTHERS = {
    "rollout": [
        *("XRANGE @experience - +", "XREAD STREAMS @experience 0", "XACK @experience grpo 1-1", "XLEN @experience"),
        *("XREADGROUP GROUP grpo me STREAMS @experience >", "XADD @experience * g 1 p x", "XTRIM @experience MAXLEN 0"),
        *("XRANGE @rollouts - +", "XREADGROUP GROUP reward me STREAMS @rollouts >", "XACK @rollouts reward 1-1"),
        *("XADD @prompts * g 1 p x", "XTRIM @prompts MAXLEN 0", "XGROUP DESTROY @prompts rollout", "DEL @prompts"),
        *("GET @version", "SET @version 9", "HGETALL @outcomes", "ZRANGE @outstanding 0 -1", "ZADD @outstanding 0 9"),
        *("HGETALL @heartbeats", "XRANGE @dead - +", "HGETALL @cursor", "GET @incarnation", "SCAN 0"),
        *("SET @weights 9.9", "DEL @weights", "INCR @weights"),
    ],
    "reward": [
        *("XRANGE @experience - +", "XACK @experience grpo 1-1", "XDEL @experience 1-1", "XTRIM @experience MAXLEN 0"),
        *("XRANGE @prompts - +", "XADD @prompts * g 1 p x", "XADD @rollouts * g 1 p x", "XGROUP DESTROY @rollouts reward"),
        *("GET @version", "HGETALL @heartbeats", "XRANGE @dead - +", "HGETALL @cursor", "ZRANGE @outstanding 0 -1", "SCAN 0"),
        *("GET @weights", "SET @weights 9.9"),
    ],
    "learner": [
        *("XRANGE @prompts - +", "XADD @prompts * g 1 p x", "XRANGE @rollouts - +", "XACK @rollouts reward 1-1"),
        *("XADD @experience * g 1 p x", "XDEL @experience 1-1", "XGROUP DESTROY @experience meta-rm", "HGETALL @cursor"),
        *(
            "HSET @cursor group 0",
            "HGETALL @heartbeats",
            "XRANGE @dead - +",
            "DEL @outstanding",
            "SET @incarnation 9",
            "DEL @weights",
            "SCAN 0",
        ),
    ],
    "meta-rm": [
        *("XRANGE @prompts - +", "XRANGE @rollouts - +", "XADD @experience * g 1 p x", "XTRIM @experience MAXLEN 0"),
        *("GET @version", "SET @version 9", "ZRANGE @outstanding 0 -1", "ZREM @outstanding 1", "INCR @incarnation"),
        *("ZREM @unsaved 1", "HGETALL @heartbeats", "XRANGE @dead - +", "HGETALL @cursor", "SCAN 0"),
        *("GET @weights", "SET @weights 9.9"),
    ],
    "server": [
        *("XRANGE @prompts - +", "XADD @experience * g 1 p x", "GET @version", "HGETALL @heartbeats", "HSET @heartbeats x 1"),
        *("SCAN 0", "DEL @cohort:x", "GET @weights", "HGETALL @outcomes", "ZADD @outstanding 0 9"),
    ],
}


@pytest.mark.parametrize("role", OTHERS)
def test_rights_of_other_roles_are_refused(address: Address, enter: Enter, role: Role) -> None:
    client = enter(role).client
    for command in OTHERS[role]:
        words = [key(address.run_id, word[1:]) if word.startswith("@") else word for word in command.split()]
        assert refused(client, *words, keys=[word for word in words if word.startswith("spct:")]), command


DANGEROUS = [
    "FLUSHALL",
    "FLUSHDB",
    "CONFIG GET *",
    "CONFIG SET dir /tmp",
    "CONFIG REWRITE",
    "DEBUG SLEEP 0",
    "SHUTDOWN NOSAVE",
    "KEYS *",
    "SAVE",
    "BGSAVE",
    "BGREWRITEAOF",
    "REPLICAOF NO ONE",
    "SLAVEOF 127.0.0.1 1",
    "FAILOVER",
    "PSYNC ? -1",
    "MODULE LIST",
    "MODULE LOAD /tmp/x.so",
    "ACL LIST",
    "ACL SETUSER default on nopass",
    "MONITOR",
    "SWAPDB 0 1",
    "MIGRATE 127.0.0.1 1 spct:{x}:y 0 1",
    "RESTORE spct:{x}:y 0 x",
    "SORT spct:{x}:y",
    "CLIENT LIST",
    "CLIENT KILL ID 1",
    "SLOWLOG GET",
    "LATENCY RESET",
    "SCRIPT FLUSH",
    "FUNCTION FLUSH",
    "FUNCTION LOAD x",
    "FUNCTION LIST",
    "CLUSTER RESET",
    "LASTSAVE",
    "ROLE",
]


@pytest.mark.parametrize("role", ROLES)
def test_dangerous_commands_are_refused(enter: Enter, role: Role) -> None:
    client = enter(role).client
    for command in DANGEROUS:
        assert refused(client, *command.split()), command


@pytest.mark.parametrize("role", ROLES)
def test_keys_outside_of_runs_are_refused(enter: Enter, role: Role) -> None:
    client = enter(role).client
    names = ["heartbeats", "spct", "x:spct:{r}:heartbeats"]
    names += ["spct:r:heartbeats", "spct:{r}:heartbeats2"] if role != "driver" else []
    for name in names:
        assert refused(client, "HSET", name, "field", "value", keys=[name]), name


def test_the_driver_alone_may_end_a_script(enter: Enter) -> None:
    for role in WORKERS:
        assert refused(enter(role).client, "SCRIPT", "KILL"), role
    with pytest.raises(redis.ResponseError, match="No scripts in execution"):
        enter("driver").client.script_kill()


def test_what_workers_keep_of_requests_expires(enter: Enter, address: Address) -> None:
    for role in WORKERS:
        client, name = enter(role).client, key(address.run_id, f"request:{role}")
        assert refused(client, "SET", name, "1", keys=[name]), role
        assert client.setex(name, 5, "1")


def test_a_worker_cannot_hand_off_past_the_next_stream(client: redis.Redis, address: Address, enter: Enter) -> None:
    Run(client, address.run_id).issue(1)
    worker = enter("rollout").consumer(PROMPTS)
    (entry,) = worker.claim(1, block_s=0)
    with pytest.raises(ServerError, match=REFUSED):
        worker.hand_off(entry, EXPERIENCE, b"scored by myself")
    assert Run(client, address.run_id).length(EXPERIENCE) == 0
    assert worker.hand_off(entry, ROLLOUTS, b"rollouts"), "nothing had been done"


# ---- accounts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_each_role_has_a_password_of_its_own(server: EmbeddedServer, role: Role) -> None:
    url = server.url_for(role)
    for other in ROLES:
        if other != role:
            with pytest.raises(ServerError, match="refuses the password"):
                connect(Address(url.replace(f"//{role}:", f"//{other}:"), "r"))
    secret = url.partition(f"{role}:")[2].partition("@")[0]
    for user in ("default", "", "root"):
        with pytest.raises(ServerError, match="refuses the password"):
            connect(Address(url.replace(f"//{role}:", f"//{user}:"), "r"))
    with pytest.raises(ServerError, match="refuses the password"):
        connect(Address(url.replace(secret, "0" * 64), "r"))


def test_without_an_account_every_command_is_refused(server: EmbeddedServer) -> None:
    stranger = redis.Redis(unix_socket_path=str(server.folder / "redis.sock"), retry=Retry(NoBackoff(), 0))
    for command in (["PING"], ["INFO"], ["GET", "x"], ["AUTH", "default", ""], ["AUTH", ""]):
        with pytest.raises(redis.exceptions.AuthenticationError):
            stranger.execute_command(*command)  # type: ignore[no-untyped-call]
