"""The accounts of the server that a run starts: one per role, with the rights that its work needs and no others.

    driver     every key of a run; nothing that stops, empties, rewrites or searches the server; may end a script
    rollout    claims `prompts`, adds to `rollouts`, reads which weights are the newest and how many workers share
    reward     claims `rollouts`, adds to `experience`
    learner    claims `experience`, keeps the accounts, announces its weights
    meta-rm    claims `experience`, counts what it skips
    server     the cohorts of a reward server, which no run has

A right is some commands on some keys. The server checks every call, also those inside a script. In addition EVALSHA requires
rights on each key that a script is given, so these keys form a right of their own, which allows nothing else. Two consumer
groups of one stream cannot be told apart by any rule: the meta-RM could acknowledge for the learner.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, get_args

Role = Literal["driver", "rollout", "reward", "learner", "meta-rm", "server"]
ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True, slots=True)
class Right:
    """Commands that may be called on some keys of any run."""

    commands: str
    """Commands, separated by blanks, a subcommand as `xinfo|groups`. None: the keys may only be passed to a script."""
    names: str
    """Names of the keys, separated by blanks."""


_EVERY_ROLE = "info ping time script|load client|setinfo"  # on no key
_CLAIM = "xreadgroup xread xclaim xpending xrange xinfo|groups xack"
_DRIVER = "~spct:* +@all -@admin -@dangerous -@scripting +eval +evalsha +script|load +script|kill +info"


def _reader(source: str) -> tuple[Right, ...]:
    """Rights to claim from a stream, add dead letters, and send heartbeats, of which a process removes its own."""
    return (
        Right(_CLAIM, source),
        Right("get setex exists", "request:*"),  # not `set`: what is kept there shall expire
        Right("xadd", "dead"),
        Right("hincrby", "outcomes"),
        Right("hget hset hdel", "heartbeats"),
    )


def _worker(source: str, destination: str) -> tuple[Right, ...]:
    """Rights of one worker of many: it also takes over lapsed claims, hands off, and may leave at any time."""
    return (
        *_reader(source),
        Right("xautoclaim xdel xgroup|delconsumer", source),
        Right("xadd", destination),
        Right("zrem", "outstanding"),
    )


_RIGHTS: Mapping[Role, tuple[Right, ...]] = {
    "rollout": (*_worker("prompts", "rollouts"), Right("xlen", "prompts"), Right("get", "weights rollout-target")),
    "reward": _worker("rollouts", "experience"),
    "learner": (
        *_reader("experience"),
        Right("xlen xtrim", "experience"),
        Right("get set", "version saved weights"),
        Right("zadd zrem zscore zrange", "outstanding unsaved"),
        Right("hmget", "outcomes"),
        Right("get incr", "incarnation"),
        Right("hset hdel hgetall", "arrivals"),
    ),
    "meta-rm": (
        *_reader("experience"),
        Right("xlen", "experience"),
        Right("hmget", "outcomes"),
        Right("", "outstanding"),  # passed to dead_letter.lua: what only the meta-RM cannot use stays outstanding
    ),
    "server": (
        Right("hget hmget hset hsetnx hdel hexists hkeys hgetall hincrby expire rename", "cohort:* seats:*"),
        Right("zadd zrem zcount zremrangebyscore zrange zrangebyscore", "open-cohorts"),
        Right("hset hgetall", "metrics-of-nodes"),
    ),
}


def account(role: Role, password: str) -> str:
    """Return the line of the server's configuration that makes the account. It has the password's digest only."""
    return f"user {role} on #{sha256(password.encode()).hexdigest()} {_rules(role)}"


def _rules(role: Role) -> str:
    if role == "driver":
        return _DRIVER
    rights = _RIGHTS[role]
    script_keys = dict.fromkeys(name for right in rights for name in right.names.split())
    selectors = (_selector(right) for right in (*rights, Right("eval evalsha", " ".join(script_keys))))
    return " ".join([*_allowed(_EVERY_ROLE), *selectors])


def _selector(right: Right) -> str:
    return "(" + " ".join([*_allowed(right.commands), *(f"~spct:{{*}}:{name}" for name in right.names.split())]) + ")"


def _allowed(commands: str) -> Iterable[str]:
    return (f"+{command}" for command in commands.split())
